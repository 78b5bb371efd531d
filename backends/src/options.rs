//! What a backend is given when it is opened, and what it may be besides a bus.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use expirer_core::Clock;

use crate::leaving::Leaving;

/// What every backend is given.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ConnectOptions {
    /// The source of time.
    pub clock: Arc<dyn Clock>,
    /// Seeds hashes and fresh message ids; random, and another one in each process.
    pub seed: u64,
    /// How long the repository in memory keeps orders that have ended: 1 h.
    pub keep_ended: Duration,
    /// How long a server may take to connect, and to answer one round of calls: 1.5 s. It has to be
    /// shorter than the shortest step of the callers (the loops': 2 s), since a caller that gives up
    /// first would leave a connection that no longer answers in place.
    pub answer_within: Duration,
    /// What the backends opened with these options finish after they were dropped.
    pub leaving: Leaving,
}

const ANSWER_WITHIN: Duration = Duration::from_millis(1500);

impl ConnectOptions {
    /// Options with their defaults.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>, seed: u64) -> Self {
        let keep_ended = Duration::from_secs(3600);
        Self { clock, seed, keep_ended, answer_within: ANSWER_WITHIN, leaving: Leaving::default() }
    }

    /// Sets how long the repository in memory keeps orders that have ended.
    #[must_use]
    pub const fn with_keep_ended(mut self, keep_ended: Duration) -> Self {
        self.keep_ended = keep_ended;
        self
    }

    /// Sets how long a server may take to connect, and to answer one round of calls.
    #[must_use]
    pub const fn with_answer_within(mut self, answer_within: Duration) -> Self {
        self.answer_within = answer_within;
        self
    }
}

/// A bus whose input ends: the service works off what is pending and ends too.
#[async_trait]
pub trait Finite: Debug + Send + Sync + 'static {
    /// Reads the input to its end: returns once every line of it is stored, or the output is
    /// closed. Reading starts with the first call, for which every group has to be there; each
    /// call returns at the end.
    async fn read_to_end(&self);

    /// Returns once nobody reads the output any more.
    async fn output_closed(&self);

    /// Why the input or the output failed: a read error, a full disk. `None` after a plain end of
    /// the input, or where its reader has left the output.
    fn failure(&self) -> Option<String>;

    /// How many lines of the input were no message, and came out as dead letters.
    fn bad_lines(&self) -> u64;

    /// How many messages were ever stored, if every group has settled all of them.
    fn settled(&self) -> Option<u64>;
}
