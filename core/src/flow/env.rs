//! What every loop is given: a clock, an observer, and its bounds.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures_lite::future;

use crate::observe::{Flow, Observer, Signal};
use crate::{Clock, Error, ErrorKind, Result, Timestamp};

use super::backoff::Backoff;
use super::bisect::BoxFuture;

/// Publish, ack, release.
pub(crate) const STEPS_IN_LEASE: u32 = 3;

/// The bounds of the loops, with their defaults.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// Items a turn: 256.
    pub batch_max: usize,
    /// How long a loop waits for work before it looks again by itself, the slow poll under every
    /// wake-up: 5 s.
    pub wait: Duration,
    /// How long a lease on due timers runs: 10 s.
    pub lease: Duration,
    /// After how long an unsettled message is delivered again: 10 s.
    pub ack_deadline: Duration,
    /// How long one call of a backend may take: 2 s. A lease has to be longer than three of them,
    /// or nothing would ever be published; the ack deadline longer than one, well beyond it.
    pub step: Duration,
    /// The first back-off after a fault: 100 ms.
    pub backoff_min: Duration,
    /// The longest back-off: 5 s.
    pub backoff_max: Duration,
    /// For how long an order is not cancelled because payments from before its time are unread:
    /// 30 s.
    pub payment_wait: Duration,
    /// How often the Reconciler looks: 10 s.
    pub reconcile_every: Duration,
    /// How long after its time a record is overdue: 30 s.
    pub grace: Duration,
    /// The seed of the jitter; give each process its own.
    pub seed: u64,
}

impl Limits {
    /// How long handling a batch may take, so that it is settled within the ack deadline.
    pub(crate) const fn turn(&self) -> Duration {
        self.ack_deadline.saturating_sub(self.step)
    }

    /// Whether what is taken can be settled before it is anybody else's.
    fn check(&self) -> Result<()> {
        let Self { lease, ack_deadline, step, .. } = *self;
        let least = step.saturating_mul(STEPS_IN_LEASE);
        if lease <= least {
            return Err(invalid(format!(
                "lease is {lease:?} and step {step:?}: a lease no longer than three steps \
                 ({least:?}) runs out before anything is published; lengthen it or shorten step"
            )));
        }
        if ack_deadline <= step {
            return Err(invalid(format!(
                "ack_deadline is {ack_deadline:?} and step {step:?}: no batch is worked off before \
                 it comes again; lengthen ack_deadline or shorten step"
            )));
        }
        Ok(())
    }
}

fn invalid(text: String) -> Error {
    Error::new(ErrorKind::Invalid, "flow", "limits", text)
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            batch_max: 256,
            wait: Duration::from_secs(5),
            lease: Duration::from_secs(10),
            ack_deadline: Duration::from_secs(10),
            step: Duration::from_secs(2),
            backoff_min: Duration::from_millis(100),
            backoff_max: Duration::from_secs(5),
            payment_wait: Duration::from_secs(30),
            reconcile_every: Duration::from_secs(10),
            grace: Duration::from_secs(30),
            seed: 0,
        }
    }
}

/// What every loop is given besides its backends.
#[derive(Clone, Debug)]
pub struct Env {
    /// The source of time.
    pub clock: Arc<dyn Clock>,
    /// Where the loops report.
    pub observer: Arc<dyn Observer>,
    pub(crate) limits: Limits,
}

impl Env {
    /// A clock, an observer and the default bounds.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>, observer: Arc<dyn Observer>) -> Self {
        Self { clock, observer, limits: Limits::default() }
    }

    /// Sets the bounds.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] for a [lease](Limits::lease) no longer than three
    /// [steps](Limits::step), or an [ack deadline](Limits::ack_deadline) no longer than one.
    pub fn with_limits(mut self, limits: Limits) -> Result<Self> {
        limits.check()?;
        self.limits = limits;
        Ok(self)
    }

    /// Their bounds.
    #[must_use]
    pub const fn limits(&self) -> &Limits {
        &self.limits
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    pub(crate) fn backoff(&self, flow: Flow) -> Backoff {
        let seed = self.limits.seed ^ ((flow as u64 + 1) << 56);
        Backoff::new(self.limits.backoff_min, self.limits.backoff_max, seed)
    }

    pub(crate) fn report(&self, signal: &Signal<'_>) {
        self.observer.on(signal);
    }

    /// Bounds one call of a backend by [`Limits::step`].
    pub(crate) async fn step<T>(&self, call: impl Future<Output = Result<T>>) -> Result<T> {
        self.within(self.limits.step, call).await
    }

    /// Bounds any work; what misses the bound is dropped.
    pub(crate) async fn within<T>(
        &self,
        bound: Duration,
        work: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        future::or(work, async {
            self.sleep(bound).await;
            Err(Error::new(ErrorKind::TimedOut, "flow", "step", format!("no answer in {bound:?}")))
        })
        .await
    }

    /// Sleeps for that long; at most that long again if the clock is set back meanwhile.
    async fn sleep(&self, duration: Duration) {
        let mut until = self.now() + duration;
        while self.now() < until {
            self.clock.sleep_until(until).await;
            until = until.min(self.now() + duration);
        }
    }

    /// Reports a fault and waits out its back-off, or until `stop` ends.
    pub(crate) async fn back_off(
        &self,
        flow: Flow,
        error: &Error,
        backoff: &mut Backoff,
        stop: &mut Stop<'_>,
    ) {
        let retry_in = backoff.next_delay();
        self.report(&Signal::Failed { flow, error, retry_in, whole_loop: true });
        stop.or(self.sleep(retry_in)).await;
    }
}

/// The end of a loop: any future, which may be asked again after it has ended.
pub(crate) struct Stop<'a> {
    future: Option<BoxFuture<'a, ()>>,
}

impl<'a> Stop<'a> {
    pub(crate) fn new(future: impl Future<Output = ()> + Send + 'a) -> Self {
        Self { future: Some(Box::pin(future)) }
    }

    /// Whether it has ended, as far as is known.
    pub(crate) const fn is_stopped(&self) -> bool {
        self.future.is_none()
    }

    /// Waits for `work`, or drops it: `None` once stopped. Stop comes first if both are ready.
    pub(crate) async fn or<T>(&mut self, work: impl Future<Output = T>) -> Option<T> {
        let future = self.future.as_mut()?;
        let stop = async {
            future.await;
            None
        };
        let done = future::or(stop, async { Some(work.await) }).await;
        if done.is_none() {
            self.future = None;
        }
        done
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use futures_lite::future::block_on;

    use super::super::tests::world::World;
    use super::*;

    #[test]
    fn a_call_without_an_answer_times_out_and_one_with_an_answer_does_not() {
        let env = World::default().env();
        let begun = env.now();
        let missed = block_on(env.step(pending::<Result<()>>())).expect_err("no answer");
        assert_eq!(missed.kind(), ErrorKind::TimedOut);
        assert_eq!(env.now(), begun + env.limits.step);
        assert_eq!(block_on(env.step(ready(Ok(1)))).expect("an answer"), 1);
    }

    #[test]
    fn stop_comes_first_and_stays() {
        let mut stop = Stop::new(pending());
        assert_eq!(block_on(stop.or(ready(1))), Some(1));
        let mut stop = Stop::new(ready(()));
        assert_eq!(block_on(stop.or(ready(1))), None);
        assert!(stop.is_stopped());
        assert_eq!(block_on(stop.or(ready(1))), None);
    }

    #[test]
    fn a_turn_fits_into_the_ack_deadline_and_every_step_into_the_lease() {
        let limits = Limits::default();
        assert!(limits.turn() + limits.step <= limits.ack_deadline);
        limits.check().expect("the defaults hold");
    }

    #[test]
    fn limits_under_which_nothing_would_be_settled_are_refused() {
        let millis = Duration::from_millis;
        for (lease, ack_deadline, step, named) in [
            (3001, 1001, 1000, None),
            (3000, 1001, 1000, Some("lease is 3s and step 1s")),
            (0, 1001, 0, Some("lease is 0ns")),
            (3001, 1000, 1000, Some("ack_deadline is 1s and step 1s")),
            (u64::MAX, u64::MAX, u64::MAX, Some("lease is")),
        ] {
            let (lease, ack_deadline, step) = (millis(lease), millis(ack_deadline), millis(step));
            let limits = Limits { lease, ack_deadline, step, ..Limits::default() };
            let error = World::default().env().with_limits(limits).err();
            assert_eq!(error.as_ref().map(Error::kind), named.map(|_| ErrorKind::Invalid));
            let text = error.map(|error| error.to_string()).unwrap_or_default();
            assert!(text.contains(named.unwrap_or_default()), "{text}");
        }
    }
}
