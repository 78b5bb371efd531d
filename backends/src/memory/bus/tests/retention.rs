//! What is kept, for whom, and how much of it.

use expirer_core::ErrorKind;

use super::*;
use crate::memory::{RETAINED_MAX, SUBJECT_MESSAGES_MAX, UNREAD_RETAINED_MAX};

fn settle_all(consumer: &dyn Consumer) -> usize {
    let batches = std::iter::repeat_with(|| receive(consumer, 1 << 16));
    batches
        .take_while(|batch| !batch.is_empty())
        .map(|batch| {
            ack(consumer, &batch);
            batch.len()
        })
        .sum()
}

#[test]
fn a_late_group_sees_the_newest_that_are_settled_and_all_that_are_not() {
    let (clock, bus) = bus();
    let early = join(&bus, ORDERS, &[CREATED]);
    publish(&bus, &CREATED, 0..5000);
    let stuck = receive(&*early, 1);
    assert_eq!(settle_all(&*early), 4999);
    publish(&bus, &CREATED, [5000]);
    assert_eq!(counts(progress(&bus, &EXPIRATION, &CREATED)).0, RETAINED_MAX as u64 + 2);

    let late = join(&bus, EXPIRATION, &[CREATED]);
    let seen = receive(&*late, 10_000);
    let expected: Vec<_> = [0].into_iter().chain(5000 - RETAINED_MAX..=5000).collect();
    assert_eq!(numbers(&seen), expected);
    assert_eq!(bus.outstanding(), RETAINED_MAX as u64 + 2);
    ack(&*late, &seen);
    assert_eq!(bus.outstanding(), 2);
    ack(&*early, &stuck);
    clock.advance(ACK_DEADLINE);
    assert_eq!((settle_all(&*late), settle_all(&*early), bus.outstanding()), (0, 1, 0));
}

#[test]
fn what_a_late_group_has_not_settled_stays_whatever_it_settles_first() {
    let (clock, bus) = bus();
    let early = join(&bus, ORDERS, &[CREATED]);
    publish(&bus, &CREATED, 0..RETAINED_MAX);
    settle_all(&*early);
    let late = join(&bus, EXPIRATION, &[CREATED]);
    let seen = receive(&*late, RETAINED_MAX);
    ack(&*late, &seen[RETAINED_MAX / 2..]);
    clock.advance(ACK_DEADLINE);
    let again = receive(&*late, RETAINED_MAX);
    assert_eq!(numbers(&again), (0..RETAINED_MAX / 2).collect::<Vec<_>>());
}

#[test]
fn a_subject_without_a_group_keeps_the_newest() {
    let (_, bus) = bus();
    let kept = usize::try_from(UNREAD_RETAINED_MAX).expect("fits");
    publish(&bus, &CREATED, 0..kept + 10);
    assert_eq!((bus.stored(), bus.outstanding()), (kept as u64 + 10, 0));
    let late = join(&bus, ORDERS, &[CREATED]);
    assert_eq!(numbers(&receive(&*late, 2)), [10, 11]);
    assert_eq!(settle_all(&*late), kept - 2);
}

#[test]
fn refuses_what_would_be_too_much_and_stores_none_of_it() {
    let (_, bus) = bus();
    let consumer = join(&bus, ORDERS, &[CREATED]);
    join(&bus, EXPIRATION, &[CREATED, PAID]);
    let full = usize::try_from(SUBJECT_MESSAGES_MAX).expect("fits");
    publish(&bus, &CREATED, 0..full - 1);
    let batch = [messages(&PAID, 0..1), messages(&CREATED, 0..2)].concat();
    let error = now_or_never(bus.publish(&batch)).expect_err("one fits, two do not");
    assert_eq!((error.kind(), error.op()), (ErrorKind::Overloaded, "publish"));
    assert_eq!(counts(progress(&bus, &EXPIRATION, &PAID)), (0, 0));
    assert_eq!(
        (bus.stored(), bus.outstanding()),
        (SUBJECT_MESSAGES_MAX - 1, SUBJECT_MESSAGES_MAX - 1)
    );
    publish(&bus, &PAID, 0..1);
    publish(&bus, &CREATED, [full]);
    // Settled by one group alone, nothing makes room.
    ack(&*consumer, &receive(&*consumer, 1));
    assert!(now_or_never(bus.publish(&messages(&CREATED, [0]))).is_err());
}

#[test]
fn settling_is_heard() {
    let (_, bus) = bus();
    let (one, two) = (join(&bus, ORDERS, &[CREATED]), join(&bus, EXPIRATION, &[CREATED]));
    publish(&bus, &CREATED, [0]);
    let mut heard = bus.settled();
    let mut heard = std::pin::Pin::new(&mut heard);
    assert!(crate::memory::testing::poll(heard.as_mut()).is_none());
    // By the first group already, which has nothing left: it may have been the slowest.
    ack(&*one, &receive(&*one, 1));
    assert!(crate::memory::testing::poll(heard).is_some());
    let mut heard = bus.settled();
    ack(&*two, &receive(&*two, 1));
    assert!(crate::memory::testing::poll(std::pin::Pin::new(&mut heard)).is_some());
}
