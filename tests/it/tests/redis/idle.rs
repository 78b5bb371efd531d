//! What waiting costs, and how a waiter hears of an earlier timer.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use expirer_backends::connect;
use expirer_conformance::{Harness, QueueHarness, Server};
use expirer_core::{Clock, DelayQueue, Lease, Timestamp};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

use crate::faults::{ids, number, timer, waiting};
use crate::place::{Place, options};

/// A clock whose sleeps end only if their time is past. It tells of each from when to when it is.
#[derive(Debug)]
struct Standing {
    right: Arc<dyn Clock>,
    sleeps: UnboundedSender<(Timestamp, Timestamp)>,
}

#[async_trait]
impl Clock for Standing {
    fn now(&self) -> Timestamp {
        self.right.now()
    }

    async fn sleep_until(&self, at: Timestamp) {
        let now = self.now();
        if at > now {
            // The test may have seen enough.
            self.sleeps.send((now, at)).ok();
            std::future::pending::<()>().await;
        }
    }
}

/// Nothing but the message can tell the waiter: no sleep ends for it.
pub(crate) fn a_waiter_hears_of_an_earlier_timer_and_sleeps_until_it_is_due() {
    let place = Place::plain();
    place.block_on(async {
        let (right, (sleeps, mut asleep)) = (place.time().clock(), unbounded_channel());
        let mut standing = options();
        standing.clock = Arc::new(Standing { right: Arc::clone(right), sleeps });
        let here = connect::queue(&place.url(), &standing).await.expect("a queue").backend;
        let there = place.queue().await.expect("another process");
        let worker = tokio::spawn(async move { here.lease(waiting(1)).await });
        // A second is how long it believes what it saw once it hears.
        let second = Duration::from_millis(900)..=Duration::from_secs(1);
        let mut sleep = async || asleep.recv().await.expect("the clock is there");
        let next_look = loop {
            let (from, to) = sleep().await;
            if second.contains(&to.since(from)) {
                break to;
            }
        };
        let due = next_look - Duration::from_millis(400);
        there.schedule(&[timer("near", due)]).await.expect("scheduled");
        let sleeps = async {
            // By how long its question took, it may be early, and then it asks again.
            while sleep().await.1 > due + Duration::from_millis(1) {}
            None
        };
        let fires = async { Some(worker.await.expect("it ends").expect("leases")) };
        if let Some(leases) = futures_lite::future::or(sleeps, fires).await {
            assert_eq!(ids(&leases), ["near"], "due already, on a machine this slow");
        }
    });
}

/// What workers who wait cost with so many shards, in script calls in five seconds.
async fn cost_of_waiting(place: &Place, shards: u16) -> u64 {
    let calls = || {
        let stats = place.server.cli(&["INFO", "commandstats"]);
        let line = stats.lines().find_map(|line| line.strip_prefix("cmdstat_evalsha:calls="));
        let calls = line.and_then(|rest| rest.split(',').next()?.parse::<u64>().ok());
        calls.expect("scripts were called")
    };
    let url = format!("{}?shards={shards}&prefix=s{shards}", place.url());
    let queue = connect::queue(&url, &options()).await.expect("a queue").backend;
    let far = place.now() + Duration::from_secs(3600);
    queue.schedule(&[timer("far", far)]).await.expect("scheduled");
    let worker = tokio::spawn(async move { queue.lease(waiting(256)).await });
    place.pause(Duration::from_secs(1)).await;
    let before = calls();
    place.pause(Duration::from_secs(5)).await;
    worker.abort();
    calls() - before
}

pub(crate) fn many_shards_cost_a_waiter_few_calls() {
    let place = Place::plain();
    place.block_on(async {
        // Looks are 1, 2 and 4 s apart: at most 5 or 6, 3 and 2 of them, and one at the layout.
        for (shards, most) in [(1, 7), (8, 3 * 8 + 1), (64, 2 * 64 + 1)] {
            let spent = cost_of_waiting(&place, shards).await;
            assert!(spent <= most, "{spent} script calls in 5 s with {shards} shards");
        }
    });
}

pub(crate) fn waiting_costs_a_few_commands_a_second_and_an_earlier_timer_is_in_time() {
    let place = Place::plain();
    place.block_on(async {
        let clock = place.time().clock();
        let (here, there) = (place.queue().await.expect("a"), place.queue().await.expect("b"));
        let far = clock.now() + Duration::from_secs(3600);
        there.schedule(&[timer("far", far)]).await.expect("scheduled");
        let begun = clock.now();
        let worker = tokio::spawn(waiter(Arc::clone(&here)));
        clock.sleep_until(begun + Duration::from_secs(2)).await;
        let before = number(&place.server, "total_commands_processed");
        clock.sleep_until(begun + Duration::from_secs(5)).await;
        let spent = number(&place.server, "total_commands_processed") - before;
        // Each look is a script and four commands within it, once a second.
        assert!(spent <= 3 * 12, "{spent} commands in 3 s");
        let due = clock.now() + Duration::from_millis(130);
        there.schedule(&[timer("near", due)]).await.expect("scheduled");
        let (leases, at) = worker.await.expect("it ends");
        assert_eq!(ids(&leases), ["near"]);
        let late = at.since(due);
        assert!(at >= due && late <= Duration::from_millis(400), "{late:?} late");
    });
}

async fn waiter(queue: Arc<dyn DelayQueue>) -> (Vec<Lease>, Timestamp) {
    let leases = queue.lease(waiting(1)).await.expect("leases");
    (leases, options().clock.now())
}

pub(crate) fn a_wake_up_that_was_lost_with_its_connection_costs_a_moment() {
    let place = Place::plain();
    place.block_on(async {
        let clock = place.time().clock();
        let queue = place.queue().await.expect("a queue");
        let worker = tokio::spawn(async move {
            loop {
                if let Ok(leases) = queue.lease(waiting(1)).await {
                    return leases;
                }
            }
        });
        clock.sleep_until(clock.now() + Duration::from_millis(300)).await;
        place.cut().await;
        let due = clock.now().as_millis().to_string();
        place.server.cli(&["ZADD", "{expirer:q:0}:due", &due, "o1"]);
        place.mend().await;
        assert_eq!(ids(&worker.await.expect("it ends")), ["o1"]);
    });
}
