//! Mocks around one small world: rows, deliveries, due timers, planned faults, and a journal of
//! every effect.

use std::collections::{BTreeMap, VecDeque};
use std::future::{Future, poll_fn};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::Poll;

use async_trait::async_trait;
use futures_lite::future::{block_on, yield_now};

use super::NOW;
use crate::bus::{MockConsumer, MockEventBus};
use crate::event::Event;
use crate::flow::{Env, Limits};
use crate::order::State;
use crate::queue::{MockDelayQueue, QueueStats};
use crate::repo::MockOrderRepo;
use crate::{
    Change, Clock, Delivery, Error, ErrorKind, Lease, Message, Observer, OrderId, Outcome,
    Progress, Receipt, Record, Release, Result, Revision, Signal, Timer, Timestamp,
};

/// See the module.
#[derive(Clone, Debug, Default)]
pub(crate) struct World(Arc<Mutex<Inner>>);

#[derive(Debug)]
pub(super) struct Inner {
    pub(super) now: Timestamp,
    pub(super) rows: BTreeMap<OrderId, Record>,
    /// What each call of `receive` or `lease` brings; after the last one, the loop is stopped.
    pub(super) deliveries: VecDeque<Vec<Delivery>>,
    pub(super) leases: VecDeque<Vec<Lease>>,
    pub(super) overdue: VecDeque<Vec<Record>>,
    /// Which of the next calls of an operation fail, and how.
    pub(super) faults: Vec<(&'static str, ErrorKind)>,
    /// The next commit that clears what was owed fails.
    pub(super) fail_clearing: bool,
    /// Before the next commit that clears, somebody else writes this row, and leaves it owing.
    pub(super) rival_at_clearing: Option<(OrderId, State)>,
    /// Before the next commit, somebody else writes this row.
    pub(super) rival: Option<(OrderId, State)>,
    /// No item with this in its name is ever accepted.
    pub(super) poison: Option<&'static str>,
    /// The row of this order cannot be read.
    pub(super) corrupt: Option<&'static str>,
    pub(super) worked_off: Option<Timestamp>,
    pub(super) published: Vec<Message>,
    /// How long publishing takes, in milliseconds.
    pub(super) publish_takes: u64,
    pub(super) journal: Vec<String>,
    pub(super) journal_ready: bool,
    pub(super) is_stopped: bool,
}

impl Default for Inner {
    fn default() -> Self {
        Self {
            now: NOW,
            rows: BTreeMap::new(),
            deliveries: VecDeque::new(),
            leases: VecDeque::new(),
            overdue: VecDeque::new(),
            faults: Vec::new(),
            fail_clearing: false,
            rival_at_clearing: None,
            rival: None,
            poison: None,
            corrupt: None,
            worked_off: Some(Timestamp::MAX),
            published: Vec::new(),
            publish_takes: 0,
            journal: Vec::new(),
            journal_ready: false,
            is_stopped: false,
        }
    }
}

impl Inner {
    /// The planned fault of an operation, if there is one.
    fn fault(&mut self, op: &'static str) -> Result<()> {
        let Some(at) = self.faults.iter().position(|(failing, _)| *failing == op) else {
            return Ok(());
        };
        let (_, kind) = self.faults.remove(at);
        self.note(format!("{op} fails: {}", kind.as_str()));
        Err(Error::new(kind, "mock", op, "planned"))
    }

    fn refuse(&self, op: &'static str, name: &str) -> Result<()> {
        match self.poison {
            Some(poison) if name.contains(poison) => {
                Err(Error::new(ErrorKind::Invalid, "mock", op, "poison"))
            }
            _ => Ok(()),
        }
    }

    fn corrupt(&self, id: &OrderId) -> Result<()> {
        match self.corrupt {
            Some(corrupt) if id.as_str() == corrupt => {
                Err(Error::new(ErrorKind::Corrupt, "mock", "load", "unreadable"))
            }
            _ => Ok(()),
        }
    }

    fn note(&mut self, line: String) {
        self.journal.push(line);
    }

    fn commit(&mut self, change: &Change) -> Outcome {
        if let Some((id, state)) = self.rival.take_if(|(id, _)| *id == change.id) {
            self.put(&id, state, Vec::new());
            self.note(format!("rival {id}"));
        }
        if change.owes.is_empty()
            && let Some((id, state)) = self.rival_at_clearing.take()
        {
            let owes = self.rows.get(&id).map(|row| row.owes.clone()).unwrap_or_default();
            self.put(&id, state, owes);
            self.note(format!("rival {id}"));
        }
        let revision = self.rows.get(&change.id).map_or(Revision::ABSENT, |row| row.revision);
        if revision != change.expected {
            self.note(format!("conflict {}", change.id));
            return Outcome::Conflict;
        }
        let (phase, owes) = (phase(&change.state), change.owes.len());
        self.note(format!("commit {} {phase} owes {owes}", change.id));
        Outcome::Committed(self.put(&change.id, change.state.clone(), change.owes.clone()))
    }

    fn put(&mut self, id: &OrderId, state: State, owes: Vec<Event>) -> Revision {
        let revision = self.rows.get(id).map_or(1, |row| row.revision.0 + 1);
        let record = Record { id: id.clone(), revision: Revision(revision), state, owes };
        self.rows.insert(id.clone(), record);
        Revision(revision)
    }

    fn publish(&mut self, messages: &[Message]) -> Result<()> {
        self.fault("publish")?;
        self.now = self.now + std::time::Duration::from_millis(self.publish_takes);
        for message in messages {
            let text = String::from_utf8_lossy(&message.payload).into_owned();
            self.refuse("publish", &text)?;
        }
        for message in messages {
            self.note(format!("publish {}", message.subject));
            self.published.push(message.clone());
        }
        Ok(())
    }

    fn settle(&mut self, what: &'static str, receipts: &[Receipt]) -> Result<()> {
        self.fault(what)?;
        receipts.iter().for_each(|receipt| self.note(format!("{what} {}", receipt.key())));
        Ok(())
    }

    fn release(&mut self, releases: &[Release]) -> Result<()> {
        self.fault("release")?;
        for Release { receipt, at } in releases {
            let after = at.since(self.now).as_millis();
            self.note(format!("release {} for {after} ms", receipt.key()));
        }
        Ok(())
    }
}

fn phase(state: &State) -> &'static str {
    state.order().map_or("ahead", |order| order.phase.as_str())
}

impl World {
    pub(super) fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap()
    }

    pub(super) fn with_row(self, id: &str, state: State, owes: Vec<Event>) -> Self {
        self.lock().put(&super::id(id), state, owes);
        self
    }

    /// One call of `receive` brings these messages; their receipts are numbered from 1 on.
    pub(super) fn with_batch(self, messages: impl IntoIterator<Item = Message>) -> Self {
        let mut world = self.lock();
        let first = 1 + world.deliveries.iter().map(Vec::len).sum::<usize>();
        let deliver =
            |(at, message)| Delivery::new(message, NOW, Receipt::new((first + at) as u64, 0));
        let batch = messages.into_iter().enumerate().map(deliver).collect();
        world.deliveries.push_back(batch);
        drop(world);
        self
    }

    /// One call of `lease` brings these timers; their receipts are numbered from 1 on.
    pub(super) fn with_leases(self, timers: impl IntoIterator<Item = Timer>) -> Self {
        let mut world = self.lock();
        let first = 1 + world.leases.iter().map(Vec::len).sum::<usize>();
        let lease = |(at, timer)| Lease::new(timer, Receipt::new((first + at) as u64, 0));
        let batch = timers.into_iter().enumerate().map(lease).collect();
        world.leases.push_back(batch);
        drop(world);
        self
    }

    pub(super) fn with_fault(self, op: &'static str, kind: ErrorKind) -> Self {
        self.lock().faults.push((op, kind));
        self
    }

    pub(super) fn with(self, change: impl FnOnce(&mut Inner)) -> Self {
        change(&mut self.lock());
        self
    }

    /// Runs a loop until it has taken all that there is, and returns the journal.
    pub(super) fn run<F: Future<Output = ()>>(&self, work: impl FnOnce(Stop) -> F) -> Vec<String> {
        let world = self.clone();
        let stop: Stop = Box::pin(poll_fn(move |_| match world.lock().is_stopped {
            true => Poll::Ready(()),
            false => Poll::Pending,
        }));
        block_on(work(stop));
        self.journal()
    }

    pub(super) fn journal(&self) -> Vec<String> {
        std::mem::take(&mut self.lock().journal)
    }

    pub(crate) fn env(&self) -> Env {
        let clock = Arc::new(JumpingClock(self.clone()));
        let observer = Arc::new(Journal(self.clone()));
        Env::new(clock, observer)
            .with_limits(Limits { seed: 7, ..Limits::default() })
            .expect("they hold")
    }

    pub(super) fn bus(&self) -> Arc<MockEventBus> {
        let mut bus = MockEventBus::new();
        let world = self.clone();
        bus.expect_publish().returning(move |messages| world.lock().publish(messages));
        let world = self.clone();
        bus.expect_progress().returning(move |_, _| {
            let mut world = world.lock();
            world.fault("progress")?;
            Ok(world
                .worked_off
                .map_or(Progress::new(0, 0), |at| Progress::new(1, 0).with_worked_off(at)))
        });
        let world = self.clone();
        bus.expect_subscribe().returning(move |options| {
            world.lock().fault("subscribe")?;
            world.lock().note(format!("subscribe {}", options.group));
            Ok(Box::new(world.consumer()))
        });
        Arc::new(bus)
    }

    fn consumer(&self) -> MockConsumer {
        let mut consumer = MockConsumer::new();
        let world = self.clone();
        consumer.expect_receive().returning(move |_| {
            let mut world = world.lock();
            world.fault("receive")?;
            let batch = world.deliveries.pop_front();
            world.is_stopped = batch.is_none();
            Ok(batch.unwrap_or_default())
        });
        let world = self.clone();
        consumer.expect_ack().returning(move |receipts| world.lock().settle("ack", receipts));
        let world = self.clone();
        consumer.expect_release().returning(move |releases| world.lock().release(releases));
        let world = self.clone();
        consumer.expect_reject().returning(move |rejections| {
            for rejection in rejections {
                world.lock().refuse("reject", &rejection.reason)?;
            }
            let receipts: Vec<_> = rejections.iter().map(|rejection| rejection.receipt).collect();
            world.lock().settle("reject", &receipts)
        });
        consumer
    }

    pub(super) fn queue(&self) -> Arc<MockDelayQueue> {
        let mut queue = MockDelayQueue::new();
        let world = self.clone();
        queue.expect_schedule().returning(move |timers| {
            let mut world = world.lock();
            world.fault("schedule")?;
            timers.iter().try_for_each(|timer| world.refuse("schedule", timer.id.as_str()))?;
            for timer in timers {
                world.note(format!("schedule {} {}", timer.id, timer.due.as_millis()));
            }
            Ok(())
        });
        let world = self.clone();
        queue.expect_cancel().returning(move |ids| {
            world.lock().fault("cancel")?;
            ids.iter().for_each(|id| world.lock().note(format!("cancel {id}")));
            Ok(())
        });
        let world = self.clone();
        queue
            .expect_stats()
            .returning(move || world.lock().fault("stats").map(|()| QueueStats::default()));
        let world = self.clone();
        queue.expect_lease().returning(move |_| {
            let mut world = world.lock();
            world.fault("lease")?;
            let batch = world.leases.pop_front();
            world.is_stopped = batch.is_none();
            Ok(batch.unwrap_or_default())
        });
        let world = self.clone();
        queue.expect_ack().returning(move |receipts| world.lock().settle("ack", receipts));
        let world = self.clone();
        queue.expect_release().returning(move |releases| world.lock().release(releases));
        Arc::new(queue)
    }

    pub(super) fn repo(&self) -> Arc<MockOrderRepo> {
        let mut repo = MockOrderRepo::new();
        let world = self.clone();
        repo.expect_load().returning(move |ids| {
            let mut world = world.lock();
            world.fault("load")?;
            ids.iter().try_for_each(|id| world.corrupt(id))?;
            Ok(ids.iter().map(|id| world.rows.get(id).cloned()).collect())
        });
        let world = self.clone();
        repo.expect_commit().returning(move |changes| {
            let mut world = world.lock();
            let clears = |change: &Change| {
                change.owes.is_empty()
                    && world.rows.get(&change.id).is_some_and(|row| !row.owes.is_empty())
            };
            if world.fail_clearing && changes.iter().any(clears) {
                world.fail_clearing = false;
                world.faults.push(("commit", ErrorKind::Unavailable));
            }
            world.fault("commit")?;
            changes.iter().try_for_each(|change| world.refuse("commit", change.id.as_str()))?;
            Ok(changes.iter().map(|change| world.commit(change)).collect())
        });
        let world = self.clone();
        repo.expect_overdue().returning(move |options| {
            let mut world = world.lock();
            if options.before == Timestamp::MIN {
                return world.fault("probe").map(|()| Vec::new());
            }
            world.fault("overdue")?;
            let batch = world.overdue.pop_front();
            world.is_stopped = world.overdue.is_empty();
            Ok(batch.unwrap_or_default())
        });
        Arc::new(repo)
    }
}

/// The end of a loop under test.
pub(super) type Stop = crate::flow::BoxFuture<'static, ()>;

/// A clock that jumps to whatever somebody waits for, after yielding once.
#[derive(Debug)]
struct JumpingClock(World);

#[async_trait]
impl Clock for JumpingClock {
    fn now(&self) -> Timestamp {
        self.0.lock().now
    }

    async fn sleep_until(&self, at: Timestamp) {
        yield_now().await;
        let mut world = self.0.lock();
        world.now = world.now.max(at);
    }
}

/// Writes faults down, so that none goes unreported.
#[derive(Debug)]
struct Journal(World);

impl Observer for Journal {
    fn on(&self, signal: &Signal<'_>) {
        let line = match signal {
            Signal::Failed { flow, error, .. } => {
                format!("{} reports: {}", flow.as_str(), error.kind().as_str())
            }
            Signal::Rejected { reason, .. } => format!("rejected: {reason}"),
            Signal::Ready { flow } if self.0.lock().journal_ready => {
                format!("{} is ready", flow.as_str())
            }
            Signal::PaymentWaitOver { id } => format!("payment wait over {id}"),
            _ => return,
        };
        self.0.lock().note(line);
    }
}
