//! How the flows report: one synchronous method, one enum. Logs and metrics are somebody else's.

use std::fmt::Debug;
use std::time::Duration;

use crate::event::Event;
use crate::order::Effect;
use crate::{Error, OrderId};

/// Takes what the flows report. Called often and from within the loops: count it, hand it on,
/// return.
#[cfg_attr(any(test, feature = "mock"), mockall::automock)]
pub trait Observer: Debug + Send + Sync + 'static {
    /// Something happened.
    #[cfg_attr(any(test, feature = "mock"), mockall::concretize)]
    fn on(&self, signal: &Signal<'_>);
}

/// Takes every signal and does nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Observer for Silent {
    fn on(&self, _: &Signal<'_>) {}
}

/// One of the five loops.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Flow {
    /// `order:created` → timer.
    Scheduler,
    /// Due timer → `expiration:complete`.
    Expirer,
    /// Events → repository.
    Recorder,
    /// `expiration:complete` → cancelled order.
    Canceller,
    /// Overdue record → timer, announcement.
    Reconciler,
}

impl Flow {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::Scheduler, Self::Expirer, Self::Recorder, Self::Canceller, Self::Reconciler];

    /// The name, as roles, logs and metrics write it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Scheduler => "scheduler",
            Self::Expirer => "expirer",
            Self::Recorder => "recorder",
            Self::Canceller => "canceller",
            Self::Reconciler => "reconciler",
        }
    }
}

/// What the flows report.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Signal<'a> {
    /// A loop is connected and takes work; said again when it does so after a fault.
    Ready {
        /// Which loop.
        flow: Flow,
    },
    /// A loop took a batch.
    Batch {
        /// Which loop.
        flow: Flow,
        /// How many items.
        items: usize,
    },
    /// Timers were scheduled.
    Scheduled {
        /// How many.
        timers: usize,
    },
    /// A timer fired: `expiration:complete` is published and confirmed.
    Fired {
        /// Which order's.
        id: &'a OrderId,
        /// How long after its due time it was taken; zero if the clocks disagree.
        late: Duration,
    },
    /// An order changed, and the change is committed.
    Changed {
        /// Which order.
        id: &'a OrderId,
        /// What was done.
        effect: Effect,
    },
    /// What an order owed is published and confirmed.
    Announced {
        /// The event.
        event: &'a Event,
    },
    /// Items were given back to come again.
    Released {
        /// By which loop.
        flow: Flow,
        /// Why.
        why: &'static str,
        /// After how long.
        after: Duration,
    },
    /// A message went to the dead letters.
    Rejected {
        /// By which loop.
        flow: Flow,
        /// Why.
        reason: &'a str,
    },
    /// A call failed; nothing is lost, and the loop goes on.
    Failed {
        /// In which loop.
        flow: Flow,
        /// What went wrong.
        error: &'a Error,
        /// When it is tried again.
        retry_in: Duration,
        /// Whether the loop waits that out; it is [`Ready`](Self::Ready) again after that.
        whole_loop: bool,
    },
    /// The payments were not worked off within the payment wait: the order is cancelled without.
    PaymentWaitOver {
        /// Which order.
        id: &'a OrderId,
    },
}
