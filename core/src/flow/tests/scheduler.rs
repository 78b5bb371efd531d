use super::*;
use crate::ErrorKind;
use crate::flow::Scheduler;

fn run(world: &World) -> Vec<String> {
    let scheduler = Scheduler::new(world.bus(), world.queue(), world.env());
    world.run(async |stop| scheduler.run(stop).await)
}

fn cancelled(order_id: &str) -> Message {
    Message::new(Subject::OrderCancelled, format!("{{\"id\":\"{order_id}\"}}").into_bytes())
}

#[test]
fn an_order_gets_a_timer_and_a_cancelled_one_loses_it() {
    let world =
        World::default().with_batch([cancelled("o1"), created("o2", at(5)), created("o1", at(-5))]);
    assert_eq!(
        run(&world),
        [
            "subscribe expiration-service",
            "schedule o2 5",
            "schedule o1 -5",
            "cancel o1",
            "ack 1",
            "ack 2",
            "ack 3",
        ]
    );
}

#[test]
fn only_the_culprit_of_a_batch_is_rejected() {
    let batch = (0..8).map(|n| created(&format!("o{n}"), NOW));
    let world = World::default().with_batch(batch).with(|world| world.poison = Some("o5"));
    let journal = run(&world);
    assert_eq!(journal.iter().filter(|line| line.starts_with("ack")).count(), 7);
    assert_eq!(
        journal.iter().filter(|line| line.starts_with("reject ")).collect::<Vec<_>>(),
        ["reject 6"]
    );
}

#[test]
fn a_message_without_id_or_time_is_rejected() {
    let poison = |json: &'static [u8]| Message::new(Subject::OrderCreated, json);
    let world = World::default().with_batch([
        poison(br#"{"id":"o1"}"#),
        poison(br#"{"expiresAt":"2026-11-22T10:00:00Z"}"#),
        poison(br#"{"id":"o1","expiresAt":"2026-11-22T10:00:00Z"}"#),
    ]);
    let journal = run(&world);
    assert_eq!(journal[1..5], ["schedule o1 1795341600000", "ack 3", "reject 1", "reject 2"]);
}

#[test]
fn no_fault_ends_the_loop_and_nothing_is_acked_unscheduled() {
    let world = World::default()
        .with_fault("subscribe", ErrorKind::Denied)
        .with_fault("receive", ErrorKind::Closed)
        .with_fault("schedule", ErrorKind::Unavailable)
        .with_fault("ack", ErrorKind::TimedOut)
        .with_batch([created("o1", NOW)])
        .with_batch([created("o1", NOW)])
        .with_batch([created("o1", NOW)]);
    assert_eq!(
        run(&world),
        [
            "subscribe fails: denied",
            "scheduler reports: denied",
            "subscribe expiration-service",
            "receive fails: closed",
            "scheduler reports: closed",
            "subscribe expiration-service",
            "schedule fails: unavailable",
            "release 1 for 400 ms",
            "scheduler reports: unavailable",
            "schedule o1 0",
            "ack fails: timed out",
            "scheduler reports: timed out",
            "subscribe expiration-service",
            "schedule o1 0",
            "ack 3",
        ]
    );
}

#[test]
fn stop_is_obeyed_in_a_back_off() {
    let world = World::default().with_fault("subscribe", ErrorKind::Unavailable);
    world.lock().is_stopped = true;
    assert_eq!(run(&world), Vec::<String>::new());
}

#[test]
fn an_order_gets_its_timer_whatever_else_is_in_it() {
    let json =
        br#"{"id":"o1","expiresAt":"1970-01-01T00:00:00Z","userId":7,"ticket":{"price":"20"}}"#;
    let world = World::default().with_batch([Message::new(Subject::OrderCreated, *json)]);
    assert_eq!(run(&world)[1..], ["schedule o1 0", "ack 1"]);
}
