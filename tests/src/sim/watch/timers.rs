//! The queue against the core's timer machine, effect by effect.

use std::collections::BTreeMap;

use expirer_core::timer::{TimerInput, TimerModel};
use expirer_core::{Lease, OrderId, Receipt, Release, Timer, Timestamp};

use super::Verdict;

/// What the queue holds if it does what it should.
#[derive(Debug, Default)]
pub(in crate::sim) struct Timers {
    model: TimerModel,
    /// Which lease a receipt stands for.
    leases: BTreeMap<Receipt, Leased>,
    tokens: u64,
    /// When, in truth, each was last scheduled.
    scheduled: BTreeMap<Timer, Timestamp>,
}

/// One lease.
#[derive(Clone, Debug)]
pub(super) struct Leased {
    pub(super) timer: Timer,
    /// When, in truth, it began.
    pub(super) at: Timestamp,
    token: u64,
}

impl Timers {
    /// `now` is by the queue's clock, `truly` is the time.
    pub(super) fn schedule(&mut self, timers: &[Timer], now: Timestamp, truly: Timestamp) {
        for timer in timers {
            self.model.apply(&timer.id, TimerInput::Schedule { due: timer.due }, now);
            self.scheduled.insert(timer.clone(), truly);
        }
    }

    /// When, in truth, a timer was last scheduled.
    pub(super) fn scheduled(&self, timer: &Timer) -> Option<Timestamp> {
        self.scheduled.get(timer).copied()
    }

    pub(super) fn cancel(&mut self, ids: &[OrderId], now: Timestamp) {
        for id in ids {
            self.model.apply(id, TimerInput::Cancel, now);
        }
    }

    /// What a lease brought must have been there: never early, never twice at once, in order. If
    /// it brought nothing, nothing may be due: nothing is left lying.
    pub(super) fn lease(
        &mut self,
        leases: &[Lease],
        until: Timestamp,
        now: Timestamp,
        truly: Timestamp,
    ) -> Verdict {
        if leases.is_empty() && self.model.next_visible().is_some_and(|at| at <= now) {
            return Err(format!("leased nothing and left {:?}, due by {now}", self.model));
        }
        if !leases.is_sorted_by_key(|lease| lease.timer.due) {
            return Err(format!("leased out of order: {leases:?}"));
        }
        leases.iter().try_for_each(|lease| self.lease_one(lease, until, now, truly))
    }

    fn lease_one(
        &mut self,
        Lease { timer, receipt, .. }: &Lease,
        until: Timestamp,
        now: Timestamp,
        at: Timestamp,
    ) -> Verdict {
        let known = self.model.get(&timer.id);
        if !known.is_some_and(|state| state.visible_at() <= now && state.due() == timer.due) {
            return Err(format!("leased {timer:?} at {now}, but it is {known:?}"));
        }
        self.tokens += 1;
        let token = self.tokens;
        self.model.apply(&timer.id, TimerInput::Lease { token, until }, now);
        self.leases.insert(*receipt, Leased { timer: timer.clone(), at, token });
        Ok(())
    }

    /// The leases that an ack has ended; stale receipts end none.
    pub(super) fn ack(&mut self, receipts: &[Receipt], now: Timestamp) -> Vec<Leased> {
        let mut ended = Vec::new();
        for receipt in receipts {
            let Some(leased) = self.leases.remove(receipt) else { continue };
            let (id, token) = (&leased.timer.id, leased.token);
            if self.model.get(id).is_some_and(|state| state.is_held_by(token, now)) {
                self.model.apply(id, TimerInput::Ack { token }, now);
                ended.push(leased);
            }
        }
        ended
    }

    pub(super) fn release(&mut self, releases: &[Release], now: Timestamp) {
        for Release { receipt, at } in releases {
            if let Some(Leased { timer, token, .. }) = self.leases.remove(receipt) {
                self.model.apply(&timer.id, TimerInput::Release { token, at: *at }, now);
            }
        }
    }

    /// How many timers there are.
    pub(in crate::sim) fn len(&self) -> usize {
        self.model.iter().count()
    }
}
