//! `expirer serve`: from start to end.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use expirer_core::observe::Flow;
use futures_lite::future;
use tokio::task::{JoinError, JoinSet};
use tracing::{error, info, warn};

use crate::capability::{Capabilities, Level};
use crate::config::Config;
use crate::http::{self, App, Listener};
use crate::shutdown::{self, Signals, Stop};
use crate::wire::Parts;

/// How long the start waits for the loops; after that, HTTP is served and says who is missing.
const START_WAIT: Duration = Duration::from_secs(10);
/// What a second signal ends the process with.
const INTERRUPTED: u8 = 130;

/// Serves until somebody asks for the end, or all is worked off.
///
/// # Errors
/// A text that says why it did not start.
pub(crate) async fn run(config: &Config) -> Result<ExitCode, String> {
    let mut signals =
        Signals::install().map_err(|error| format!("cannot listen for signals: {error}"))?;
    let Some(service) = signals.or(Service::start(config)).await else {
        info!("told to end before the start was done");
        return Ok(ExitCode::SUCCESS);
    };
    let mut service = service?;
    let end = service.end(&mut signals).await;
    end.log();
    let drained = signals.or(service.drain(config.drain_timeout)).await;
    Ok(match (drained, end) {
        (None, _) => {
            warn!("told to end again: what is in flight is dropped");
            ExitCode::from(INTERRUPTED)
        }
        (_, End::Broken(_)) => ExitCode::FAILURE,
        _ => ExitCode::SUCCESS,
    })
}

/// Why the service ends.
enum End {
    /// A signal.
    Told(&'static str),
    /// The input has ended, and nothing of it is left to do.
    WorkedOff,
    /// Nobody reads the output.
    OutputClosed,
    /// A part of it ended by itself.
    Broken(String),
}

impl End {
    fn log(&self) {
        match self {
            Self::Told(signal) => info!(signal, "told to end: finishing what is in flight"),
            Self::WorkedOff => info!("the input has ended and is worked off"),
            Self::OutputClosed => info!("the output is closed"),
            Self::Broken(what) => error!(what, "a part of the service broke: ending"),
        }
    }
}

/// A running service.
struct Service {
    parts: Parts,
    flows: Vec<Flow>,
    stop: Stop,
    loops: JoinSet<()>,
    http: JoinSet<std::io::Result<()>>,
}

impl Service {
    /// Connects, starts the loops, and opens HTTP once they have subscribed.
    async fn start(config: &Config) -> Result<Self, String> {
        if config.roles.value.flows.is_empty() && config.http.is_none() {
            return Err("api is the only role and HTTP is off: there is nothing to do; choose \
                        --http HOST:PORT or more --roles"
                .to_owned());
        }
        let listener = match &config.http {
            Some(http) => Some(Listener::bind(http).await?),
            None => None,
        };
        let parts = Parts::connect(config).await?;
        check(&parts.capabilities(), config)?;
        log_start(config, listener.as_ref());

        let (flows, stop) = (config.roles.value.flows.clone(), Stop::new());
        let loops = parts.spawn(&flows, &stop);
        let mut service = Self { parts, flows, stop, loops, http: JoinSet::new() };
        service.wait_for_loops().await;
        if let Some(listener) = listener {
            service.open_http(config, listener);
        }
        Ok(service)
    }

    async fn wait_for_loops(&self) {
        let Parts { clock, ears, .. } = &self.parts;
        let ready = async {
            ears.readiness.all(&self.flows).await;
            true
        };
        let late = async {
            clock.sleep_until(clock.now() + START_WAIT).await;
            false
        };
        if !future::or(ready, late).await {
            let missing = ears.readiness.missing(&self.flows);
            warn!(?missing, "loops are not ready after {START_WAIT:?}; they keep trying");
        }
    }

    fn open_http(&mut self, config: &Config, listener: Listener) {
        let Parts { bus, clock, ears, .. } = &self.parts;
        let app = App::new(
            self.parts.orders(),
            Arc::clone(&bus.bus),
            Arc::clone(clock),
            Arc::clone(ears),
            self.flows.clone(),
            listener.access(config),
            self.stop.clone(),
        );
        let router = http::router(Arc::new(app), config.roles.value.api);
        info!(address = %listener.address, "serving HTTP");
        self.http.spawn(listener.serve(router, self.stop.clone()));
    }

    /// Returns once there is a reason to end.
    async fn end(&mut self, signals: &mut Signals) -> End {
        let told = async { End::Told(signals.next().await) };
        let finished = finished(&self.parts, &self.flows);
        let broken = future::or(broken("a loop", &mut self.loops), broken("HTTP", &mut self.http));
        future::or(told, future::or(broken, finished)).await
    }

    /// Stops all parts and waits for what is in flight, but not for longer than `timeout`.
    async fn drain(&mut self, timeout: Duration) {
        self.stop.trigger();
        let clock = &self.parts.clock;
        let (loops, http) = (&mut self.loops, &mut self.http);
        let drained = async {
            while loops.join_next().await.is_some() {}
            while http.join_next().await.is_some() {}
            true
        };
        let late = async {
            clock.sleep_until(clock.now() + timeout).await;
            false
        };
        match future::or(drained, late).await {
            true => info!("ended"),
            false => warn!("not all was finished within {timeout:?}; what was leased comes again"),
        }
    }
}

/// Returns once a bus whose input ends has nothing left to do, or nobody to tell.
async fn finished(parts: &Parts, flows: &[Flow]) -> End {
    let Some(finite) = &parts.bus.finite else { return future::pending().await };
    let timers = flows.contains(&Flow::Expirer).then_some(&*parts.queue);
    let worked_off = async {
        // Reading starts only when every group is there to see it.
        parts.ears.readiness.all(flows).await;
        shutdown::worked_off(&**finite, timers, &*parts.clock).await;
        End::WorkedOff
    };
    let output_closed = async {
        finite.output_closed().await;
        End::OutputClosed
    };
    future::or(output_closed, worked_off).await
}

/// Returns once a task has ended: none does so by itself before the stop.
async fn broken<T: 'static>(what: &str, tasks: &mut JoinSet<T>) -> End {
    match tasks.join_next().await {
        None => future::pending().await,
        Some(ended) => End::Broken(format!("{what} {}", cause(ended.err()))),
    }
}

fn cause(error: Option<JoinError>) -> String {
    error.map_or_else(|| "ended by itself".to_owned(), |error| format!("failed: {error}"))
}

/// Refuses what cannot work, and says what may go wrong.
fn check(capabilities: &Capabilities, config: &Config) -> Result<(), String> {
    for finding in capabilities.findings(config) {
        match finding.level {
            Level::Error => return Err(finding.text.to_owned()),
            Level::Warning => warn!("{}", finding.text),
            Level::Note => info!("{}", finding.text),
        }
    }
    Ok(())
}

fn log_start(config: &Config, listener: Option<&Listener>) {
    info!(
        version = env!("CARGO_PKG_VERSION"),
        bus = %config.bus.value,
        queue = %config.queue.value,
        repo = %config.repo.value,
        roles = %config.roles.value,
        http = listener.map(|listener| tracing::field::display(listener.address)),
        "starting"
    );
}
