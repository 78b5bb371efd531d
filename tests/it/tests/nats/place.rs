//! Where one case runs: a server of its own behind a proxy of its own.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use expirer_backends::connect;
use expirer_backends::nats::NatsRepo;
use expirer_conformance::{BusHarness, Harness, RepoHarness, Server, Time};
use expirer_core::{EventBus, OrderRepo, Result, Timestamp};
use tokio::runtime::Runtime;

use crate::servers::nats::NatsServer;
use crate::servers::proxy::{Mode, Proxy};
use crate::servers::real::{options, real_time, runtime};

/// A place with one server.
#[derive(Debug)]
pub(crate) struct Place {
    time: Time,
    pub(crate) server: NatsServer,
    pub(crate) proxy: Proxy,
    // Last: what runs on it is dropped first.
    runtime: Arc<Runtime>,
}

impl Place {
    /// On one server without TLS or password.
    pub(crate) fn plain(program: &Path) -> Self {
        Self::on(NatsServer::start(program))
    }

    /// On one server with TLS, a password and a client's certificate.
    pub(crate) fn secured(program: &Path) -> Self {
        Self::on(NatsServer::secured(program))
    }

    pub(crate) fn on(server: NatsServer) -> Self {
        let runtime = runtime();
        let proxy = Proxy::start(runtime.handle(), server.port());
        Self { time: real_time(&runtime), server, proxy, runtime }
    }

    /// The URL, by way of the proxy.
    pub(crate) fn url(&self) -> String {
        self.server.url_by(self.proxy.port())
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.time.clock().now()
    }

    pub(crate) async fn pause(&self, duration: Duration) {
        self.time.clock().sleep_until(self.now() + duration).await;
    }

    /// Runs a test of its own.
    pub(crate) fn block_on(&self, test: impl Future<Output = ()>) {
        self.runtime.block_on(test);
    }
}

impl Harness for Place {
    fn time(&self) -> &Time {
        &self.time
    }

    fn server(&self) -> Option<&dyn Server> {
        Some(self)
    }
}

#[async_trait]
impl RepoHarness for Place {
    async fn repo(&self) -> Result<Arc<dyn OrderRepo>> {
        Ok(Arc::new(NatsRepo::open(&self.url(), &options()).await?.backend))
    }
}

#[async_trait]
impl BusHarness for Place {
    async fn bus(&self) -> Result<Arc<dyn EventBus>> {
        Ok(connect::bus(&self.url(), &options()).await?.backend.bus)
    }
}

#[async_trait]
impl Server for Place {
    async fn restart(&self) {
        self.server.kill();
        assert!(self.server.revive(), "nats-server starts again");
    }

    async fn cut(&self) {
        self.proxy.set(Mode::Cut);
    }

    async fn mend(&self) {
        self.proxy.set(Mode::Open);
    }
}
