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

mod check;
mod executor;
mod log;
mod plan;
mod requests;
mod script;
mod stage;
mod tally;
mod trials;
mod watch;

use std::fmt;
use std::sync::Arc;

use expirer_core::{Clock, DelayQueue, EventBus, OrderRepo};

use self::log::Log;
use self::stage::Stage;
use crate::planted::Mistake;

pub use self::tally::Tally;
pub(crate) use self::trials::trials;

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
/// They have to wait by these clocks alone, and do each call in one poll.
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
pub type Build = fn(&Materials) -> Backends;

/// Runs seeds.
#[derive(Clone, Copy, Debug)]
pub struct Simulation {
    build: Build,
    mistake: Option<Mistake>,
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
    #[must_use]
    pub const fn new(build: Build) -> Self {
        Self { build, mistake: None }
    }

    /// Plants a mistake, which has to be found.
    #[must_use]
    pub const fn with_mistake(mut self, mistake: Mistake) -> Self {
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

    fn play(&self, seed: u64, log: &Log) -> Run {
        let mut stage = Stage::new(self.build, self.mistake, seed, log.clone());
        let begun = stage.now();
        stage.run();
        if !log.is_broken() {
            check::check(&stage);
        }
        let happened = stage.faults.happened();
        log.count(|tally| {
            tally.runs += 1;
            tally.seconds += stage.now().since(begun).as_secs();
            tally.errors += happened.errors_before + happened.errors_after + happened.outage_errors;
            tally.silences += happened.silences;
            tally.losses += happened.losses;
            tally.duplicates += happened.duplicates;
            tally.reordered += happened.delays + happened.drops;
        });
        Run {
            seed,
            hash: log.hash(),
            tally: log.tally(),
            violations: log.violations(),
            trace: log.lines(),
        }
    }
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
