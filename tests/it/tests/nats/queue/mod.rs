//! The queue: the suite on schedules and on redelivery, and what servers do to it.

mod faults;

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use expirer_backends::nats::NatsQueue;
use expirer_conformance::{Harness, QueueHarness, Server, Suite, Time};
use expirer_core::{
    DelayQueue, Lease, LeaseOptions, OrderId, QueueCapabilities, QueueStats, Receipt, Release,
    Result, Timer,
};

use crate::cluster::ClusterPlace;
use crate::place::Place;
use crate::servers::nats::packaged;
use crate::servers::real::options;
use crate::with_newest;

/// A place, and how the queue in it puts off.
#[derive(Debug)]
struct Via<P> {
    place: P,
    url: String,
}

impl<P: Harness> Harness for Via<P> {
    fn time(&self) -> &Time {
        self.place.time()
    }

    fn server(&self) -> Option<&dyn Server> {
        self.place.server()
    }
}

#[async_trait]
impl<P: Harness> QueueHarness for Via<P> {
    async fn queue(&self) -> Result<Arc<dyn DelayQueue>> {
        Ok(Arc::new(Calm(open(&self.url).await?)))
    }
}

/// The queue, of which more is asked than it promises: that a timer which is cancelled or moved
/// while the server is not just about to fire it never comes as it was. The cases leave it time.
#[derive(Debug)]
struct Calm(Arc<dyn DelayQueue>);

#[async_trait]
impl DelayQueue for Calm {
    async fn schedule(&self, timers: &[Timer]) -> Result<()> {
        self.0.schedule(timers).await
    }

    async fn cancel(&self, ids: &[OrderId]) -> Result<()> {
        self.0.cancel(ids).await
    }

    async fn lease(&self, options: LeaseOptions) -> Result<Vec<Lease>> {
        self.0.lease(options).await
    }

    async fn ack(&self, receipts: &[Receipt]) -> Result<()> {
        self.0.ack(receipts).await
    }

    async fn release(&self, releases: &[Release]) -> Result<()> {
        self.0.release(releases).await
    }

    async fn stats(&self) -> Result<QueueStats> {
        self.0.stats().await
    }

    fn capabilities(&self) -> QueueCapabilities {
        let mut capabilities = self.0.capabilities();
        capabilities.exact_cancel = true;
        capabilities
    }
}

async fn open(url: &str) -> Result<Arc<dyn DelayQueue>> {
    Ok(Arc::new(NatsQueue::open(url, &options()).await?.backend))
}

fn one(program: &Path, via: &str) -> Via<Place> {
    let place = Place::plain(program);
    Via { url: format!("{}?via={via}", place.url()), place }
}

fn three(program: &Path, via: &str) -> Via<ClusterPlace> {
    let place = ClusterPlace::new(program);
    Via { url: format!("{}&via={via}", place.url()), place }
}

pub(crate) fn tests(suite: Suite) -> Suite {
    let suite = suite.queue("nats-packaged-redelivery", || one(&packaged(), "redelivery"));
    let suite = with_newest(suite, "nats::queue", |suite, program| {
        let [by_schedule, again, cluster] = [program.clone(), program.clone(), program];
        let suite = suite
            .queue("nats-schedule", move || one(&by_schedule, "schedule"))
            .queue("nats-redelivery", move || one(&again, "redelivery"))
            .queue("nats-schedule-cluster", move || three(&cluster, "schedule"));
        faults::on_schedules(suite)
    });
    faults::on_both(suite)
}
