//! Classic mistakes.

use std::sync::Arc;

use expirer_core::Observer;
use expirer_core::observe::Flow;

use crate::harness::BoxFuture;
use crate::sim::Backends;
use crate::time::VirtualClock;

/// A mistake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mistake {
    /// Nothing looks after what queue and bus have lost.
    NoReconciler,
}

impl Mistake {
    pub(crate) fn in_backends(
        self,
        backends: Backends,
        _: &Arc<VirtualClock>,
        _: &Arc<VirtualClock>,
    ) -> Backends {
        backends
    }
    pub(crate) fn in_replica(self, _: Flow, backends: Backends) -> Backends {
        backends
    }
    pub(crate) fn leaves_out(self, flow: Flow) -> bool {
        flow == Flow::Reconciler
    }
    pub(crate) fn stop(self, _: &mut Arc<dyn Observer>) -> BoxFuture<'static, ()> {
        Box::pin(std::future::pending())
    }
}
