//! Orders that tests of a repository put through it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use expirer_core::event::{Event, LateReason, OpenStatus, PaymentLate, Ticket};
use expirer_core::order::{LatePayments, Order, Phase, State};
use expirer_core::{
    Change, OrderId, OrderRepo, Outcome, OverdueOptions, PaymentId, Record, Result, Revision,
    TicketId, Timestamp,
};

use tokio::task::JoinHandle;

use super::real::options;

pub(crate) const PAST: Timestamp = Timestamp::EPOCH;
pub(crate) const FAR: Timestamp = Timestamp::MAX;

/// Tasks that commit new orders, each until that fails or they are ended.
#[derive(Debug)]
pub(crate) struct Writers {
    tasks: Vec<JoinHandle<Vec<(String, Revision)>>>,
    is_over: Arc<AtomicBool>,
}

impl Writers {
    pub(crate) fn start(repo: &Arc<dyn OrderRepo>, count: u32) -> Self {
        let is_over = Arc::new(AtomicBool::new(false));
        let task = |writer| tokio::spawn(write(Arc::clone(repo), writer, Arc::clone(&is_over)));
        Self { tasks: (0..count).map(task).collect(), is_over }
    }

    /// What was confirmed.
    pub(crate) async fn end(self) -> Vec<(String, Revision)> {
        self.is_over.store(true, Ordering::SeqCst);
        let mut confirmed = Vec::new();
        for task in self.tasks {
            confirmed.extend(task.await.expect("ends"));
        }
        confirmed
    }
}

async fn write(
    repo: Arc<dyn OrderRepo>,
    writer: u32,
    is_over: Arc<AtomicBool>,
) -> Vec<(String, Revision)> {
    let mut confirmed = Vec::new();
    for n in 0.. {
        let batch: Vec<_> = (0..10).map(|item| format!("w{writer}-{n}-{item}")).collect();
        let changes: Vec<_> =
            batch.iter().map(|name| change(name, Revision::ABSENT, PAST)).collect();
        let Ok(outcomes) = repo.commit(&changes).await else { break };
        confirmed.extend(batch.into_iter().zip(outcomes.into_iter().map(revision)));
        if is_over.load(Ordering::SeqCst) {
            break;
        }
    }
    confirmed
}

pub(crate) fn id(name: &str) -> OrderId {
    OrderId::new(name).expect("is an id")
}

/// An open order.
pub(crate) fn change(name: &str, expected: Revision, expires_at: Timestamp) -> Change {
    let order = Order {
        version: 0,
        phase: Phase::Open(OpenStatus::Created),
        user_id: None,
        expires_at,
        ticket: Ticket { id: TicketId::new("t1").expect("is an id"), price: None },
        late: LatePayments::default(),
        trace: None,
    };
    Change { id: id(name), expected, state: State::Order(order), owes: Vec::new() }
}

pub(crate) fn ended(name: &str, expected: Revision) -> Change {
    let mut change = change(name, expected, PAST);
    end(&mut change);
    change
}

pub(crate) fn end(change: &mut Change) {
    if let State::Order(order) = &mut change.state {
        order.phase = Phase::Cancelled;
    }
}

pub(crate) fn owing(change: Change) -> Change {
    let payment = PaymentId::new("p1").expect("is an id");
    let (order_id, reason) = (change.id.clone(), LateReason::OrderCancelled);
    let late = PaymentLate { id: payment, order_id, reason };
    Change { owes: vec![Event::PaymentLate(late)], ..change }
}

pub(crate) async fn put(repo: &dyn OrderRepo, change: Change) -> Revision {
    revision(repo.commit(&[change]).await.expect("commits")[0])
}

pub(crate) fn revision(outcome: Outcome) -> Revision {
    match outcome {
        Outcome::Committed(revision) => revision,
        Outcome::Conflict => panic!("nobody else has changed it"),
    }
}

pub(crate) fn is_committed(outcome: Outcome) -> bool {
    outcome != Outcome::Conflict
}

pub(crate) async fn load(repo: &dyn OrderRepo, name: &str) -> Option<Record> {
    repo.load(&[id(name)]).await.expect("loads").remove(0)
}

/// What is overdue now, put off for an hour.
pub(crate) fn look(max: usize) -> OverdueOptions {
    let now = options().clock.now();
    OverdueOptions::new(now, now + Duration::from_secs(3600), max)
}

pub(crate) fn names(found: Result<Vec<Record>>) -> Vec<String> {
    let found = found.expect("looks");
    found.iter().map(|record| record.id.to_string()).collect()
}
