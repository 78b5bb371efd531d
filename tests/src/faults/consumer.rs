//! A member of a group, with faults.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use expirer_core::bus::{Consumer, Delivery};
use expirer_core::{
    Error, ErrorKind, Group, Receipt, ReceiveOptions, Rejection, Release, Result, Subject,
};

use super::{BACKEND, Faults, Service, State};
use crate::millis;

/// For how long a delivery is put off at most.
const DELAY_MAX: Duration = Duration::from_secs(60);

/// What is held back is looked at again so often.
const HELD_FOR: Duration = Duration::from_secs(15);

#[derive(Debug)]
pub(super) struct FaultyConsumer {
    faults: Faults,
    group: Group,
    inner: Box<dyn Consumer>,
    is_closed: AtomicBool,
}

/// What becomes of a delivery.
enum Fate {
    Arrives,
    /// It comes again after its deadline.
    Drops,
    Waits(Release),
    /// The group never hears of it.
    IsLost,
}

impl FaultyConsumer {
    pub(super) const fn new(faults: Faults, group: Group, inner: Box<dyn Consumer>) -> Self {
        Self { faults, group, inner, is_closed: AtomicBool::new(false) }
    }

    /// Fails for ever once it has closed.
    fn open(&self) -> Result<()> {
        let closes = || self.faults.rolls(|odds| odds.closed, |happened| &mut happened.closed);
        if self.is_closed.load(Ordering::SeqCst) || closes() {
            self.is_closed.store(true, Ordering::SeqCst);
            return Err(Error::new(ErrorKind::Closed, BACKEND, "call", "dropped by its broker"));
        }
        Ok(())
    }

    fn fate(&self, state: &mut State, delivery: &Delivery) -> Fate {
        let (receipt, now) = (delivery.receipt, self.faults.clock.now());
        let subject = &delivery.message.subject;
        if state.held.contains(&(self.group.clone(), subject.clone())) {
            return Fate::Waits(Release { receipt, at: now + HELD_FOR });
        }
        if self.heals(subject) && state.rolls(|odds| odds.loss, |happened| &mut happened.losses) {
            state.swallowed.push(delivery.message.clone());
            return Fate::IsLost;
        }
        if state.rolls(|odds| odds.delay, |happened| &mut happened.delays) {
            let after = Duration::from_millis(state.rng.u64(0..millis(DELAY_MAX)));
            return Fate::Waits(Release { receipt, at: now + after });
        }
        match state.rolls(|odds| odds.drop, |happened| &mut happened.drops) {
            true => Fate::Drops,
            false => Fate::Arrives,
        }
    }

    /// Whether the loss of such a message to this group only makes things late: timers are
    /// scheduled again out of the repository, and so an expiry comes again.
    fn heals(&self, subject: &Subject) -> bool {
        self.group == Group::EXPIRATION_SERVICE || *subject == Subject::ExpirationComplete
    }

    fn is_forgotten(&self) -> bool {
        self.faults.rolls(|odds| odds.forgotten, |happened| &mut happened.forgotten)
    }
}

#[async_trait]
impl Consumer for FaultyConsumer {
    async fn receive(&self, options: ReceiveOptions) -> Result<Vec<Delivery>> {
        self.open()?;
        let came = self.faults.around(Service::Bus, self.inner.receive(options)).await?;
        let (mut arrived, mut releases, mut lost) = (Vec::new(), Vec::new(), Vec::new());
        for delivery in came {
            let fate = self.fate(&mut self.faults.state(), &delivery);
            match fate {
                Fate::Arrives => arrived.push(delivery),
                Fate::Drops => {}
                Fate::Waits(release) => releases.push(release),
                Fate::IsLost => lost.push(delivery.receipt),
            }
        }
        if !releases.is_empty() {
            self.inner.release(&releases).await?;
        }
        if !lost.is_empty() {
            self.inner.ack(&lost).await?;
        }
        Ok(arrived)
    }

    async fn ack(&self, receipts: &[Receipt]) -> Result<()> {
        self.open()?;
        let receipts = if self.is_forgotten() { &[] } else { receipts };
        self.faults.around(Service::Bus, self.inner.ack(receipts)).await
    }

    async fn release(&self, releases: &[Release]) -> Result<()> {
        self.open()?;
        let releases = if self.is_forgotten() { &[] } else { releases };
        self.faults.around(Service::Bus, self.inner.release(releases)).await
    }

    async fn reject(&self, rejections: &[Rejection]) -> Result<()> {
        self.open()?;
        self.faults.around(Service::Bus, self.inner.reject(rejections)).await
    }
}
