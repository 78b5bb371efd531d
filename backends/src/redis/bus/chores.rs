//! What a member does for its streams now and then: adopting what strangers left, and trimming.

use std::time::Duration;

use expirer_core::{Error, ErrorKind, Result, Timestamp};
use redis::FromRedisValue;

use super::member::Member;
use super::seat::TRIM_MAX;
use crate::redis::error::unreadable;
use crate::redis::script::Call;

/// How often at most, and how soon again where something is left to do.
const PERIOD: Duration = Duration::from_secs(60);
const PERIOD_MIN: Duration = Duration::from_secs(1);

/// When a member does what.
#[derive(Debug)]
pub(super) struct Chores {
    seats: Vec<Turns>,
    /// What failed, until a look that finds nothing says so.
    unreported: Option<Error>,
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
struct Due {
    adopt: Vec<usize>,
    trim: Vec<usize>,
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
        Self { seats: vec![turns; seats], unreported: None }
    }

    fn due(&mut self, now: Timestamp, deadline: Duration, retain: Duration) -> Due {
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

    fn adopt_from(&self, seat: usize) -> String {
        self.seats[seat].adopt_from.clone()
    }

    fn adopted(&mut self, seat: usize, next: String) {
        let turns = &mut self.seats[seat];
        turns.adopt.is_unfinished = next != "-";
        turns.adopt_from = next;
    }

    /// A stream is trimmed by whole nodes, so that a call may remove a little less than it could.
    fn trimmed(&mut self, seat: usize, removed: u64) {
        self.seats[seat].trim.is_unfinished = removed >= TRIM_MAX / 2;
    }

    /// Keeps what somebody has to mend; what passes by itself, the looks meet, too.
    fn failed(&mut self, error: Error) {
        if !matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::TimedOut) {
            self.unreported = Some(error);
        }
    }

    /// What failed and was not told before.
    pub(super) fn unreported(&mut self) -> Option<Error> {
        self.unreported.take()
    }
}

impl Member {
    /// Adopts and trims, where it is time; what fails is tried the next time.
    pub(super) async fn do_chores(&self) {
        let due = self.chores().due(self.shared.clock.now(), self.ack_deadline, self.shared.retain);
        for at in due.adopt {
            let from = self.chores().adopt_from(at);
            let call = self.seats[at].adopt(self.ack_deadline, &from);
            match self.chore("adopt", at, call).await {
                Ok(next) => self.chores().adopted(at, next),
                Err(error) => self.chores().failed(error),
            }
        }
        for at in due.trim {
            let call = self.seats[at].trim(self.shared.retain);
            match self.chore("trim", at, call).await {
                Ok(removed) => self.chores().trimmed(at, removed),
                Err(error) => self.chores().failed(error),
            }
        }
    }

    async fn chore<T: FromRedisValue>(
        &self,
        op: &'static str,
        seat: usize,
        call: Call,
    ) -> Result<T> {
        let mut answers = self.run(op, vec![(&self.seats[seat], call)]).await;
        let answer = answers.pop().unwrap_or_else(|| Err(unreadable(op, "no answer")))?;
        redis::from_redis_value(answer).map_err(|error| unreadable(op, error))
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

    #[test]
    fn what_somebody_has_to_mend_is_told_once() {
        let mut chores = Chores::new(1, at(0));
        let error = |kind| Error::new(kind, "redis", "trim", "why");
        chores.failed(error(ErrorKind::Unavailable));
        chores.failed(error(ErrorKind::TimedOut));
        assert_eq!(chores.unreported().map(|error| error.kind()), None);
        chores.failed(error(ErrorKind::Denied));
        assert_eq!(chores.unreported().map(|error| error.kind()), Some(ErrorKind::Denied));
        assert_eq!(chores.unreported().map(|error| error.kind()), None);
    }
}
