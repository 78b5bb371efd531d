//! Clocks that are wrong, and clocks that are set while a timer is leased.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use expirer_backends::connect;
use expirer_conformance::{Harness, QueueHarness};
use expirer_core::{Clock, DelayQueue, Lease, LeaseOptions, OrderId, Release, Timer, Timestamp};

use crate::place::{Place, options};

const HOUR_MS: i64 = 3_600_000;
/// What differs because times are whole milliseconds.
const EARLY: Duration = Duration::from_millis(1);
/// How late a timer may be on a busy machine.
const LATE: Duration = Duration::from_secs(20);

/// The clock of a machine that is ahead of the others, or behind them, and may be set.
#[derive(Debug)]
pub(crate) struct Wrong {
    pub(crate) right: Arc<dyn Clock>,
    pub(crate) ahead_ms: Arc<AtomicI64>,
}

impl Wrong {
    fn ahead_ms(&self) -> i64 {
        self.ahead_ms.load(Ordering::SeqCst)
    }
}

#[async_trait]
impl Clock for Wrong {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.right.now().as_millis() + self.ahead_ms())
    }

    async fn sleep_until(&self, at: Timestamp) {
        let at = Timestamp::from_millis(at.as_millis() - self.ahead_ms());
        self.right.sleep_until(at).await;
    }
}

/// Leases the one timer there is.
async fn lease(queue: &dyn DelayQueue) -> Lease {
    let options = LeaseOptions::new(1).with_wait(LATE).with_duration(Duration::from_secs(60));
    queue.lease(options).await.expect("leases").pop().expect("a timer is visible")
}

pub(crate) fn a_wrong_clock_puts_off_by_as_much_as_a_right_one() {
    let place = Place::plain();
    place.block_on(async {
        let right = place.time().clock();
        for ahead_ms in [-HOUR_MS, HOUR_MS] {
            let wrong =
                Arc::new(Wrong { right: Arc::clone(right), ahead_ms: Arc::new(ahead_ms.into()) });
            let mut options = options();
            options.clock = Arc::<Wrong>::clone(&wrong);
            let queue = connect::queue(&place.url(), &options).await.expect("a queue").backend;
            let id = OrderId::new("o1").expect("an id");
            queue.schedule(&[Timer::new(id, right.now())]).await.expect("scheduled");
            let leased = lease(&*queue).await;
            let back = right.now() + Duration::from_secs(1);
            let at = wrong.now() + Duration::from_secs(1);
            queue.release(&[Release { receipt: leased.receipt, at }]).await.expect("released");
            let again = lease(&*queue).await;
            let now = right.now();
            assert!(now + EARLY >= back, "{:?} early, {ahead_ms} ms ahead", back.since(now));
            assert!(now <= back + LATE, "{:?} late, {ahead_ms} ms ahead", now.since(back));
            queue.ack(&[again.receipt]).await.expect("acked");
        }
    });
}

pub(crate) fn what_is_given_back_after_the_servers_clock_was_set_back_waits_for_its_due_time() {
    let place = Place::plain();
    place.block_on(async {
        let queue = place.queue().await.expect("a queue");
        let clock = place.time().clock();
        let id = OrderId::new("o1").expect("an id");
        queue.schedule(&[Timer::new(id, clock.now())]).await.expect("scheduled");
        let leased = lease(&*queue).await;
        // A clock that is set back leaves a lease on a timer whose due time is still to come.
        let held = "{expirer:q:0}:held";
        let due = clock.now() + Duration::from_millis(1500);
        let state = place.server.cli(&["HGET", held, "o1"]);
        let was = leased.timer.due.as_millis().to_string();
        let ahead = state.replace(&was, &due.as_millis().to_string());
        assert_ne!(state, ahead, "the state names the due time");
        place.server.cli(&["HSET", held, "o1", &ahead]);
        let back = Release { receipt: leased.receipt, at: clock.now() };
        queue.release(&[back]).await.expect("released");
        let again = lease(&*place.queue().await.expect("another worker")).await;
        assert_eq!(again.timer.due, due);
        let now = clock.now();
        assert!(now + EARLY >= due, "{:?} before it is due", due.since(now));
    });
}

pub(crate) fn a_lease_ends_although_the_servers_clock_was_set_back() {
    let place = Place::plain();
    place.block_on(async {
        let (queue, clock) = (place.queue().await.expect("a queue"), place.time().clock());
        let timer = |id: &str| Timer::new(OrderId::new(id).expect("an id"), clock.now());
        queue.schedule(&[timer("o1")]).await.expect("scheduled");
        let first = lease(&*queue).await;
        // A clock that is set back leaves the end of the lease where it was: an hour away.
        let end = |ahead: i64| (clock.now().as_millis() + ahead).to_string();
        place.server.cli(&["ZADD", "{expirer:q:0}:leased", &end(HOUR_MS), "o1"]);
        let again = lease(&*queue).await;
        assert_eq!((again.timer.clone(), again.attempt), (first.timer, 2));
        queue.ack(&[first.receipt]).await.expect("stale");
        assert_eq!(queue.stats().await.expect("stats").leased, 1);
        // A small step ends no lease: this one runs for a minute.
        place.server.cli(&["ZADD", "{expirer:q:0}:leased", &end(90_000), "o1"]);
        let none = queue.lease(LeaseOptions::new(1)).await.expect("an answer");
        assert_eq!(none, [] as [Lease; 0]);
        queue.ack(&[again.receipt]).await.expect("acked");
        assert_eq!(queue.stats().await.expect("stats").leased, 0);
    });
}
