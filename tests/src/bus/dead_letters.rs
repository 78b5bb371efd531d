//! Poison goes to the dead letters of its group.

use expirer_core::{Delivery, Headers, Message, MessageId, Rejection, Subject, Timestamp};

use super::member::numbers;
use super::stage::{DEADLINE, QUIET, SUBJECT, Stage, dead, number, numbered};
use crate::harness::BusHarness;

pub(super) async fn a_rejected_message_becomes_one(harness: &dyn BusHarness) {
    let stage = Stage::open(harness).await;
    let operator = stage.join_on("operator", &[dead("a")]).await;
    let member = stage.join_briefly("a").await;
    stage.send(&[Message::new(SUBJECT, *b"\xff{not JSON\0")]).await;
    let held = member.next().await;
    member.reject(&[held], "it is no JSON").await;
    let letter = operator.next().await;
    assert_eq!(letter.message.subject, dead("a"));
    assert_eq!(*letter.message.payload, *b"\xff{not JSON\0", "expected the payload as it was");
    operator.ack(&[letter]).await;
    member.gets_nothing_more().await;
    operator.gets_nothing_for(QUIET).await;
}

pub(super) async fn it_says_why_whence_and_when(harness: &dyn BusHarness) {
    let stage = Stage::open(harness).await;
    let operator = stage.join_on("operator", &[dead("a")]).await;
    let member = stage.join_on("a", &[Subject::PaymentCreated]).await;
    stage.send(&[numbered(&Subject::PaymentCreated, 0).with_header("own", "ü 1")]).await;
    stage.pause(QUIET).await;
    let (held, before) = (member.next().await, stage.now());
    member.reject(&[held], "kaputt: \"a\nb\" 東京").await;
    let (letter, after) = (operator.next().await, stage.now());
    assert_eq!(header(&letter, Headers::REASON), "kaputt: \"a\u{fffd}b\" 東京");
    assert_eq!(header(&letter, Headers::SUBJECT), "payment:created");
    assert_eq!(header(&letter, "own"), "ü 1", "expected what the message had as well");
    let time = header(&letter, Headers::TIME);
    let time: Timestamp = time.parse().unwrap_or_else(|error| panic!("{time}: {error}"));
    let earliest = before - stage.tolerance().early;
    let latest = after + stage.tolerance().late;
    assert!(earliest <= time && time <= latest, "expected {earliest} to {latest}, came {time}");
}

fn header<'a>(letter: &'a Delivery, name: &str) -> &'a str {
    letter.message.headers.get(name).unwrap_or_else(|| panic!("expected {name} in {letter:?}"))
}

pub(super) async fn each_of_many_has_its_own_reason_and_subject(harness: &dyn BusHarness) {
    let stage = Stage::open(harness).await;
    let operator = stage.join_on("operator", &[dead("a")]).await;
    let subjects = [SUBJECT, Subject::PaymentCreated];
    let member = stage.join_for("a", &subjects, DEADLINE).await;
    stage.publish_on(&subjects[0], 0..25).await;
    stage.publish_on(&subjects[1], 25..50).await;
    let held = member.collect(0..50).await;
    let reason = |number: u32| format!("reason {number}");
    let rejections: Vec<_> = held
        .iter()
        .map(|held| Rejection { receipt: held.receipt, reason: reason(number(&held.message)) })
        .collect();
    stage.done("reject", member.consumer.reject(&rejections)).await;
    for letter in operator.work_off(0..50).await {
        let number = number(&letter.message);
        assert_eq!(header(&letter, Headers::REASON), reason(number));
        assert_eq!(header(&letter, Headers::SUBJECT), subjects[usize::from(number >= 25)].as_str());
    }
    member.gets_nothing_more().await;
}

pub(super) async fn each_group_has_its_own(harness: &dyn BusHarness) {
    let stage = Stage::open(harness).await;
    let (one, other) = (stage.join("one").await, stage.join("other").await);
    let of_one = stage.join_on("operator", &[dead("one")]).await;
    let of_other = stage.join_on("operator", &[dead("other")]).await;
    stage.publish(0..3).await;
    one.reject(&one.collect(0..3).await, "poison to one").await;
    assert_eq!(numbers(&of_one.work_off(0..3).await), [0, 1, 2]);
    of_other.gets_nothing_for(QUIET).await;
    other.reject(&other.collect(0..3).await, "poison to the other").await;
    assert_eq!(numbers(&of_other.work_off(0..3).await), [0, 1, 2]);
    of_one.gets_nothing_for(QUIET).await;
}

pub(super) async fn a_rejection_is_for_its_group_alone(harness: &dyn BusHarness) {
    let stage = Stage::open(harness).await;
    let (one, other) = (stage.join_briefly("one").await, stage.join_briefly("other").await);
    stage.publish(0..3).await;
    one.reject(&one.collect(0..3).await, "poison").await;
    other.work_off(0..3).await;
    one.gets_nothing_more().await;
}

pub(super) async fn it_can_be_published_back_and_worked_off(harness: &dyn BusHarness) {
    let stage = Stage::open(harness).await;
    let operator = stage.join_on("operator", &[dead("a")]).await;
    let member = stage.join_briefly("a").await;
    let id = MessageId::new("order:created:o1:0");
    stage.send(&[numbered(&SUBJECT, 0).with_id(id)]).await;
    member.reject(&[member.next().await], "not yet").await;
    let letter = operator.next().await;
    let mut back = letter.message.clone();
    (back.id, back.subject) = (None, SUBJECT);
    stage.send(&[back]).await;
    operator.ack(&[letter]).await;
    member.work_off(0..1).await;
    member.gets_nothing_more().await;
}

pub(super) async fn one_message_can_be_rejected_time_and_again(harness: &dyn BusHarness) {
    let stage = Stage::open(harness).await;
    let operator = stage.join_on("operator", &[dead("a")]).await;
    let member = stage.join("a").await;
    let mut message = numbered(&SUBJECT, 0).with_id(MessageId::new("order:created:o2:0"));
    for round in 0..3 {
        stage.send(&[message]).await;
        member.reject(&[member.next().await], &format!("round {round}")).await;
        let letter = operator.next().await;
        operator.ack(std::slice::from_ref(&letter)).await;
        message = Message { id: None, subject: SUBJECT, ..letter.message };
    }
}
