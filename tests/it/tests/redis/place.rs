//! Where one case runs: a server of its own behind a proxy of its own.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use expirer_backends::connect;
use expirer_conformance::{BusHarness, Harness, QueueHarness, RepoHarness, Server, Time};
use expirer_core::{DelayQueue, EventBus, OrderRepo, Result, Timestamp};
use tokio::runtime::Runtime;

use crate::servers::proxy::{Mode, Proxy};
use crate::servers::redis::RedisServer;

pub(crate) use crate::servers::real::{options, production_options, real_time, runtime};

/// A place with one server.
#[derive(Debug)]
pub(crate) struct Place {
    time: Time,
    pub(crate) server: RedisServer,
    pub(crate) proxy: Proxy,
    // Last: what runs on it is dropped first.
    runtime: Arc<Runtime>,
}

impl Place {
    /// On one server without TLS or password.
    pub(crate) fn plain() -> Self {
        Self::on(RedisServer::start())
    }

    /// On one server with TLS, a password and a client's certificate.
    pub(crate) fn secured() -> Self {
        Self::on(RedisServer::secured())
    }

    pub(crate) fn on(server: RedisServer) -> Self {
        let runtime = runtime();
        let proxy = Proxy::start(runtime.handle(), server.target());
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
impl QueueHarness for Place {
    async fn queue(&self) -> Result<Arc<dyn DelayQueue>> {
        Ok(connect::queue(&self.url(), &options()).await?.backend)
    }
}

#[async_trait]
impl BusHarness for Place {
    async fn bus(&self) -> Result<Arc<dyn EventBus>> {
        Ok(connect::bus(&self.url(), &options()).await?.backend.bus)
    }
}

#[async_trait]
impl RepoHarness for Place {
    async fn repo(&self) -> Result<Arc<dyn OrderRepo>> {
        Ok(connect::repo(&self.url(), &options()).await?.backend)
    }
}

#[async_trait]
impl Server for Place {
    async fn restart(&self) {
        self.server.kill();
        assert!(self.server.revive(), "redis-server starts again");
    }

    async fn cut(&self) {
        self.proxy.set(Mode::Cut);
    }

    async fn mend(&self) {
        self.proxy.set(Mode::Open);
    }
}
