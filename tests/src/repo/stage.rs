//! What the cases play with: a handle, and records to put through it.

use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use expirer_core::event::{Event, LateReason, OpenStatus, PaymentLate, Ticket};
use expirer_core::order::{Ahead, LatePayments, Order, Phase, State};
use expirer_core::{
    Change, OrderId, OrderRepo, Outcome, OverdueOptions, PaymentId, Record, Revision, TicketId,
    Timestamp,
};
use futures_lite::{FutureExt, future};

use crate::harness::{BoxFuture, RepoHarness, Tolerance};

pub(super) const MILLI: Duration = Duration::from_millis(1);
pub(super) const MINUTE: Duration = Duration::from_secs(60);

/// One handle on the repository, as one process has it.
#[derive(Debug)]
pub(super) struct Stage<'a> {
    pub(super) harness: &'a dyn RepoHarness,
    pub(super) repo: Arc<dyn OrderRepo>,
}

impl<'a> Stage<'a> {
    pub(super) async fn on(harness: &'a dyn RepoHarness) -> Self {
        Self { harness, repo: harness.repo().await.expect("opens the repository") }
    }

    pub(super) fn now(&self) -> Timestamp {
        self.harness.time().clock().now()
    }

    pub(super) fn tolerance(&self) -> Tolerance {
        self.harness.time().tolerance()
    }

    /// Returns once so much time has passed.
    pub(super) async fn wait(&self, duration: Duration) {
        let until = self.now() + duration;
        while self.now() < until {
            self.harness.time().clock().sleep_until(until).await;
        }
    }

    /// Waits for so long that the backend's clock, too, is beyond what it was, and gives a time
    /// between the two.
    pub(super) async fn let_time_pass(&self) -> Timestamp {
        let apart = self.tolerance().early + MILLI;
        self.wait(apart).await;
        let between = self.now();
        self.wait(apart).await;
        between
    }

    pub(super) async fn commit(&self, changes: &[Change]) -> Vec<Outcome> {
        let outcomes = self.repo.commit(changes).await.expect("commits");
        assert_eq!(outcomes.len(), changes.len(), "one outcome per change");
        outcomes
    }

    /// Commits one change that is no conflict.
    pub(super) async fn put(&self, change: Change) -> Revision {
        let outcome = self.commit(&[change]).await[0];
        revision(outcome).expect("nobody else has changed it")
    }

    /// Commits new records in batches, none of which is a conflict.
    pub(super) async fn put_all(&self, changes: &[Change]) {
        for changes in changes.chunks(256) {
            let outcomes = self.commit(changes).await;
            assert!(outcomes.iter().all(|outcome| revision(*outcome).is_some()), "no conflict");
        }
    }

    pub(super) async fn load(&self, name: &str) -> Option<Record> {
        let records = self.repo.load(&[id(name)]).await.expect("loads");
        let [record] = <[_; 1]>::try_from(records).expect("one answer for one id");
        record
    }

    pub(super) async fn overdue(
        &self,
        before: Timestamp,
        again_at: Timestamp,
        max: usize,
    ) -> Vec<String> {
        let options = OverdueOptions::new(before, again_at, max);
        let records = self.repo.overdue(options).await.expect("looks");
        assert!(records.len() <= max, "at most {max}, not {}", records.len());
        sorted(records.iter().map(|record| record.id.to_string()))
    }

    /// What is overdue, without an effect on the next look.
    pub(super) async fn peek(&self, before: Timestamp) -> Vec<String> {
        self.overdue(before, Timestamp::MIN, 1000).await
    }
}

pub(super) fn sorted(names: impl Iterator<Item = String>) -> Vec<String> {
    let mut names: Vec<_> = names.collect();
    names.sort_unstable();
    names
}

pub(super) fn id(name: &str) -> OrderId {
    OrderId::new(name).expect("is an id")
}

pub(super) fn payment(name: &str) -> PaymentId {
    PaymentId::new(name).expect("is an id")
}

pub(super) const fn revision(outcome: Outcome) -> Option<Revision> {
    match outcome {
        Outcome::Committed(revision) => Some(revision),
        Outcome::Conflict => None,
    }
}

pub(super) fn order(phase: Phase, expires_at: Timestamp) -> Order {
    Order {
        version: 0,
        phase,
        user_id: None,
        expires_at,
        ticket: Ticket { id: TicketId::new("t1").expect("is an id"), price: None },
        late: LatePayments::default(),
        trace: None,
    }
}

pub(super) fn open(expires_at: Timestamp) -> State {
    State::Order(order(Phase::Open(OpenStatus::Created), expires_at))
}

pub(super) fn complete(expires_at: Timestamp) -> State {
    State::Order(order(Phase::Complete { payment: None }, expires_at))
}

pub(super) fn cancelled(expires_at: Timestamp) -> State {
    State::Order(order(Phase::Cancelled, expires_at))
}

pub(super) fn ahead() -> State {
    State::Ahead(Ahead { payment: Some(payment("p1")), ..Ahead::default() })
}

/// A state that tells one writer from another.
pub(super) fn marked(version: u64) -> State {
    let open = order(Phase::Open(OpenStatus::Created), Timestamp::MAX);
    State::Order(Order { version, ..open })
}

/// A record that was not there.
pub(super) fn new(name: &str, state: State) -> Change {
    next(name, Revision::ABSENT, state)
}

/// A record at a revision, replaced.
pub(super) fn next(name: &str, expected: Revision, state: State) -> Change {
    Change { id: id(name), expected, state, owes: Vec::new() }
}

/// A change that owes something.
pub(super) fn owing(change: Change) -> Change {
    let owed = PaymentLate {
        id: payment("p2"),
        order_id: change.id.clone(),
        reason: LateReason::AlreadyPaid,
    };
    Change { owes: vec![Event::PaymentLate(owed)], ..change }
}

/// Runs futures side by side.
pub(super) async fn together<T>(futures: Vec<BoxFuture<'_, T>>) -> Vec<T> {
    let mut running: Vec<_> = futures.into_iter().map(|future| (future, None)).collect();
    future::poll_fn(|context| {
        for (future, output) in running.iter_mut().filter(|(_, output)| output.is_none()) {
            if let Poll::Ready(ready) = future.poll(context) {
                *output = Some(ready);
            }
        }
        let is_done = running.iter().all(|(_, output)| output.is_some());
        if is_done { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    running.into_iter().filter_map(|(_, output)| output).collect()
}
