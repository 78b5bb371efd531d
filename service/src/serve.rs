//! `expirer serve`: from start to end.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use expirer_backends::connect::Finite;
use expirer_core::observe::Flow;
use futures_lite::future;
use tokio::task::{JoinError, JoinSet};
use tracing::{error, info, warn};

use crate::capability::{Finding, Level};
use crate::config::Config;
use crate::http::{self, App, Listener};
use crate::shutdown::{self, Signals, Stop};
use crate::wire::Parts;

/// How long the backends may take to hand back what they hold.
const LEAVE_WAIT: Duration = Duration::from_secs(1);
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
    let finite = service.parts.bus.finite.as_deref();
    log_bad_lines(finite);
    let code = match drained {
        None => {
            warn!("told to end again: what is in flight is dropped");
            ExitCode::from(INTERRUPTED)
        }
        // Behind lines, there is nobody whom it would come to again.
        Some(false) if finite.is_some() && matches!(end, End::Told(_)) => ExitCode::FAILURE,
        Some(_) => end.code(finite),
    };
    if drained.is_some() {
        service.leave().await;
    }
    Ok(code)
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

    /// How the process ends once it is drained. An input or output that failed ends like one that
    /// is over, and is not: whoever reads the exit code must not take the part for the whole.
    fn code(&self, finite: Option<&dyn Finite>) -> ExitCode {
        let failure = match self {
            Self::Broken(_) => return ExitCode::FAILURE,
            Self::Told(_) => None,
            Self::WorkedOff | Self::OutputClosed => finite.and_then(Finite::failure),
        };
        let Some(failure) = failure else { return ExitCode::SUCCESS };
        error!(failure, "the input or output failed: not all of it is done");
        ExitCode::FAILURE
    }
}

/// A running service.
struct Service {
    parts: Parts,
    stop: Stop,
    loops: JoinSet<()>,
    http: JoinSet<std::io::Result<()>>,
}

impl Service {
    /// Connects, starts the loops, and opens HTTP once they have subscribed.
    async fn start(config: &Config) -> Result<Self, String> {
        let listener = Listener::open(config).await?;
        let parts = Parts::connect(config).await?;
        let address = listener.as_ref().map(|listener| listener.address);
        check(&parts.findings(config, address))?;
        log_start(config, listener.as_ref());

        let stop = Stop::new();
        let loops = parts.spawn(&config.roles.value.flows, &stop);
        let mut service = Self { parts, stop, loops, http: JoinSet::new() };
        service.wait_for_loops().await;
        if let Some(listener) = listener {
            service.open_http(config, listener);
        }
        Ok(service)
    }

    async fn wait_for_loops(&self) {
        let Parts { clock, ears, .. } = &self.parts;
        let ready = async {
            ears.readiness.all().await;
            true
        };
        let late = async {
            clock.sleep_until(clock.now() + START_WAIT).await;
            false
        };
        if !future::or(ready, late).await {
            let missing = ears.readiness.missing();
            warn!(?missing, "loops are not ready after {START_WAIT:?}; they keep trying");
        }
    }

    fn open_http(&mut self, config: &Config, listener: Listener) {
        let Parts { bus, queue, clock, ears, .. } = &self.parts;
        let app = App::new(
            self.parts.orders(),
            Arc::clone(&bus.bus),
            Arc::clone(queue),
            Arc::clone(clock),
            Arc::clone(ears),
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
        let finished = finished(&self.parts);
        let broken = future::or(broken("a loop", &mut self.loops), broken("HTTP", &mut self.http));
        future::or(told, future::or(broken, finished)).await
    }

    /// Stops all parts and waits for what is in flight, but not for longer than `timeout`; says
    /// whether all of it was finished.
    async fn drain(&mut self, timeout: Duration) -> bool {
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
        let is_drained = future::or(drained, late).await;
        if is_drained {
            info!("ended");
        } else {
            warn!("not all was finished within {timeout:?}; what is in flight is dropped");
        }
        is_drained
    }

    /// Drops the backends, and lets them hand back what they hold.
    async fn leave(self) {
        let (clock, leaving) = (Arc::clone(&self.parts.clock), self.parts.leaving.clone());
        drop(self);
        let late = clock.sleep_until(clock.now() + LEAVE_WAIT);
        future::or(leaving.done(), late).await;
    }
}

/// Returns once a bus whose input ends has nothing left to do, or nobody to tell.
async fn finished(parts: &Parts) -> End {
    let Some(finite) = &parts.bus.finite else { return future::pending().await };
    let readiness = &parts.ears.readiness;
    let timers = readiness.flows().contains(&Flow::Expirer).then_some(&*parts.queue);
    let worked_off = async {
        // Reading starts only when every group is there to see it.
        readiness.all().await;
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
fn check(findings: &[Finding]) -> Result<(), String> {
    for finding in findings {
        match finding.level {
            Level::Error => return Err(finding.text.clone().into_owned()),
            Level::Warning => warn!("{}", finding.text),
            Level::Note => info!("{}", finding.text),
        }
    }
    Ok(())
}

fn log_bad_lines(finite: Option<&dyn Finite>) {
    let lines = finite.map_or(0, Finite::bad_lines);
    if lines > 0 {
        warn!(lines, "lines of the input were no messages: they are among the dead letters");
    }
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

#[cfg(test)]
mod tests {
    use std::io::{self, Write};
    use std::sync::Mutex;

    use async_trait::async_trait;
    use tracing::subscriber::with_default;

    use super::*;

    /// An input and output of which the end is known.
    #[derive(Debug, Default)]
    struct Over {
        failure: Option<&'static str>,
        bad_lines: u64,
    }

    #[async_trait]
    impl Finite for Over {
        async fn read_to_end(&self) {}

        async fn output_closed(&self) {}

        fn settled(&self) -> Option<u64> {
            Some(0)
        }

        fn failure(&self) -> Option<String> {
            self.failure.map(str::to_owned)
        }

        fn bad_lines(&self) -> u64 {
            self.bad_lines
        }
    }

    #[derive(Clone, Debug, Default)]
    struct Log(Arc<Mutex<Vec<u8>>>);

    impl Write for Log {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// What `work` logs.
    fn logged(work: impl FnOnce()) -> String {
        let log = Log::default();
        let writer = log.clone();
        let lines = tracing_subscriber::fmt().with_writer(move || writer.clone()).with_ansi(false);
        with_default(lines.finish(), work);
        let bytes = log.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn an_input_or_output_that_failed_is_an_error_and_one_that_is_over_is_not() {
        let failed = Over { failure: Some("no space left on device"), ..Over::default() };
        for end in [End::WorkedOff, End::OutputClosed] {
            assert_eq!(end.code(Some(&Over::default())), ExitCode::SUCCESS);
            let log = logged(|| assert_eq!(end.code(Some(&failed)), ExitCode::FAILURE));
            assert!(log.contains("ERROR") && log.contains("no space left on device"), "{log}");
        }
        assert_eq!(End::Told("SIGTERM").code(Some(&failed)), ExitCode::SUCCESS);
        assert_eq!(End::Broken("a loop".to_owned()).code(None), ExitCode::FAILURE);
    }

    #[test]
    fn bad_lines_are_counted_in_one_warning() {
        let bad = Over { bad_lines: 3, ..Over::default() };
        let log = logged(|| log_bad_lines(Some(&bad)));
        assert!(log.contains("WARN") && log.contains("lines=3"), "{log}");
        assert_eq!(log.lines().count(), 1, "{log}");
        assert_eq!(logged(|| log_bad_lines(Some(&Over::default()))), "");
        assert_eq!(logged(|| log_bad_lines(None)), "");
    }
}
