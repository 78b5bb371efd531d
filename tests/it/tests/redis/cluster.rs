//! A cluster as a place, and what happens when one of its masters dies.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use expirer_backends::connect;
use expirer_conformance::{BusHarness, Harness, QueueHarness, RepoHarness, Server, Time};
use expirer_core::{DelayQueue, EventBus, LeaseOptions, OrderId, OrderRepo, Result, Timer};

use crate::place::{options, real_time, runtime};
use crate::servers::redis_cluster::RedisCluster;

/// Clusters that nobody uses now: starting one takes seconds. They end with the last of this.
#[derive(Clone, Debug, Default)]
pub(crate) struct Clusters(Arc<Mutex<Vec<RedisCluster>>>);

/// A place with a cluster that is its own for as long as it lives, and keys of its own.
#[derive(Debug)]
pub(crate) struct ClusterPlace {
    time: Time,
    cluster: Option<RedisCluster>,
    clusters: Clusters,
    /// Whether its nodes were killed: then it may be no whole cluster any more.
    was_hurt: AtomicBool,
    prefix: String,
}

impl ClusterPlace {
    /// On a cluster that nobody uses now, or a new one.
    pub(crate) fn new(clusters: &Clusters) -> Self {
        static PLACES: AtomicU64 = AtomicU64::new(0);
        let free = clusters.0.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let cluster = Some(free.unwrap_or_else(RedisCluster::start));
        let prefix = format!("place{}", PLACES.fetch_add(1, Ordering::Relaxed));
        let (time, clusters) = (real_time(&runtime()), clusters.clone());
        Self { time, cluster, clusters, was_hurt: AtomicBool::new(false), prefix }
    }

    /// On a new cluster that nobody gets after it.
    pub(crate) fn alone() -> Self {
        Self::new(&Clusters::default())
    }

    pub(crate) fn cluster(&self) -> &RedisCluster {
        self.cluster.as_ref().expect("a place has its cluster until it is dropped")
    }

    /// Runs a test of its own.
    pub(crate) fn block_on(&self, test: impl Future<Output = ()> + Send) {
        self.time.block_on(test);
    }

    fn url(&self) -> String {
        format!("{}?prefix={}", self.cluster().url(), self.prefix)
    }

    fn kill(&self) {
        self.was_hurt.store(true, Ordering::Relaxed);
        self.cluster().kill();
    }
}

impl Drop for ClusterPlace {
    fn drop(&mut self) {
        let was_hurt = *self.was_hurt.get_mut();
        let cluster = self.cluster.take().filter(|cluster| !was_hurt || cluster.is_healthy());
        self.clusters.0.lock().unwrap_or_else(PoisonError::into_inner).extend(cluster);
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
impl QueueHarness for ClusterPlace {
    async fn queue(&self) -> Result<Arc<dyn DelayQueue>> {
        Ok(connect::queue(&self.url(), &options()).await?.backend)
    }
}

#[async_trait]
impl BusHarness for ClusterPlace {
    async fn bus(&self) -> Result<Arc<dyn EventBus>> {
        Ok(connect::bus(&self.url(), &options()).await?.backend.bus)
    }
}

#[async_trait]
impl RepoHarness for ClusterPlace {
    async fn repo(&self) -> Result<Arc<dyn OrderRepo>> {
        Ok(connect::repo(&self.url(), &options()).await?.backend)
    }
}

#[async_trait]
impl Server for ClusterPlace {
    async fn restart(&self) {
        self.kill();
        self.cluster().revive();
    }

    /// A cluster sends its clients to the nodes themselves, so that no proxy stands in between:
    /// all of its nodes are gone instead.
    async fn cut(&self) {
        self.kill();
    }

    async fn mend(&self) {
        self.cluster().revive();
    }
}

pub(crate) fn a_master_that_is_killed_is_replaced() {
    let place = ClusterPlace::alone();
    place.block_on(async {
        let queue = place.queue().await.expect("a queue");
        let clock = place.time().clock();
        let due = clock.now();
        let timer = |n: u32| Timer::new(OrderId::new(format!("o{n}")).expect("an id"), due);
        let timers: Vec<_> = (0..100).map(timer).collect();
        queue.schedule(&timers).await.expect("scheduled");
        let key = format!("{{{}:q:0}}:due", place.prefix);
        place.cluster().master_of(&key).kill();
        let limit = clock.now() + Duration::from_secs(60);
        // What replication had not passed on yet is lost with the master; the same again heals it.
        while let Err(error) = queue.schedule(&timers).await {
            assert!(clock.now() < limit, "{error}");
            clock.sleep_until(clock.now() + Duration::from_millis(50)).await;
        }
        let mut left = timers.len();
        while left > 0 {
            assert!(clock.now() < limit, "{left} are left");
            let options = LeaseOptions::new(64).with_wait(Duration::from_secs(1));
            let Ok(leases) = queue.lease(options).await else { continue };
            let receipts: Vec<_> = leases.iter().map(|lease| lease.receipt).collect();
            if queue.ack(&receipts).await.is_ok() {
                left -= receipts.len();
            }
        }
    });
}
