//! Classic mistakes, to be found: a proof that cannot fail is none.
//!
//! Each [`Mistake`] is planted in a backend or in what one replica sees of it, and the
//! [simulation](crate::sim) has to find it within [`Mistake::seeds_max`] seeds.

mod bus;
mod consumer;
mod queue;
mod repo;

use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use expirer_core::observe::{Flow, Observer, Signal};

use crate::harness::BoxFuture;
use crate::sim::Backends;
use crate::time::VirtualClock;

/// One classic mistake.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mistake {
    /// A message is acked when it is taken, before what it asks for is done.
    AckBeforeWork,
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
    pub const ALL: [Self; 17] = [
        Self::AckBeforeWork,
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

    /// What ends a replica; puts itself between the loop and its observer for that.
    pub(crate) fn stop(self, observer: &mut Arc<dyn Observer>) -> BoxFuture<'static, ()> {
        if self != Self::NoRearm {
            return Box::pin(pending());
        }
        let fuse = Arc::new(Fuse { inner: Arc::clone(observer), is_blown: AtomicBool::new(false) });
        *observer = Arc::<Fuse>::clone(&fuse);
        Box::pin(std::future::poll_fn(move |_| match fuse.is_blown.load(Ordering::SeqCst) {
            true => std::task::Poll::Ready(()),
            false => std::task::Poll::Pending,
        }))
    }
}

/// Ends a loop with its first fault.
#[derive(Debug)]
struct Fuse {
    inner: Arc<dyn Observer>,
    is_blown: AtomicBool,
}

impl Observer for Fuse {
    fn on(&self, signal: &Signal<'_>) {
        if matches!(signal, Signal::Failed { whole_loop: true, .. }) {
            self.is_blown.store(true, Ordering::SeqCst);
        }
        self.inner.on(signal);
    }
}
