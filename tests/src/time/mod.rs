//! Virtual time: it stands still while anybody has something to do, and jumps when nobody has.

mod clock;

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Wake, Waker};

use expirer_core::Timestamp;

use crate::lock;

pub use self::clock::VirtualClock;

/// Time that a test moves.
///
/// Any number of [`clocks`](Self::clock) show it, each as far off as it was set; handles share it.
///
/// ```
/// use std::time::Duration;
///
/// use expirer_conformance::time::VirtualTime;
/// use expirer_core::Clock;
///
/// let time = VirtualTime::default();
/// let (begun, clock) = (time.now(), time.clock());
/// time.block_on(clock.sleep_until(begun + Duration::from_secs(3600)));
/// assert_eq!(time.now(), begun + Duration::from_secs(3600));
/// ```
#[derive(Clone, Debug)]
pub struct VirtualTime(Arc<Mutex<Shared>>);

#[derive(Debug)]
struct Shared {
    now: Timestamp,
    /// Who sleeps until when, by which clock.
    sleepers: BTreeMap<(Timestamp, u64), (u64, Waker)>,
    next_key: u64,
}

impl Default for VirtualTime {
    /// Begins on 22 November 2026, 10:00 UTC.
    fn default() -> Self {
        Self::new(Timestamp::from_millis(1_795_341_600_000))
    }
}

impl VirtualTime {
    /// Begins at `start`.
    #[must_use]
    pub fn new(start: Timestamp) -> Self {
        Self(Arc::new(Mutex::new(Shared { now: start, sleepers: BTreeMap::new(), next_key: 0 })))
    }

    /// The time, as a clock shows it that is right.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.shared().now
    }

    /// Another clock that shows this time.
    #[must_use]
    pub fn clock(&self) -> Arc<VirtualClock> {
        let id = self.shared().key();
        Arc::new(VirtualClock::new(self.clone(), id))
    }

    /// Goes on to when the next sleeper wakes, at most to `end`, and wakes it. `false` if nobody
    /// sleeps: then it goes to `end`.
    pub fn advance(&self, end: Timestamp) -> bool {
        let (woken, had_sleepers) = self.shared().advance(end);
        // Not under the lock: a waker may own a task, and a task that is dropped its sleeps.
        woken.into_iter().for_each(Waker::wake);
        had_sleepers
    }

    /// Runs a future to its end; while it waits, time goes on.
    ///
    /// # Panics
    /// If it waits and nobody sleeps: nothing would ever wake it.
    pub fn block_on<T>(&self, future: impl Future<Output = T>) -> T {
        let woken = Arc::new(Woken(AtomicBool::new(true)));
        let waker = Waker::from(Arc::clone(&woken));
        let mut future = pin!(future);
        loop {
            if woken.0.swap(false, Ordering::SeqCst) {
                if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker))
                {
                    return output;
                }
            } else {
                assert!(self.advance(Timestamp::MAX), "it waits, and nothing will ever wake it");
            }
        }
    }

    fn shared(&self) -> MutexGuard<'_, Shared> {
        lock(&self.0)
    }
}

impl Shared {
    /// Who is to be woken now, and whether anybody slept.
    fn advance(&mut self, end: Timestamp) -> (Vec<Waker>, bool) {
        let next = self.sleepers.first_key_value().map(|((at, _), _)| *at);
        self.now = self.now.max(next.unwrap_or(end).min(end));
        let mut woken = Vec::new();
        while let Some(sleeper) = self.sleepers.first_entry()
            && sleeper.key().0 <= self.now
        {
            woken.push(sleeper.remove().1);
        }
        (woken, next.is_some())
    }

    /// Who sleeps by a clock that was set.
    fn take_sleepers_of(&mut self, clock: u64) -> Vec<Waker> {
        let mut woken = Vec::new();
        self.sleepers.retain(|_, (of, waker)| {
            if *of == clock {
                woken.push(waker.clone());
            }
            *of != clock
        });
        woken
    }

    const fn key(&mut self) -> u64 {
        self.next_key += 1;
        self.next_key
    }
}

struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;
    use std::time::Duration;

    use expirer_core::Clock;
    use futures_lite::future::{or, zip};

    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    #[test]
    fn sleepers_wake_in_the_order_of_their_times() {
        let time = VirtualTime::default();
        let (begun, clock) = (time.now(), time.clock());
        let sleep = async |hours: u32| {
            clock.sleep_until(begun + HOUR * hours).await;
            time.now()
        };
        let woken = time.block_on(zip(sleep(2), sleep(1)));
        assert_eq!(woken, (begun + HOUR * 2, begun + HOUR));
    }

    #[test]
    fn a_sleep_that_is_dropped_leaves_nothing_that_time_stops_for() {
        let time = VirtualTime::default();
        let (begun, clock) = (time.now(), time.clock());
        time.block_on(or(clock.sleep_until(begun + HOUR), clock.sleep_until(begun + HOUR * 2)));
        assert!(time.shared().sleepers.is_empty());
        assert_eq!(time.now(), begun + HOUR);
    }

    #[test]
    fn a_clock_that_is_set_wakes_who_sleeps_by_it_and_nobody_else() {
        let time = VirtualTime::default();
        let (begun, [ahead, right]) = (time.now(), [time.clock(), time.clock()]);
        let set = async {
            right.sleep_until(begun + HOUR).await;
            ahead.set_ahead(3_600_000);
        };
        let sleep = async {
            ahead.sleep_until(begun + HOUR * 2).await;
            time.now()
        };
        let (woken, ()) = time.block_on(zip(sleep, set));
        assert_eq!((woken, ahead.now(), right.now()), (begun + HOUR, begun + HOUR * 2, woken));
    }

    #[test]
    fn a_clock_that_is_set_back_ends_a_sleep_early() {
        let time = VirtualTime::default();
        let (begun, clock) = (time.now(), time.clock());
        let set = async { clock.set_ahead(-1000) };
        time.block_on(zip(clock.sleep_until(begun + HOUR), set));
        assert_eq!(time.now(), begun);
        assert_eq!(clock.latest(), begun, "what it showed a moment ago");
    }

    #[test]
    #[should_panic(expected = "nothing will ever wake it")]
    fn waiting_for_nothing_is_no_hang() {
        VirtualTime::default().block_on(pending::<()>());
    }
}
