//! Leases, and what must have come with them.

use std::time::Duration;

use expirer_core::{Lease, LeaseOptions, Timestamp, queue};
use futures_lite::future;

use super::believed::Span;
use super::driver::{Driver, Held, PAUSE};
use super::step::Ask;

/// More leases in a row than it can take to get everything, or to wait for it.
const ROUNDS_MAX: usize = 10_000;

impl Driver<'_> {
    /// Leases until there is no more, or as many as asked for came at once; gives how many came.
    pub(super) async fn lease_all(&mut self, ask: Ask) -> Result<usize, String> {
        let max = ask.max.max(1);
        let (mut taken, mut looked_at) = self.lease(ask).await?;
        let mut total = taken;
        let deadline = self.now() + self.late();
        for _ in 0..ROUNDS_MAX {
            let missing = if taken == 0 { self.missing(looked_at) } else { None };
            match missing {
                _ if taken == max => return Ok(total),
                None if taken == 0 => return Ok(total),
                Some(missing) if self.now() >= deadline => return Err(missing),
                Some(_) => self.wait_until(self.now() + PAUSE).await,
                None => {}
            }
            (taken, looked_at) = self.lease(Ask { wait: Duration::ZERO, ..ask }).await?;
            total += taken;
        }
        Err(format!("there is no end to what comes: {total} leases"))
    }

    /// Leases once; gives how many came, and when the last look at the queue was at the earliest.
    async fn lease(&mut self, ask: Ask) -> Result<(usize, Timestamp), String> {
        let begin = self.now();
        let expected = self.answer_by(begin, ask.wait);
        let leases = self.queue().lease(options(ask)).await.map_err(|error| error.to_string())?;
        let span = Span { begin, end: self.now() };
        if ask.wait.is_zero() {
            self.believed.note_call(span);
        } else if span.end > expected {
            return Err(format!("the answer was due at {expected} and came at {}", span.end));
        }
        self.take(&leases, ask, span)?;
        let just_before = span.end - Duration::from_millis(1);
        Ok((leases.len(), if ask.wait.is_zero() { begin } else { begin.max(just_before) }))
    }

    /// When a lease that waits must have been answered.
    fn answer_by(&self, begin: Timestamp, wait: Duration) -> Timestamp {
        let next = self.believed.next().map(|(_, by)| (by + self.lag()).max(self.hazy_until));
        next.map_or(begin + wait, |next| next.clamp(begin, begin + wait)) + self.late()
    }

    fn take(&mut self, leases: &[Lease], ask: Ask, span: Span) -> Result<(), String> {
        if leases.len() > ask.max.max(1) {
            return Err(format!("at most {} were asked for, {} came", ask.max, leases.len()));
        }
        if !leases.is_sorted_by_key(|lease| lease.timer.due) {
            return Err(format!("not by due time: {leases:?}"));
        }
        for Lease { timer, receipt, .. } in leases {
            let duration = ask.duration.min(queue::LEASE_MAX);
            self.believed.lease(timer, (self.held.len() as u64, duration), span)?;
            let (handle, id) = (self.turn, timer.id.clone());
            self.held.push(Held { handle, id, receipt: *receipt });
        }
        Ok(())
    }

    /// What must have come by `now`, and has not.
    fn missing(&self, now: Timestamp) -> Option<String> {
        let (id, by) = self.believed.next()?;
        let is_missing = by + self.lag() <= now && self.hazy_until <= now;
        let state = self.believed.state(id);
        is_missing.then(|| format!("{id:?} does not come by {now}; it stands at {state:?}"))
    }

    pub(super) async fn drop_lease(&mut self, ask: Ask) -> Result<(), String> {
        let begin = self.now();
        let queue = self.queue();
        let polled = future::poll_once(queue.lease(options(ask))).await;
        let span = Span { begin, end: self.now() };
        match polled {
            Some(leases) => self.take(&leases.map_err(|error| error.to_string())?, ask, span),
            None => {
                let held = ask.wait + ask.duration + self.late() + self.lag();
                self.hazy_until = self.hazy_until.max(span.end + held + self.believed.slack());
                Ok(())
            }
        }
    }
}

fn options(ask: Ask) -> LeaseOptions {
    LeaseOptions::new(ask.max).with_wait(ask.wait).with_duration(ask.duration)
}
