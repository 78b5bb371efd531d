//! What a message is made of comes back the same.

use std::collections::BTreeSet;

use expirer_core::{Headers, Message, MessageId};

use super::stage::{MOMENT, SUBJECT, Stage, number, numbered};
use crate::harness::BusHarness;

const TRACE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

pub(super) async fn a_payload_comes_back_to_the_byte(harness: &dyn BusHarness) {
    let stage = Stage::open(harness).await;
    let member = stage.join("a").await;
    let every_byte: Vec<u8> = (0..=u8::MAX).chain((0..=u8::MAX).rev()).collect();
    let large: Vec<u8> = every_byte.iter().copied().cycle().take(100 << 10).collect();
    let text = r#"{"id":"a:b.*> ü🎫","quote":"\"\\\r\n"}"#.into();
    for payload in [text, every_byte, Vec::new(), b"\r\n\0 x \0\r\n".to_vec(), large] {
        stage.send(&[Message::new(SUBJECT, payload.clone())]).await;
        let came = member.next().await;
        let same = *came.message.payload == *payload;
        assert!(same, "expected a payload of {} bytes, came {came:?}", payload.len());
        member.ack(&[came]).await;
    }
}

pub(super) async fn headers_come_back(harness: &dyn BusHarness) {
    let stage = Stage::open(harness).await;
    let member = stage.join("a").await;
    let trace = TRACE.parse().expect("the specification's example");
    let message = numbered(&SUBJECT, 0).with_trace(Some(trace));
    let message = message.with_header("reason", "zu spät: 东京 🎫 a=b; c:d, \"e\"");
    let message = message.with_header("Expirer-Long", "x".repeat(1000));
    stage.send(&[message.clone(), numbered(&SUBJECT, 1)]).await;
    let came = member.work_off(0..2).await;
    assert_eq!(sorted(&came[0].message.headers), sorted(&message.headers));
    assert_eq!(came[0].message.trace(), Some(trace));
    assert_eq!(sorted(&came[1].message.headers), [], "expected no headers where none were sent");
}

/// Sorted, since a broker may keep them in an order of its own.
fn sorted(headers: &Headers) -> Vec<(&str, &str)> {
    let mut headers: Vec<(&str, &str)> = headers.iter().collect();
    headers.sort_unstable();
    headers
}

pub(super) async fn a_stable_id_comes_back(harness: &dyn BusHarness) {
    let stage = Stage::open(harness).await;
    let member = stage.join("a").await;
    let long: String = "a:b.*> ü🎫/%7B{}".chars().cycle().take(100).collect();
    assert_eq!(long.len(), 128, "the longest id of an order");
    let ids = ["x".to_owned(), format!("order:cancelled:{long}:9007199254740991")];
    for (id, at) in ids.iter().zip(0..) {
        let id = MessageId::new(id);
        let other = numbered(&SUBJECT, at + 1);
        stage.send(&[numbered(&SUBJECT, at).with_id(id.clone()), other]).await;
        let came = member.work_off(at..at + 2).await;
        // Whether a broker keeps ids is its own affair; that it keeps them all or none is not.
        let expected = came[1].message.id.as_ref().map(|_| id);
        assert_eq!(came[0].message.id, expected, "of {came:?}");
    }
}

pub(super) async fn a_fresh_id_differs_from_every_other(harness: &dyn BusHarness) {
    let stages = [Stage::open(harness).await, Stage::open(harness).await];
    let member = stages[0].join("a").await;
    let same = [numbered(&SUBJECT, 0), numbered(&SUBJECT, 0)];
    let mut seen = BTreeSet::new();
    for stage in stages.iter().cycle().take(6) {
        stage.send(&same).await;
        for _ in &same {
            let came = member.next().await;
            member.ack(std::slice::from_ref(&came)).await;
            if let Some(id) = came.message.id {
                assert!(seen.insert(id), "expected a fresh id, came that of another: {seen:?}");
            }
        }
    }
}

pub(super) async fn a_repeat_of_a_stable_id_is_stored_at_least_once(harness: &dyn BusHarness) {
    let stage = Stage::open(harness).await;
    let member = stage.join("a").await;
    let stable = |number| {
        numbered(&SUBJECT, number).with_id(MessageId::new(format!("order:created:{number}:1")))
    };
    let messages: Vec<Message> = (0..5).map(stable).collect();
    stage.send(&messages[..3]).await;
    stage.send(&messages).await;
    stage.pause(MOMENT).await;
    stage.send(&messages).await;
    member.work_off(0..5).await;
}

pub(super) async fn a_message_bears_the_time_at_which_it_was_stored(harness: &dyn BusHarness) {
    let stage = Stage::open(harness).await;
    let (one, other) = (stage.join("one").await, stage.join("other").await);
    for number in 0..3 {
        let before = stage.now();
        stage.publish(number..number + 1).await;
        let (early, late) = (before - stage.tolerance().early, stage.now());
        let late = late + stage.tolerance().late;
        stage.pause(MOMENT).await;
        let (came, again) = (one.next().await, other.next().await);
        let published = came.published;
        assert!(early <= published && published <= late, "expected {early} to {late}: {came:?}");
        assert_eq!(published, again.published, "expected one time for all groups");
        assert_eq!(came.message.payload, again.message.payload);
    }
}

pub(super) async fn a_message_is_the_same_when_it_comes_again(harness: &dyn BusHarness) {
    let stage = Stage::open(harness).await;
    let member = stage.join("a").await;
    stage.publish(0..1).await;
    let first = member.next().await;
    stage.pause(MOMENT).await;
    member.release(std::slice::from_ref(&first), stage.now()).await;
    let again = member.next().await;
    assert_eq!(again.message, first.message);
    assert_eq!(again.published, first.published);
    assert_eq!(number(&again.message), 0);
}
