//! The five loops on virtual time, under every fault there is, from one seed.
//!
//! A run draws its plan from the seed: a few orders, most of them paid or cancelled within
//! seconds of their expiry, from elsewhere and by request; two replicas of every loop, each with a
//! clock of its own; and what goes wrong: errors before and after an effect, calls that never
//! answer, messages that are dropped, doubled, put off and read an hour late, timers and messages
//! that were confirmed and are lost, outages, crashes at any await point, replicas that stand
//! still and go on, clocks that are off and are set. Then there is peace, and all has to settle.
//!
//! Every effect is judged as it happens: each lease against the timer machine, each commit against
//! the order's, each announcement against what its record owes, the watermark against what is
//! settled, every batch against its bound. In the end each order, each payment,
//! each answer and each dead letter is accounted for.
//!
//! The same seed is the same run: [`Run::hash`] is over everything that happened.

mod acts;
mod answers;
mod check;
mod dead;
mod executor;
mod log;
mod plan;
mod replicas;
mod requests;
mod script;
mod settled;
mod stage;
mod tally;
mod trials;
mod watch;

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use expirer_core::{Clock, DelayQueue, EventBus, OrderRepo, Timestamp};

use self::log::Log;
use self::stage::Stage;
use crate::faults::Happened;
use crate::planted::Mistake;

pub use self::tally::Tally;
pub(crate) use self::trials::{Trial, planted_trials, trials};

/// What a simulation runs on.
#[derive(Clone, Debug)]
pub struct Backends {
    /// The delay queue.
    pub queue: Arc<dyn DelayQueue>,
    /// The event bus.
    pub bus: Arc<dyn EventBus>,
    /// The order repository.
    pub repo: Arc<dyn OrderRepo>,
}

/// What backends for a run are made of: clocks of their own, and a seed for whatever they choose.
///
/// They wait by these clocks alone. `lease` and `receive` may wait, and take and return in one
/// poll; every other call is done in its first poll. They fence receipts, cancel exactly, and give
/// each message an id, headers and a watermark.
#[derive(Clone, Debug)]
pub struct Materials {
    /// The queue's clock.
    pub queue_clock: Arc<dyn Clock>,
    /// The bus's clock.
    pub bus_clock: Arc<dyn Clock>,
    /// The repository's clock.
    pub repo_clock: Arc<dyn Clock>,
    /// Seeds hashes and ids.
    pub seed: u64,
}

/// Makes the backends of one run.
type Build = Arc<dyn Fn(&Materials) -> Backends + Send + Sync>;

/// Runs seeds.
#[derive(Clone)]
pub struct Simulation {
    build: Build,
    mistake: Option<Mistake>,
}

impl fmt::Debug for Simulation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Simulation").field("mistake", &self.mistake).finish_non_exhaustive()
    }
}

/// What became of one seed.
#[derive(Clone, Debug)]
pub struct Run {
    /// The seed.
    pub seed: u64,
    /// Over everything that happened, in order.
    pub hash: u64,
    /// What was exercised.
    pub tally: Tally,
    /// The promises that were broken, first the one that was broken first. Empty if all is well.
    pub violations: Vec<String>,
    /// Everything that happened, if it was asked for.
    pub trace: Vec<String>,
}

impl Simulation {
    /// A simulation on backends.
    pub fn new(build: impl Fn(&Materials) -> Backends + Send + Sync + 'static) -> Self {
        Self { build: Arc::new(build), mistake: None }
    }

    /// Plants a mistake, which has to be found.
    #[must_use]
    pub fn with_mistake(mut self, mistake: Mistake) -> Self {
        self.mistake = Some(mistake);
        self
    }

    /// Runs one seed.
    #[must_use]
    pub fn run(&self, seed: u64) -> Run {
        self.play(seed, &Log::new(false))
    }

    /// Runs one seed and keeps its trace.
    #[must_use]
    pub fn trace(&self, seed: u64) -> Run {
        self.play(seed, &Log::new(true))
    }

    fn play_out(&self, seed: u64, log: &Log) {
        let mut stage = Stage::new(&self.build, self.mistake, seed, log.clone());
        let begun = stage.now();
        if let Some(what) = lacks(&stage.backends) {
            return log.violation(begun, &format!("a simulation needs {what}"));
        }
        stage.run();
        if !log.is_broken() {
            check::check(&stage);
        }
        count_faults(log, stage.faults.happened());
        log.count(|tally| {
            tally.runs += 1;
            tally.seconds += stage.now().since(begun).as_secs();
        });
    }

    /// A panic anywhere in it is a broken promise of this seed, like any other.
    fn play(&self, seed: u64, log: &Log) -> Run {
        let played = catch_unwind(AssertUnwindSafe(|| self.play_out(seed, log)));
        if let Err(panic) = played {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
            log.violation(Timestamp::EPOCH, &format!("panicked: {}", text.unwrap_or("?")));
        }
        Run {
            seed,
            hash: log.hash(),
            tally: log.tally(),
            violations: log.violations(),
            trace: log.lines(),
        }
    }
}

/// What a run asks of its backends, and these do not have.
fn lacks(backends: &Backends) -> Option<&'static str> {
    let (queue, bus) = (backends.queue.capabilities(), backends.bus.capabilities());
    let needs = [
        (queue.fenced && bus.fenced, "fencing of stale receipts"),
        (queue.exact_cancel, "exact cancelling"),
        (bus.watermark, "a watermark"),
        (bus.headers, "headers"),
    ];
    needs.into_iter().find(|(has, _)| !has).map(|(_, what)| what)
}

fn count_faults(log: &Log, happened: Happened) {
    log.count(|tally| {
        tally.errors += happened.errors_before + happened.errors_after + happened.outage_errors;
        tally.slow += happened.slow;
        tally.silences += happened.silences;
        tally.losses += happened.losses;
        tally.duplicates += happened.duplicates;
        tally.reordered += happened.delays + happened.drops;
        tally.forgotten += happened.forgotten;
        tally.closed += happened.closed;
    });
}

impl Run {
    /// Whether every promise was kept.
    #[must_use]
    pub const fn is_sound(&self) -> bool {
        self.violations.is_empty()
    }
}

/// The seed and what was broken.
impl fmt::Display for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.is_sound() {
            true => write!(f, "seed {}: sound", self.seed),
            false => write!(f, "seed {}: {}", self.seed, self.violations.join("\n  ")),
        }
    }
}
