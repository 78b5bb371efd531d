//! The queue against the core's timer machine, effect by effect.

use std::collections::BTreeMap;

use expirer_core::timer::{TimerInput, TimerModel};
use expirer_core::{Lease, OrderId, Receipt, Release, Timer, Timestamp};

use super::Verdict;

/// What the queue holds if it does what it should.
#[derive(Debug, Default)]
pub(in crate::sim) struct Timers {
    model: TimerModel,
    /// Which lease a receipt stands for, by a token of our own.
    leases: BTreeMap<Receipt, (OrderId, u64)>,
    tokens: u64,
}

impl Timers {
    pub(super) fn schedule(&mut self, timers: &[Timer], now: Timestamp) {
        for Timer { id, due } in timers {
            self.model.apply(id, TimerInput::Schedule { due: *due }, now);
        }
    }

    pub(super) fn cancel(&mut self, ids: &[OrderId], now: Timestamp) {
        for id in ids {
            self.model.apply(id, TimerInput::Cancel, now);
        }
    }

    /// What a lease brought must have been there, and what it left must not be: never early, never
    /// twice at once, never left lying.
    pub(super) fn lease(
        &mut self,
        leases: &[Lease],
        max: usize,
        until: Timestamp,
        now: Timestamp,
    ) -> Verdict {
        let visible = self.model.visible(now);
        if let Some(lease) = leases.iter().find(|lease| !visible.contains(&lease.timer)) {
            let (id, due) = (&lease.timer.id, lease.timer.due);
            let known = self.model.get(id);
            return Err(format!("leased {id}, due {due}, at {now}, but it is {known:?}"));
        }
        if leases.len() < max.min(visible.len()) {
            let left = visible.len() - leases.len();
            return Err(format!("leased {} timers and left {left} that are due", leases.len()));
        }
        for Lease { timer, receipt, .. } in leases {
            self.tokens += 1;
            let token = self.tokens;
            self.model.apply(&timer.id, TimerInput::Lease { token, until }, now);
            self.leases.insert(*receipt, (timer.id.clone(), token));
        }
        Ok(())
    }

    pub(super) fn ack(&mut self, receipts: &[Receipt], now: Timestamp) {
        for receipt in receipts {
            if let Some((id, token)) = self.leases.remove(receipt) {
                self.model.apply(&id, TimerInput::Ack { token }, now);
            }
        }
    }

    pub(super) fn release(&mut self, releases: &[Release], now: Timestamp) {
        for Release { receipt, at } in releases {
            if let Some((id, token)) = self.leases.remove(receipt) {
                self.model.apply(&id, TimerInput::Release { token, at: *at }, now);
            }
        }
    }

    /// How many timers there are.
    pub(in crate::sim) fn len(&self) -> usize {
        self.model.iter().count()
    }
}
