//! The timer's state machine: scheduled → leased → gone.
//!
//! ```text
//!             schedule                 lease (visible_at ≤ now)
//!   (absent) ──────────▶ scheduled ───────────────────────────▶ leased ── ack ──▶ (absent)
//!                          ▲   ▲                                 │  │
//!                          │   └──── release, at its time ───────┘  │
//!                          └──────── the lease runs out ────────────┘
//! ```
//!
//! Cancel removes in any state; another due time replaces in any state. This machine is the
//! model that every [`DelayQueue`](crate::DelayQueue) is tested against.

use std::collections::BTreeMap;

use crate::{OrderId, Timestamp};

/// Something that is to happen at `due`: at most one per order.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timer {
    /// The order that it stands for.
    pub id: OrderId,
    /// When it is due.
    pub due: Timestamp,
}

impl Timer {
    /// A timer for `id`, due at `due`.
    #[must_use]
    pub const fn new(id: OrderId, due: Timestamp) -> Self {
        Self { id, due }
    }
}

/// Where one timer stands. An absent timer is `None`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimerState {
    /// It waits.
    Scheduled {
        /// The due time it was scheduled with.
        due: Timestamp,
        /// Nobody gets it before: the due time, or the time it was released to.
        visible_at: Timestamp,
        /// How many times it has been leased.
        attempts: u32,
    },
    /// Somebody holds it.
    Leased {
        /// The due time it was scheduled with.
        due: Timestamp,
        /// When the lease runs out.
        until: Timestamp,
        /// What tells this lease from any other.
        token: u64,
        /// How many times it has been leased, this time included.
        attempts: u32,
    },
}

/// What can happen to one timer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimerInput {
    /// It is (re)scheduled.
    Schedule {
        /// Its due time.
        due: Timestamp,
    },
    /// It is cancelled.
    Cancel,
    /// Somebody asks for it; nothing happens unless it is visible.
    Lease {
        /// A token that was never used before.
        token: u64,
        /// When the lease shall run out.
        until: Timestamp,
    },
    /// The holder of this token is done.
    Ack {
        /// The token of the lease.
        token: u64,
    },
    /// The holder of this token gives it back.
    Release {
        /// The token of the lease.
        token: u64,
        /// When it shall be visible again.
        at: Timestamp,
    },
}

impl TimerState {
    /// The due time it was scheduled with.
    #[must_use]
    pub const fn due(self) -> Timestamp {
        match self {
            Self::Scheduled { due, .. } | Self::Leased { due, .. } => due,
        }
    }

    /// From when on somebody can lease it: for a leased one, the end of the lease.
    #[must_use]
    pub const fn visible_at(self) -> Timestamp {
        match self {
            Self::Scheduled { visible_at, .. } => visible_at,
            Self::Leased { until, .. } => until,
        }
    }

    /// Whether `token` is the proof of a lease that runs at `now`.
    #[must_use]
    pub fn is_held_by(self, held_token: u64, now: Timestamp) -> bool {
        matches!(self, Self::Leased { token, until, .. } if token == held_token && now < until)
    }

    const fn scheduled(due: Timestamp) -> Self {
        Self::Scheduled { due, visible_at: due, attempts: 0 }
    }

    const fn attempts(self) -> u32 {
        match self {
            Self::Scheduled { attempts, .. } | Self::Leased { attempts, .. } => attempts,
        }
    }
}

/// What becomes of a timer. Total: every input is accepted in every state.
#[must_use]
pub fn apply(state: Option<TimerState>, input: TimerInput, now: Timestamp) -> Option<TimerState> {
    let Some(timer) = state else {
        return match input {
            TimerInput::Schedule { due } => Some(TimerState::scheduled(due)),
            _ => None,
        };
    };
    match input {
        TimerInput::Schedule { due } if due != timer.due() => Some(TimerState::scheduled(due)),
        TimerInput::Cancel => None,
        TimerInput::Lease { token, until } if timer.visible_at() <= now => {
            let (due, attempts) = (timer.due(), timer.attempts().saturating_add(1));
            // Not even a lease that ends in the past makes a timer visible before its due time.
            Some(TimerState::Leased { due, until: until.max(due), token, attempts })
        }
        TimerInput::Ack { token } if timer.is_held_by(token, now) => None,
        TimerInput::Release { token, at } if timer.is_held_by(token, now) => {
            // Never before the due time, even if the clock was set back in between.
            let visible_at = at.max(timer.due());
            let attempts = timer.attempts();
            Some(TimerState::Scheduled { due: timer.due(), visible_at, attempts })
        }
        _ => Some(timer),
    }
}

/// Many timers by the machine above, as plainly as can be: the model for tests of a queue.
///
/// ```
/// use expirer_core::timer::{TimerInput, TimerModel};
/// use expirer_core::{OrderId, Timestamp};
///
/// let id = OrderId::new("o1")?;
/// let now = Timestamp::EPOCH;
/// let mut model = TimerModel::default();
/// model.apply(&id, TimerInput::Schedule { due: now }, now);
/// assert_eq!(model.visible(now).len(), 1);
/// # Ok::<(), expirer_core::InvalidId>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TimerModel {
    timers: BTreeMap<OrderId, TimerState>,
}

impl TimerModel {
    /// Applies one input to one timer.
    pub fn apply(&mut self, id: &OrderId, input: TimerInput, now: Timestamp) {
        match apply(self.get(id), input, now) {
            Some(state) => self.timers.insert(id.clone(), state),
            None => self.timers.remove(id),
        };
    }

    /// One timer.
    #[must_use]
    pub fn get(&self, id: &OrderId) -> Option<TimerState> {
        self.timers.get(id).copied()
    }

    /// All timers.
    pub fn iter(&self) -> impl Iterator<Item = (&OrderId, TimerState)> {
        self.timers.iter().map(|(id, state)| (id, *state))
    }

    /// What can be leased at `now`, by due time, then id.
    #[must_use]
    pub fn visible(&self, now: Timestamp) -> Vec<Timer> {
        let mut visible: Vec<_> = self
            .iter()
            .filter(|(_, state)| state.visible_at() <= now)
            .map(|(id, state)| Timer::new(id.clone(), state.due()))
            .collect();
        visible.sort_by(|a, b| (a.due, &a.id).cmp(&(b.due, &b.id)));
        visible
    }

    /// When the next timer becomes visible.
    #[must_use]
    pub fn next_visible(&self) -> Option<Timestamp> {
        self.iter().map(|(_, state)| state.visible_at()).min()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_millis(millis)
    }

    fn input() -> impl Strategy<Value = TimerInput> {
        let time = (0..20_i64).prop_map(at);
        prop_oneof![
            time.clone().prop_map(|due| TimerInput::Schedule { due }),
            Just(TimerInput::Cancel),
            (0..4_u64, time.clone()).prop_map(|(token, until)| TimerInput::Lease { token, until }),
            (0..4_u64).prop_map(|token| TimerInput::Ack { token }),
            (0..4_u64, time).prop_map(|(token, at)| TimerInput::Release { token, at }),
        ]
    }

    fn run(inputs: &[(TimerInput, Timestamp)]) -> Option<TimerState> {
        inputs.iter().fold(None, |state, (input, now)| apply(state, *input, *now))
    }

    #[test]
    fn the_same_due_time_again_changes_nothing_a_lease_included() {
        let leased = run(&[
            (TimerInput::Schedule { due: at(5) }, at(0)),
            (TimerInput::Lease { token: 1, until: at(15) }, at(5)),
        ]);
        assert_eq!(apply(leased, TimerInput::Schedule { due: at(5) }, at(6)), leased);
        let moved = apply(leased, TimerInput::Schedule { due: at(9) }, at(6));
        assert_eq!(moved, Some(TimerState::scheduled(at(9))));
        assert_eq!(apply(moved, TimerInput::Ack { token: 1 }, at(7)), moved, "stale");
    }

    #[test]
    fn a_lease_that_ran_out_is_visible_and_its_receipt_stale() {
        let leased = run(&[
            (TimerInput::Schedule { due: at(5) }, at(0)),
            (TimerInput::Lease { token: 1, until: at(15) }, at(5)),
        ]);
        assert_eq!(apply(leased, TimerInput::Ack { token: 1 }, at(14)), None);
        assert_eq!(apply(leased, TimerInput::Ack { token: 1 }, at(15)), leased);
        let again = apply(leased, TimerInput::Lease { token: 2, until: at(25) }, at(15));
        assert!(again.is_some_and(|timer| timer.is_held_by(2, at(15)) && timer.attempts() == 2));
    }

    proptest! {
        #[test]
        fn nobody_gets_a_timer_early_or_while_another_holds_it(
            inputs in prop::collection::vec((input(), (0..20_i64).prop_map(at)), 0..30),
            (token, now) in (10..14_u64, (0..20_i64).prop_map(at)),
        ) {
            let before = run(&inputs);
            let after = apply(before, TimerInput::Lease { token, until: at(100) }, now);
            if let Some(TimerState::Leased { due, token: held, .. }) = after && held == token {
                prop_assert!(due <= now);
                let held_before = matches!(
                    before, Some(TimerState::Leased { until, .. }) if now < until);
                prop_assert!(!held_before);
            }
        }

        #[test]
        fn only_cancel_and_a_live_ack_remove(
            inputs in prop::collection::vec((input(), (0..20_i64).prop_map(at)), 0..30),
            input in input(),
            now in (0..20_i64).prop_map(at),
        ) {
            let before = run(&inputs);
            if let (Some(timer), None) = (before, apply(before, input, now)) {
                let fair = match input {
                    TimerInput::Cancel => true,
                    TimerInput::Ack { token } => timer.is_held_by(token, now),
                    _ => false,
                };
                prop_assert!(fair, "{:?} removed {:?} at {:?}", input, timer, now);
            }
        }
    }
}
