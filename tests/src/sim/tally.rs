//! What was exercised: a run in which nothing went wrong proves nothing.

use std::fmt;

/// Counts over one run, or over many.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Tally {
    /// Runs.
    pub runs: u64,
    /// Orders in them.
    pub orders: u64,
    /// Orders that ended complete.
    pub complete: u64,
    /// Orders that ended cancelled.
    pub cancelled: u64,
    /// Replicas that crashed, at any await point.
    pub crashes: u64,
    /// Replicas that were told to end, and came back.
    pub stops: u64,
    /// Replicas that stood still for a while and went on.
    pub freezes: u64,
    /// Outages of queue, bus or repository.
    pub outages: u64,
    /// Backlogs of one subject.
    pub backlogs: u64,
    /// Calls that failed, before or after their effect.
    pub errors: u64,
    /// Calls that took a while.
    pub slow: u64,
    /// Calls that never answered.
    pub silences: u64,
    /// Timers and messages that queue or bus confirmed and lost.
    pub losses: u64,
    /// Messages that were published twice.
    pub duplicates: u64,
    /// Deliveries that were put off or dropped at first.
    pub reordered: u64,
    /// Acks and releases that were confirmed and did nothing.
    pub forgotten: u64,
    /// Consumers that closed.
    pub closed: u64,
    /// Clocks that were set, forward or back.
    pub clock_steps: u64,
    /// Commits that lost a race.
    pub conflicts: u64,
    /// Announcements that were made more than once, the same each time.
    pub repeats: u64,
    /// Payments that did not count, and were answered.
    pub late_payments: u64,
    /// Orders cancelled because their payments were not read in time.
    pub payment_waits_over: u64,
    /// Dead letters.
    pub dead_letters: u64,
    /// Polls of tasks.
    pub polls: u64,
    /// Simulated seconds.
    pub seconds: u64,
}

/// Every count with its name, once, for adding up and for showing.
macro_rules! each {
    ($each:ident) => {
        $each!(
            runs,
            orders,
            complete,
            cancelled,
            crashes,
            stops,
            freezes,
            outages,
            backlogs,
            errors,
            slow,
            silences,
            losses,
            duplicates,
            reordered,
            forgotten,
            closed,
            clock_steps,
            conflicts,
            repeats,
            late_payments,
            payment_waits_over,
            dead_letters,
            polls,
            seconds
        )
    };
}

impl Tally {
    /// Adds the counts of another run.
    pub fn add(&mut self, other: &Self) {
        macro_rules! add {
            ($($count:ident),+) => { $(self.$count += other.$count;)+ };
        }
        each!(add);
    }

    /// What has not happened at all.
    #[must_use]
    pub fn missing(&self) -> Vec<&'static str> {
        let mut missing = Vec::new();
        macro_rules! look {
            ($($count:ident),+) => {
                $(if self.$count == 0 { missing.push(stringify!($count)); })+
            };
        }
        each!(look);
        missing
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        macro_rules! show {
            ($($count:ident),+) => {
                $(writeln!(f, "{:>14} {}", self.$count, stringify!($count).replace('_', " "))?;)+
            };
        }
        each!(show);
        write!(f, "{:>14.1} hours", self.seconds as f64 / 3600.0)
    }
}
