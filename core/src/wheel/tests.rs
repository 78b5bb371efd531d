use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::timer::{TimerInput, TimerModel, TimerState};

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);
const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);

fn at(millis: i64) -> Timestamp {
    Timestamp::from_millis(millis)
}

fn noon() -> Timestamp {
    "2026-11-22T12:00:00.000Z".parse().unwrap()
}

/// Short ids and long ones, which are not stored inline.
fn id(number: usize) -> OrderId {
    OrderId::new(format!("{number:0width$}", width = 3 + number % 3 * 15)).unwrap()
}

fn timer(number: usize, due: Timestamp) -> Timer {
    Timer::new(id(number), due)
}

fn receipts(leases: &[Lease]) -> Vec<Receipt> {
    leases.iter().map(|lease| lease.receipt).collect()
}

/// Leases until nothing is visible; every call gets further, so there are not many.
fn drain(wheel: &mut Wheel, now: Timestamp, max: usize) -> Vec<Lease> {
    let mut drained = Vec::new();
    let mut moved = 0;
    while wheel.next_visible().is_some_and(|next| next <= now) {
        let leases = wheel.lease(now, max, SECOND);
        assert!(leases.len() <= max && wheel.moves <= wheel.moves_max);
        assert!(!leases.is_empty() || wheel.moves > 0 || wheel.next_visible() > Some(now));
        moved += wheel.moves;
        wheel.ack(now, &receipts(&leases));
        drained.extend(leases);
    }
    assert!(moved <= (drained.len() + wheel.len()) * 6);
    drained
}

/// Sleeps from hint to hint until something comes; gives it, when, and how many sleeps it took.
fn sleep_until_lease(wheel: &mut Wheel, mut now: Timestamp) -> (Vec<Lease>, Timestamp, usize) {
    for sleeps in 0..100 {
        let leases = wheel.lease(now, 10, SECOND);
        if !leases.is_empty() {
            return (leases, now, sleeps);
        }
        let next = wheel.next_visible().unwrap();
        assert!(next > now, "a busy loop at {now}");
        now = next;
    }
    panic!("nothing after 100 sleeps, at {now}");
}

#[test]
fn a_timer_an_hour_out_needs_few_wake_ups_and_comes_at_its_millisecond() {
    for start in [0, 1, 16_777_215, 16_777_216, noon().as_millis(), noon().as_millis() + 77] {
        let mut wheel = Wheel::new(1);
        wheel.schedule(at(start), &[timer(1, at(start) + HOUR)]);
        let (leases, now, sleeps) = sleep_until_lease(&mut wheel, at(start));
        assert_eq!((leases.len(), now), (1, at(start) + HOUR));
        assert!(sleeps <= 5, "{sleeps} sleeps from {start}");
    }
}

#[test]
fn the_ends_of_time_are_as_good_as_any_other() {
    let ends = [Timestamp::MIN, noon(), noon() + 50 * YEAR, Timestamp::MAX];
    for now in ends {
        let mut wheel = Wheel::new(1);
        wheel.schedule(now, &ends.map(|due| Timer::new(id(due.as_millis() as usize % 97), due)));
        assert_eq!(wheel.len(), 4);
        let visible = ends.iter().filter(|due| **due <= now).count();
        assert_eq!(wheel.lease(now, 10, Duration::ZERO).len(), visible, "at {now}");
        assert_eq!(wheel.lease(Timestamp::MAX, 10, Duration::MAX).len(), 4);
        assert_eq!(wheel.lease(Timestamp::MIN, 10, Duration::MAX), []);
    }
}

#[test]
fn fifty_years_and_the_year_9999_take_a_handful_of_wake_ups() {
    for due in [noon() + 50 * YEAR, Timestamp::MAX] {
        let mut wheel = Wheel::new(1);
        wheel.schedule(noon(), &[timer(1, due)]);
        let (_, now, sleeps) = sleep_until_lease(&mut wheel, noon());
        assert_eq!(now, due);
        assert!(sleeps <= 7, "{sleeps}");
    }
}

#[test]
fn a_hundred_thousand_in_one_millisecond_drain_in_bounded_batches() {
    const TIMERS: usize = 100_000;
    let due = noon() + HOUR;
    let mut wheel = Wheel::new(1);
    for batch in (0..TIMERS).collect::<Vec<_>>().chunks(256) {
        let timers: Vec<_> = batch.iter().map(|number| timer(*number, due)).collect();
        wheel.schedule(noon(), &timers);
    }
    assert!(drain(&mut wheel, due - Duration::from_millis(1), 256).is_empty());
    let drained = drain(&mut wheel, due, 256);
    let ids: BTreeSet<_> = drained.into_iter().map(|lease| lease.timer.id).collect();
    assert_eq!(ids.len(), TIMERS);
    assert!(wheel.is_empty());
    assert_eq!(wheel.next_visible(), None);
}

#[test]
fn a_call_moves_no_more_than_its_bound() {
    let mut wheel = Wheel::new(1);
    let timers: Vec<_> =
        (0..3 * MOVES_MAX).map(|number| timer(number, noon() + HOUR + SECOND)).collect();
    wheel.schedule(noon(), &timers);
    let mut calls = 0;
    while wheel.lease(noon() + HOUR + SECOND, 1, SECOND).is_empty() {
        assert!((1..=MOVES_MAX).contains(&wheel.moves));
        assert!(wheel.next_visible().is_some_and(|next| next <= noon() + HOUR + SECOND));
        calls += 1;
    }
    assert!((3..=12).contains(&calls), "{calls}");
    assert_eq!(wheel.lease(noon() + HOUR + SECOND, usize::MAX, SECOND).len(), MOVES_MAX);
}

#[test]
fn what_a_cut_cascade_left_can_be_cancelled_and_moved() {
    let due = noon() + HOUR;
    let mut wheel = Wheel::new(1);
    let timers: Vec<_> = (0..2 * MOVES_MAX).map(|number| timer(number, due)).collect();
    wheel.schedule(noon(), &timers);
    assert!(wheel.lease(due, 1, SECOND).is_empty(), "the first cascade is cut");
    let (cancelled, moved): (Vec<_>, Vec<_>) =
        (0..2 * MOVES_MAX).filter(|number| number % 2 == 0).partition(|number| number % 4 == 0);
    wheel.cancel(&cancelled.iter().map(|number| id(*number)).collect::<Vec<_>>());
    let later: Vec<_> = moved.iter().map(|number| timer(*number, due + HOUR)).collect();
    wheel.schedule(due, &later);
    assert_eq!(drain(&mut wheel, due, 256).len(), MOVES_MAX);
    assert_eq!(drain(&mut wheel, due + HOUR, 256).len(), moved.len());
    assert!(wheel.is_empty());
}

/// The batches of a large wheel are warmed, in which others are not.
#[test]
fn a_large_wheel_does_the_same_as_a_small_one() {
    let numbers: Vec<_> = (0..2 * SMALL).collect();
    let mut wheel = Wheel::new(1);
    let timers = |numbers: &[usize], due| -> Vec<_> {
        numbers.iter().map(|number| timer(*number, due)).collect()
    };
    wheel.schedule(noon(), &timers(&numbers, noon() + SECOND));
    wheel.schedule(noon(), &timers(&numbers[..1000], noon() + HOUR));
    wheel.cancel(&numbers[500..1500].iter().map(|number| id(*number)).collect::<Vec<_>>());
    assert_eq!(wheel.len(), numbers.len() - 1000);
    let lease = || wheel.lease(noon() + SECOND, 1000, SECOND);
    let leases = std::iter::repeat_with(lease).find(|leases| !leases.is_empty()).unwrap();
    assert_eq!(leases.len(), 1000);
    let at = noon() + HOUR;
    let releases = leases.iter().map(|lease| Release { receipt: lease.receipt, at });
    wheel.release(noon() + SECOND, &releases.collect::<Vec<_>>());
    assert_eq!(drain(&mut wheel, noon() + SECOND, 256).len(), numbers.len() - 2500);
    assert_eq!(drain(&mut wheel, noon() + HOUR, 256).len(), 1500);
    assert!(wheel.is_empty());
}

#[test]
fn an_empty_shard_can_be_touched() {
    assert_eq!(Index::new(1).touch(u64::MAX), 0);
}

#[test]
fn a_clock_set_back_fires_nothing_early_and_holds_nothing_up() {
    let mut wheel = Wheel::new(1);
    wheel.schedule(noon(), &[timer(1, noon() + SECOND), timer(2, noon() + HOUR)]);
    assert_eq!(wheel.lease(noon() + SECOND, 1, 2 * SECOND).len(), 1);
    let past = noon() - 10 * YEAR;
    wheel.schedule(past, &[timer(3, past + SECOND), timer(4, past + DAY)]);
    assert!(wheel.lease(past, 10, SECOND).is_empty());
    assert_eq!(wheel.next_visible(), Some(past + SECOND));
    assert_eq!(drain(&mut wheel, past + SECOND, 10).len(), 1);
    assert_eq!(drain(&mut wheel, noon(), 10).len(), 1);
    assert_eq!(drain(&mut wheel, noon() + 3 * SECOND, 10).len(), 1);
    assert_eq!(drain(&mut wheel, noon() + HOUR, 10).len(), 1);
}

#[test]
fn an_empty_wheel_starts_anew_at_any_time() {
    let mut wheel = Wheel::new(1);
    for now in [noon(), Timestamp::MIN, Timestamp::MAX - DAY, Timestamp::EPOCH] {
        wheel.schedule(now, &[timer(1, now)]);
        assert_eq!(drain(&mut wheel, now, 1).len(), 1);
        assert_eq!(wheel.lease(now, 0, SECOND), []);
    }
}

#[test]
fn receipts_that_nobody_gave_out_do_nothing() {
    let mut wheel = Wheel::new(1);
    wheel.schedule(noon(), &[timer(1, noon()), timer(2, noon() + HOUR)]);
    let leased = wheel.lease(noon(), 1, SECOND);
    let key = leased[0].receipt.key();
    let strange: Vec<_> = [0, 1, key, 2, 4095, 4096, u64::from(u32::MAX), u64::MAX]
        .into_iter()
        .flat_map(|key| [0, 2, u64::MAX].map(|token| Receipt::new(key, token)))
        .collect();
    wheel.ack(noon(), &strange);
    let strange: Vec<_> =
        strange.into_iter().map(|receipt| Release { receipt, at: noon() }).collect();
    wheel.release(noon(), &strange);
    assert_eq!((wheel.len(), wheel.stats().leased), (2, 1));
}

#[test]
fn a_batch_is_worked_off_in_order() {
    let mut wheel = Wheel::new(1);
    wheel.schedule(noon(), &[timer(1, noon() + HOUR), timer(1, noon()), timer(1, noon())]);
    let leases = wheel.lease(noon(), 9, SECOND);
    assert_eq!(leases.len(), 1);
    let twice = [leases[0].receipt, leases[0].receipt];
    wheel.release(noon(), &twice.map(|receipt| Release { receipt, at: noon() }));
    let again = wheel.lease(noon(), 9, SECOND);
    assert_eq!((again.len(), again[0].attempt), (1, 2));
    wheel.ack(noon(), &[again[0].receipt, again[0].receipt]);
    wheel.cancel(&[id(1), id(1)]);
    assert!(wheel.is_empty());
    assert_eq!(wheel.stats(), QueueStats::default());
}

/// What a test does to both, the wheel and the model.
#[derive(Clone, Debug)]
enum Step {
    Schedule(Vec<(usize, Due)>),
    Cancel(Vec<usize>),
    Lease {
        max: usize,
        duration: Duration,
    },
    /// The receipts are picked from all there ever were, or made up.
    Ack(Vec<Pick>),
    Release(Vec<(Pick, Due)>),
    Clock(Shift),
}

#[derive(Clone, Copy, Debug)]
enum Due {
    At(Timestamp),
    In(Shift),
    /// As it was scheduled before.
    Same,
}

#[derive(Clone, Copy, Debug)]
enum Shift {
    Ahead(Duration),
    Back(Duration),
}

#[derive(Clone, Copy, Debug)]
enum Pick {
    Latest(usize),
    Any(prop::sample::Index),
    Garbage(u64, u64),
}

impl Shift {
    fn from(self, now: Timestamp) -> Timestamp {
        match self {
            Self::Ahead(by) => now + by,
            Self::Back(by) => now - by,
        }
    }
}

struct Pair {
    wheel: Wheel,
    model: TimerModel,
    now: Timestamp,
    given: Vec<(OrderId, Receipt)>,
}

impl Pair {
    fn new(seed: u64, now: Timestamp) -> Self {
        // A bound of 1 to 64 moves, so that cascades are cut short.
        let moves_max = 1 << (seed % 7);
        let wheel = Wheel { moves_max, ..Wheel::new(seed) };
        Self { wheel, model: TimerModel::default(), now, given: Vec::new() }
    }

    fn apply(&mut self, step: &Step) {
        match step {
            Step::Schedule(timers) => self.schedule(timers),
            Step::Cancel(ids) => self.cancel(ids),
            Step::Lease { max, duration } => self.lease_all(*max, *duration),
            Step::Ack(picks) => self.ack(picks),
            Step::Release(picks) => self.release(picks),
            Step::Clock(shift) => self.now = shift.from(self.now),
        }
        self.compare();
    }

    fn due(&self, number: usize, due: Due) -> Timestamp {
        match due {
            Due::At(at) => at,
            Due::In(shift) => shift.from(self.now),
            Due::Same => self.model.get(&id(number)).map_or(self.now, TimerState::due),
        }
    }

    fn schedule(&mut self, timers: &[(usize, Due)]) {
        let timers: Vec<_> =
            timers.iter().map(|(number, due)| timer(*number, self.due(*number, *due))).collect();
        self.wheel.schedule(self.now, &timers);
        for timer in timers {
            self.model.apply(&timer.id, TimerInput::Schedule { due: timer.due }, self.now);
        }
    }

    fn cancel(&mut self, numbers: &[usize]) {
        let ids: Vec<_> = numbers.iter().map(|number| id(*number)).collect();
        self.wheel.cancel(&ids);
        for id in ids {
            self.model.apply(&id, TimerInput::Cancel, self.now);
        }
    }

    /// One batch; and if that was not full, all that is left.
    fn lease_all(&mut self, max: usize, duration: Duration) {
        let mut leased = self.lease(max, duration);
        while leased < max && self.wheel.next_visible().is_some_and(|next| next <= self.now) {
            if duration.is_zero() || self.now + duration == self.now {
                return; // what was leased stays visible, for ever
            }
            leased += self.lease(max - leased, duration);
        }
        if leased < max {
            assert_eq!(self.model.visible(self.now), [], "held up at {}", self.now);
        }
    }

    fn lease(&mut self, max: usize, duration: Duration) -> usize {
        let leases = self.wheel.lease(self.now, max, duration);
        assert!(leases.len() <= max && self.wheel.moves <= self.wheel.moves_max);
        assert!(leases.is_sorted_by_key(|lease| lease.timer.clone_key()));
        let ids: BTreeSet<_> = leases.iter().map(|lease| &lease.timer.id).collect();
        assert_eq!(ids.len(), leases.len(), "leased twice");
        let until = self.now + duration.min(LEASE_MAX);
        for lease in &leases {
            self.lease_one(lease, until);
        }
        leases.len()
    }

    fn lease_one(&mut self, lease: &Lease, until: Timestamp) {
        let (id, token) = (&lease.timer.id, lease.receipt.token());
        let before = self.model.get(id).expect("the model has it");
        assert!(before.visible_at() <= self.now, "early: {before:?} at {}", self.now);
        assert_eq!(before.due(), lease.timer.due);
        assert!(self.given.iter().all(|(_, receipt)| receipt.token() != token));
        self.model.apply(id, TimerInput::Lease { token, until }, self.now);
        let expected =
            TimerState::Leased { due: lease.timer.due, until, token, attempts: lease.attempt };
        assert_eq!(self.model.get(id), Some(expected));
        self.given.push((id.clone(), lease.receipt));
    }

    fn picked(&self, pick: Pick) -> (Option<OrderId>, Receipt) {
        let given = match pick {
            Pick::Latest(back) => self.given.len().checked_sub(back + 1),
            Pick::Any(index) => (!self.given.is_empty()).then(|| index.index(self.given.len())),
            Pick::Garbage(key, token) => return (None, Receipt::new(key, token + (1 << 32))),
        };
        match given {
            Some(given) => (Some(self.given[given].0.clone()), self.given[given].1),
            None => (None, Receipt::new(0, 0)),
        }
    }

    fn ack(&mut self, picks: &[Pick]) {
        let picked: Vec<_> = picks.iter().map(|pick| self.picked(*pick)).collect();
        self.wheel.ack(self.now, &picked.iter().map(|(_, receipt)| *receipt).collect::<Vec<_>>());
        for (id, receipt) in picked {
            if let Some(id) = id {
                self.model.apply(&id, TimerInput::Ack { token: receipt.token() }, self.now);
            }
        }
    }

    fn release(&mut self, picks: &[(Pick, Due)]) {
        let picked: Vec<_> =
            picks.iter().map(|(pick, due)| (self.picked(*pick), self.due(0, *due))).collect();
        let releases: Vec<_> = picked
            .iter()
            .map(|((_, receipt), at)| Release { receipt: *receipt, at: *at })
            .collect();
        self.wheel.release(self.now, &releases);
        for ((id, receipt), at) in picked {
            if let Some(id) = id {
                let token = receipt.token();
                self.model.apply(&id, TimerInput::Release { token, at }, self.now);
            }
        }
    }

    fn compare(&self) {
        let mut states = BTreeMap::new();
        for number in 0..IDS {
            let id = id(number);
            if let Some(key) =
                self.wheel.index.find(self.wheel.index.hash(&id), &id, &self.wheel.entries)
            {
                states.insert(id, self.wheel.state(key));
            }
        }
        let expected: BTreeMap<_, _> =
            self.model.iter().map(|(id, state)| (id.clone(), state)).collect();
        assert_eq!(states, expected);
        assert_eq!(self.wheel.len(), expected.len());
        assert!(self.wheel.next_visible() <= self.model.next_visible());
        assert_eq!(self.wheel.next_visible().is_none(), expected.is_empty());
        let is_leased = |state: &&TimerState| matches!(state, TimerState::Leased { .. });
        let leased = expected.values().filter(is_leased).count() as u64;
        let stats = self.wheel.stats();
        assert_eq!((stats.leased, stats.pending + stats.leased), (leased, expected.len() as u64));
    }

    /// Goes on to the end of time, from hint to hint, and finds every timer.
    fn finish(mut self) {
        while let Some(next) = self.wheel.next_visible() {
            self.now = self.now.max(next);
            let leases = self.wheel.lease(self.now, 3, SECOND);
            for lease in &leases {
                self.lease_one(lease, self.now + SECOND);
                self.model.apply(&lease.timer.id, TimerInput::Cancel, self.now);
            }
            self.wheel.cancel(&leases.into_iter().map(|lease| lease.timer.id).collect::<Vec<_>>());
            self.compare();
        }
        assert_eq!(self.model, TimerModel::default());
    }
}

impl Timer {
    fn clone_key(&self) -> (Timestamp, OrderId) {
        (self.due, self.id.clone())
    }
}

impl Wheel {
    fn state(&self, key: u32) -> TimerState {
        let entry = &self.entries[key];
        let (due, attempts, token) = (entry.due, entry.attempts, entry.token);
        let visible_at = entry.visible().into();
        match token {
            0 => TimerState::Scheduled { due, visible_at, attempts },
            _ => TimerState::Leased { due, until: visible_at, token, attempts },
        }
    }
}

const IDS: usize = 60;

fn span() -> impl Strategy<Value = Duration> {
    prop_oneof![
        2 => Just(Duration::ZERO),
        4 => (1..600_u64).prop_map(Duration::from_millis),
        4 => (0..100_000_u64).prop_map(Duration::from_millis),
        2 => (0..100_u64).prop_map(|hours| HOUR * hours as u32),
        1 => (0..100_u64).prop_map(|years| YEAR * years as u32),
        1 => Just(Duration::MAX),
    ]
}

fn shift() -> impl Strategy<Value = Shift> {
    prop_oneof![3 => span().prop_map(Shift::Ahead), 1 => span().prop_map(Shift::Back)]
}

fn due() -> impl Strategy<Value = Due> {
    let ends = prop::sample::select(vec![Timestamp::MIN, Timestamp::MAX, noon(), at(0)]);
    prop_oneof![1 => ends.prop_map(Due::At), 8 => shift().prop_map(Due::In), 1 => Just(Due::Same)]
}

fn pick() -> impl Strategy<Value = Pick> {
    prop_oneof![
        6 => (0..4_usize).prop_map(Pick::Latest),
        2 => any::<prop::sample::Index>().prop_map(Pick::Any),
        1 => (any::<u64>(), any::<u32>()).prop_map(|(key, token)| Pick::Garbage(key, token.into())),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let many = 1..40_usize;
    let duration = prop_oneof![
        3 => span(),
        3 => (1..3000_u64).prop_map(Duration::from_millis)
    ];
    prop_oneof![
        4 => prop::collection::vec((0..IDS, due()), many).prop_map(Step::Schedule),
        1 => prop::collection::vec(0..IDS, 1..10).prop_map(Step::Cancel),
        4 => (1..50_usize, duration).prop_map(|(max, duration)| Step::Lease { max, duration }),
        2 => prop::collection::vec(pick(), 1..8).prop_map(Step::Ack),
        2 => prop::collection::vec((pick(), due()), 1..8).prop_map(Step::Release),
        4 => shift().prop_map(Step::Clock),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn the_wheel_does_what_the_model_does(
        seed: u64,
        start in prop::sample::select(vec![noon(), at(0), Timestamp::MIN, Timestamp::MAX]),
        steps in prop::collection::vec(step(), 1..40),
    ) {
        let mut pair = Pair::new(seed, start);
        for step in &steps {
            pair.apply(step);
        }
        pair.finish();
    }

    #[test]
    fn ticks_and_timestamps_are_the_same(
        millis in Timestamp::MIN.as_millis()..=Timestamp::MAX.as_millis(),
    ) {
        let tick = tick::Tick::from(at(millis));
        prop_assert_eq!(Timestamp::from(tick), at(millis));
        prop_assert_eq!(tick.level_apart(tick), 0);
    }
}
