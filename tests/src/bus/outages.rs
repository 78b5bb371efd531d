//! What is confirmed outlives a restart, and every outage ends in recovery.

use std::collections::BTreeSet;
use std::ops::Range;
use std::time::Duration;

use expirer_core::{
    Error, ErrorKind, MessageId, ReceiveOptions, Rejection, Release, Result, Subject, Tail,
};

use super::member::{Member, receipts};
use super::stage::{DEADLINE, LIMIT, MOMENT, SUBJECT, Stage, dead, number, numbered};
use crate::harness::{BusHarness, Server};

/// Long enough for a server to write down what it has confirmed as settled.
const WRITTEN: Duration = Duration::from_secs(2);

fn server(harness: &dyn BusHarness) -> &dyn Server {
    harness.server().expect("the case needs a server")
}

/// An outage shows as one of these, and as nothing else.
fn assert_is_outage(error: &Error) {
    let kinds = [ErrorKind::Unavailable, ErrorKind::TimedOut, ErrorKind::Closed];
    assert!(kinds.contains(&error.kind()), "expected one of {kinds:?}, came: {error}");
}

/// Publishes numbered messages, again and again until that succeeds.
async fn publish_stubbornly(stage: &Stage<'_>, subject: &Subject, numbers: Range<u32>) {
    let end = stage.now() + LIMIT;
    let messages: Vec<_> = numbers
        .map(|number| numbered(subject, number).with_id(MessageId::new(format!("s{number}"))))
        .collect();
    while let Err(error) = stage.call("publish", stage.bus.publish(&messages)).await {
        assert_is_outage(&error);
        assert!(stage.now() < end, "expected to publish again by {end}, came: {error}");
        stage.pause(MOMENT).await;
    }
}

/// Works off all of these through whatever is left of an outage, on the same member, or on a new
/// one if its consumer has ended; returns what came.
async fn work_off_stubbornly(mut member: Member<'_>, numbers: Range<u32>) -> BTreeSet<u32> {
    let stage = member.stage;
    let (mut seen, end) = (BTreeSet::new(), stage.now() + LIMIT + stage.tolerance().late);
    while !numbers.clone().all(|number| seen.contains(&number)) {
        assert!(stage.now() < end, "expected {numbers:?} by {end}, came {seen:?}");
        if let Err(error) = work_off_some(&mut member, &mut seen).await {
            assert_is_outage(&error);
            stage.pause(MOMENT).await;
        }
    }
    seen
}

async fn work_off_some(member: &mut Member<'_>, seen: &mut BTreeSet<u32>) -> Result<()> {
    let (stage, options) = (member.stage, ReceiveOptions::new(256).with_wait(DEADLINE));
    let came = stage.call("receive", member.consumer.receive(options)).await;
    if came.as_ref().is_err_and(|error| error.kind() == ErrorKind::Closed) {
        let subscribing = stage.bus.subscribe(member.options.clone());
        member.consumer = stage.call("subscribe", subscribing).await?;
    }
    let came = came?;
    seen.extend(came.iter().map(|delivery| number(&delivery.message)));
    stage.call("ack", member.consumer.ack(&receipts(&came))).await
}

pub(super) async fn a_restart_loses_no_message(harness: &dyn BusHarness) {
    let stage = Stage::open(harness).await;
    let member = stage.join_briefly("a").await;
    stage.publish(0..50).await;
    server(harness).restart().await;
    let seen = work_off_stubbornly(member, 0..50).await;
    assert_eq!(seen, (0..50).collect(), "expected these alone");
}

pub(super) async fn a_restart_keeps_what_is_held_and_what_is_put_off(harness: &dyn BusHarness) {
    let stage = Stage::open(harness).await;
    let member = stage.join_briefly("a").await;
    stage.publish(0..10).await;
    let held = member.collect(0..10).await;
    member.release(&held[5..], stage.now() + DEADLINE).await;
    server(harness).restart().await;
    work_off_stubbornly(member, 0..10).await;
}

pub(super) async fn a_restart_keeps_what_a_group_has_settled(harness: &dyn BusHarness) {
    let stage = Stage::open(harness).await;
    let member = stage.join_briefly("a").await;
    stage.publish(0..10).await;
    member.work_off(0..10).await;
    stage.pause(WRITTEN).await;
    server(harness).restart().await;
    publish_stubbornly(&stage, &SUBJECT, 10..15).await;
    let seen = work_off_stubbornly(member, 10..15).await;
    assert_eq!(seen, (10..15).collect(), "expected nothing that was settled long before");
}

pub(super) async fn a_restart_loses_no_dead_letter(harness: &dyn BusHarness) {
    let stage = Stage::open(harness).await;
    let operator = stage.join_on("operator", &[dead("a")]).await;
    let member = stage.join("a").await;
    stage.publish(0..5).await;
    member.reject(&member.collect(0..5).await, "poison").await;
    server(harness).restart().await;
    work_off_stubbornly(operator, 0..5).await;
}

pub(super) async fn a_restart_does_not_move_the_watermark_past_a_message(harness: &dyn BusHarness) {
    let stage = Stage::open(harness).await;
    let member = stage.join_briefly("a").await;
    stage.publish(0..2).await;
    let held = member.collect(0..2).await;
    member.ack(&held[1..]).await;
    stage.pause(MOMENT).await;
    server(harness).restart().await;
    publish_stubbornly(&stage, &Subject::PaymentLate, 0..1).await;
    let (came, published) = (stage.progress("a").await, held[0].published);
    let is_behind = came.worked_off.is_some_and(|worked_off| worked_off <= published);
    assert!(is_behind, "expected a watermark of {published} or earlier, came {came:?}");
    work_off_stubbornly(member, 0..1).await;
}

pub(super) async fn a_cut_shows_as_an_error_and_passes(harness: &dyn BusHarness) {
    let stage = Stage::open(harness).await;
    let member = stage.join_briefly("a").await;
    stage.publish(0..5).await;
    server(harness).cut().await;
    let lost = stage.call("publish", stage.bus.publish(&[numbered(&SUBJECT, 99)])).await;
    assert_is_outage(&lost.expect_err("nothing is confirmed through a connection that is cut"));
    let options = ReceiveOptions::new(5).with_wait(MOMENT);
    if let Err(error) = stage.call("receive", member.consumer.receive(options)).await {
        assert_is_outage(&error);
    }
    server(harness).mend().await;
    publish_stubbornly(&stage, &SUBJECT, 5..10).await;
    work_off_stubbornly(member, 0..10).await;
}

pub(super) async fn a_call_that_waits_outlives_a_cut(harness: &dyn BusHarness) {
    let stage = Stage::open(harness).await;
    let member = stage.join_briefly("a").await;
    let outage = async {
        stage.pause(MOMENT).await;
        server(harness).cut().await;
        stage.pause(DEADLINE).await;
        server(harness).mend().await;
        publish_stubbornly(&stage, &SUBJECT, 0..5).await;
    };
    futures_lite::future::zip(work_off_stubbornly(member, 0..5), outage).await;
}

pub(super) async fn settling_through_a_cut_loses_nothing(harness: &dyn BusHarness) {
    let stage = Stage::open(harness).await;
    let member = stage.join_for("a", &[SUBJECT, dead("a")], DEADLINE).await;
    stage.publish(0..6).await;
    let held = member.collect(0..6).await;
    server(harness).cut().await;
    let rejections = [Rejection { receipt: held[0].receipt, reason: "poison".to_owned() }];
    let rejected = stage.call("reject", member.consumer.reject(&rejections)).await;
    assert_is_outage(&rejected.expect_err("no dead letter is confirmed through a cut"));
    let releases = [Release { receipt: held[1].receipt, at: stage.now() }];
    if let Err(error) = stage.call("release", member.consumer.release(&releases)).await {
        assert_is_outage(&error);
    }
    server(harness).mend().await;
    // What failed may have been done all the same: then it comes as a dead letter.
    work_off_stubbornly(member, 0..6).await;
}

pub(super) async fn a_tail_sees_again_after_a_cut(harness: &dyn BusHarness) {
    let stage = Stage::open(harness).await;
    let mut tail = stage.done("tail", stage.bus.tail(&[SUBJECT])).await;
    server(harness).cut().await;
    stage.pause(MOMENT).await;
    server(harness).mend().await;
    let end = stage.now() + LIMIT;
    for number in 0.. {
        publish_stubbornly(&stage, &SUBJECT, number..number + 1).await;
        match see_some(&stage, &mut tail).await {
            Ok(true) => return,
            Ok(false) => (),
            Err(error) => assert_is_outage(&error),
        }
        assert!(stage.now() < end, "expected the tail to see something by {end}");
        stage.pause(MOMENT).await;
    }
}

async fn see_some(stage: &Stage<'_>, tail: &mut Box<dyn Tail>) -> Result<bool> {
    let options = ReceiveOptions::new(256).with_wait(MOMENT);
    let came = stage.call("receive of a tail", tail.receive(options)).await;
    if came.as_ref().is_err_and(|error| error.kind() == ErrorKind::Closed) {
        *tail = stage.call("tail", stage.bus.tail(&[SUBJECT])).await?;
    }
    Ok(!came?.messages.is_empty())
}
