//! A place whose backends suspend around every effect: the suite over the wrappers.

use std::sync::Arc;

use async_trait::async_trait;
use expirer_core::{DelayQueue, EventBus, OrderRepo, Result};

use super::{Faults, Odds, Service};
use crate::harness::{BusHarness, Harness, QueueHarness, RepoHarness, Server, Time};

/// A place in which every call suspends before and after its effect, and nothing fails unless the
/// line is cut: the cases have to hold there too, and calls interleave that never do on a backend
/// in memory alone.
#[derive(Debug)]
pub struct Suspended<H> {
    inner: H,
    faults: Faults,
}

impl<H: Harness> Suspended<H> {
    /// Wraps a place.
    #[must_use]
    pub fn new(inner: H) -> Self {
        let faults = Faults::new(0, Odds::default(), Arc::clone(inner.time().clock()));
        Self { inner, faults }
    }
}

impl<H: Harness> Harness for Suspended<H> {
    fn time(&self) -> &Time {
        self.inner.time()
    }

    fn server(&self) -> Option<&dyn Server> {
        Some(self)
    }
}

/// The line to the backend can be cut even where there is no server behind it.
#[async_trait]
impl<H: Harness> Server for Suspended<H> {
    fn can_restart(&self) -> bool {
        self.inner.server().is_some_and(Server::can_restart)
    }

    async fn restart(&self) {
        if let Some(server) = self.inner.server() {
            server.restart().await;
        }
    }

    async fn cut(&self) {
        Service::ALL.into_iter().for_each(|service| self.faults.set_out(service, true));
    }

    async fn mend(&self) {
        Service::ALL.into_iter().for_each(|service| self.faults.set_out(service, false));
    }
}

#[async_trait]
impl<H: QueueHarness> QueueHarness for Suspended<H> {
    async fn queue(&self) -> Result<Arc<dyn DelayQueue>> {
        Ok(self.faults.queue(self.inner.queue().await?))
    }
}

#[async_trait]
impl<H: BusHarness> BusHarness for Suspended<H> {
    async fn bus(&self) -> Result<Arc<dyn EventBus>> {
        Ok(self.faults.bus(self.inner.bus().await?))
    }
}

#[async_trait]
impl<H: RepoHarness> RepoHarness for Suspended<H> {
    async fn repo(&self) -> Result<Arc<dyn OrderRepo>> {
        Ok(self.faults.repo(self.inner.repo().await?))
    }
}
