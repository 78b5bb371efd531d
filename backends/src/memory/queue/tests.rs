//! The waiting and waking around the wheel; the machine itself is tested in the core.

use expirer_core::{Receipt, Release};

use super::*;
use crate::memory::testing::{START, VirtualClock, now_or_never, poll, without_waiting};

const SECOND: Duration = Duration::from_secs(1);

fn queue() -> (Arc<VirtualClock>, MemoryQueue) {
    let clock = Arc::new(VirtualClock::new());
    (Arc::clone(&clock), MemoryQueue::new(clock, 7))
}

fn timer(id: &str, after: Duration) -> Timer {
    Timer::new(OrderId::new(id).expect("is an id"), START + after)
}

fn schedule(queue: &MemoryQueue, id: &str, after: Duration) {
    now_or_never(queue.schedule(&[timer(id, after)])).expect("schedules");
}

fn ids(leases: &[Lease]) -> Vec<&str> {
    leases.iter().map(|lease| lease.timer.id.as_str()).collect()
}

fn wait(seconds: u32) -> LeaseOptions {
    LeaseOptions::new(10).with_wait(SECOND * seconds)
}

#[test]
fn a_timer_is_leased_at_its_very_millisecond() {
    let (clock, queue) = queue();
    schedule(&queue, "o1", SECOND);
    let mut waiting = queue.lease(wait(60));
    clock.set(START + SECOND - Duration::from_millis(1));
    assert!(poll(waiting.as_mut()).is_none());
    clock.set(START + SECOND);
    let leases = without_waiting(waiting).expect("leases");
    assert_eq!((ids(&leases), leases[0].attempt), (vec!["o1"], 1));
}

#[test]
fn an_earlier_timer_wakes_every_waiter() {
    let (clock, queue) = queue();
    schedule(&queue, "late", SECOND * 50);
    let (mut leaves, mut stays) = (queue.lease(wait(60)), queue.lease(wait(60)));
    assert!(poll(leaves.as_mut()).is_none() && poll(stays.as_mut()).is_none());
    schedule(&queue, "soon", SECOND);
    assert!(poll(leaves.as_mut()).is_none() && poll(stays.as_mut()).is_none());
    clock.set(START + SECOND);
    drop(leaves);
    assert_eq!(ids(&without_waiting(stays).expect("leases")), ["soon"]);
}

#[test]
fn a_timer_that_is_due_wakes_at_once() {
    let (_, queue) = queue();
    let mut waiting = queue.lease(wait(60));
    assert!(poll(waiting.as_mut()).is_none());
    schedule(&queue, "past", Duration::ZERO);
    let leases = poll(waiting.as_mut()).expect("is woken").expect("leases");
    assert_eq!(ids(&leases), ["past"]);
}

#[test]
fn a_release_wakes() {
    let (_, queue) = queue();
    schedule(&queue, "o1", Duration::ZERO);
    let held = now_or_never(queue.lease(LeaseOptions::new(1))).expect("leases");
    let mut waiting = queue.lease(wait(60));
    assert!(poll(waiting.as_mut()).is_none());
    let release = Release { receipt: held[0].receipt, at: START };
    now_or_never(queue.release(&[release])).expect("releases");
    let again = poll(waiting.as_mut()).expect("is woken").expect("leases");
    assert_eq!((ids(&again), again[0].attempt), (vec!["o1"], 2));
}

#[test]
fn gives_up_at_the_deadline() {
    let (clock, queue) = queue();
    schedule(&queue, "o1", SECOND * 6);
    let mut waiting = queue.lease(wait(5));
    assert!(poll(waiting.as_mut()).is_none());
    clock.set(START + SECOND * 5);
    assert!(poll(waiting.as_mut()).expect("is over").expect("leases").is_empty());
}

#[test]
fn a_lease_runs_out_unless_it_is_acked() {
    let (clock, queue) = queue();
    schedule(&queue, "acked", Duration::ZERO);
    schedule(&queue, "kept", Duration::ZERO);
    let options = LeaseOptions::new(2).with_duration(SECOND);
    let held = now_or_never(queue.lease(options.clone())).expect("leases");
    assert_eq!(ids(&held), ["acked", "kept"]);
    let receipts = [held[0].receipt, Receipt::new(u64::MAX, u64::MAX)];
    now_or_never(queue.ack(&receipts)).expect("acks");
    assert_eq!(now_or_never(queue.stats()).expect("counts").leased, 1);
    clock.advance(SECOND);
    let again = now_or_never(queue.lease(options)).expect("leases");
    assert_eq!((ids(&again), again[0].attempt), (vec!["kept"], 2));
}

#[test]
fn a_lease_of_nothing_is_one_of_a_millisecond() {
    let (_, queue) = queue();
    schedule(&queue, "o1", Duration::ZERO);
    let options = LeaseOptions::new(1).with_duration(Duration::ZERO);
    assert_eq!(now_or_never(queue.lease(options.clone())).expect("leases").len(), 1);
    assert_eq!(now_or_never(queue.lease(options)).expect("leases").len(), 0);
}

#[test]
fn what_is_cancelled_never_fires() {
    let (clock, queue) = queue();
    schedule(&queue, "o1", SECOND);
    let unknown = OrderId::new("unknown").expect("is an id");
    let ids = [OrderId::new("o1").expect("is an id"), unknown];
    now_or_never(queue.cancel(&ids)).expect("cancels");
    clock.advance(SECOND * 2);
    assert!(now_or_never(queue.lease(LeaseOptions::new(1))).expect("leases").is_empty());
    assert_eq!(now_or_never(queue.stats()).expect("counts"), QueueStats::default());
}

#[test]
fn a_crowd_due_far_ahead_comes_out_in_bounded_batches() {
    let (clock, queue) = queue();
    let after = SECOND * 100_000;
    let timers: Vec<_> = (0..20_000).map(|id: u32| timer(&id.to_string(), after)).collect();
    now_or_never(queue.schedule(&timers)).expect("schedules");
    clock.advance(after);
    let mut leased = 0;
    while leased < timers.len() {
        let leases = without_waiting(queue.lease(LeaseOptions::new(256)));
        let leases = leases.expect("leases");
        assert!((1..=256).contains(&leases.len()));
        leased += leases.len();
    }
}

#[test]
fn says_what_it_can_do() {
    let capabilities = queue().1.capabilities();
    assert_eq!((capabilities.backend, capabilities.durable), ("memory", false));
    assert!(capabilities.exact_cancel && capabilities.fenced);
    assert_eq!((capabilities.precision.as_millis(), capabilities.horizon), (1, None));
}

#[test]
fn a_clock_that_is_set_back_neither_ends_nor_prolongs_a_wait() {
    let (clock, queue) = queue();
    let mut waiting = queue.lease(wait(5));
    assert!(poll(waiting.as_mut()).is_none());
    clock.set(START - SECOND * 3600);
    assert!(poll(waiting.as_mut()).is_none());
    clock.advance(SECOND * 5);
    assert_eq!(poll(waiting.as_mut()).expect("is over").expect("leases"), []);
}
