//! Groups, their members, and subjects.

use expirer_core::{Message, Subject};
use futures_lite::future::zip;

use super::member::numbers;
use super::stage::{DEADLINE, LIMIT, MOMENT, QUIET, SUBJECT, Stage, numbered};
use crate::harness::BusHarness;

pub(super) async fn a_confirmed_message_reaches_a_group_that_exists(harness: &dyn BusHarness) {
    let stage = Stage::open(harness).await;
    let member = stage.join("a").await;
    stage.publish(0..5).await;
    member.work_off(0..5).await;
    member.gets_nothing_for(QUIET).await;
}

pub(super) async fn a_message_of_one_handle_reaches_a_member_on_another(harness: &dyn BusHarness) {
    let (here, there) = (Stage::open(harness).await, Stage::open(harness).await);
    let member = there.join("a").await;
    here.publish(0..3).await;
    member.work_off(0..3).await;
    there.publish(3..6).await;
    here.join("a").await.work_off(3..6).await;
}

pub(super) async fn the_first_group_sees_what_was_there_before_it(harness: &dyn BusHarness) {
    let stage = Stage::open(harness).await;
    stage.publish(0..5).await;
    stage.pause(MOMENT).await;
    stage.join("a").await.work_off(0..5).await;
}

pub(super) async fn a_late_group_sees_what_others_have_settled(harness: &dyn BusHarness) {
    let stage = Stage::open(harness).await;
    let early = stage.join("early").await;
    stage.publish(0..5).await;
    early.work_off(0..5).await;
    stage.pause(MOMENT).await;
    let late = stage.join("late").await;
    stage.publish(5..7).await;
    late.work_off(0..7).await;
}

pub(super) async fn members_of_a_group_compete(harness: &dyn BusHarness) {
    let stage = Stage::open(harness).await;
    let members = [stage.join("a").await, stage.join("a").await];
    stage.publish(0..40).await;
    let (mut seen, end) = (Vec::new(), stage.now() + LIMIT);
    while seen.len() < 40 && stage.now() < end {
        let (one, other) = (members[0].receive(3, MOMENT), members[1].receive(3, MOMENT));
        let (one, other) = zip(one, other).await;
        seen.extend(numbers(&one).into_iter().chain(numbers(&other)));
    }
    for member in &members {
        seen.extend(numbers(&member.receive(40, MOMENT).await));
    }
    seen.sort_unstable();
    assert_eq!(seen, Vec::from_iter(0..40), "expected each message once among the members");
}

pub(super) async fn every_group_sees_every_message(harness: &dyn BusHarness) {
    let stage = Stage::open(harness).await;
    let (one, other) = (stage.join("one").await, stage.join("other").await);
    stage.publish(0..5).await;
    one.work_off(0..5).await;
    other.work_off(0..5).await;
    stage.publish(5..9).await;
    other.work_off(5..9).await;
    one.work_off(5..9).await;
}

pub(super) async fn a_group_goes_on_where_it_was(harness: &dyn BusHarness) {
    let stage = Stage::open(harness).await;
    let before = stage.join_briefly("a").await;
    stage.publish(0..5).await;
    before.work_off(0..5).await;
    drop(before);
    stage.publish(5..8).await;
    let after = stage.join_briefly("a").await;
    after.work_off(5..8).await;
    after.gets_nothing_for(QUIET).await;
}

pub(super) async fn subjects_are_kept_apart(harness: &dyn BusHarness) {
    let stage = Stage::open(harness).await;
    let mut members = Vec::new();
    for subject in Subject::EVENTS {
        members.push(stage.join_on("a", &[subject]).await);
    }
    for (subject, start) in Subject::EVENTS.iter().zip((0..).step_by(10)) {
        stage.publish_on(subject, start..start + 3).await;
    }
    for (member, start) in members.iter().zip((0..).step_by(10)) {
        let deliveries = member.work_off(start..start + 3).await;
        for delivery in deliveries {
            assert_eq!([delivery.message.subject], *member.options.subjects);
        }
        member.gets_nothing_for(MOMENT).await;
    }
}

pub(super) async fn a_member_follows_several_subjects(harness: &dyn BusHarness) {
    let stage = Stage::open(harness).await;
    let subjects = [Subject::OrderCreated, Subject::PaymentCreated, Subject::OrderCancelled];
    let member = stage.join_for("a", &subjects, DEADLINE).await;
    stage.publish_on(&Subject::PaymentLate, 90..92).await;
    for (subject, number) in subjects.iter().zip(0..) {
        stage.publish_on(subject, number..number + 1).await;
    }
    let deliveries = member.work_off(0..3).await;
    let came: Vec<Subject> = deliveries.into_iter().map(|came| came.message.subject).collect();
    assert_eq!(came, subjects, "expected each message under its own subject");
    member.gets_nothing_more().await;
}

pub(super) async fn one_batch_may_hold_several_subjects(harness: &dyn BusHarness) {
    let stage = Stage::open(harness).await;
    let orders = stage.join("orders").await;
    let payments = stage.join_on("payments", &[Subject::PaymentCreated]).await;
    let due = stage.now() + MOMENT;
    let publishing = async {
        stage.pause_until(due).await;
        let subjects = [SUBJECT, Subject::PaymentCreated, Subject::PaymentLate];
        let turns = subjects.iter().cycle().zip(0..9);
        let messages: Vec<Message> = turns.map(|(subject, at)| numbered(subject, at)).collect();
        stage.send(&messages).await;
    };
    let receiving = zip(orders.receive(9, LIMIT), payments.receive(9, LIMIT));
    let ((of_orders, of_payments), ()) = zip(receiving, publishing).await;
    stage.assert_not_after(due, "the messages");
    assert!(numbers(&of_orders).iter().all(|number| number % 3 == 0), "came {of_orders:?}");
    assert!(numbers(&of_payments).iter().all(|number| number % 3 == 1), "came {of_payments:?}");
}
