//! Puts the parts together: backends by URL, loops by role.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use expirer_backends::TokioClock;
use expirer_backends::connect::{self, Bus, ConnectOptions, Leaving};
use expirer_core::flow::{
    Canceller, Env, Expirer, Limits, Orders, Reconciler, Recorder, Scheduler,
};
use expirer_core::observe::Flow;
use expirer_core::{Clock, DelayQueue, OrderRepo};
use tokio::task::JoinSet;

use crate::capability::{Capabilities, Finding};
use crate::config::{BackendUrl, Chosen, Config};
use crate::observer::Ears;
use crate::random;
use crate::shutdown::Stop;

/// How long what is taken stays taken where the bus is this process's own input and output:
/// nobody else could take it over, so that only a fault of ours would ever run it out.
const LEASE_ALONE: Duration = Duration::from_secs(3600);
/// How long one call may take there: a slow reader of the output is back-pressure, not a fault.
/// A quarter of the lease leaves time to publish, ack and release.
const STEP_ALONE: Duration = Duration::from_secs(15 * 60);

/// The backends, and what the loops need besides.
#[derive(Debug)]
pub(crate) struct Parts {
    pub(crate) bus: Bus,
    pub(crate) queue: Arc<dyn DelayQueue>,
    pub(crate) repo: Arc<dyn OrderRepo>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) ears: Arc<Ears>,
    /// What the backends finish once they were dropped.
    pub(crate) leaving: Leaving,
    /// What the backends' operators should know, each once.
    warnings: Vec<String>,
    env: Env,
}

impl Parts {
    /// Connects the backends.
    ///
    /// # Errors
    /// A text that names the setting and what is wrong with it.
    pub(crate) async fn connect(config: &Config) -> Result<Self, String> {
        let seed = random::seed()
            .map_err(|error| format!("the machine has no randomness for a seed: {error}"))?;
        let clock: Arc<dyn Clock> = Arc::new(TokioClock::new());
        let options =
            ConnectOptions::new(Arc::clone(&clock), seed).with_keep_ended(config.keep_ended);
        let queue = connect::queue(config.queue.value.as_str(), &options).await;
        let queue = queue.map_err(|error| failed("queue", &config.queue, &error))?;
        let repo = connect::repo(config.repo.value.as_str(), &options).await;
        let repo = repo.map_err(|error| failed("repo", &config.repo, &error))?;
        let bus = connect::bus(config.bus.value.as_str(), &options).await;
        let bus = bus.map_err(|error| failed("bus", &config.bus, &error))?;
        let ears = Arc::new(Ears::new(&config.roles.value.flows));
        let env = Env::new(Arc::clone(&clock), Arc::<Ears>::clone(&ears));
        let limits = limits(config, seed, bus.backend.finite.is_some());
        let env = env.with_limits(limits).map_err(|error| error.to_string())?;
        let mut warnings = [queue.warnings, repo.warnings, bus.warnings].concat();
        warnings.sort_unstable();
        // One server may be all three.
        warnings.dedup();
        let (bus, queue, repo) = (bus.backend, queue.backend, repo.backend);
        Ok(Self { bus, queue, repo, clock, ears, leaving: options.leaving, warnings, env })
    }

    /// What the roles miss and the backends warn of, the worst first; `address` is where HTTP
    /// listens.
    pub(crate) fn findings(&self, config: &Config, address: Option<SocketAddr>) -> Vec<Finding> {
        let mut findings = self.capabilities().findings(config, address);
        findings.extend(self.warnings.iter().cloned().map(Finding::warning));
        findings.sort_by_key(|finding| finding.level as u8);
        findings
    }

    pub(crate) fn capabilities(&self) -> Capabilities {
        Capabilities {
            bus: self.bus.bus.capabilities(),
            queue: self.queue.capabilities(),
            repo: self.repo.capabilities(),
        }
    }

    /// Orders on request.
    pub(crate) fn orders(&self) -> Orders {
        let (bus, repo) = (Arc::clone(&self.bus.bus), Arc::clone(&self.repo));
        Orders::new(bus, repo, Arc::clone(&self.queue), self.env.clone())
    }

    /// Starts a loop for each of `flows`. Each ends when `stop` does; one that ends before has
    /// panicked.
    pub(crate) fn spawn(&self, flows: &[Flow], stop: &Stop) -> JoinSet<()> {
        let mut loops = JoinSet::new();
        for flow in flows {
            self.spawn_one(*flow, stop.clone(), &mut loops);
        }
        loops
    }

    fn spawn_one(&self, flow: Flow, stop: Stop, loops: &mut JoinSet<()>) {
        let (bus, queue) = (Arc::clone(&self.bus.bus), Arc::clone(&self.queue));
        let (repo, env) = (Arc::clone(&self.repo), self.env.clone());
        macro_rules! spawn {
            ($flow:expr) => {{
                let flow = $flow;
                loops.spawn(async move { flow.run(stop.wait()).await })
            }};
        }
        match flow {
            Flow::Scheduler => spawn!(Scheduler::new(bus, queue, env)),
            Flow::Expirer => spawn!(Expirer::new(bus, queue, env)),
            Flow::Recorder => spawn!(Recorder::new(bus, repo, queue, env)),
            Flow::Canceller => spawn!(Canceller::new(bus, repo, queue, env)),
            Flow::Reconciler => spawn!(Reconciler::new(bus, repo, queue, env)),
        };
    }
}

fn limits(config: &Config, seed: u64, is_alone: bool) -> Limits {
    let mut limits = Limits::default();
    limits.batch_max = config.batch;
    limits.payment_wait = config.payment_wait;
    limits.seed = seed;
    if is_alone {
        (limits.lease, limits.ack_deadline, limits.step) = (LEASE_ALONE, LEASE_ALONE, STEP_ALONE);
        // What is owed for less than a lease is still in somebody's hand.
        limits.grace = LEASE_ALONE;
    }
    limits
}

fn failed(setting: &str, url: &Chosen<BackendUrl>, error: &expirer_core::Error) -> String {
    let Chosen { value, origin } = url;
    format!("{setting} {value} ({origin}): {error}")
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(feature = "stdio")]
    use crate::config::Key;

    #[test]
    fn a_slow_reader_of_the_output_is_waited_for_where_nobody_else_takes_over() {
        let config = Config::flagged(&[]);
        let (shared, alone) = (limits(&config, 7, false), limits(&config, 7, true));
        let usual = Limits::default();
        assert_eq!((shared.lease, shared.step), (usual.lease, usual.step));
        assert_eq!((alone.lease, alone.ack_deadline), (LEASE_ALONE, LEASE_ALONE));
        assert_eq!(alone.step, STEP_ALONE);
        assert!(alone.step * 3 < alone.lease, "publish, ack, release");
        assert_eq!((alone.batch_max, alone.seed), (shared.batch_max, 7));
    }

    #[cfg(feature = "stdio")]
    #[tokio::test]
    async fn it_is_the_end_of_the_input_that_tells() {
        for (bus, step) in [("memory:", Limits::default().step), ("stdio:", STEP_ALONE)] {
            let config = Config::flagged(&[(Key::Bus, bus)]);
            assert_eq!(Parts::connect(&config).await.unwrap().env.limits().step, step);
        }
    }
}
