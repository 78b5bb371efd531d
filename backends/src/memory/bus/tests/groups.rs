//! Delivery to groups: competition, acks, deadlines, releases, rejections.

use expirer_core::{Clock, ErrorKind, Headers, Rejection};

use super::*;
use crate::memory::SUBJECT_MESSAGES_MAX;
use crate::memory::testing::START;

#[test]
fn members_compete_and_each_group_sees_all() {
    let (_, bus) = bus();
    let (one, two) = (join(&bus, ORDERS, &[CREATED]), join(&bus, ORDERS, &[CREATED]));
    let other = join(&bus, EXPIRATION, &[CREATED]);
    publish(&bus, &CREATED, 0..10);
    assert_eq!(numbers(&receive(&*one, 4)), [0, 1, 2, 3]);
    assert_eq!(numbers(&receive(&*two, 100)), [4, 5, 6, 7, 8, 9]);
    assert_eq!(numbers(&receive(&*other, 100)), (0..10).collect::<Vec<_>>());
    assert!(receive(&*one, 100).is_empty());
}

#[test]
fn subjects_come_in_the_order_of_publishing() {
    let (_, bus) = bus();
    let consumer = join(&bus, ORDERS, &[PAID, CREATED, PAID]);
    for number in 0..6 {
        publish(&bus, if number % 2 == 0 { &CREATED } else { &PAID }, [number]);
    }
    assert_eq!(numbers(&receive(&*consumer, 0)), [0]);
    assert_eq!(numbers(&receive(&*consumer, 100)), [1, 2, 3, 4, 5]);
}

#[test]
fn comes_again_after_the_ack_deadline() {
    let (clock, bus) = bus();
    let consumer = join(&bus, ORDERS, &[CREATED]);
    publish(&bus, &CREATED, 0..3);
    let first = receive(&*consumer, 2);
    clock.advance(ACK_DEADLINE - Duration::from_millis(1));
    assert_eq!(numbers(&receive(&*consumer, 100)), [2]);
    clock.advance(Duration::from_millis(1));
    let again = receive(&*consumer, 100);
    assert_eq!((numbers(&again), attempts(&again)), (vec![0, 1], vec![2, 2]));
    assert_eq!(again[0].published, first[0].published);
    assert_eq!(again[0].message.id, first[0].message.id);
}

#[test]
fn an_ack_settles_for_good() {
    let (clock, bus) = bus();
    let consumer = join(&bus, ORDERS, &[CREATED]);
    publish(&bus, &CREATED, 0..3);
    ack(&*consumer, &receive(&*consumer, 2));
    clock.advance(ACK_DEADLINE * 10);
    assert_eq!(numbers(&receive(&*consumer, 100)), [2]);
}

#[test]
fn stale_and_foreign_receipts_do_nothing() {
    let (clock, bus) = bus();
    let (consumer, other) = (join(&bus, ORDERS, &[CREATED]), join(&bus, EXPIRATION, &[CREATED]));
    publish(&bus, &CREATED, [7]);
    let stale = receive(&*consumer, 1);
    clock.advance(ACK_DEADLINE);
    let garbage = [Receipt::new(u64::MAX, 3), Receipt::new(0, 0), Receipt::new(9, 1 << 33)];
    let try_all = || {
        ack(&*consumer, &stale);
        release(&*consumer, &stale[0], START);
        reject(&*consumer, &stale, "stale").expect("does nothing");
        now_or_never(consumer.ack(&garbage)).expect("does nothing");
        ack(&*consumer, &receive(&*other, 1));
    };
    try_all(); // the deadline is over, and nobody else has the message yet
    assert_eq!(counts(progress(&bus, &ORDERS, &CREATED)), (0, 1));
    let again = receive(&*consumer, 1);
    try_all();
    assert_eq!((attempts(&again), receive(&*consumer, 1)), (vec![2], vec![]));
    assert_eq!(counts(progress(&bus, &ORDERS, &Subject::Dead(ORDERS))), (0, 0));
    ack(&*other, &again);
    assert_eq!(counts(progress(&bus, &ORDERS, &CREATED)), (0, 1));
    ack(&*consumer, &again);
    assert_eq!(counts(progress(&bus, &ORDERS, &CREATED)), (0, 0));
}

#[test]
fn what_is_released_comes_at_its_time_and_its_receipt_is_stale() {
    let (clock, bus) = bus();
    let consumer = join(&bus, ORDERS, &[CREATED]);
    publish(&bus, &CREATED, 0..3);
    let held = receive(&*consumer, 2);
    release(&*consumer, &held[0], clock.now() + SECOND * 60);
    release(&*consumer, &held[1], START - SECOND);
    let past = receive(&*consumer, 100);
    assert_eq!((numbers(&past), attempts(&past)), (vec![1, 2], vec![2, 1]));
    ack(&*consumer, &past);
    ack(&*consumer, &held);
    clock.advance(SECOND * 60 - Duration::from_millis(1));
    assert!(receive(&*consumer, 100).is_empty());
    clock.advance(Duration::from_millis(1));
    assert_eq!(attempts(&receive(&*consumer, 100)), [2]);
}

fn reject(
    consumer: &dyn Consumer,
    deliveries: &[Delivery],
    reason: &str,
) -> expirer_core::Result<()> {
    let rejection = |receipt| Rejection { receipt, reason: reason.to_owned() };
    let rejections: Vec<_> = receipts(deliveries).into_iter().map(rejection).collect();
    now_or_never(consumer.reject(&rejections))
}

#[test]
fn a_rejected_message_becomes_a_dead_letter() {
    let (_, bus) = bus();
    let consumer = join(&bus, ORDERS, &[CREATED]);
    let trace = Message::new(CREATED, &b"5"[..]).with_header("traceparent", "00-1");
    now_or_never(bus.publish(&[trace])).expect("there is room");
    let held = receive(&*consumer, 1);
    reject(&*consumer, &[held[0].clone(), held[0].clone()], "no id").expect("there is room");
    reject(&*consumer, &held, "again").expect("does nothing");

    let undertaker = join(&bus, EXPIRATION, &[Subject::Dead(ORDERS)]);
    let dead = receive(&*undertaker, 100);
    assert_eq!(numbers(&dead), [5]);
    let letter = &dead[0].message;
    let header = |name| letter.headers.get(name);
    assert_eq!(letter.subject, Subject::Dead(ORDERS));
    assert_eq!(header(Headers::REASON), Some("no id"));
    assert_eq!(header(Headers::SUBJECT), Some("order:created"));
    assert_eq!(header(Headers::TIME), Some(START.to_string().as_str()));
    assert_eq!(header("traceparent"), Some("00-1"));
    assert_ne!(letter.id, held[0].message.id);
    assert_eq!(counts(progress(&bus, &ORDERS, &CREATED)), (0, 0));
}

#[test]
fn nothing_is_settled_when_the_dead_letters_are_full() {
    let (_, bus) = bus();
    let consumer = join(&bus, ORDERS, &[CREATED]);
    let undertaker = join(&bus, EXPIRATION, &[Subject::Dead(ORDERS)]);
    let full = usize::try_from(SUBJECT_MESSAGES_MAX).expect("fits") - 1;
    publish(&bus, &Subject::Dead(ORDERS), 0..full);
    publish(&bus, &CREATED, 0..2);
    let held = receive(&*consumer, 2);
    let error = reject(&*consumer, &held, "poison").expect_err("one fits, two do not");
    assert_eq!((error.kind(), error.op()), (ErrorKind::Overloaded, "reject"));
    assert_eq!(counts(progress(&bus, &ORDERS, &CREATED)), (0, 2));
    ack(&*undertaker, &receive(&*undertaker, 1));
    reject(&*consumer, &held, "poison").expect("two fit");
    assert_eq!(counts(progress(&bus, &ORDERS, &CREATED)), (0, 0));
}

#[test]
fn fresh_ids_are_unique_short_and_begin_with_the_seed() {
    let (_, bus) = bus();
    let consumer = join(&bus, ORDERS, &[CREATED]);
    publish(&bus, &CREATED, 0..2);
    let stable = Message::new(CREATED, &b"2"[..]).with_id(expirer_core::MessageId::new("mine"));
    now_or_never(bus.publish(&[stable])).expect("there is room");
    let ids: Vec<_> =
        receive(&*consumer, 3).into_iter().filter_map(|delivery| delivery.message.id).collect();
    let ids: Vec<_> = ids.iter().map(expirer_core::MessageId::as_str).collect();
    assert_eq!(ids, ["23456788-0", "23456788-1", "mine"]);
}

#[test]
fn the_watermark_is_the_oldest_unsettled_message() {
    let (clock, bus) = bus();
    let consumer = join(&bus, ORDERS, &[PAID]);
    let worked_off = || progress(&bus, &ORDERS, &PAID).worked_off.expect("is known");
    assert_eq!(worked_off(), START);
    for number in 0..3 {
        clock.advance(SECOND);
        publish(&bus, &PAID, [number]);
    }
    clock.advance(SECOND);
    assert_eq!(worked_off(), START + SECOND); // waiting
    let held = receive(&*consumer, 2);
    ack(&*consumer, &held[1..]);
    assert_eq!(worked_off(), START + SECOND); // held, with a younger one settled
    release(&*consumer, &held[0], START + SECOND * 60);
    assert_eq!(worked_off(), START + SECOND); // released
    assert_eq!(counts(progress(&bus, &ORDERS, &PAID)), (1, 1));
    clock.advance(SECOND * 60);
    ack(&*consumer, &receive(&*consumer, 1));
    assert_eq!(worked_off(), START + SECOND * 3); // the last one waits
    ack(&*consumer, &receive(&*consumer, 1));
    assert_eq!(worked_off(), clock.now());
}

#[test]
fn the_watermark_is_never_ahead_of_a_later_message() {
    let (clock, bus) = bus();
    let consumer = join(&bus, ORDERS, &[PAID]);
    clock.advance(SECOND);
    let worked_off = progress(&bus, &ORDERS, &PAID).worked_off.expect("is known");
    clock.set(START - SECOND * 60);
    publish(&bus, &PAID, [0]);
    assert!(receive(&*consumer, 1)[0].published >= worked_off);
    assert!(progress(&bus, &ORDERS, &PAID).worked_off.expect("is known") >= worked_off);
}

#[test]
fn says_what_it_can_do() {
    let capabilities = bus().1.capabilities();
    assert_eq!((capabilities.backend, capabilities.durable), ("memory", false));
    assert!(capabilities.watermark && capabilities.fenced && capabilities.headers);
}
