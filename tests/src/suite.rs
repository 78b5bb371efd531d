//! Cases, and the list of trials that they become: one named test per case.

use std::collections::BTreeSet;
use std::fmt;
use std::ops::Range;
use std::process::ExitCode;
use std::sync::Arc;

use expirer_core::{BusCapabilities, QueueCapabilities, RepoCapabilities};
use libtest_mimic::{Arguments, Completion, Failed, Trial};

use crate::harness::{BoxFuture, BusHarness, Harness, QueueHarness, RepoHarness, Time};
use crate::sim::{self, Backends, Materials, Simulation};
use crate::{bus, model, queue, repo};

/// What a case needs of a backend; where the backend's capabilities lack it, the case is skipped,
/// and says so. Nothing else skips a case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Need {
    /// What is confirmed survives a restart.
    Durable,
    /// A cancelled timer never fires, and a rescheduled one never at its old time.
    ExactCancel,
    /// A stale receipt does nothing.
    Fenced,
    /// Messages carry headers.
    Headers,
    /// A group that is created later sees what was published before it.
    Retains,
    /// A server that can be cut off.
    Server,
    /// The bus knows until when a group has worked off a subject.
    Watermark,
}

impl fmt::Display for Need {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Durable => "it is not durable",
            Self::ExactCancel => "it does not cancel exactly",
            Self::Fenced => "it does not fence stale receipts",
            Self::Headers => "its messages have no headers",
            Self::Retains => "it keeps no message for a group to come",
            Self::Server => "it has no server",
            Self::Watermark => "it has no watermark",
        })
    }
}

/// What one backend can do, out of its capabilities and its harness.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Has {
    backend: &'static str,
    durable: bool,
    exact_cancel: bool,
    fenced: bool,
    headers: bool,
    restarts: bool,
    retains: bool,
    server: bool,
    watermark: bool,
}

impl Has {
    const fn need(&self, need: Need) -> bool {
        match need {
            Need::Durable => self.durable,
            Need::ExactCancel => self.exact_cancel,
            Need::Fenced => self.fenced,
            Need::Headers => self.headers,
            Need::Retains => self.retains,
            Need::Server => self.server,
            Need::Watermark => self.watermark,
        }
    }

    fn queue(capabilities: QueueCapabilities, harness: &impl Harness) -> Self {
        let QueueCapabilities { backend, durable, exact_cancel, fenced, .. } = capabilities;
        let (server, restarts) = server(harness);
        Self { backend, durable, exact_cancel, fenced, restarts, server, ..Self::default() }
    }

    fn bus(capabilities: BusCapabilities, harness: &impl Harness) -> Self {
        let BusCapabilities { backend, durable, watermark, fenced, headers, retains, .. } =
            capabilities;
        let (server, restarts) = server(harness);
        Self {
            backend,
            durable,
            fenced,
            headers,
            restarts,
            retains,
            server,
            watermark,
            ..Self::default()
        }
    }

    fn repo(capabilities: RepoCapabilities, harness: &impl Harness) -> Self {
        let RepoCapabilities { backend, durable, .. } = capabilities;
        let (server, restarts) = server(harness);
        Self { backend, durable, restarts, server, ..Self::default() }
    }
}

/// Whether there is a server that can be cut off, and one that can be restarted.
fn server(harness: &impl Harness) -> (bool, bool) {
    harness.server().map_or((false, false), |server| (true, server.can_restart()))
}

/// One case: a name, what it needs, and what it does on a harness of kind `H`.
#[derive(Clone, Copy)]
pub(crate) struct Case<H: ?Sized + 'static> {
    pub(crate) name: &'static str,
    pub(crate) needs: &'static [Need],
    pub(crate) run: for<'a> fn(&'a H) -> BoxFuture<'a, ()>,
}

impl<H: ?Sized> Case<H> {
    /// Runs the case, unless it needs what the backend does not have: then says what that is.
    fn judge(&self, has: Has, harness: &H, time: &Time) -> Result<Option<String>, String> {
        let backend = has.backend;
        if has.durable && !has.restarts {
            let why = "says that it is durable: its harness needs a server to restart, as proof";
            return Err(format!("{backend} {why}"));
        }
        if let Some(need) = self.needs.iter().find(|need| !has.need(**need)) {
            return Ok(Some(format!("{backend}: {need}")));
        }
        time.block_on((self.run)(harness));
        Ok(None)
    }
}

/// Lists cases: `module::function`, and in brackets what it needs. A function that is not listed
/// is dead code, which the lints refuse: so none is forgotten.
macro_rules! cases {
    ($($module:ident::$case:ident $([$($need:ident),+])?,)+) => {
        &[$($crate::suite::Case {
            name: concat!(stringify!($module), "::", stringify!($case)),
            needs: &[$($($crate::suite::Need::$need),+)?],
            run: |harness| Box::pin($module::$case(harness)),
        }),+]
    };
}
pub(crate) use cases;

/// The cases for any number of backends: the `main` of a test file with `harness = false`.
///
/// ```no_run
/// # use std::sync::Arc;
/// # use async_trait::async_trait;
/// # use expirer_core::DelayQueue;
/// use expirer_conformance::{Harness, QueueHarness, Suite, Time};
///
/// #[derive(Debug)]
/// struct Mine {
///     time: Time,
///     queue: Arc<dyn DelayQueue>,
/// }
///
/// impl Harness for Mine {
///     fn time(&self) -> &Time {
///         &self.time
///     }
/// }
///
/// #[async_trait]
/// impl QueueHarness for Mine {
///     async fn queue(&self) -> expirer_core::Result<Arc<dyn DelayQueue>> {
///         Ok(Arc::clone(&self.queue))
///     }
/// }
///
/// # fn place() -> Mine { panic!("an example of a place, that nobody opens") }
/// fn main() -> std::process::ExitCode {
///     Suite::default().queue("mine", place).run()
/// }
/// ```
#[derive(Debug, Default)]
#[must_use]
pub struct Suite {
    trials: Vec<Trial>,
    threads: Option<usize>,
}

impl Suite {
    /// Every case for a delay queue, and the model-based test, each in a place of its own.
    pub fn queue<H: QueueHarness>(
        mut self,
        name: &str,
        place: impl Fn() -> H + Clone + Send + 'static,
    ) -> Self {
        self.add_cases(
            (name, "queue"),
            queue::CASES,
            &place,
            |harness| Has::queue(open(harness, harness.queue()).capabilities(), harness),
            |harness| harness,
        );
        self.add((name, "queue"), "model::is_the_timer_machine", move || {
            model::check(&move || Arc::new(place()) as Arc<dyn QueueHarness>)?;
            Ok(Completion::Completed)
        });
        self
    }

    /// Every case for an event bus.
    pub fn bus<H: BusHarness>(
        mut self,
        name: &str,
        place: impl Fn() -> H + Clone + Send + 'static,
    ) -> Self {
        self.add_cases(
            (name, "bus"),
            bus::CASES,
            &place,
            |harness| Has::bus(open(harness, harness.bus()).capabilities(), harness),
            |harness| harness,
        );
        self
    }

    /// Every case for an order repository.
    pub fn repo<H: RepoHarness>(
        mut self,
        name: &str,
        place: impl Fn() -> H + Clone + Send + 'static,
    ) -> Self {
        self.add_cases(
            (name, "repo"),
            repo::CASES,
            &place,
            |harness| Has::repo(open(harness, harness.repo()).capabilities(), harness),
            |harness| harness,
        );
        self
    }

    /// The [simulation](crate::sim) of some seeds, on backends that `build` makes for each run. In
    /// every 500 of them, everything that can go wrong has to have happened.
    ///
    /// The environment variable `EXPIRER_SIM_SEEDS` names other seeds: `5000` for the first 5,000,
    /// `17..18` for the seed 17 alone.
    ///
    /// # Panics
    /// If that variable is no number and no range, or an empty one.
    pub fn simulation(
        self,
        name: &str,
        seeds: Range<u64>,
        build: impl Fn(&Materials) -> Backends + Send + Sync + 'static,
    ) -> Self {
        self.add_trials((name, "simulation"), sim::trials(&Simulation::new(build), seeds))
    }

    /// Every [planted mistake](crate::planted), which the simulation has to find; how soon is
    /// measured on the backends in memory.
    pub fn planted(
        self,
        name: &str,
        build: impl Fn(&Materials) -> Backends + Send + Sync + 'static,
    ) -> Self {
        self.add_trials((name, "finds"), sim::planted_trials(&Simulation::new(build)))
    }

    /// One more test of your own, beside the cases.
    pub fn test(mut self, name: &str, test: impl FnOnce() + Send + 'static) -> Self {
        self.trials.push(Trial::test(name, move || {
            test();
            Ok(())
        }));
        self
    }

    /// A test, or several, that cannot run here: reported as ignored, and why.
    pub fn ignored(mut self, name: &str, why: &str) -> Self {
        let why = why.to_owned();
        let skip = move || Ok(Completion::ignored_with(why));
        self.trials.push(Trial::ignorable_test(name, skip));
        self
    }

    /// Sets how many trials run beside each other where the command line does not say: more than
    /// there are cores where cases mostly wait for a server.
    pub const fn with_threads(mut self, threads: usize) -> Self {
        self.threads = Some(threads);
        self
    }

    /// Runs what the command line selects, like any other test binary.
    ///
    /// # Panics
    /// If two tests have the same name.
    #[must_use]
    pub fn run(self) -> ExitCode {
        let mut names = BTreeSet::new();
        let unique = self.trials.iter().all(|trial| names.insert(trial.name().to_owned()));
        assert!(unique, "each backend needs a name of its own");
        let mut arguments = Arguments::from_args();
        arguments.test_threads = arguments.test_threads.or(self.threads);
        libtest_mimic::run(&arguments, self.trials).exit_code()
    }

    fn add_trials(mut self, names: (&str, &str), trials: Vec<sim::Trial>) -> Self {
        for (trial, test) in trials {
            self.add(names, &trial, move || {
                test()?;
                Ok(Completion::Completed)
            });
        }
        self
    }

    /// One trial per case; `kind` is what the cases see of a harness.
    fn add_cases<H: Harness, K: ?Sized>(
        &mut self,
        names: (&str, &str),
        cases: &'static [Case<K>],
        place: &(impl Fn() -> H + Clone + Send + 'static),
        has: fn(&H) -> Has,
        kind: fn(&H) -> &K,
    ) {
        for case in cases {
            let place = place.clone();
            self.add(names, case.name, move || {
                let harness = place();
                let skipped = case.judge(has(&harness), kind(&harness), harness.time())?;
                Ok(skipped.map_or(Completion::Completed, Completion::ignored_with))
            });
        }
    }

    fn add(
        &mut self,
        (backend, kind): (&str, &str),
        case: &str,
        test: impl FnOnce() -> Result<Completion, Failed> + Send + 'static,
    ) {
        self.trials.push(Trial::ignorable_test(format!("{backend}::{kind}::{case}"), test));
    }
}

/// Opens a handle before the case, to ask for its capabilities.
fn open<T>(harness: &impl Harness, opening: BoxFuture<'_, expirer_core::Result<T>>) -> T
where
    T: Send,
{
    let mut opened = None;
    harness.time().block_on(async { opened = Some(opening.await) });
    let opened = opened.expect("the runner of a harness runs a future to its end");
    opened.unwrap_or_else(|error| panic!("the harness opens its backend: {error}"))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use async_trait::async_trait;
    use expirer_core::{DelayQueue, Error, ErrorKind};

    use super::*;
    use crate::time::VirtualTime;

    #[derive(Debug)]
    struct Place(Time);

    impl Place {
        fn new() -> Self {
            Self(Time::virtual_time(&VirtualTime::default()))
        }
    }

    impl Harness for Place {
        fn time(&self) -> &Time {
            &self.0
        }
    }

    #[async_trait]
    impl QueueHarness for Place {
        async fn queue(&self) -> expirer_core::Result<Arc<dyn DelayQueue>> {
            Err(Error::new(ErrorKind::Denied, "mine", "open", "wrong password"))
        }
    }

    const fn needs(needs: &'static [Need]) -> Case<Place> {
        Case { name: "case", needs, run: |_| Box::pin(async { panic!("it ran") }) }
    }

    fn judge(case: &Case<Place>, has: Has) -> Result<Option<String>, String> {
        let place = Place::new();
        case.judge(has, &place, place.time())
    }

    #[test]
    fn a_case_is_skipped_for_what_the_backend_lacks_and_says_so() {
        let has = Has { backend: "mine", fenced: true, ..Has::default() };
        let skipped = judge(&needs(&[Need::Fenced, Need::Headers]), has);
        assert_eq!(skipped, Ok(Some("mine: its messages have no headers".to_owned())));
    }

    #[test]
    #[should_panic(expected = "it ran")]
    fn a_case_runs_where_the_backend_has_all_it_needs() {
        let has = Has { fenced: true, ..Has::default() };
        let _ = judge(&needs(&[Need::Fenced]), has);
    }

    #[test]
    fn durable_without_a_server_to_restart_fails() {
        let has = Has { backend: "mine", durable: true, ..Has::default() };
        let failed = judge(&needs(&[]), has).expect_err("unproven");
        assert!(failed.contains("needs a server to restart"), "{failed}");
    }

    #[test]
    #[should_panic(expected = "mine: open: denied: wrong password")]
    fn a_backend_that_cannot_be_opened_fails_with_its_error() {
        let place = Place::new();
        let _ = open(&place, place.queue());
    }
}
