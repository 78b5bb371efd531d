//! Compare-and-set, what is overdue, and what is forgotten.

use expirer_core::event::{Event, OpenStatus, OrderCancelled, Ticket};
use expirer_core::order::{Ahead, LatePayments, Order, Phase, State};
use expirer_core::{PaymentId, Revision, TicketId};

use super::*;
use crate::memory::testing::{START, VirtualClock, now_or_never};

const SECOND: Duration = Duration::from_secs(1);
const KEEP: Duration = Duration::from_secs(3600);

fn repo() -> (Arc<VirtualClock>, MemoryRepo) {
    let clock = Arc::new(VirtualClock::new());
    (Arc::clone(&clock), MemoryRepo::new(clock, KEEP, 7))
}

#[expect(clippy::needless_pass_by_value, reason = "reads better where it is called")]
fn id(text: impl ToString) -> OrderId {
    OrderId::new(text.to_string()).expect("is an id")
}

fn order(phase: Phase, expires_at: Timestamp) -> State {
    State::Order(Order {
        version: 0,
        phase,
        user_id: None,
        expires_at,
        ticket: Ticket { id: TicketId::new("t1").expect("is an id"), price: None },
        late: LatePayments::default(),
        trace: None,
    })
}

fn open(expires_at: Timestamp) -> State {
    order(Phase::Open(OpenStatus::Created), expires_at)
}

fn cancelled() -> State {
    order(Phase::Cancelled, START)
}

fn ahead() -> State {
    State::Ahead(Ahead { payment: PaymentId::new("p1").ok(), ..Ahead::default() })
}

fn announcement() -> Event {
    Event::OrderCancelled(OrderCancelled { id: id("o1"), version: 1, ticket: None })
}

fn change(text: impl ToString, expected: Revision, state: &State, owes: usize) -> Change {
    let owes = vec![announcement(); owes];
    Change { id: id(text), expected, state: state.clone(), owes }
}

fn commit(repo: &MemoryRepo, changes: &[Change]) -> Vec<Outcome> {
    now_or_never(repo.commit(changes)).expect("commits")
}

/// Commits one change that is no conflict.
fn put(repo: &MemoryRepo, change: Change) -> Revision {
    match commit(repo, &[change])[0] {
        Outcome::Committed(revision) => revision,
        Outcome::Conflict => panic!("a conflict"),
    }
}

fn load(repo: &MemoryRepo, text: impl ToString) -> Option<Record> {
    now_or_never(repo.load(&[id(text)])).expect("loads").remove(0)
}

fn overdue(repo: &MemoryRepo, before: Timestamp, again_at: Timestamp, max: usize) -> Vec<String> {
    let records = now_or_never(repo.overdue(OverdueOptions::new(before, again_at, max)));
    let records = records.expect("looks");
    records.iter().map(|record| record.id.to_string()).collect()
}

fn counts(repo: &MemoryRepo) -> [usize; 3] {
    lock(&repo.rows).counts()
}

#[test]
fn answers_in_order_with_what_was_committed() {
    let (_, repo) = repo();
    let first = put(&repo, change("o1", Revision::ABSENT, &open(START), 0));
    let second = put(&repo, change("o1", first, &cancelled(), 2));
    assert!(second > first);
    let records = now_or_never(repo.load(&[id("o2"), id("o1"), id("o1")])).expect("loads");
    let record = Record {
        id: id("o1"),
        revision: second,
        state: cancelled(),
        owes: vec![announcement(); 2],
    };
    assert_eq!(records, [None, Some(record.clone()), Some(record)]);
}

#[test]
fn only_the_expected_revision_is_replaced() {
    let (_, repo) = repo();
    let revision = put(&repo, change("o1", Revision::ABSENT, &open(START), 0));
    let expected = [Revision::ABSENT, Revision(revision.0 + 1), Revision(u64::MAX)];
    for wrong in expected {
        assert_eq!(commit(&repo, &[change("o1", wrong, &cancelled(), 1)]), [Outcome::Conflict]);
    }
    assert_eq!(commit(&repo, &[change("o2", revision, &cancelled(), 1)]), [Outcome::Conflict]);
    assert_eq!(load(&repo, "o1").map(|record| record.state), Some(open(START)));
    assert_eq!(load(&repo, "o2"), None);
}

#[test]
fn ids_may_repeat_and_are_applied_in_order() {
    let (_, repo) = repo();
    let fresh = |state| change("o1", Revision::ABSENT, state, 0);
    let outcomes = commit(&repo, &[fresh(&open(START)), fresh(&cancelled())]);
    let Outcome::Committed(first) = outcomes[0] else { panic!("a conflict") };
    assert_eq!(outcomes[1], Outcome::Conflict);
    let next = Revision(first.0 + 1);
    let outcomes =
        commit(&repo, &[change("o1", first, &cancelled(), 1), change("o1", next, &cancelled(), 0)]);
    assert!(matches!(outcomes[..], [Outcome::Committed(_), Outcome::Committed(_)]));
    assert!(load(&repo, "o1").is_some_and(|record| record.owes.is_empty()));
}

#[test]
fn of_racing_commits_one_wins() {
    let (_, repo) = repo();
    let mut revision = Revision::ABSENT;
    for round in 0..200 {
        let race = |_| commit(&repo, &[change("o1", revision, &open(START + SECOND * round), 0)]);
        let outcomes: Vec<_> = std::thread::scope(|scope| {
            let racers: Vec<_> = (0..4).map(|racer| scope.spawn(move || race(racer))).collect();
            racers.into_iter().flat_map(|racer| racer.join().expect("races")).collect()
        });
        let won: Vec<_> =
            outcomes.iter().filter(|outcome| **outcome != Outcome::Conflict).collect();
        revision = load(&repo, "o1").expect("is there").revision;
        assert_eq!(won, [&Outcome::Committed(revision)]);
    }
}

#[test]
fn an_open_order_is_overdue_after_it_expires() {
    let (_, repo) = repo();
    put(&repo, change("o1", Revision::ABSENT, &open(START + SECOND), 0));
    assert!(overdue(&repo, START + SECOND, START, 10).is_empty());
    let just_after = START + SECOND + Duration::from_millis(1);
    assert_eq!(overdue(&repo, just_after, START + SECOND * 9, 10), ["o1"]);
}

#[test]
fn a_debt_is_overdue_from_when_it_was_made() {
    let (clock, repo) = repo();
    let first = put(&repo, change("o1", Revision::ABSENT, &cancelled(), 1));
    clock.advance(SECOND);
    let second = put(&repo, change("o1", first, &cancelled(), 2));
    let just_after = START + Duration::from_millis(1);
    assert!(overdue(&repo, START, START, 10).is_empty());
    assert_eq!(overdue(&repo, just_after, START, 10), ["o1"]);
    let third = put(&repo, change("o1", second, &cancelled(), 0));
    assert!(overdue(&repo, Timestamp::MAX, START, 10).is_empty());
    put(&repo, change("o1", third, &cancelled(), 1));
    assert!(overdue(&repo, START + SECOND, START, 10).is_empty());
}

#[test]
fn the_earlier_of_expiry_and_debt_counts() {
    let (_, repo) = repo();
    put(&repo, change("debt", Revision::ABSENT, &open(START + SECOND * 60), 1));
    put(&repo, change("expiry", Revision::ABSENT, &open(START - SECOND * 60), 1));
    put(&repo, change("ahead", Revision::ABSENT, &ahead(), 1));
    assert_eq!(overdue(&repo, START, START, 10), ["expiry"]);
    assert_eq!(overdue(&repo, START + SECOND, START + SECOND, 10), ["debt", "expiry", "ahead"]);
}

#[test]
fn the_stuck_hide_no_others() {
    let (_, repo) = repo();
    let orders: Vec<_> =
        (0..10).map(|n| change(n, Revision::ABSENT, &open(START + SECOND * n), 0)).collect();
    commit(&repo, &orders);
    let (before, again_at) = (START + SECOND * 60, START + SECOND * 100);
    assert_eq!(overdue(&repo, before, again_at, 4), ["0", "1", "2", "3"]);
    assert_eq!(overdue(&repo, before, again_at, 4), ["4", "5", "6", "7"]);
    assert_eq!(overdue(&repo, before, again_at, 4), ["8", "9"]);
    assert!(overdue(&repo, again_at, again_at, 4).is_empty());
    let later = again_at + Duration::from_millis(1);
    assert_eq!(overdue(&repo, later, later, 100).len(), 10);
}

#[test]
fn a_change_makes_it_overdue_by_its_own_time_again() {
    let (_, repo) = repo();
    let revision = put(&repo, change("o1", Revision::ABSENT, &open(START), 0));
    assert_eq!(overdue(&repo, START + SECOND, START + SECOND * 100, 1), ["o1"]);
    put(&repo, change("o1", revision, &open(START + SECOND * 2), 0));
    assert!(overdue(&repo, START + SECOND * 2, START, 1).is_empty());
    assert_eq!(overdue(&repo, START + SECOND * 3, START, 1), ["o1"]);
}

#[test]
fn again_at_may_be_in_the_past() {
    let (_, repo) = repo();
    put(&repo, change("o1", Revision::ABSENT, &open(START), 0));
    for _ in 0..3 {
        assert_eq!(overdue(&repo, START + SECOND, Timestamp::MIN, 10), ["o1"]);
    }
}

#[test]
fn what_has_ended_is_forgotten_after_a_while_and_not_before() {
    let (clock, repo) = repo();
    let opened = put(&repo, change("o1", Revision::ABSENT, &open(START), 0));
    let owing = put(&repo, change("o1", opened, &cancelled(), 1));
    clock.advance(KEEP * 100);
    let ended = put(&repo, change("o1", owing, &cancelled(), 0));
    clock.advance(KEEP - Duration::from_millis(1));
    assert!(load(&repo, "o1").is_some());
    clock.advance(Duration::from_millis(1));
    assert_eq!(load(&repo, "o1"), None);
    assert_eq!(commit(&repo, &[change("o1", ended, &cancelled(), 0)]), [Outcome::Conflict]);
    let again = put(&repo, change("o1", Revision::ABSENT, &open(START), 0));
    assert!(again > ended);
}

#[test]
fn what_is_open_is_never_forgotten() {
    let (clock, repo) = repo();
    put(&repo, change("o1", Revision::ABSENT, &open(START), 0));
    clock.advance(KEEP * 100_000);
    assert!(load(&repo, "o1").is_some());
}

#[test]
fn what_is_ahead_is_kept_for_a_day() {
    let (clock, repo) = repo();
    let revision = put(&repo, change("o1", Revision::ABSENT, &ahead(), 0));
    clock.advance(AHEAD_KEEP - SECOND);
    put(&repo, change("o1", revision, &ahead(), 0));
    clock.advance(AHEAD_KEEP - Duration::from_millis(1));
    assert!(load(&repo, "o1").is_some());
    clock.advance(Duration::from_millis(1));
    assert_eq!(load(&repo, "o1"), None);
}

#[test]
fn forgets_a_bounded_number_at_a_time_and_is_exact_all_the_same() {
    let (clock, repo) = repo();
    let ended: Vec<_> = (0..2000).map(|n| change(n, Revision::ABSENT, &cancelled(), 0)).collect();
    commit(&repo, &ended);
    clock.advance(KEEP);
    assert_eq!(load(&repo, 1999), None);
    assert_eq!(counts(&repo), [2000 - FORGET_MAX - 1; 3]);
    put(&repo, change(1998, Revision::ABSENT, &open(START), 0));
    (0..3).for_each(|_| assert_eq!(load(&repo, 0), None));
    assert_eq!(counts(&repo), [1; 3]);
}

#[test]
fn slots_are_reused_and_nothing_is_mixed_up() {
    let (clock, repo) = repo();
    for round in 0..20 {
        let names = round * 300..(round + 1) * 300;
        let ended: Vec<_> = names.map(|n| change(n, Revision::ABSENT, &cancelled(), 0)).collect();
        commit(&repo, &ended);
        clock.advance(KEEP / 2);
        let known = |n: &u64| load(&repo, n).is_some_and(|record| record.id == id(n));
        let known: Vec<_> = (0..(round + 1) * 300).filter(known).collect();
        assert!(known.into_iter().eq(round * 300..(round + 1) * 300));
    }
}

#[test]
fn says_what_it_can_do() {
    let capabilities = repo().1.capabilities();
    assert_eq!((capabilities.backend, capabilities.durable), ("memory", false));
}
