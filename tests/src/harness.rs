//! What a backend's own test file provides: a fresh place for each case, time, and its server.

use std::fmt::Debug;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use expirer_core::{Clock, DelayQueue, EventBus, OrderRepo, Result};

use crate::time::VirtualTime;

/// A future that may be sent to another thread.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Where one case runs: made anew for it, with a namespace of its own, and dropped after it. Clean
/// up in `Drop`, so that a case that fails leaves nothing behind either.
#[async_trait]
pub trait Harness: Debug + Send + Sync + 'static {
    /// How time goes here.
    fn time(&self) -> &Time;

    /// The server behind the backend; `None` where there is none. A backend that says that it is
    /// durable needs one, or its cases fail: what was never restarted is not known to last.
    fn server(&self) -> Option<&dyn Server> {
        None
    }
}

/// A place with a delay queue.
#[async_trait]
pub trait QueueHarness: Harness {
    /// Opens a handle on the queue of this place, as one more process would.
    async fn queue(&self) -> Result<Arc<dyn DelayQueue>>;
}

/// A place with an event bus.
#[async_trait]
pub trait BusHarness: Harness {
    /// Opens a handle on the bus of this place, as one more process would.
    async fn bus(&self) -> Result<Arc<dyn EventBus>>;
}

/// A place with an order repository.
#[async_trait]
pub trait RepoHarness: Harness {
    /// Opens a handle on the repository of this place, as one more process would.
    async fn repo(&self) -> Result<Arc<dyn OrderRepo>>;
}

/// The server behind a backend, in the hands of a case. Other cases may run beside it: give each
/// place that has one a server or a connection of its own.
#[async_trait]
pub trait Server: Debug + Send + Sync {
    /// Whether it can be restarted, and not only be cut off: what a durable backend needs.
    fn can_restart(&self) -> bool {
        true
    }

    /// Ends the server without warning (`kill -9`) and starts it again on the same data; returns
    /// once it answers.
    async fn restart(&self);

    /// Cuts the connection: calls fail from now on.
    async fn cut(&self);

    /// Mends what was [cut](Self::cut); returns once it is there.
    async fn mend(&self);
}

/// How time goes in a place.
#[derive(Debug)]
pub struct Time {
    clock: Arc<dyn Clock>,
    tolerance: Tolerance,
    runner: Runner,
}

/// How far what is measured may be from what is due.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tolerance {
    /// How much earlier something may seem to happen: the skew between the backend's clock and
    /// the harness's, and what is lost by rounding.
    pub early: Duration,
    /// How much later something may happen: what a busy machine and the network need. Generous,
    /// since no case measures speed.
    pub late: Duration,
}

/// Runs a future to its end, in real time.
type BlockOn = Box<dyn Fn(BoxFuture<'_, ()>) + Send + Sync>;

enum Runner {
    Virtual(VirtualTime),
    Real(BlockOn),
}

impl Debug for Runner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Virtual(_) => "Virtual",
            Self::Real(_) => "Real",
        })
    }
}

impl Time {
    /// Virtual time, exact to the millisecond: for backends that take a [`Clock`].
    #[must_use]
    pub fn virtual_time(time: &VirtualTime) -> Self {
        Self {
            clock: time.clock(),
            tolerance: Tolerance::default(),
            runner: Runner::Virtual(time.clone()),
        }
    }

    /// The machine's time, for servers: a clock, how far off it may be, and what runs a future to
    /// its end (tokio's `Runtime::block_on`).
    pub fn real(
        clock: Arc<dyn Clock>,
        tolerance: Tolerance,
        block_on: impl Fn(BoxFuture<'_, ()>) + Send + Sync + 'static,
    ) -> Self {
        Self { clock, tolerance, runner: Runner::Real(Box::new(block_on)) }
    }

    /// The clock that due times are meant by.
    #[must_use]
    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.clock
    }

    /// How far off it may be.
    #[must_use]
    pub const fn tolerance(&self) -> Tolerance {
        self.tolerance
    }

    /// Whether waiting costs nothing: then a case may wait for years.
    #[must_use]
    pub const fn is_virtual(&self) -> bool {
        matches!(self.runner, Runner::Virtual(_))
    }

    /// Runs a case to its end.
    pub fn block_on<'a>(&self, case: impl Future<Output = ()> + Send + 'a) {
        match &self.runner {
            Runner::Virtual(time) => time.block_on(case),
            Runner::Real(block_on) => block_on(Box::pin(case)),
        }
    }
}
