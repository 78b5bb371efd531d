//! Wrappers that suspend before and after every effect, where a crash can fall, and fail there; and
//! that confirm timers and expirations, and lose them.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use expirer_core::bus::{Consumer, Delivery, Tail};
use expirer_core::{
    BusCapabilities, Change, DelayQueue, Error, ErrorKind, EventBus, Group, Lease, LeaseOptions,
    Message, OrderId, OrderRepo, Outcome, OverdueOptions, Progress, QueueCapabilities, QueueStats,
    Receipt, ReceiveOptions, Record, Rejection, Release, RepoCapabilities, Result, Subject,
    SubscribeOptions, Timer,
};
use futures_lite::future::yield_now;

use crate::executor::Seed;

/// When calls fail, and how often they did.
#[derive(Clone, Debug)]
pub(crate) struct Faults(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    seed: Seed,
    /// One call in so many fails; `None` for none.
    one_in: Option<u64>,
    failed: u64,
    lost: u64,
}

impl Faults {
    pub(crate) fn new(seed: u64, one_in: u64) -> Self {
        Self(Arc::new(Mutex::new(State {
            seed: Seed::new(seed),
            one_in: Some(one_in),
            failed: 0,
            lost: 0,
        })))
    }

    /// No more faults from now on.
    pub(crate) fn end(&self) {
        self.0.lock().unwrap().one_in = None;
    }

    pub(crate) fn failed(&self) -> u64 {
        self.0.lock().unwrap().failed
    }

    pub(crate) fn lost(&self) -> u64 {
        self.0.lock().unwrap().lost
    }

    /// Whether a backend confirms this and loses it.
    fn loses(&self) -> bool {
        let mut state = self.0.lock().unwrap();
        let one_in = state.one_in;
        let loses = one_in.is_some_and(|times| state.seed.one_in(times));
        state.lost += u64::from(loses);
        loses
    }

    fn roll(&self) -> Result<()> {
        let mut state = self.0.lock().unwrap();
        let Some(times) = state.one_in else { return Ok(()) };
        if !state.seed.one_in(times) {
            return Ok(());
        }
        state.failed += 1;
        Err(Error::new(ErrorKind::Unavailable, "faults", "call", "planned"))
    }

    /// Suspends, perhaps fails, does it, suspends, and perhaps fails all the same.
    async fn around<T>(&self, effect: impl Future<Output = Result<T>>) -> Result<T> {
        yield_now().await;
        self.roll()?;
        let done = effect.await;
        yield_now().await;
        self.roll()?;
        done
    }
}

/// A backend with faults.
#[derive(Debug)]
pub(crate) struct Faulty<T: ?Sized> {
    pub(crate) faults: Faults,
    pub(crate) inner: Arc<T>,
}

#[async_trait]
impl DelayQueue for Faulty<dyn DelayQueue> {
    async fn schedule(&self, timers: &[Timer]) -> Result<()> {
        if self.faults.loses() {
            return Ok(());
        }
        self.faults.around(self.inner.schedule(timers)).await
    }

    async fn cancel(&self, ids: &[OrderId]) -> Result<()> {
        self.faults.around(self.inner.cancel(ids)).await
    }

    async fn lease(&self, options: LeaseOptions) -> Result<Vec<Lease>> {
        self.faults.around(self.inner.lease(options)).await
    }

    async fn ack(&self, receipts: &[Receipt]) -> Result<()> {
        self.faults.around(self.inner.ack(receipts)).await
    }

    async fn release(&self, releases: &[Release]) -> Result<()> {
        self.faults.around(self.inner.release(releases)).await
    }

    async fn stats(&self) -> Result<QueueStats> {
        self.faults.around(self.inner.stats()).await
    }

    fn capabilities(&self) -> QueueCapabilities {
        self.inner.capabilities()
    }
}

#[async_trait]
impl EventBus for Faulty<dyn EventBus> {
    async fn publish(&self, messages: &[Message]) -> Result<()> {
        let is_expiry = |message: &Message| message.subject == Subject::ExpirationComplete;
        if messages.iter().all(is_expiry) && self.faults.loses() {
            return Ok(());
        }
        self.faults.around(self.inner.publish(messages)).await
    }

    async fn subscribe(&self, options: SubscribeOptions) -> Result<Box<dyn Consumer>> {
        let inner = self.faults.around(self.inner.subscribe(options)).await?;
        Ok(Box::new(Faulty {
            faults: self.faults.clone(),
            inner: Arc::<dyn Consumer>::from(inner),
        }))
    }

    async fn tail(&self, subjects: &[Subject]) -> Result<Box<dyn Tail>> {
        self.inner.tail(subjects).await
    }

    async fn progress(&self, group: &Group, subject: &Subject) -> Result<Progress> {
        self.faults.around(self.inner.progress(group, subject)).await
    }

    fn capabilities(&self) -> BusCapabilities {
        self.inner.capabilities()
    }
}

#[async_trait]
impl Consumer for Faulty<dyn Consumer> {
    async fn receive(&self, options: ReceiveOptions) -> Result<Vec<Delivery>> {
        self.faults.around(self.inner.receive(options)).await
    }

    async fn ack(&self, receipts: &[Receipt]) -> Result<()> {
        self.faults.around(self.inner.ack(receipts)).await
    }

    async fn release(&self, releases: &[Release]) -> Result<()> {
        self.faults.around(self.inner.release(releases)).await
    }

    async fn reject(&self, rejections: &[Rejection]) -> Result<()> {
        self.faults.around(self.inner.reject(rejections)).await
    }
}

#[async_trait]
impl OrderRepo for Faulty<dyn OrderRepo> {
    async fn load(&self, ids: &[OrderId]) -> Result<Vec<Option<Record>>> {
        self.faults.around(self.inner.load(ids)).await
    }

    async fn commit(&self, changes: &[Change]) -> Result<Vec<Outcome>> {
        self.faults.around(self.inner.commit(changes)).await
    }

    async fn overdue(&self, options: OverdueOptions) -> Result<Vec<Record>> {
        self.faults.around(self.inner.overdue(options)).await
    }

    fn capabilities(&self) -> RepoCapabilities {
        self.inner.capabilities()
    }
}
