//! Where one case runs: a server of its own behind a proxy of its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use expirer_backends::TokioClock;
use expirer_backends::connect::{self, ConnectOptions};
use expirer_conformance::{
    BusHarness, Harness, QueueHarness, RepoHarness, Server, Time, Tolerance,
};
use expirer_core::{Clock, DelayQueue, EventBus, OrderRepo, Result, Timestamp};
use tokio::runtime::{Builder, Runtime};

use crate::servers::proxy::{Mode, Proxy};
use crate::servers::redis::RedisServer;

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

/// What a backend is given: a seed of its own each time, as in a process of its own, and patience
/// with a busy machine.
pub(crate) fn options() -> ConnectOptions {
    production_options().with_answer_within(Duration::from_secs(10))
}

/// The same with the patience that the loops need.
pub(crate) fn production_options() -> ConnectOptions {
    static SEED: AtomicU64 = AtomicU64::new(1);
    ConnectOptions::new(clock(), SEED.fetch_add(1 << 32, Ordering::Relaxed))
}

fn clock() -> Arc<dyn Clock> {
    Arc::new(TokioClock::new())
}

pub(crate) fn runtime() -> Arc<Runtime> {
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build();
    Arc::new(runtime.expect("a runtime"))
}

/// The machine's time; server and test share its clock, and only whole milliseconds differ.
pub(crate) fn real_time(runtime: &Arc<Runtime>) -> Time {
    let tolerance = Tolerance { early: Duration::from_millis(1), late: Duration::from_secs(20) };
    let runtime = Arc::clone(runtime);
    Time::real(clock(), tolerance, move |case| runtime.block_on(case))
}
