//! A receipt is good for one delivery, until its deadline.

use std::time::Duration;

use expirer_core::Delivery;

use super::member::{Member, numbers};
use super::stage::{DEADLINE, QUIET, SUBJECT, Stage, dead};
use crate::harness::BusHarness;

/// Twice the short one: here a case does something while the second delivery is held.
const TURN: Duration = DEADLINE.saturating_mul(2);

/// A message that one member held for too long, and that another holds now.
struct Overtaken<'a> {
    one: Member<'a>,
    stale: [Delivery; 1],
    other: Member<'a>,
    held: [Delivery; 1],
}

impl<'a> Overtaken<'a> {
    async fn on(here: &'a Stage<'a>, there: &'a Stage<'a>) -> Self {
        let (one, other) = (
            here.join_for("a", &[SUBJECT], TURN).await,
            there.join_for("a", &[SUBJECT], TURN).await,
        );
        there.publish(0..1).await;
        let (stale, held) = ([one.next().await], [other.next().await]);
        Self { one, stale, other, held }
    }
}

pub(super) async fn it_is_accepted_for_everything(harness: &dyn BusHarness) {
    let (here, there) = (Stage::open(harness).await, Stage::open(harness).await);
    let Overtaken { one, stale, other, held } = Overtaken::on(&here, &there).await;
    one.ack(&stale).await;
    one.release(&stale, here.now()).await;
    one.reject(&stale, "stale").await;
    other.ack(&held).await;
    other.ack(&held).await;
    other.release(&held, there.now()).await;
    other.reject(&held, "stale").await;
}

pub(super) async fn an_ack_with_it_settles_nothing(harness: &dyn BusHarness) {
    let (here, there) = (Stage::open(harness).await, Stage::open(harness).await);
    let Overtaken { one, stale, other, .. } = Overtaken::on(&here, &there).await;
    one.ack(&stale).await;
    other.work_off(0..1).await;
    other.gets_nothing_more().await;
}

pub(super) async fn a_release_with_it_changes_nothing(harness: &dyn BusHarness) {
    let (here, there) = (Stage::open(harness).await, Stage::open(harness).await);
    let Overtaken { one, stale, other, held } = Overtaken::on(&here, &there).await;
    one.release(&stale, here.now()).await;
    other.gets_nothing_for(QUIET).await;
    other.ack(&held).await;
    other.gets_nothing_more().await;
}

pub(super) async fn a_rejection_with_it_makes_no_dead_letter(harness: &dyn BusHarness) {
    let (here, there) = (Stage::open(harness).await, Stage::open(harness).await);
    let operator = here.join_on("operator", &[dead("a")]).await;
    let Overtaken { one, stale, other, .. } = Overtaken::on(&here, &there).await;
    one.reject(&stale, "stale").await;
    operator.gets_nothing_for(QUIET).await;
    other.work_off(0..1).await;
}

pub(super) async fn a_settled_delivery_stays_settled(harness: &dyn BusHarness) {
    let stage = Stage::open(harness).await;
    let operator = stage.join_on("operator", &[dead("a")]).await;
    let member = stage.join_briefly("a").await;
    stage.publish(0..2).await;
    let held = member.collect(0..2).await;
    member.ack(&held[..1]).await;
    member.reject(&held[1..], "poison").await;
    assert_eq!(numbers(&operator.work_off(1..2).await), [1]);
    member.release(&held, stage.now()).await;
    member.reject(&held, "again").await;
    member.ack(&held).await;
    member.gets_nothing_more().await;
    operator.gets_nothing_for(QUIET).await;
}

pub(super) async fn a_released_delivery_is_no_longer_held(harness: &dyn BusHarness) {
    let stage = Stage::open(harness).await;
    let operator = stage.join_on("operator", &[dead("a")]).await;
    let member = stage.join("a").await;
    stage.publish(0..1).await;
    let held = [member.next().await];
    let at = stage.now() + QUIET * 2;
    member.release(&held, at).await;
    member.ack(&held).await;
    member.release(&held, stage.now()).await;
    member.reject(&held, "stale").await;
    member.next_at(at).await;
    operator.gets_nothing_for(QUIET).await;
}
