//! The queue: the suite on schedules and on redelivery, and what servers do to it.

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use expirer_backends::nats::NatsQueue;
use expirer_conformance::{Harness, QueueHarness, Server, Suite, Time};
use expirer_core::{DelayQueue, Result};

use crate::cluster::ClusterPlace;
use crate::place::Place;
use crate::programs;
use crate::servers::nats::packaged;
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
    for (name, program) in programs() {
        for via in ["schedule", "redelivery"] {
            if via == "schedule" && program == packaged() {
                continue;
            }
            let (alone, cluster) = (program.clone(), program.clone());
            suite = suite
                .queue(&format!("{name}-{via}"), move || one(&alone, via))
                .queue(&format!("{name}-{via}-cluster"), move || three(&cluster, via));
        }
    }
    suite
}
