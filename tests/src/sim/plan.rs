//! What will happen in a run, all of it drawn from the seed before it begins.

use std::time::Duration;

use expirer_core::{Group, OrderId, Subject, Timestamp};
use fastrand::Rng;

use super::acts::Act;
use super::script::{self, Story};
use super::stage::CLOCKS;
use crate::faults::{Odds, Service};

/// Who reads what: each can be behind by itself, which is a backlog of one loop.
const READERS: [(Group, Subject); 6] = [
    (Group::EXPIRATION_SERVICE, Subject::OrderCreated),
    (Group::EXPIRATION_SERVICE, Subject::OrderCancelled),
    (Group::ORDERS_SERVICE, Subject::OrderCreated),
    (Group::ORDERS_SERVICE, Subject::PaymentCreated),
    (Group::ORDERS_SERVICE, Subject::OrderCancelled),
    (Group::ORDERS_SERVICE, Subject::ExpirationComplete),
];
/// How far a clock is set off at most.
const SKEW_MILLIS_MAX: i64 = 20_000;

/// One run.
#[derive(Debug)]
pub(super) struct Plan {
    /// What other services and people do, order by order.
    pub(super) stories: Vec<Story>,
    /// Who does what when.
    pub(super) acts: Vec<(Timestamp, Act)>,
    pub(super) odds: Odds,
    /// A replica crashes once in so many polls; zero for never.
    pub(super) crash: u32,
    /// A replica stands still once in so many polls; zero for never.
    pub(super) freeze: u32,
    /// From then on nothing goes wrong any more.
    pub(super) peace: Timestamp,
    /// Nothing goes wrong at all.
    pub(super) is_calm: bool,
}

impl Plan {
    pub(super) fn new(rng: &mut Rng, begin: Timestamp) -> Self {
        let is_calm = one_in(rng, 8);
        let has_long_backlog = !is_calm && one_in(rng, 16);
        let storm = Duration::from_secs(match has_long_backlog {
            true => 2 * 3600,
            false => rng.u64(60..300),
        });
        let peace = begin + storm;
        let (stories, mut acts) = script::write(rng, begin, Duration::from_secs(120), is_calm);
        if !is_calm {
            acts.extend(weather(rng, begin, storm, &stories));
        }
        if has_long_backlog {
            acts.extend(long_backlog(begin));
        }
        acts.sort_by_key(|(at, _)| *at);
        let (odds, [crash, freeze]) = if is_calm { Default::default() } else { rough(rng) };
        Self { stories, acts, odds, crash, freeze, peace, is_calm }
    }
}

/// Payments are read an hour late.
fn long_backlog(begin: Timestamp) -> [(Timestamp, Act); 2] {
    let hold = |is_held| Act::Hold(Group::ORDERS_SERVICE, Subject::PaymentCreated, is_held);
    [(begin, hold(true)), (begin + Duration::from_secs(3600), hold(false))]
}

pub(super) fn one_in(rng: &mut Rng, times: u32) -> bool {
    rng.u32(0..times) == 0
}

pub(super) fn millis(rng: &mut Rng, below: u64) -> Duration {
    Duration::from_millis(rng.u64(0..below.max(1)))
}

/// Each kind of fault is there in half of the runs, seldom or often: a run with everything at once
/// would hide what only shows with one of them.
fn rough(rng: &mut Rng) -> (Odds, [u32; 2]) {
    let mut odds = |choices: [u32; 3]| match rng.bool() {
        true => choices[rng.usize(0..choices.len())],
        false => 0,
    };
    let calls = [10, 40, 200];
    let messages = [4, 12, 40];
    let faults = Odds {
        slow: odds([1, 4, 20]),
        error_before: odds(calls),
        error_after: odds(calls),
        silence: odds([40, 200, 1000]),
        loss: odds(messages),
        duplicate: odds(messages),
        delay: odds(messages),
        drop: odds(messages),
        forgotten: odds(messages),
        closed: odds(calls),
    };
    (faults, [odds([30, 100, 400]), odds([100, 400, 1000])])
}

fn weather(
    rng: &mut Rng,
    begin: Timestamp,
    storm: Duration,
    stories: &[Story],
) -> Vec<(Timestamp, Act)> {
    let mut acts = Vec::new();
    let storm_millis = crate::millis(storm);
    if rng.bool() {
        acts.extend(skew(rng, begin));
    }
    for _ in 0..rng.u32(0..6) {
        let at = begin + millis(rng, storm_millis);
        acts.extend(incident(rng, at, stories));
    }
    acts
}

/// Clocks that differ from the beginning, and one that is set in between.
fn skew(rng: &mut Rng, begin: Timestamp) -> Vec<(Timestamp, Act)> {
    let off = |rng: &mut Rng| rng.i64(-SKEW_MILLIS_MAX..=SKEW_MILLIS_MAX);
    let mut acts = Vec::new();
    for clock in 0..CLOCKS {
        if rng.bool() {
            acts.push((begin, Act::SetClock { clock, ahead_millis: off(rng) }));
        }
        // No clock is set twice within a minute.
        if one_in(rng, 3) {
            let at = begin + Duration::from_secs(61) + millis(rng, 100_000);
            acts.push((at, Act::SetClock { clock, ahead_millis: off(rng) }));
        }
    }
    acts
}

/// Something that goes wrong and ends again.
fn incident(rng: &mut Rng, at: Timestamp, stories: &[Story]) -> Vec<(Timestamp, Act)> {
    match rng.u32(0..4) {
        0 | 1 => {
            let service = Service::ALL[rng.usize(0..Service::ALL.len())];
            let end = at + millis(rng, 60_000);
            vec![(at, Act::Out(service, true)), (end, Act::Out(service, false))]
        }
        2 => {
            let (group, subject) = &READERS[rng.usize(0..READERS.len())];
            let hold = |is_held| Act::Hold(group.clone(), subject.clone(), is_held);
            vec![(at, hold(true)), (at + millis(rng, 90_000), hold(false))]
        }
        _ => {
            let ids: Vec<OrderId> =
                stories.iter().filter(|_| rng.bool()).map(|story| story.id.clone()).collect();
            vec![(at, Act::LoseTimers(ids))]
        }
    }
}
