//! Classic mistakes, to be found: a proof that cannot fail is none.
//!
//! Each [`Mistake`] is planted in a backend or in what one replica sees of it, and the
//! [simulation](crate::sim) has to find it within [`Mistake::seeds_max`] seeds.

mod bus;
mod consumer;
mod queue;
mod repo;

use std::fmt;
use std::sync::Arc;

use expirer_core::observe::{Flow, Observer, Signal};

use crate::sim::{Backends, Run};
use crate::time::VirtualClock;

/// One classic mistake.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Mistake {
    /// A message is acked when it is taken, before what it asks for is done.
    AckBeforeWork,
    /// A timer is acked when it is taken, before its expiry is published.
    AckBeforePublish,
    /// A due timer is removed when it is taken, not when it is acked.
    PopThenPush,
    /// A commit overwrites whatever is there.
    BlindCommit,
    /// Due times are cut to whole seconds.
    DueRoundedDown,
    /// A waiting lease does not notice a timer that becomes due in the meantime.
    SleepsThrough,
    /// A receipt is good for ever.
    ReceiptNeverStale,
    /// A loop ends with the first fault.
    NoRearm,
    /// A paid order is cancelled.
    CancelsPaid,
    /// An order is cancelled a second before its time.
    CancelsEarly,
    /// An order that is cancelled already is announced again.
    AnnouncesAgain,
    /// A row is written without what it owes.
    DualWrite,
    /// A repeat of an announcement gets another id.
    FreshIds,
    /// A payment that comes ahead of its order is dropped.
    DropsPaymentsAhead,
    /// A payment that does not count is not answered.
    SilentLatePayment,
    /// The watermark passes what was delivered and is not settled.
    WatermarkIgnoresUnacked,
    /// Poison is dropped instead of kept.
    DropsPoison,
    /// Nobody looks after what queue and bus have lost.
    NoReconciler,
}

impl Mistake {
    /// All of them.
    pub const ALL: [Self; 18] = [
        Self::AckBeforeWork,
        Self::AckBeforePublish,
        Self::PopThenPush,
        Self::BlindCommit,
        Self::DueRoundedDown,
        Self::SleepsThrough,
        Self::ReceiptNeverStale,
        Self::NoRearm,
        Self::CancelsPaid,
        Self::CancelsEarly,
        Self::AnnouncesAgain,
        Self::DualWrite,
        Self::FreshIds,
        Self::DropsPaymentsAhead,
        Self::SilentLatePayment,
        Self::WatermarkIgnoresUnacked,
        Self::DropsPoison,
        Self::NoReconciler,
    ];

    /// Within so many seeds, from zero on, the simulation has to find it: several times as many as
    /// it takes on the backends in memory.
    #[must_use]
    pub const fn seeds_max(self) -> u64 {
        match self {
            // It takes a lease that runs out while its holder stands still, a new holder, and then
            // an ack.
            Self::ReceiptNeverStale => 2000,
            _ => 200,
        }
    }

    /// Whether a run shows this mistake, and not something else.
    pub(crate) fn is_shown_by(self, run: &Run) -> bool {
        let text = run.violations.first().map_or("", String::as_str);
        self.shows_as().iter().any(|part| text.contains(part))
    }

    /// In which words a run says what it breaks.
    const fn shows_as(self) -> &'static [&'static str] {
        match self {
            Self::AckBeforeWork => &["without a timer", "no dead letter", "unanswered", "in time"],
            Self::AckBeforePublish => &["without its expiry"],
            Self::PopThenPush | Self::ReceiptNeverStale => &["leased nothing and left"],
            Self::BlindCommit => &["was accepted at"],
            Self::DueRoundedDown => &["but it is Some(Scheduled"],
            Self::SleepsThrough => &["was cancelled only at"],
            Self::NoRearm => &["ended by itself"],
            Self::CancelsPaid => &["cancelled after complete"],
            Self::CancelsEarly => &["expired at"],
            Self::AnnouncesAgain => &["which nobody owes", "times although nothing went wrong"],
            Self::DualWrite => &["which nobody owes", "owes []"],
            Self::FreshIds => &["in two ways"],
            Self::DropsPaymentsAhead => &["unanswered", "in time"],
            Self::SilentLatePayment => &["unanswered", "which nobody owes"],
            Self::WatermarkIgnoresUnacked => &["the watermark is"],
            Self::DropsPoison => &["no dead letter"],
            Self::NoReconciler => &["not settled"],
        }
    }

    /// Plants it in the backends themselves.
    pub(crate) fn in_backends(
        self,
        backends: Backends,
        queue_clock: &Arc<VirtualClock>,
        bus_clock: &Arc<VirtualClock>,
    ) -> Backends {
        let Backends { queue, bus, repo } = backends;
        match self {
            Self::PopThenPush
            | Self::DueRoundedDown
            | Self::SleepsThrough
            | Self::ReceiptNeverStale => {
                let queue = queue::PlantedQueue::new(self, queue_clock, queue);
                Backends { queue: Arc::new(queue), bus, repo }
            }
            Self::WatermarkIgnoresUnacked => {
                let clock = Arc::clone(bus_clock);
                let planted = bus::PlantedBus::new(self, clock, bus, Arc::clone(&repo));
                Backends { queue, bus: Arc::new(planted), repo }
            }
            Self::BlindCommit => {
                let planted = repo::PlantedRepo { mistake: self, inner: repo };
                Backends { queue, bus, repo: Arc::new(planted) }
            }
            _ => Backends { queue, bus, repo },
        }
    }

    /// Plants it in what a replica sees.
    pub(crate) fn in_replica(
        self,
        flow: Flow,
        clock: &Arc<VirtualClock>,
        backends: Backends,
    ) -> Backends {
        let Backends { queue, bus, repo } = backends;
        match self {
            Self::AckBeforePublish if flow == Flow::Expirer => {
                let queue = queue::PlantedQueue::new(self, clock, queue);
                Backends { queue: Arc::new(queue), bus, repo }
            }
            Self::AckBeforeWork | Self::FreshIds | Self::DropsPaymentsAhead | Self::DropsPoison => {
                let clock = Arc::clone(clock);
                let planted = bus::PlantedBus::new(self, clock, bus, Arc::clone(&repo));
                Backends { queue, bus: Arc::new(planted), repo }
            }
            Self::DualWrite | Self::SilentLatePayment => {
                let planted = repo::PlantedRepo { mistake: self, inner: repo };
                Backends { queue, bus, repo: Arc::new(planted) }
            }
            Self::CancelsPaid | Self::CancelsEarly | Self::AnnouncesAgain
                if flow == Flow::Canceller =>
            {
                let planted = repo::PlantedRepo { mistake: self, inner: repo };
                Backends { queue, bus, repo: Arc::new(planted) }
            }
            _ => Backends { queue, bus, repo },
        }
    }

    /// Whether nobody runs this loop.
    pub(crate) fn leaves_out(self, flow: Flow) -> bool {
        self == Self::NoReconciler && flow == Flow::Reconciler
    }

    /// Plants it between a loop and its observer; `stop` ends the loop.
    pub(crate) fn in_observer(
        self,
        inner: Arc<dyn Observer>,
        stop: impl Fn() + Send + Sync + 'static,
    ) -> Arc<dyn Observer> {
        match self {
            Self::NoRearm => Arc::new(Fuse { inner, stop: Box::new(stop) }),
            _ => inner,
        }
    }
}

/// Ends a loop with its first fault.
struct Fuse {
    inner: Arc<dyn Observer>,
    stop: Box<dyn Fn() + Send + Sync>,
}

impl fmt::Debug for Fuse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Fuse")
    }
}

impl Observer for Fuse {
    fn on(&self, signal: &Signal<'_>) {
        if matches!(signal, Signal::Failed { whole_loop: true, .. }) {
            (self.stop)();
        }
        self.inner.on(signal);
    }
}
