//! A cluster as a place: each of its nodes behind a proxy.

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use expirer_backends::connect;
use expirer_backends::nats::NatsRepo;
use expirer_conformance::{BusHarness, Harness, RepoHarness, Server, Time};
use expirer_core::{EventBus, OrderRepo, Result};
use tokio::runtime::Runtime;

use crate::servers::nats_cluster::NatsCluster;
use crate::servers::proxy::{Mode, Proxy};
use crate::servers::real::{options, real_time, runtime};

/// A place with three servers.
#[derive(Debug)]
pub(crate) struct ClusterPlace {
    time: Time,
    pub(crate) cluster: NatsCluster,
    proxies: Vec<Proxy>,
    // Last: what runs on it is dropped first.
    runtime: Arc<Runtime>,
}

impl ClusterPlace {
    pub(crate) fn new(program: &Path) -> Self {
        let (cluster, runtime) = (NatsCluster::start(program), runtime());
        let by = |port| Proxy::start(runtime.handle(), port);
        let proxies = cluster.ports().into_iter().map(by).collect();
        Self { time: real_time(&runtime), cluster, proxies, runtime }
    }

    /// The URL of all nodes, by way of the proxies, for three copies of everything.
    pub(crate) fn url(&self) -> String {
        let hosts = self.proxies.iter().map(|proxy| format!("127.0.0.1:{}", proxy.port()));
        format!("nats://{}?replicas=3", hosts.collect::<Vec<_>>().join(","))
    }

    /// Runs a test of its own.
    pub(crate) fn block_on(&self, test: impl Future<Output = ()>) {
        self.runtime.block_on(test);
    }

    fn set(&self, mode: Mode) {
        self.proxies.iter().for_each(|proxy| proxy.set(mode));
    }
}

impl Harness for ClusterPlace {
    fn time(&self) -> &Time {
        &self.time
    }

    fn server(&self) -> Option<&dyn Server> {
        Some(self)
    }
}

#[async_trait]
impl RepoHarness for ClusterPlace {
    async fn repo(&self) -> Result<Arc<dyn OrderRepo>> {
        Ok(Arc::new(NatsRepo::open(&self.url(), &options()).await?.backend))
    }
}

#[async_trait]
impl BusHarness for ClusterPlace {
    async fn bus(&self) -> Result<Arc<dyn EventBus>> {
        Ok(connect::bus(&self.url(), &options()).await?.backend.bus)
    }
}

#[async_trait]
impl Server for ClusterPlace {
    async fn restart(&self) {
        self.cluster.kill();
        self.cluster.revive();
    }

    async fn cut(&self) {
        for proxy in &self.proxies {
            proxy.set(Mode::Cut);
        }
    }

    async fn mend(&self) {
        self.set(Mode::Open);
    }
}
