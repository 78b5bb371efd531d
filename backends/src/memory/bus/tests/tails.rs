//! Live views.

use expirer_core::Tail;

use super::*;
use crate::memory::TAIL_MESSAGES_MAX;
use crate::memory::testing::poll;

fn tail(bus: &MemoryBus, subjects: &[Subject]) -> Box<dyn Tail> {
    now_or_never(bus.tail(subjects)).expect("opens")
}

fn look(tail: &dyn Tail, max: usize) -> (Vec<usize>, u64) {
    let batch = now_or_never(tail.receive(ReceiveOptions::new(max))).expect("looks");
    (batch.messages.iter().map(number).collect(), batch.missed)
}

#[test]
fn follows_its_subjects_from_now_on() {
    let (_, bus) = bus();
    publish(&bus, &CREATED, [0]);
    let (one, two) = (tail(&bus, &[CREATED, PAID]), tail(&bus, &[PAID]));
    publish(&bus, &CREATED, [1]);
    publish(&bus, &PAID, [2]);
    publish(&bus, &Subject::PaymentLate, [3]);
    assert_eq!(look(&*one, 0), (vec![1], 0));
    assert_eq!(look(&*one, 10), (vec![2], 0));
    assert_eq!(look(&*two, 10), (vec![2], 0));
    assert_eq!(look(&*two, 10), (vec![], 0));
}

#[test]
fn loses_the_oldest_when_it_is_slow_and_counts_them() {
    let (_, bus) = bus();
    let slow = tail(&bus, &[CREATED]);
    publish(&bus, &CREATED, 0..TAIL_MESSAGES_MAX + 5);
    assert_eq!(look(&*slow, 2), (vec![5, 6], 5));
    assert_eq!(look(&*slow, 1), (vec![7], 0));
}

#[test]
fn wakes_when_a_message_comes() {
    let (clock, bus) = bus();
    let tail = tail(&bus, &[CREATED]);
    let options = ReceiveOptions::new(10).with_wait(SECOND);
    let mut waiting = tail.receive(options.clone());
    assert!(poll(waiting.as_mut()).is_none());
    publish(&bus, &CREATED, [1]);
    let batch = poll(waiting.as_mut()).expect("is woken").expect("looks");
    assert_eq!(batch.messages.len(), 1);
    let mut waiting = tail.receive(options);
    assert!(poll(waiting.as_mut()).is_none());
    clock.advance(SECOND);
    assert!(poll(waiting.as_mut()).expect("is over").expect("looks").messages.is_empty());
}

#[test]
fn leaves_nothing_behind() {
    let (_, bus) = bus();
    let unused = tail(&bus, &[Subject::PaymentLate]);
    publish(&bus, &CREATED, [0]);
    assert_eq!(bus.shared.hub().tails.len(), 1);
    drop(unused);
    assert_eq!(bus.shared.hub().tails.len(), 0);
}
