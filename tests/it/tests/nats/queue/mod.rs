//! The queue: the suite on schedules and on redelivery, and what servers do to it.

mod faults;

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use expirer_backends::nats::NatsQueue;
use expirer_conformance::{Harness, QueueHarness, Server, Suite, Time};
use expirer_core::{DelayQueue, Result};

use crate::cluster::ClusterPlace;
use crate::place::Place;
use crate::servers::nats::{newest, packaged};
use crate::servers::real::options;

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
        open(&self.url).await
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

pub(crate) fn tests(mut suite: Suite) -> Suite {
    let old = packaged();
    suite = suite.queue("nats-packaged-redelivery", move || one(&old, "redelivery"));
    if let Some(program) = newest() {
        let [by_schedule, again, cluster] = [program.clone(), program.clone(), program];
        suite = suite
            .queue("nats-schedule", move || one(&by_schedule, "schedule"))
            .queue("nats-redelivery", move || one(&again, "redelivery"))
            .queue("nats-schedule-cluster", move || three(&cluster, "schedule"));
        suite = faults::on_schedules(suite);
    }
    faults::on_both(suite)
}
