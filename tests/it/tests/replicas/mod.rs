//! Replicas of the service, each as a process of its own would run it: handles of its own, and the
//! five loops.

pub(crate) mod announced;
pub(crate) mod ends;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use expirer_backends::connect;
use expirer_core::flow::{
    Canceller, Env, Expirer, Limits, Orders, Reconciler, Recorder, Scheduler,
};
use expirer_core::observe::{Observer, Signal};
use expirer_core::{DelayQueue, EventBus, OrderRepo, Timestamp};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::servers::real::production_options;

/// Where each part is.
#[derive(Clone, Debug)]
pub(crate) struct Urls {
    pub(crate) bus: String,
    pub(crate) queue: String,
    pub(crate) repo: String,
}

impl Urls {
    /// All parts on one server.
    pub(crate) fn of(url: &str) -> Self {
        Self { bus: url.to_owned(), queue: url.to_owned(), repo: url.to_owned() }
    }
}

/// How many calls of the loops have failed.
#[derive(Debug, Default)]
struct Faults(AtomicUsize);

impl Observer for Faults {
    fn on(&self, signal: &Signal<'_>) {
        if matches!(signal, Signal::Failed { .. }) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
}

#[derive(Debug)]
pub(crate) struct Replica {
    pub(crate) bus: Arc<dyn EventBus>,
    pub(crate) queue: Arc<dyn DelayQueue>,
    pub(crate) repo: Arc<dyn OrderRepo>,
    env: Env,
    faults: Arc<Faults>,
    stop: watch::Sender<bool>,
    loops: JoinSet<()>,
}

impl Replica {
    /// Two that come back soon to what an outage held up.
    pub(crate) async fn two(urls: &Urls) -> [Self; 2] {
        [Self::start(urls, false).await, Self::start(urls, false).await]
    }

    /// Two so patient that they do nothing twice because a machine is busy.
    pub(crate) async fn two_patient(urls: &Urls) -> [Self; 2] {
        [Self::start(urls, true).await, Self::start(urls, true).await]
    }

    async fn start(urls: &Urls, is_patient: bool) -> Self {
        let options = production_options();
        let bus = connect::bus(&urls.bus, &options).await.expect("a bus").backend.bus;
        let queue = connect::queue(&urls.queue, &options).await.expect("a queue").backend;
        let repo = connect::repo(&urls.repo, &options).await.expect("a repository").backend;
        let faults = Arc::<Faults>::default();
        let mut limits = if is_patient { patient() } else { brisk() };
        limits.seed = options.seed;
        let env = Env::new(options.clock, Arc::<Faults>::clone(&faults));
        let env = env.with_limits(limits).expect("they hold");
        let (stop, loops) = (watch::channel(false).0, JoinSet::new());
        let mut replica = Self { bus, queue, repo, env, faults, stop, loops };
        replica.spawn();
        replica
    }

    fn spawn(&mut self) {
        macro_rules! spawn {
            ($($flow:ident { $($part:ident),+ })+) => {$(
                let parts = ($(Arc::clone(&self.$part),)+);
                let ($($part,)+) = parts;
                let (flow, stop) = ($flow::new($($part,)+ self.env.clone()), self.stopped());
                self.loops.spawn(async move { flow.run(stop).await });
            )+};
        }
        spawn! {
            Scheduler { bus, queue }
            Expirer { bus, queue }
            Recorder { bus, repo, queue }
            Canceller { bus, repo, queue }
            Reconciler { bus, repo, queue }
        }
    }

    /// Ends when the replica is told to.
    fn stopped(&self) -> impl Future<Output = ()> + Send + 'static {
        let mut told = self.stop.subscribe();
        async move {
            // A replica that is dropped ends, too.
            drop(told.wait_for(|is_told| *is_told).await);
        }
    }

    /// Orders on request.
    pub(crate) fn orders(&self) -> Orders {
        let (bus, repo) = (Arc::clone(&self.bus), Arc::clone(&self.repo));
        Orders::new(bus, repo, Arc::clone(&self.queue), self.env.clone())
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.env.clock.now()
    }

    pub(crate) async fn pause(&self, duration: Duration) {
        self.env.clock.sleep_until(self.now() + duration).await;
    }

    /// How many calls have failed so far.
    pub(crate) fn faults(&self) -> usize {
        self.faults.0.load(Ordering::Relaxed)
    }

    /// Ends them one after the other.
    pub(crate) async fn end_all(replicas: [Self; 2]) {
        for replica in replicas {
            replica.end().await;
        }
    }

    /// Tells all loops to end, and waits until they have.
    async fn end(mut self) {
        self.stop.send_replace(true);
        while let Some(ended) = self.loops.join_next().await {
            ended.expect("no loop panics");
        }
    }
}

/// Shorter than the defaults, so that what an outage holds up comes again soon.
fn brisk() -> Limits {
    let mut limits = Limits::default();
    limits.wait = Duration::from_secs(1);
    (limits.lease, limits.ack_deadline) = (Duration::from_secs(5), Duration::from_secs(5));
    limits.step = Duration::from_secs(1);
    limits.backoff_max = Duration::from_millis(500);
    (limits.reconcile_every, limits.grace) = (Duration::from_secs(1), Duration::from_secs(2));
    limits
}

fn patient() -> Limits {
    let mut limits = brisk();
    (limits.lease, limits.ack_deadline) = (Duration::from_secs(60), Duration::from_secs(60));
    (limits.step, limits.grace) = (Duration::from_secs(15), Duration::from_secs(60));
    limits
}
