use std::collections::BTreeMap;
use std::sync::Arc;

use expirer_core::Timer;
use expirer_core::timer::{TimerInput, TimerModel};
use proptest::prelude::*;

use super::*;
use crate::memory::testing::{START, VirtualClock, now_or_never, poll};

const SECOND: Duration = Duration::from_secs(1);
const KEEP: Duration = Duration::from_secs(10);

/// A delivery, as a broker would number them.
type Tag = u32;

fn hold() -> (Arc<VirtualClock>, Hold<Tag>) {
    let clock = Arc::new(VirtualClock::new());
    (Arc::clone(&clock), Hold::new(clock, 7, KEEP))
}

fn id(name: &str) -> OrderId {
    OrderId::new(name).unwrap()
}

fn arrival(name: &str, due: Timestamp, version: u64, handle: Tag) -> Arrival<Tag> {
    Arrival { timer: Timer::new(id(name), due), visible_at: due, attempts: 0, version, handle }
}

fn leased(hold: &Hold<Tag>, options: &LeaseOptions) -> Vec<Leased<Tag>> {
    now_or_never(hold.lease(options))
}

fn names(leased: &[Leased<Tag>]) -> Vec<&str> {
    leased.iter().map(|leased| leased.lease.timer.id.as_str()).collect()
}

fn receipts(leased: &[Leased<Tag>]) -> Vec<Receipt> {
    leased.iter().map(|leased| leased.lease.receipt).collect()
}

fn waiting() -> LeaseOptions {
    LeaseOptions::new(9).with_wait(SECOND * 60)
}

#[test]
fn what_came_early_is_given_out_at_its_millisecond_by_due_time() {
    let (clock, hold) = hold();
    let due = START + SECOND;
    let later = Arrival { visible_at: due, ..arrival("b", START, 1, 1) };
    for arrival in [arrival("a", due, 1, 2), later] {
        assert_eq!(hold.take_in(arrival), None);
    }
    let options = waiting();
    let mut waiter = Box::pin(hold.lease(&options));
    assert!(poll(waiter.as_mut()).is_none());
    clock.set(due - Duration::from_millis(1));
    assert!(poll(waiter.as_mut()).is_none());
    clock.set(due);
    let leased = poll(waiter.as_mut()).expect("due");
    assert_eq!(names(&leased), ["b", "a"]);
    assert_eq!(leased[0].lease.timer.due, START, "the due time, not when it is visible");
}

#[test]
fn the_lease_starts_when_it_is_given_out_and_ends_by_itself() {
    let (clock, hold) = hold();
    hold.take_in(Arrival { attempts: 3, ..arrival("a", START, 1, 1) });
    clock.advance(SECOND * 5);
    let options = LeaseOptions::new(1).with_duration(SECOND * 2);
    let first = leased(&hold, &options);
    clock.advance(SECOND * 2 - Duration::from_millis(1));
    assert_eq!(hold.find(receipts(&first)).len(), 1);
    assert_eq!((hold.stats().leased, leased(&hold, &options).len()), (1, 0));
    clock.advance(Duration::from_millis(1));
    assert!(hold.find(receipts(&first)).is_empty());
    let second = leased(&hold, &options);
    assert_eq!((first[0].lease.attempt, second[0].lease.attempt), (4, 5));
    assert!(hold.find(receipts(&first)).is_empty(), "stale");
    hold.settle(receipts(&first));
    let found = hold.find(receipts(&second));
    assert_eq!((found[0].lease.attempt, found[0].version, found[0].handle), (5, 1, 1));
    hold.settle(receipts(&second));
    assert_eq!((hold.stats().pending, hold.stats().leased), (0, 0));
}

#[test]
fn every_waiter_wakes_for_an_arrival_and_for_what_is_put_back() {
    let (_, hold) = hold();
    let options = waiting();
    let (mut one, mut other) = (Box::pin(hold.lease(&options)), Box::pin(hold.lease(&options)));
    assert!(poll(one.as_mut()).is_none() && poll(other.as_mut()).is_none());
    hold.take_in(arrival("a", START, 1, 1));
    let taken = poll(other.as_mut()).expect("it heard");
    assert!(poll(one.as_mut()).is_none());
    hold.put_back(&receipts(&taken));
    assert_eq!(names(&poll(one.as_mut()).expect("it heard")), ["a"]);
    assert!(hold.find(receipts(&taken)).is_empty());
}

#[test]
fn a_redelivery_changes_the_handle_alone_and_a_newer_version_all() {
    let (_, hold) = hold();
    hold.take_in(arrival("a", START, 5, 1));
    let lease = leased(&hold, &waiting());
    assert_eq!(hold.take_in(arrival("a", START, 5, 2)), None);
    assert_eq!(hold.find(receipts(&lease))[0].handle, 2, "the lease goes on");
    assert_eq!(hold.take_in(arrival("a", START + SECOND, 4, 3)), Some(3), "older");
    assert_eq!(hold.find(receipts(&lease)).len(), 1);
    assert_eq!(hold.take_in(arrival("a", START + SECOND, 6, 4)), Some(2));
    assert!(hold.find(receipts(&lease)).is_empty());
    assert_eq!((hold.stats().pending, hold.stats().leased), (1, 0));
}

#[test]
fn what_is_cancelled_is_gone_leased_or_not() {
    let (_, hold) = hold();
    hold.take_in(arrival("a", START, 1, 1));
    let lease = leased(&hold, &waiting());
    hold.take_in(arrival("b", START, 1, 2));
    hold.remove_older([(&id("a"), 1), (&id("b"), 1)]);
    assert_eq!((hold.stats().pending, hold.stats().leased), (1, 1), "of this version");
    hold.remove_older([(&id("a"), 2), (&id("b"), u64::MAX), (&id("c"), 9)]);
    assert!(hold.find(receipts(&lease)).is_empty());
    assert_eq!((hold.stats().pending, hold.stats().leased), (0, 0));
    assert!(leased(&hold, &LeaseOptions::new(9)).is_empty());
}

#[test]
fn what_nobody_leased_is_handed_back() {
    let (clock, hold) = hold();
    for (name, tag) in [("a", 1), ("b", 2), ("c", 3)] {
        hold.take_in(arrival(name, START + SECOND * (u32::from(tag != 1)), 1, tag));
    }
    let options = LeaseOptions::new(1).with_duration(SECOND * 3);
    assert_eq!(names(&leased(&hold, &options)), ["a"]);
    let mut back = hold.hand_back();
    back.sort_unstable();
    assert_eq!(back, [2, 3]);
    clock.advance(SECOND * 3);
    assert_eq!(hold.hand_back(), [1], "its lease ran out");
}

#[test]
fn nothing_is_wanted_while_nobody_leases_and_after_the_end() {
    let (clock, hold) = hold();
    assert_eq!((hold.wanted(), hold.is_idle()), (0, true));
    leased(&hold, &LeaseOptions::new(1));
    assert_eq!((hold.wanted(), hold.is_idle()), (WANTED_MAX, false));
    clock.advance(IDLE);
    assert_eq!(hold.wanted(), 0, "nobody came back");
    let options = waiting();
    let mut waiter = Box::pin(hold.lease(&options));
    assert!(poll(waiter.as_mut()).is_none());
    clock.advance(IDLE * 10);
    assert_eq!(hold.wanted(), WANTED_MAX, "somebody waits");
    drop(waiter);
    clock.set(START - SECOND * 3600);
    assert_eq!(hold.wanted(), WANTED_MAX);
    clock.advance(IDLE);
    assert_eq!(hold.wanted(), 0, "by a clock that was set back, too");
    leased(&hold, &LeaseOptions::new(1));
    hold.close();
    assert_eq!((hold.wanted(), hold.is_idle()), (0, true));
}

#[test]
fn who_feeds_it_is_woken_by_a_caller_by_room_and_by_the_end() {
    let (_, hold) = hold();
    let mut changed = Box::pin(hold.changed(SECOND * 60));
    assert!(poll(changed.as_mut()).is_none());
    leased(&hold, &LeaseOptions::new(1));
    assert!(poll(changed.as_mut()).is_some());
    assert!(poll(Box::pin(hold.changed(SECOND)).as_mut()).is_some(), "it still wants some");
    hold.close();
    assert!(poll(Box::pin(hold.changed(SECOND)).as_mut()).is_some());
}

#[test]
fn no_more_is_wanted_than_there_is_room_nor_while_much_is_due() {
    let (clock, hold) = hold();
    let due = START + SECOND;
    let fill = |count: usize| {
        for number in 0..count {
            hold.take_in(arrival(&format!("o{number}"), due, 1, 0));
        }
    };
    fill(HELD_MAX - 10);
    leased(&hold, &LeaseOptions::new(1));
    assert_eq!(hold.wanted(), 10);
    fill(HELD_MAX);
    assert_eq!(hold.wanted(), 0);
    let ids: Vec<_> = (WANTED_MAX..HELD_MAX).map(|number| id(&format!("o{number}"))).collect();
    hold.remove_older(ids.iter().map(|id| (id, 2)));
    assert_eq!(hold.wanted(), WANTED_MAX, "nothing is due");
    clock.set(due);
    leased(&hold, &LeaseOptions::new(1));
    hold.take_in(arrival("one more", due, 1, 0));
    assert_eq!(hold.wanted(), 0, "others may be idle");
    leased(&hold, &LeaseOptions::new(100));
    assert_eq!(hold.wanted(), WANTED_MAX);
}

#[test]
fn what_the_broker_may_have_given_away_is_forgotten() {
    let (clock, hold) = hold();
    hold.take_in(arrival("a", START, 1, 1));
    let lease = leased(&hold, &waiting().with_duration(SECOND * 600));
    assert_eq!(hold.to_prolong(), (0, Vec::new()));
    clock.advance(KEEP / 2);
    assert_eq!(hold.to_prolong(), (0, vec![(id("a"), 1, 1)]));
    hold.prolonged(clock.now(), [(&id("a"), 0)]);
    assert_eq!(hold.to_prolong().1.len(), 1, "another version was prolonged");
    hold.prolonged(clock.now(), [(&id("a"), 1)]);
    assert_eq!(hold.to_prolong(), (0, Vec::new()));
    clock.advance(KEEP - Duration::from_millis(1));
    assert_eq!(hold.find(receipts(&lease)).len(), 1);
    clock.advance(Duration::from_millis(1));
    assert!(hold.find(receipts(&lease)).is_empty(), "the lease runs, and is worth nothing");
    assert_eq!(hold.to_prolong(), (1, Vec::new()));
    assert_eq!((hold.stats().pending, hold.stats().leased), (0, 0));
}

#[test]
fn what_the_broker_may_have_given_away_is_not_given_out() {
    let (clock, hold) = hold();
    let due = START + KEEP;
    hold.take_in(arrival("a", due, 1, 1));
    clock.advance(SECOND);
    hold.take_in(arrival("b", due, 1, 2));
    clock.set(due);
    assert_eq!(names(&leased(&hold, &LeaseOptions::new(9))), ["b"]);
    assert_eq!((hold.stats().pending, hold.stats().leased), (0, 1));
}

#[test]
fn a_clock_that_is_set_back_makes_nobody_early_and_the_broker_hear_of_it() {
    let (clock, hold) = hold();
    let due = START + SECOND;
    hold.take_in(arrival("a", due, 1, 1));
    let options = waiting();
    let mut waiter = Box::pin(hold.lease(&options));
    assert!(poll(waiter.as_mut()).is_none());
    clock.set(START - SECOND * 3600);
    assert!(poll(waiter.as_mut()).is_none());
    assert_eq!(hold.to_prolong(), (0, Vec::new()));
    clock.advance(KEEP / 2);
    assert_eq!(hold.to_prolong().1.len(), 1, "for an hour, it would not have heard");
    clock.set(due);
    let came = poll(waiter.as_mut()).expect("the wait is over, too");
    assert!(came.is_empty(), "by now, it may be somebody else's");
    hold.take_in(arrival("a", due, 1, 2));
    assert_eq!(names(&leased(&hold, &options)), ["a"]);
}

#[derive(Clone, Debug)]
enum Step {
    Arrive(u8, i64),
    Again(u8),
    Lease(usize, u64),
    Settle(usize),
    PutBack(usize),
    Cancel(u8),
    HandBack,
    Clock(i64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..5_u8, -20..50_i64).prop_map(|(name, due)| Step::Arrive(name, due)),
        1 => (0..5_u8).prop_map(Step::Again),
        4 => (1..4_usize, 0..30_u64).prop_map(|(max, millis)| Step::Lease(max, millis)),
        2 => (0..20_usize).prop_map(Step::Settle),
        1 => (0..20_usize).prop_map(Step::PutBack),
        1 => (0..5_u8).prop_map(Step::Cancel),
        1 => Just(Step::HandBack),
        4 => (-5..30_i64).prop_map(Step::Clock),
    ]
}

/// A hold beside the core's model of a timer, with everything that was ever leased.
struct Beside {
    clock: Arc<VirtualClock>,
    hold: Hold<Tag>,
    model: TimerModel,
    versions: BTreeMap<OrderId, (u64, Timestamp)>,
    leases: Vec<Leased<Tag>>,
    version: u64,
}

impl Beside {
    fn new() -> Self {
        let clock = Arc::new(VirtualClock::new());
        // Longer than any sequence of steps: what is lost has a test of its own.
        let hold = Hold::new(Arc::<VirtualClock>::clone(&clock), 7, SECOND * 3600);
        let (model, versions) = (TimerModel::default(), BTreeMap::new());
        Self { clock, hold, model, versions, leases: Vec::new(), version: 0 }
    }

    fn arrive(&mut self, name: u8, due: i64) {
        let (id, now) = (id(&name.to_string()), self.clock.now());
        let due = Timestamp::from_millis(START.as_millis() + due);
        self.version += 1;
        self.model.apply(&id, TimerInput::Cancel, now);
        self.model.apply(&id, TimerInput::Schedule { due }, now);
        self.versions.insert(id.clone(), (self.version, due));
        self.hold.take_in(arrival(id.as_str(), due, self.version, 0));
    }

    fn lease(&mut self, max: usize, millis: u64) {
        let now = self.clock.now();
        let duration = Duration::from_millis(millis);
        let visible = self.model.visible(now);
        let options = LeaseOptions::new(max).with_duration(duration);
        let leased = leased(&self.hold, &options);
        assert_eq!(leased.len(), visible.len().min(max), "{visible:?}");
        for Leased { lease, version, .. } in &leased {
            assert!(visible.contains(&lease.timer), "{lease:?}");
            assert_eq!(self.versions[&lease.timer.id].0, *version);
            let until = now + duration.max(Duration::from_millis(1));
            let token = lease.receipt.token();
            self.model.apply(&lease.timer.id, TimerInput::Lease { token, until }, now);
        }
        self.leases.extend(leased);
    }

    /// A lease of old, if the model says that it runs; the hold has to say the same.
    fn held(&self, back: usize) -> Option<Leased<Tag>> {
        let lease = self.leases.iter().rev().nth(back)?;
        let (id, token) = (&lease.lease.timer.id, lease.lease.receipt.token());
        let state = self.model.get(id);
        let runs = state.is_some_and(|state| state.is_held_by(token, self.clock.now()));
        let found = self.hold.find([lease.lease.receipt]);
        assert_eq!(found.len(), usize::from(runs), "{lease:?}, {state:?}");
        runs.then(|| lease.clone())
    }

    fn step(&mut self, step: &Step) {
        let now = self.clock.now();
        match *step {
            Step::Arrive(name, due) => self.arrive(name, due),
            Step::Again(name) => {
                if let Some((version, due)) = self.versions.get(&id(&name.to_string())).copied()
                    && self.model.get(&id(&name.to_string())).is_some()
                {
                    self.hold.take_in(arrival(&name.to_string(), due, version, 1));
                }
            }
            Step::Lease(max, millis) => self.lease(max, millis),
            Step::Settle(back) => {
                if let Some(lease) = self.held(back) {
                    self.hold.settle([lease.lease.receipt]);
                    self.model.apply(&lease.lease.timer.id, TimerInput::Cancel, now);
                }
            }
            Step::PutBack(back) => {
                if let Some(lease) = self.held(back) {
                    self.hold.put_back(&[lease.lease.receipt]);
                    let token = lease.lease.receipt.token();
                    let input = TimerInput::Release { token, at: Timestamp::MIN };
                    self.model.apply(&lease.lease.timer.id, input, now);
                }
            }
            Step::Cancel(name) => {
                let id = id(&name.to_string());
                self.hold.remove_older([(&id, u64::MAX)]);
                self.model.apply(&id, TimerInput::Cancel, now);
            }
            Step::HandBack => {
                self.hold.hand_back();
                let is_leased = |id: &OrderId| {
                    self.leases.iter().any(|lease| {
                        let token = lease.lease.receipt.token();
                        self.model.get(id).is_some_and(|state| state.is_held_by(token, now))
                    })
                };
                let ids: Vec<_> = self.model.iter().map(|(id, _)| id.clone()).collect();
                let back: Vec<_> = ids.into_iter().filter(|id| !is_leased(id)).collect();
                back.iter().for_each(|id| self.model.apply(id, TimerInput::Cancel, now));
            }
            Step::Clock(by) => {
                self.clock.set(Timestamp::from_millis(now.as_millis() + by));
            }
        }
    }
}

proptest! {
    #[test]
    fn is_the_timer_machine_between_arrival_and_settling(
        steps in prop::collection::vec(step(), 1..60),
    ) {
        let mut beside = Beside::new();
        for step in steps {
            beside.step(&step);
        }
        let (stats, now) = (beside.hold.stats(), beside.clock.now());
        prop_assert_eq!((stats.pending + stats.leased) as usize, beside.model.iter().count());
        // Everything comes in the end.
        beside.clock.set(now + SECOND * 1000);
        beside.lease(64, 0);
    }
}
