//! Waiting for messages, and leaving.

use std::task::{Context, Waker};

use expirer_core::Clock;

use super::*;
use crate::memory::testing::{START, WakeCount, poll};

fn wait(seconds: u32) -> ReceiveOptions {
    ReceiveOptions::new(10).with_wait(SECOND * seconds)
}

#[test]
fn a_message_wakes_every_waiter() {
    let (_, bus) = bus();
    let (one, two) = (join(&bus, ORDERS, &[CREATED]), join(&bus, ORDERS, &[PAID, CREATED]));
    let (first, second) = (Arc::new(WakeCount::default()), Arc::new(WakeCount::default()));
    let mut leaves = one.receive(wait(60));
    let mut stays = two.receive(wait(60));
    let wakers = [Waker::from(Arc::clone(&first)), Waker::from(Arc::clone(&second))];
    assert!(leaves.as_mut().poll(&mut Context::from_waker(&wakers[0])).is_pending());
    assert!(stays.as_mut().poll(&mut Context::from_waker(&wakers[1])).is_pending());
    publish(&bus, &CREATED, [1]);
    assert!(first.get() >= 1 && second.get() >= 1);
    drop(leaves);
    assert_eq!(numbers(&poll(stays.as_mut()).expect("is woken").expect("receives")), [1]);
}

#[test]
fn waits_for_the_deadline_and_no_longer() {
    let (clock, bus) = bus();
    let consumer = join(&bus, ORDERS, &[CREATED]);
    let mut waiting = consumer.receive(wait(5));
    assert!(poll(waiting.as_mut()).is_none());
    clock.advance(SECOND * 5 - Duration::from_millis(1));
    publish(&bus, &PAID, [1]);
    assert!(poll(waiting.as_mut()).is_none());
    clock.advance(Duration::from_millis(1));
    assert_eq!(poll(waiting.as_mut()).expect("is over").expect("receives"), []);
}

#[test]
fn wakes_for_what_becomes_visible_again() {
    let (clock, bus) = bus();
    let (holder, waiter) = (join(&bus, ORDERS, &[CREATED]), join(&bus, ORDERS, &[CREATED]));
    publish(&bus, &CREATED, 0..2);
    let held = receive(&*holder, 2);
    let mut waiting = waiter.receive(wait(60));
    assert!(poll(waiting.as_mut()).is_none());
    release(&*holder, &held[0], clock.now() + SECOND);
    assert!(poll(waiting.as_mut()).is_none());
    clock.advance(SECOND);
    assert_eq!(numbers(&poll(waiting.as_mut()).expect("is woken").expect("receives")), [0]);

    let mut waiting = waiter.receive(wait(60));
    assert!(poll(waiting.as_mut()).is_none());
    clock.set(START + ACK_DEADLINE);
    assert_eq!(numbers(&poll(waiting.as_mut()).expect("is woken").expect("receives")), [1]);
}

#[test]
fn a_dropped_receive_loses_nothing() {
    let (_, bus) = bus();
    let consumer = join(&bus, ORDERS, &[CREATED]);
    let mut waiting = consumer.receive(wait(60));
    assert!(poll(waiting.as_mut()).is_none());
    publish(&bus, &CREATED, [1]);
    drop(waiting); // woken, and never polled again
    drop(consumer.receive(wait(60))); // never polled at all
    let delivered = receive(&*consumer, 10);
    assert_eq!((numbers(&delivered), attempts(&delivered)), (vec![1], vec![1]));
}

#[test]
fn threads_share_the_work() {
    let (_, bus) = bus();
    let consumer = join(&bus, ORDERS, &[CREATED]);
    let work = || {
        let mut seen = Vec::new();
        while seen.last() != Some(&usize::MAX) {
            let batch = futures_lite::future::block_on(consumer.receive(wait(60)));
            let batch = batch.expect("receives");
            seen.extend(numbers(&batch));
            ack(&*consumer, &batch);
            if seen.contains(&usize::MAX) {
                publish(&bus, &CREATED, [usize::MAX]); // for the next worker
                break;
            }
        }
        seen
    };
    let mut seen: Vec<usize> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..3).map(|_| scope.spawn(work)).collect();
        (0..1000).for_each(|number| publish(&bus, &CREATED, [number]));
        publish(&bus, &CREATED, [usize::MAX]);
        workers.into_iter().flat_map(|worker| worker.join().expect("works")).collect()
    });
    seen.sort_unstable();
    seen.retain(|number| *number != usize::MAX);
    assert_eq!(seen, (0..1000).collect::<Vec<_>>());
}

#[test]
fn a_clock_that_is_set_back_neither_ends_nor_prolongs_a_wait() {
    let (clock, bus) = bus();
    let consumer = join(&bus, ORDERS, &[CREATED]);
    let tail = now_or_never(bus.tail(&[CREATED])).expect("follows");
    let (mut waiting, mut following) = (consumer.receive(wait(5)), tail.receive(wait(5)));
    assert!(poll(waiting.as_mut()).is_none() && poll(following.as_mut()).is_none());
    clock.set(START - SECOND * 3600);
    assert!(poll(waiting.as_mut()).is_none() && poll(following.as_mut()).is_none());
    clock.advance(SECOND * 5);
    assert_eq!(poll(waiting.as_mut()).expect("is over").expect("receives"), []);
    assert!(poll(following.as_mut()).expect("is over").expect("receives").messages.is_empty());
}
