//! The watermark: everything stored before it has been settled by the group. Both it and the time
//! of a message are by the bus's clock, so that they compare exactly.

use std::time::Duration;

use expirer_core::{Subject, Timestamp};

use super::stage::{LIMIT, MOMENT, QUIET, SUBJECT, Stage, dead};
use crate::harness::BusHarness;

async fn watermark(stage: &Stage<'_>, name: &str, subject: &Subject) -> Timestamp {
    let progress = stage.progress_on(name, subject).await;
    progress.worked_off.unwrap_or_else(|| panic!("expected a watermark, came {progress:?}"))
}

/// Waits until the watermark is there.
async fn reaches(stage: &Stage<'_>, name: &str, subject: &Subject, at: Timestamp) {
    let end = stage.now() + LIMIT;
    loop {
        let came = watermark(stage, name, subject).await;
        if came >= at {
            return;
        }
        assert!(stage.now() < end, "expected a watermark of {at} or later, came {came}");
        stage.pause(MOMENT).await;
    }
}

/// Waits until the watermark is at the present: what a group gets to that has settled everything.
async fn reaches_now(stage: &Stage<'_>, name: &str, subject: &Subject) {
    reaches(stage, name, subject, stage.now() - stage.tolerance().early).await;
}

/// Fails if the watermark is past a message that is not settled, at any time in the next moment.
async fn stays_behind(stage: &Stage<'_>, what: &str, published: Timestamp) {
    for _ in 0..4 {
        let came = watermark(stage, "a", &SUBJECT).await;
        assert!(came <= published, "{what} of {published}: came a watermark of {came}");
        stage.pause(MOMENT / 2).await;
    }
}

pub(super) async fn it_never_passes_an_unread_message(harness: &dyn BusHarness) {
    let stage = Stage::open(harness).await;
    let (member, witness) = (stage.join("a").await, stage.join("witness").await);
    reaches_now(&stage, "a", &SUBJECT).await;
    stage.pause(MOMENT).await;
    stage.publish(0..1).await;
    let published = witness.next().await.published;
    stays_behind(&stage, "unread", published).await;
    member.work_off(0..1).await;
    reaches(&stage, "a", &SUBJECT, published).await;
}

pub(super) async fn it_never_passes_a_message_that_is_held(harness: &dyn BusHarness) {
    let stage = Stage::open(harness).await;
    let member = stage.join_briefly("a").await;
    stage.publish(0..1).await;
    let held = member.next().await;
    stays_behind(&stage, "held", held.published).await;
    stage.pause(member.options.ack_deadline).await;
    stays_behind(&stage, "held too long", held.published).await;
    let again = member.next().await;
    member.release(&[again], stage.now() + QUIET).await;
    stays_behind(&stage, "put off", held.published).await;
    stage.pause(QUIET).await;
    stays_behind(&stage, "visible again", held.published).await;
    member.work_off(0..1).await;
    reaches_now(&stage, "a", &SUBJECT).await;
}

pub(super) async fn it_never_passes_a_message_that_younger_ones_overtook(harness: &dyn BusHarness) {
    let stage = Stage::open(harness).await;
    let member = stage.join("a").await;
    stage.publish(0..1).await;
    stage.pause(MOMENT).await;
    stage.publish(1..4).await;
    let all = member.collect(0..4).await;
    member.ack(&all[1..]).await;
    stays_behind(&stage, "overtaken", all[0].published).await;
    member.ack(&all[..1]).await;
    reaches_now(&stage, "a", &SUBJECT).await;
}

pub(super) async fn it_follows_while_later_messages_wait(harness: &dyn BusHarness) {
    let stage = Stage::open(harness).await;
    let member = stage.join("a").await;
    for number in 0..4 {
        stage.publish(number..number + 1).await;
        stage.pause(MOMENT).await;
    }
    let all = member.collect(0..4).await;
    for pair in all.windows(2) {
        member.ack(&pair[..1]).await;
        reaches(&stage, "a", &SUBJECT, pair[0].published).await;
        stays_behind(&stage, "next", pair[1].published).await;
    }
}

pub(super) async fn it_passes_what_was_rejected(harness: &dyn BusHarness) {
    let stage = Stage::open(harness).await;
    let _operator = stage.join_on("operator", &[dead("a")]).await;
    let member = stage.join("a").await;
    stage.publish(0..2).await;
    member.reject(&member.collect(0..2).await, "poison").await;
    reaches_now(&stage, "a", &SUBJECT).await;
}

pub(super) async fn it_goes_on_when_nothing_comes(harness: &dyn BusHarness) {
    let stage = Stage::open(harness).await;
    let member = stage.join("a").await;
    for number in 0..3 {
        stage.publish(number..number + 1).await;
        member.work_off(number..number + 1).await;
        stage.pause(QUIET).await;
        reaches_now(&stage, "a", &SUBJECT).await;
    }
}

pub(super) async fn it_goes_on_where_no_message_ever_was(harness: &dyn BusHarness) {
    let stage = Stage::open(harness).await;
    let subjects = [SUBJECT, Subject::PaymentCreated];
    let _member = stage.join_on("a", &subjects).await;
    for _ in 0..2 {
        stage.pause(QUIET).await;
        for subject in &Subject::EVENTS {
            reaches_now(&stage, "a", subject).await;
        }
    }
}

pub(super) async fn nothing_is_stored_before_it_any_more(harness: &dyn BusHarness) {
    let stage = Stage::open(harness).await;
    let member = stage.join("a").await;
    for number in 0..10 {
        let before = watermark(&stage, "a", &SUBJECT).await;
        stage.publish(number..number + 1).await;
        let came = member.next().await;
        assert!(came.published >= before, "expected {before} or later, came {came:?}");
        member.ack(&[came]).await;
    }
}

pub(super) async fn it_never_goes_back(harness: &dyn BusHarness) {
    let stage = Stage::open(harness).await;
    let member = stage.join("a").await;
    let mut last = Timestamp::MIN;
    for number in 0..5 {
        for step in 0..4 {
            match step {
                0 => stage.publish(number..number + 1).await,
                1 => member.release(&[member.next().await], stage.now()).await,
                2 => member.ack(&[member.next().await]).await,
                _ => stage.pause(MOMENT).await,
            }
            let came = watermark(&stage, "a", &SUBJECT).await;
            assert!(came >= last, "expected {last} or later after step {step}, came {came}");
            last = came;
        }
    }
}

pub(super) async fn each_group_has_its_own(harness: &dyn BusHarness) {
    let stage = Stage::open(harness).await;
    let (a, b) = (stage.join("a").await, stage.join("b").await);
    stage.publish(0..3).await;
    b.work_off(0..3).await;
    stage.pause(MOMENT).await;
    reaches_now(&stage, "b", &SUBJECT).await;
    let oldest = watermark(&stage, "a", &SUBJECT).await;
    let first = a.next().await.published;
    assert!(oldest <= first, "expected {first} or earlier for the group that has read nothing");
}

pub(super) async fn each_subject_has_its_own(harness: &dyn BusHarness) {
    let stage = Stage::open(harness).await;
    let member = stage.join_on("a", &[SUBJECT, Subject::PaymentCreated]).await;
    stage.publish(0..1).await;
    let held = member.next().await;
    stage.publish_on(&Subject::PaymentCreated, 1..2).await;
    member.work_off(1..2).await;
    stage.pause(MOMENT).await;
    reaches_now(&stage, "a", &Subject::PaymentCreated).await;
    stays_behind(&stage, "of the other subject", held.published).await;
}

pub(super) async fn it_is_no_further_than_a_group_to_come_will_read(harness: &dyn BusHarness) {
    let stage = Stage::open(harness).await;
    let before = stage.join("before").await;
    stage.publish(0..1).await;
    let published = before.work_off(0..1).await[0].published;
    stage.pause(Duration::from_millis(20)).await;
    stays_behind(&stage, "of a group that is not there", published).await;
    let late = stage.join("a").await;
    stays_behind(&stage, "of a group that has read nothing", published).await;
    late.work_off(0..1).await;
    reaches_now(&stage, "a", &SUBJECT).await;
}
