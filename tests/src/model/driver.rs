//! Makes the calls, and holds what comes of them against what is believed.

use std::sync::Arc;
use std::time::Duration;

use expirer_core::{DelayQueue, OrderId, QueueCapabilities, Receipt, Release, Timer, Timestamp};

use super::believed::{Believed, Settle, Span};
use super::step::{Ask, Due, NAMES, Step, Until};
use crate::harness::QueueHarness;

/// Counts may be behind for so long.
const STATS_PATIENCE: Duration = Duration::from_secs(2);

/// Between two looks on real time.
pub(super) const PAUSE: Duration = Duration::from_millis(5);

/// On real time, nothing is waited for longer.
const REAL_WAIT_MAX: Duration = Duration::from_millis(300);

/// At the end, everything is leased by this.
const DRAIN: Ask = Ask { max: 64, wait: Duration::ZERO, duration: Duration::from_secs(60) };

/// More rounds than there are timers.
const DRAIN_ROUNDS_MAX: usize = 100;

/// Two handles on a queue, and what it should hold.
pub(super) struct Driver<'a> {
    pub(super) harness: &'a dyn QueueHarness,
    handles: [Arc<dyn DelayQueue>; 2],
    pub(super) turn: usize,
    capabilities: QueueCapabilities,
    pub(super) believed: Believed,
    /// Every lease that there was; its place here is its token in the model.
    pub(super) held: Vec<Held>,
    /// Until then a call that was dropped may hold anything.
    pub(super) hazy_until: Timestamp,
}

/// A lease that was handed out.
#[derive(Clone)]
pub(super) struct Held {
    pub(super) handle: usize,
    pub(super) id: OrderId,
    pub(super) receipt: Receipt,
}

impl<'a> Driver<'a> {
    pub(super) async fn drive(
        harness: &'a dyn QueueHarness,
        steps: &[Step],
        count: &(dyn Fn() + Sync),
    ) -> Result<(), String> {
        let mut driver = Self::open(harness).await.map_err(|error| error.to_string())?;
        for (n, step) in steps.iter().enumerate() {
            count();
            driver.turn = n % 2;
            driver.step(step).await.map_err(|wrong| format!("step {n}, {step:?}: {wrong}"))?;
        }
        driver.drain().await.map_err(|wrong| format!("at the end: {wrong}"))
    }

    async fn open(harness: &'a dyn QueueHarness) -> expirer_core::Result<Self> {
        let handles = [harness.queue().await?, harness.queue().await?];
        let capabilities = handles[0].capabilities();
        let early = harness.time().tolerance().early;
        Ok(Self {
            harness,
            handles,
            turn: 0,
            capabilities,
            believed: Believed::new(early, capabilities.exact_cancel),
            held: Vec::new(),
            hazy_until: Timestamp::MIN,
        })
    }

    pub(super) fn queue(&self) -> Arc<dyn DelayQueue> {
        Arc::clone(&self.handles[self.turn])
    }

    pub(super) fn now(&self) -> Timestamp {
        self.harness.time().clock().now()
    }

    pub(super) fn late(&self) -> Duration {
        self.harness.time().tolerance().late
    }

    /// How late a timer may be: whole milliseconds are as exact as it gets.
    pub(super) fn lag(&self) -> Duration {
        self.capabilities.precision.saturating_sub(Duration::from_millis(1))
    }

    pub(super) async fn wait_until(&self, at: Timestamp) {
        while self.now() < at {
            self.harness.time().clock().sleep_until(at).await;
        }
    }

    /// A call that does not wait.
    async fn call<T>(
        &mut self,
        call: impl Future<Output = expirer_core::Result<T>>,
    ) -> Result<(T, Span), String> {
        let begin = self.now();
        let answer = call.await.map_err(|error| error.to_string())?;
        let span = Span { begin, end: self.now() };
        self.believed.note_call(span);
        Ok((answer, span))
    }

    async fn step(&mut self, step: &Step) -> Result<(), String> {
        match step {
            Step::Schedule(timers) => self.schedule(timers).await,
            Step::Cancel(names) => self.cancel(names).await,
            Step::Lease(ask) => self.lease_all(*ask).await.map(drop),
            Step::DropLease(ask) => self.drop_lease(*ask).await,
            Step::Ack(back) => self.ack(&self.receipts(back.iter().copied())).await,
            Step::Release(releases) => self.release(releases).await,
            Step::Wait(until) => {
                self.wait(*until).await;
                Ok(())
            }
            Step::Stats => self.stats().await,
        }
    }

    async fn schedule(&mut self, timers: &[(usize, Due)]) -> Result<(), String> {
        let now = self.now();
        let timers: Vec<_> =
            timers.iter().map(|(name, due)| self.timer(*name, *due, now)).collect();
        let ((), span) = self.call(self.queue().schedule(&timers)).await?;
        self.believed.schedule(&timers, span.end);
        Ok(())
    }

    fn timer(&self, name: usize, due: Due, now: Timestamp) -> Timer {
        let id = id(name);
        let due = match due {
            Due::Same => self.believed.due(&id).unwrap_or(now),
            Due::In(millis) => after(now, millis),
        };
        Timer::new(id, due)
    }

    async fn cancel(&mut self, names: &[usize]) -> Result<(), String> {
        let ids: Vec<_> = names.iter().map(|name| id(*name)).collect();
        let ((), span) = self.call(self.queue().cancel(&ids)).await?;
        ids.iter().for_each(|id| self.believed.cancel(id, span.end));
        Ok(())
    }

    /// Leases by number, counted back from the latest; without fencing, only those that run.
    fn receipts(&self, back: impl Iterator<Item = usize>) -> Vec<usize> {
        let count = self.held.len();
        let tokens = back.filter(|_| count > 0).map(|back| count - 1 - back % count);
        tokens.filter(|token| self.capabilities.fenced || self.is_held(*token)).collect()
    }

    fn is_held(&self, token: usize) -> bool {
        self.believed.is_held(&self.held[token].id, token as u64, self.now())
    }

    async fn ack(&mut self, tokens: &[usize]) -> Result<(), String> {
        for handle in 0..self.handles.len() {
            let ours = self.of_handle(handle, tokens.iter().copied());
            let receipts: Vec<_> = ours.iter().map(|token| self.held[*token].receipt).collect();
            let queue = Arc::clone(&self.handles[handle]);
            let ((), span) = self.call(queue.ack(&receipts)).await?;
            ours.iter().for_each(|token| self.settle(*token, Settle::Ack, span));
        }
        Ok(())
    }

    async fn release(&mut self, releases: &[(usize, i64)]) -> Result<(), String> {
        let now = self.now();
        for (back, millis) in releases {
            let at = after(now, *millis);
            for token in self.receipts([*back].into_iter()) {
                let Held { handle, receipt, .. } = self.held[token];
                let queue = Arc::clone(&self.handles[handle]);
                let ((), span) = self.call(queue.release(&[Release { receipt, at }])).await?;
                self.settle(token, Settle::Release(at), span);
            }
        }
        Ok(())
    }

    fn of_handle(&self, handle: usize, tokens: impl Iterator<Item = usize>) -> Vec<usize> {
        tokens.filter(|token| self.held[*token].handle == handle).collect()
    }

    fn settle(&mut self, token: usize, settle: Settle, span: Span) {
        self.believed.settle(&self.held[token].id, token as u64, settle, span);
    }

    async fn wait(&self, until: Until) {
        let now = self.now();
        let at = match until {
            Until::In(millis) => now + Duration::from_millis(millis),
            Until::Next(more) => self.believed.next_after(now).map_or(now, |at| after(at, more)),
        };
        let is_virtual = self.harness.time().is_virtual();
        self.wait_until(if is_virtual { at } else { at.min(now + REAL_WAIT_MAX) }).await;
    }

    async fn stats(&mut self) -> Result<(), String> {
        let deadline = self.now() + STATS_PATIENCE;
        loop {
            let (stats, _) = self.call(self.queue().stats()).await?;
            let next = self.believed.next().map(|(_, by)| by.max(self.hazy_until));
            let is_late = next.is_some_and(|by| stats.next_visible.is_some_and(|at| at > by));
            if self.believed.fits(stats) && !is_late {
                return Ok(());
            }
            if self.now() >= deadline {
                return Err(format!("{stats:?} with {:?}", self.believed));
            }
            self.wait_until(self.now() + PAUSE).await;
        }
    }

    /// Everything comes once more, and then nothing.
    async fn drain(&mut self) -> Result<(), String> {
        let last = self.believed.last().unwrap_or(Timestamp::MIN).max(self.hazy_until);
        self.wait_until(last + self.lag()).await;
        for _ in 0..DRAIN_ROUNDS_MAX {
            let count = self.lease_all(DRAIN).await?;
            if count == 0 {
                return self.stats().await;
            }
            let latest: Vec<_> = (self.held.len() - count..self.held.len()).collect();
            self.ack(&latest).await?;
        }
        Err("there is no end to what comes".to_owned())
    }
}

fn id(name: usize) -> OrderId {
    OrderId::new(NAMES[name]).expect("is an id")
}

fn after(at: Timestamp, millis: i64) -> Timestamp {
    Timestamp::from_millis(at.as_millis().saturating_add(millis))
}
