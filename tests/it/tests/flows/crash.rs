//! Orders, payments, faults and crashes by a seed; then the promises.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use expirer_core::event::{
    Event, OpenStatus, OrderCancelled, OrderCreated, Payload, PaymentCreated, PaymentLate, Ticket,
};
use expirer_core::{Message, OrderId, PaymentId, Subject, TicketId, Timestamp};
use futures_lite::future::block_on;
use proptest::prelude::*;

use crate::stage::{LOOPS, NOW, REPLICAS, Stage};

const ORDERS: u64 = 12;

/// What somebody does at some time.
#[derive(Debug)]
struct Act {
    at: Timestamp,
    message: Message,
}

/// One order's story.
#[derive(Debug)]
struct Plan {
    expires_at: Timestamp,
    paid_at: Option<Timestamp>,
    /// It is paid once more, later.
    is_paid_twice: bool,
}

fn order_id(n: u64) -> OrderId {
    OrderId::new(format!("o{n}")).unwrap()
}

/// Orders that expire within a minute, most of them paid around that time, all of it told once or
/// twice and in any order.
fn script(stage: &mut Stage) -> (BTreeMap<OrderId, Plan>, Vec<Act>) {
    let (mut plans, mut acts) = (BTreeMap::new(), Vec::new());
    for n in 0..ORDERS {
        let expires_at = NOW + Duration::from_millis(stage.seed.below(60_000));
        let around = expires_at + Duration::from_millis(stage.seed.below(4_000));
        let paid_at = (!stage.seed.one_in(3)).then(|| (around - Duration::from_secs(2)).max(NOW));
        let created_at = NOW + Duration::from_millis(stage.seed.below(70_000));
        let repeats = 1 + stage.seed.below(2);
        for _ in 0..repeats {
            let delay = Duration::from_millis(stage.seed.below(3_000));
            acts.push(Act { at: created_at + delay, message: created(n, expires_at) });
        }
        let is_paid_twice = paid_at.is_some() && stage.seed.one_in(3);
        if let Some(at) = paid_at {
            let again = Act { at: at + Duration::from_secs(6), message: paid(n, "again") };
            acts.extend(is_paid_twice.then_some(again));
            acts.push(Act { at, message: paid(n, "") });
            acts.extend(
                stage
                    .seed
                    .one_in(2)
                    .then(|| Act { at: at + Duration::from_secs(5), message: paid(n, "") }),
            );
        }
        plans.insert(order_id(n), Plan { expires_at, paid_at, is_paid_twice });
    }
    acts.sort_by_key(|act| act.at);
    (plans, acts)
}

fn created(n: u64, expires_at: Timestamp) -> Message {
    let ticket = Some(Ticket { id: TicketId::new(format!("t{n}")).unwrap(), price: None });
    let (id, status) = (order_id(n), OpenStatus::Created);
    Event::OrderCreated(OrderCreated { id, version: 0, status, user_id: None, expires_at, ticket })
        .message()
}

fn paid(n: u64, which: &str) -> Message {
    let id = PaymentId::new(format!("p{n}{which}")).unwrap();
    Event::PaymentCreated(PaymentCreated { id, order_id: order_id(n) }).message()
}

/// Plays a script, in a storm with crashes and faults for two minutes, then in peace for ten.
fn play(seed: u64, storm: bool) -> (Stage, BTreeMap<OrderId, Plan>, u64) {
    let mut stage = Stage::new(seed, 20);
    if !storm {
        stage.faults.end();
    }
    let (plans, acts) = script(&mut stage);
    let (storm_end, end) = (NOW + Duration::from_secs(120), NOW + Duration::from_secs(720));
    let (mut acts, mut crashes) = (acts.into_iter().peekable(), 0);
    while stage.now() < end {
        while let Some(act) = acts.next_if(|act| act.at <= stage.now()) {
            stage.publish(&act.message);
        }
        let until = acts.peek().map_or(end, |act| act.at);
        stage.turn(until);
        if stage.now() >= storm_end {
            stage.faults.end();
        } else if storm && stage.seed.one_in(60) {
            let name = stage.seed.below((LOOPS * REPLICAS) as u64);
            stage.start(usize::try_from(name).expect("an index"));
            crashes += 1;
        }
    }
    (stage, plans, crashes)
}

/// What the world heard of one kind, by order.
fn heard<T: Payload>(
    stage: &Stage,
    subject: &Subject,
    id: impl Fn(&T) -> OrderId,
) -> BTreeMap<OrderId, Vec<(Timestamp, Message)>> {
    let mut by_order: BTreeMap<OrderId, Vec<_>> = BTreeMap::new();
    for (at, message) in stage.heard.iter().filter(|(_, message)| message.subject == *subject) {
        let event = T::decode(&message.payload).expect("ours");
        by_order.entry(id(&event)).or_default().push((*at, message.clone()));
    }
    by_order
}

fn check(stage: &Stage, plans: &BTreeMap<OrderId, Plan>) -> Result<u64, TestCaseError> {
    let cancelled =
        heard(stage, &Subject::OrderCancelled, |event: &OrderCancelled| event.id.clone());
    let late = heard(stage, &Subject::PaymentLate, |event: &PaymentLate| event.order_id.clone());
    let ids: Vec<OrderId> = plans.keys().cloned().collect();
    let rows = block_on(stage.repo.load(&ids)).expect("memory answers");
    let mut repeats = 0;
    for ((id, plan), row) in plans.iter().zip(rows) {
        let row = row.ok_or_else(|| TestCaseError::fail(format!("{id} is lost")))?;
        let order = row.state.order().expect("it was created");
        let in_time = plan.paid_at.is_some_and(|at| at < plan.expires_at);
        let announced = cancelled.get(id).map_or(&[][..], Vec::as_slice);
        prop_assert!(row.owes.is_empty(), "{} owes {:?}", id, row.owes);
        prop_assert_eq!(order.version, 1);
        if in_time {
            prop_assert_eq!(order.phase.as_str(), "complete", "{} was paid in time", id);
        } else if plan.paid_at.is_none() {
            prop_assert_eq!(order.phase.as_str(), "cancelled", "{} was never paid", id);
        }
        let is_cancelled = order.phase.as_str() == "cancelled";
        prop_assert_eq!(!announced.is_empty(), is_cancelled, "{} is {}", id, order.phase.as_str());
        prop_assert!(announced.iter().all(|(at, _)| *at >= plan.expires_at), "{} early", id);
        let same = announced
            .windows(2)
            .all(|pair| pair[0].1.payload == pair[1].1.payload && pair[0].1.id == pair[1].1.id);
        prop_assert!(same, "{} was announced in two ways: {:?}", id, announced);
        repeats += announced.len().saturating_sub(1) as u64;
        let payments = usize::from(plan.paid_at.is_some()) + usize::from(plan.is_paid_twice);
        let counts = usize::from(!is_cancelled && payments > 0);
        let told = late.get(id).map_or(&[][..], Vec::as_slice);
        let ids: BTreeSet<_> = told.iter().map(|(_, message)| message.id.clone()).collect();
        let forms: BTreeSet<_> = told.iter().map(|(_, message)| &message.payload).collect();
        prop_assert_eq!(ids.len(), payments - counts, "{}: each payment that does not count", id);
        prop_assert_eq!(forms.len(), ids.len(), "{}: each told in one way", id);
    }
    Ok(repeats)
}

#[test]
fn a_crash_a_fault_or_a_loss_at_any_step_loses_nothing_and_changes_nothing_twice() {
    let (mut crashes, mut faults, mut losses, mut repeats) = (0, 0, 0, 0);
    for seed in 0..150 {
        let (stage, plans, crashed) = play(seed, true);
        repeats += check(&stage, &plans).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        crashes += crashed;
        faults += stage.faults.failed();
        losses += stage.faults.lost();
    }
    // A run without repeats would prove nothing.
    let exercised = [crashes, faults, losses, repeats];
    assert!(
        exercised.iter().zip([1000, 1000, 100, 10]).all(|(had, min)| *had > min),
        "{exercised:?}"
    );
}

#[test]
fn in_peace_every_announcement_is_made_once() {
    for seed in 0..50 {
        let (stage, plans, _) = play(seed, false);
        let repeats = check(&stage, &plans).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        assert_eq!(repeats, 0, "seed {seed}");
    }
}

#[test]
fn the_same_seed_is_the_same_run() {
    let run = |seed| {
        let (stage, _, crashes) = play(seed, true);
        (stage.heard, crashes)
    };
    assert_eq!(run(7), run(7));
    assert_ne!(run(7), run(8));
}
