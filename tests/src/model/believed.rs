//! What a queue must and may hold: the core's model, and how sure it is.
//!
//! On virtual time there is hardly a doubt. Elsewhere a call happens at some moment between its
//! begin and its end, by a clock that is a little off, and a lease may or may not have run out by
//! then.

use std::collections::BTreeMap;
use std::time::Duration;

use expirer_core::timer::{TimerInput, TimerModel, TimerState};
use expirer_core::{OrderId, QueueStats, Timer, Timestamp};

/// When a call was under way, by the clock of the harness.
#[derive(Clone, Copy, Debug)]
pub(super) struct Span {
    pub(super) begin: Timestamp,
    pub(super) end: Timestamp,
}

#[derive(Debug)]
pub(super) struct Believed {
    model: TimerModel,
    doubts: BTreeMap<OrderId, Doubt>,
    /// What was cancelled or moved, and may fire all the same; `None` if nothing may.
    ghosts: Option<Vec<Timer>>,
    /// How much earlier than due a timer may seem to come.
    early: Duration,
    /// How far the queue's time may be from the begin or the end of a call.
    slack: Duration,
}

/// When a timer is visible, where the model is not sure of it.
#[derive(Clone, Copy, Debug)]
struct Doubt {
    from: Timestamp,
    by: Timestamp,
    may_be_gone: bool,
}

impl Doubt {
    const fn none(state: TimerState) -> Self {
        Self { from: state.visible_at(), by: state.visible_at(), may_be_gone: false }
    }

    const fn there(self) -> Self {
        Self { may_be_gone: false, ..self }
    }
}

/// Whether a batch gives a timer another due time, and then the one that it had.
fn moves_back(timers: &[Timer], id: &OrderId, due: Timestamp) -> bool {
    let mut dues = timers.iter().filter(|timer| timer.id == *id).map(|timer| timer.due);
    dues.clone().next_back() == Some(due) && dues.any(|other| other != due)
}

/// What becomes of a held timer.
#[derive(Clone, Copy, Debug)]
pub(super) enum Settle {
    Ack,
    Release(Timestamp),
}

impl Believed {
    pub(super) fn new(early: Duration, exact_cancel: bool) -> Self {
        Self {
            model: TimerModel::default(),
            doubts: BTreeMap::new(),
            ghosts: (!exact_cancel).then(Vec::new),
            early,
            slack: early * 2,
        }
    }

    /// Learns how long calls take.
    pub(super) fn note_call(&mut self, span: Span) {
        self.slack = self.slack.max(self.early * 2 + span.end.since(span.begin));
    }

    pub(super) const fn slack(&self) -> Duration {
        self.slack
    }

    pub(super) fn due(&self, id: &OrderId) -> Option<Timestamp> {
        self.model.get(id).map(TimerState::due)
    }

    pub(super) fn state(&self, id: &OrderId) -> Option<TimerState> {
        self.model.get(id)
    }

    pub(super) fn schedule(&mut self, timers: &[Timer], now: Timestamp) {
        for timer in timers {
            match self.known(&timer.id) {
                Some((due, doubt)) if moves_back(timers, &timer.id, due) => {
                    // The contract does not say whether a lease survives that.
                    self.doubts.insert(timer.id.clone(), Doubt { from: due, ..doubt.there() });
                    self.ghosts.iter_mut().for_each(|ghosts| ghosts.push(timer.clone()));
                }
                _ => self.schedule_one(timer, now),
            }
        }
    }

    fn schedule_one(&mut self, timer: &Timer, now: Timestamp) {
        if self.due(&timer.id).is_some_and(|due| due != timer.due) {
            self.replace(&timer.id);
        } else if let Some(doubt) = self.doubts.get_mut(&timer.id) {
            let from = if doubt.may_be_gone { timer.due } else { doubt.from };
            *doubt = Doubt { from, ..doubt.there() };
        }
        self.model.apply(&timer.id, TimerInput::Schedule { due: timer.due }, now);
    }

    /// When a timer is due, and what is known of when it is visible.
    fn known(&self, id: &OrderId) -> Option<(Timestamp, Doubt)> {
        let state = self.model.get(id)?;
        Some((state.due(), self.doubt(id, state)))
    }

    fn doubt(&self, id: &OrderId, state: TimerState) -> Doubt {
        self.doubts.get(id).copied().unwrap_or_else(|| Doubt::none(state))
    }

    pub(super) fn cancel(&mut self, id: &OrderId, now: Timestamp) {
        self.replace(id);
        self.model.apply(id, TimerInput::Cancel, now);
    }

    /// What was there before is no more, or a ghost.
    fn replace(&mut self, id: &OrderId) {
        self.doubts.remove(id);
        if let (Some(ghosts), Some(due)) = (&mut self.ghosts, self.model.get(id)) {
            ghosts.push(Timer::new(id.clone(), due.due()));
        }
    }

    /// A lease was handed out; says why it should not have been.
    pub(super) fn lease(
        &mut self,
        timer: &Timer,
        (token, duration): (u64, Duration),
        span: Span,
    ) -> Result<(), String> {
        if timer.due > span.end + self.early {
            return Err(format!("{timer:?} comes early, at {}", span.end));
        }
        let state = self.model.get(&timer.id);
        let fits = state.is_some_and(|state| {
            state.due() == timer.due && self.doubt(&timer.id, state).from <= span.end + self.slack
        });
        let Some(state) = state.filter(|_| fits) else {
            let is_ghost = self.ghosts.as_ref().is_some_and(|ghosts| ghosts.contains(timer));
            let wrong = format!("{timer:?} comes at {}, but stands at {state:?}", span.end);
            return if is_ghost { Ok(()) } else { Err(wrong) };
        };
        self.doubts.remove(&timer.id);
        let input = TimerInput::Lease { token, until: span.end + duration };
        self.model.apply(&timer.id, input, span.end.max(state.visible_at()));
        Ok(())
    }

    /// Whether this is the proof of a lease that certainly runs.
    pub(super) fn is_held(&self, id: &OrderId, token: u64, now: Timestamp) -> bool {
        let held = self.held_until(id, token);
        held.is_some_and(|until| until > now + self.slack) && !self.doubts.contains_key(id)
    }

    pub(super) fn settle(&mut self, id: &OrderId, token: u64, settle: Settle, span: Span) {
        let Some(until) = self.held_until(id, token) else { return };
        if self.is_held(id, token, span.end) {
            let input = match settle {
                Settle::Ack => TimerInput::Ack { token },
                Settle::Release(at) => TimerInput::Release { token, at },
            };
            self.model.apply(id, input, span.end);
        } else if until + self.slack > span.begin {
            self.doubt_settled(id, settle);
        }
    }

    /// It was settled, or the lease had run out already.
    fn doubt_settled(&mut self, id: &OrderId, settle: Settle) {
        let Some((due, old)) = self.known(id) else { return };
        let doubt = match settle {
            Settle::Ack => Doubt { may_be_gone: true, ..old },
            Settle::Release(at) => {
                let at = at.max(due);
                Doubt { from: old.from.min(at), by: old.by.max(at), ..old }
            }
        };
        self.doubts.insert(id.clone(), doubt);
    }

    fn held_until(&self, id: &OrderId, held: u64) -> Option<Timestamp> {
        match self.model.get(id)? {
            TimerState::Leased { token, until, .. } if token == held => Some(until),
            _ => None,
        }
    }

    /// The timers that are certainly there, and by when each is certainly visible.
    fn certain(&self) -> impl Iterator<Item = (&OrderId, Timestamp)> {
        let known = self.model.iter().map(|(id, state)| (id, self.doubt(id, state)));
        let certain = known.filter(|(_, doubt)| !doubt.may_be_gone);
        certain.map(|(id, doubt)| (id, doubt.by + self.slack))
    }

    /// The next timer that is certainly visible, and by when.
    pub(super) fn next(&self) -> Option<(&OrderId, Timestamp)> {
        self.certain().min_by_key(|(_, by)| *by)
    }

    /// The next time, after `now`, at which a timer becomes visible.
    pub(super) fn next_after(&self, now: Timestamp) -> Option<Timestamp> {
        self.model.iter().map(|(_, state)| state.visible_at()).filter(|at| *at > now).min()
    }

    /// Nothing becomes visible after this.
    pub(super) fn last(&self) -> Option<Timestamp> {
        let ghosts = self.ghosts.iter().flatten().map(|ghost| ghost.due);
        let timers = self.model.iter().map(|(id, state)| self.doubt(id, state).by + self.slack);
        timers.chain(ghosts).max()
    }

    pub(super) fn fits(&self, stats: QueueStats) -> bool {
        let ghosts = self.ghosts.as_ref().map_or(0, Vec::len);
        let (min, max) = (self.certain().count(), self.model.iter().count() + ghosts);
        (min as u64..=max as u64).contains(&(stats.pending + stats.leased))
    }
}
