//! Timers that a broker handed over a little early, kept here until their millisecond.
//!
//! A broker's own delay is coarse: it stores the timer and hands it over somewhat before it is
//! due, and here it waits, not yet acknowledged, in the core's wheel. Durable coarse, local fine.
//! The lease starts when a timer is given out. At most [`HELD_MAX`] timers are held; whoever
//! feeds this asks [`wanted`](Hold::wanted) how many it may take from the broker, which is none
//! while nobody leases, so that nothing is held back from another process that does.
//!
//! Nothing here knows a broker: it is told what arrived, and tells what to do with it by the
//! handle that came with it.

mod held;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use event_listener::Event;
use expirer_core::{Clock, LeaseOptions, OrderId, QueueStats, Receipt, Timestamp};
use futures_lite::future;

use self::held::{Ask, Held};

pub(crate) use self::held::{Arrival, Leased};

/// The most timers that are held, leased ones included.
pub(crate) const HELD_MAX: usize = 16_384;
/// The most that are asked of the broker at once, and the most that may be due and wait here:
/// what is due beyond that is left to others.
const WANTED_MAX: usize = 1024;
/// Who has not leased for so long does not want anything.
const IDLE: Duration = Duration::from_secs(1);

/// Timers that are here, though not ours: each is known to its broker by a `T`.
pub(crate) struct Hold<T> {
    clock: Arc<dyn Clock>,
    state: Mutex<State<T>>,
    /// Something is visible sooner than who waits for a timer thinks.
    sooner: Event,
    /// Who feeds this should look again.
    look: Event,
}

struct State<T> {
    held: Held<T>,
    callers: usize,
    /// When somebody last wanted a timer.
    wanted: Timestamp,
    is_closed: bool,
}

impl<T: Clone> Hold<T> {
    /// Holds nothing. The broker leaves a timer with us for `keep` after it arrived, or was last
    /// [prolonged](Self::prolonged): it should wait somewhat longer than that.
    pub(crate) fn new(clock: Arc<dyn Clock>, seed: u64, keep: Duration) -> Self {
        let held = Held::new(seed, keep);
        let state = State { held, callers: 0, wanted: Timestamp::MIN, is_closed: false };
        Self { clock, state: Mutex::new(state), sooner: Event::new(), look: Event::new() }
    }

    /// Takes in what arrived; gives the handle that is of no use any more, if there is one: the
    /// timer has changed since.
    pub(crate) fn take_in(&self, arrival: Arrival<T>) -> Option<T> {
        let (useless, is_sooner) = self.with(|state, now| {
            let before = state.held.next_visible();
            let useless = state.held.insert(now, arrival);
            let next = state.held.next_visible();
            (useless, next.is_some_and(|at| at <= now || before.is_none_or(|old| at < old)))
        });
        if is_sooner {
            self.sooner.notify(usize::MAX);
        }
        useless
    }

    /// Leases what is visible here, as [`DelayQueue::lease`](expirer_core::DelayQueue::lease).
    pub(crate) async fn lease(&self, options: &LeaseOptions) -> Vec<Leased<T>> {
        let _caller = Caller::enter(self);
        let mut deadline = self.clock.now() + options.wait;
        loop {
            let heard = self.sooner.listen();
            let (leased, now, next) = self.with(|state, now| {
                let ask = Ask { now, max: options.max, duration: options.duration };
                (state.held.lease(ask), now, state.held.next_visible())
            });
            if !leased.is_empty() {
                // There may be room now.
                self.look.notify(usize::MAX);
                return leased;
            }
            if next.is_some_and(|at| at <= now) {
                // The wheel is still at work on what may be due.
                future::yield_now().await;
                continue;
            }
            if now >= deadline {
                return leased;
            }
            // So that a clock that is set back does not prolong the wait.
            deadline = deadline.min(now + options.wait);
            let wake_at = next.map_or(deadline, |at| at.min(deadline));
            future::or(heard, self.clock.sleep_until(wake_at)).await;
        }
    }

    /// The leases that these receipts prove; stale and unknown ones are left out.
    pub(crate) fn find(&self, receipts: impl IntoIterator<Item = Receipt>) -> Vec<Leased<T>> {
        self.with(|state, now| {
            receipts.into_iter().filter_map(|receipt| state.held.find(now, receipt)).collect()
        })
    }

    /// Forgets leased timers that are done.
    pub(crate) fn settle(&self, receipts: impl IntoIterator<Item = Receipt>) {
        self.with(|state, _| receipts.into_iter().for_each(|receipt| state.held.settle(receipt)));
        self.look.notify(usize::MAX);
    }

    /// Takes leases back that were not handed on: the timers are visible at once.
    pub(crate) fn put_back(&self, receipts: &[Receipt]) {
        self.with(|state, now| state.held.put_back(now, receipts));
        self.sooner.notify(usize::MAX);
    }

    /// Forgets timers that were cancelled or moved, leased ones included: those that are here in
    /// an older version than this.
    pub(crate) fn remove_older<'a>(&self, ids: impl IntoIterator<Item = (&'a OrderId, u64)>) {
        self.with(|state, _| {
            ids.into_iter().for_each(|(id, version)| state.held.remove_older(id, version));
        });
        self.look.notify(usize::MAX);
    }

    /// How many timers the broker may hand over now.
    pub(crate) fn wanted(&self) -> usize {
        self.with(|state, now| {
            let is_due = state.held.next_visible().is_some_and(|at| at <= now);
            let has_backlog = is_due && state.held.waiting() >= WANTED_MAX;
            let room = HELD_MAX.saturating_sub(state.held.len()).min(WANTED_MAX);
            if state.is_idle(now) || has_backlog { 0 } else { room }
        })
    }

    /// Whether nobody has leased for a while: then what is held is better [handed
    /// back](Self::hand_back).
    pub(crate) fn is_idle(&self) -> bool {
        self.with(|state, now| state.is_idle(now))
    }

    /// Takes out what nobody has leased, to be given back to the broker.
    pub(crate) fn hand_back(&self) -> Vec<T> {
        self.with(|state, now| state.held.hand_back(now))
    }

    /// Forgets what the broker may have given to somebody else by now, and says how many that
    /// were; then gives id, version and handle of what it has to hear of again.
    pub(crate) fn to_prolong(&self) -> (usize, Vec<(OrderId, u64, T)>) {
        self.with(|state, now| (state.held.forget_lost(now), state.held.to_prolong(now)))
    }

    /// The broker was told at `told` that these are still held.
    pub(crate) fn prolonged<'a>(
        &self,
        told: Timestamp,
        held: impl IntoIterator<Item = (&'a OrderId, u64)>,
    ) {
        self.with(|state, _| {
            held.into_iter().for_each(|(id, version)| state.held.prolonged(id, version, told));
        });
    }

    /// What waits here, and what is leased from here.
    pub(crate) fn stats(&self) -> QueueStats {
        self.with(|state, now| state.held.stats(now))
    }

    /// Nothing will be leased from here any more.
    pub(crate) fn close(&self) {
        self.with(|state, _| state.is_closed = true);
        self.look.notify(usize::MAX);
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.with(|state, _| state.is_closed)
    }

    /// Returns once it is closed.
    pub(crate) async fn closed(&self) {
        loop {
            let heard = self.look.listen();
            if self.is_closed() {
                return;
            }
            heard.await;
        }
    }

    /// Returns when what is [wanted](Self::wanted) may have changed, at the latest after `wait`.
    pub(crate) async fn changed(&self, wait: Duration) {
        let heard = self.look.listen();
        if self.wanted() == 0 && !self.is_closed() {
            future::or(heard, self.clock.sleep_until(self.clock.now() + wait)).await;
        }
    }

    /// Acts under the lock, with the time read under it.
    fn with<R>(&self, act: impl FnOnce(&mut State<T>, Timestamp) -> R) -> R {
        let mut state = self.lock();
        let now = self.clock.now();
        // So that a clock that is set back makes nobody seem to want something for long.
        state.wanted = state.wanted.min(now);
        act(&mut state, now)
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> State<T> {
    fn is_idle(&self, now: Timestamp) -> bool {
        self.is_closed || (self.callers == 0 && self.wanted + IDLE <= now)
    }
}

impl<T> fmt::Debug for Hold<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hold").finish_non_exhaustive()
    }
}

/// Somebody who wants a timer, for as long as this is there.
struct Caller<'a, T: Clone>(&'a Hold<T>);

impl<'a, T: Clone> Caller<'a, T> {
    fn enter(hold: &'a Hold<T>) -> Self {
        let was_idle = hold.with(|state, now| {
            let was_idle = state.is_idle(now);
            state.callers += 1;
            was_idle
        });
        if was_idle {
            hold.look.notify(usize::MAX);
        }
        Self(hold)
    }
}

impl<T: Clone> Drop for Caller<'_, T> {
    fn drop(&mut self) {
        self.0.with(|state, now| {
            state.callers -= 1;
            state.wanted = now;
        });
    }
}
