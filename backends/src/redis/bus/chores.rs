//! What a member does for its streams now and then: adopting what strangers left, and trimming.

use std::time::Duration;

use expirer_core::Timestamp;

use super::seat::TRIM_MAX;

/// How often at most, and how soon again where something is left to do.
const PERIOD: Duration = Duration::from_secs(60);
const PERIOD_MIN: Duration = Duration::from_secs(1);

/// When a member does what.
#[derive(Debug)]
pub(super) struct Chores {
    seats: Vec<Turns>,
}

#[derive(Clone, Debug)]
struct Turns {
    adopt: Turn,
    trim: Turn,
    /// Where the adoption goes on.
    adopt_from: String,
}

/// The time at which something was done, and whether it was done to the end.
#[derive(Clone, Copy, Debug)]
struct Turn {
    at: Timestamp,
    is_unfinished: bool,
}

/// The seats for which it is time.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Due {
    pub(super) adopt: Vec<usize>,
    pub(super) trim: Vec<usize>,
}

impl Turn {
    /// Whether it is time; then it counts as done.
    fn is_due(&mut self, now: Timestamp, period: Duration) -> bool {
        let period = if self.is_unfinished { PERIOD_MIN } else { period };
        let is_due = now.since(self.at) >= period || now < self.at;
        if is_due {
            *self = Self { at: now, is_unfinished: false };
        }
        is_due
    }
}

impl Chores {
    pub(super) fn new(seats: usize, now: Timestamp) -> Self {
        let turn = Turn { at: now, is_unfinished: false };
        let turns = Turns { adopt: turn, trim: turn, adopt_from: "-".to_owned() };
        Self { seats: vec![turns; seats] }
    }

    pub(super) fn due(&mut self, now: Timestamp, deadline: Duration, retain: Duration) -> Due {
        let mut due = Due::default();
        for (at, turns) in self.seats.iter_mut().enumerate() {
            if turns.adopt.is_due(now, deadline.clamp(PERIOD_MIN, PERIOD)) {
                due.adopt.push(at);
            }
            if turns.trim.is_due(now, retain.clamp(PERIOD_MIN, PERIOD)) {
                due.trim.push(at);
            }
        }
        due
    }

    pub(super) fn adopt_from(&self, seat: usize) -> String {
        self.seats[seat].adopt_from.clone()
    }

    pub(super) fn adopted(&mut self, seat: usize, next: String) {
        let turns = &mut self.seats[seat];
        turns.adopt.is_unfinished = next != "-";
        turns.adopt_from = next;
    }

    /// A stream is trimmed by whole nodes, so that a call may remove a little less than it could.
    pub(super) fn trimmed(&mut self, seat: usize, removed: u64) {
        self.seats[seat].trim.is_unfinished = removed >= TRIM_MAX / 2;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_millis(seconds * 1000)
    }

    #[test]
    fn each_has_its_period_and_goes_on_soon_where_something_is_left() {
        let (day, ten) = (Duration::from_secs(86_400), Duration::from_secs(10));
        let mut chores = Chores::new(1, at(0));
        let counts = |due: Due| (due.adopt.len(), due.trim.len());
        assert_eq!(counts(chores.due(at(9), ten, day)), (0, 0));
        assert_eq!(counts(chores.due(at(10), ten, day)), (1, 0));
        chores.adopted(0, "(5-1".to_owned());
        assert_eq!(counts(chores.due(at(11), ten, day)), (1, 0));
        assert_eq!(chores.adopt_from(0), "(5-1");
        chores.adopted(0, "-".to_owned());
        assert_eq!(counts(chores.due(at(20), ten, day)), (0, 0));
        assert_eq!(counts(chores.due(at(60), ten, day)), (1, 1));
        chores.trimmed(0, TRIM_MAX);
        assert_eq!(counts(chores.due(at(61), ten, day)), (0, 1));
        assert_eq!(counts(chores.due(at(5), ten, day)), (1, 1), "the clock was set back");
    }
}
