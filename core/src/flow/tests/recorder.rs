use super::*;
use crate::ErrorKind;
use crate::flow::Recorder;

fn run(world: &World) -> Vec<String> {
    let recorder = Recorder::new(world.bus(), world.repo(), world.queue(), world.env());
    world.run(async |stop| recorder.run(stop).await)
}

#[test]
fn an_order_is_recorded_and_a_repeat_changes_nothing() {
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let message = created("o1", at(5)).with_header(crate::Headers::TRACEPARENT, trace);
    let world = World::default().with_batch([message.clone()]).with_batch([message]);
    assert_eq!(run(&world)[1..], ["commit o1 created owes 0", "ack 1", "ack 2"]);
    let row = world.lock().rows[&id("o1")].clone();
    let kept = row.state.order().and_then(|order| order.trace).map(|trace| trace.to_string());
    assert_eq!(kept.as_deref(), Some(trace));
}

#[test]
fn a_payment_completes_its_order_whose_timer_is_then_cancelled() {
    let world = World::default().with_batch([paid("o1", "p1"), created("o1", at(5))]);
    assert_eq!(
        run(&world)[1..],
        ["commit o1 complete owes 0", "cancel o1", "ack 1", "ack 2", "cancel o1"]
    );
}

#[test]
fn a_payment_is_acked_even_if_its_timer_cannot_be_cancelled() {
    let world = World::default()
        .with_row("o1", open(at(5)), vec![])
        .with_batch([paid("o1", "p1")])
        .with_fault("cancel", ErrorKind::Unavailable);
    assert_eq!(
        run(&world)[1..],
        [
            "commit o1 complete owes 0",
            "cancel fails: unavailable",
            "recorder reports: unavailable",
            "ack 1",
            "cancel o1",
        ]
    );
}

#[test]
fn the_timer_of_an_order_that_ended_is_cancelled_once_the_scheduler_has_come_to_it() {
    let world = World::default()
        .with_row("o1", order(Phase::Complete { payment: None }, NOW), vec![])
        .with(|world| world.worked_off = Some(Timestamp::MIN))
        .with_batch([created("o1", at(60_000))]);
    let recorder = Recorder::new(world.bus(), world.repo(), world.queue(), world.env());
    let behind = world.run(async |stop| recorder.run(stop).await);
    assert_eq!(behind[1..], ["cancel o1", "ack 1"], "the Scheduler is behind");
    world.lock().worked_off = Some(Timestamp::MAX);
    world.lock().is_stopped = false;
    assert_eq!(world.run(async |stop| recorder.run(stop).await)[1..], ["cancel o1"]);
    world.lock().is_stopped = false;
    assert_eq!(world.run(async |stop| recorder.run(stop).await)[1..], [""; 0], "and then no more");
}

#[test]
fn a_payment_for_a_cancelled_order_comes_out_as_payment_late() {
    let world = World::default()
        .with_row("o1", order(Phase::Cancelled, NOW), vec![])
        .with_batch([paid("o1", "p1")])
        .with_batch([paid("o1", "p1")]);
    assert_eq!(
        run(&world)[1..],
        [
            "commit o1 cancelled owes 1",
            "publish payment:late",
            "commit o1 cancelled owes 0",
            "ack 1",
            "ack 2",
        ]
    );
    let payload = br#"{"id":"p1","orderId":"o1","reason":"order cancelled"}"#;
    assert_eq!(&*world.lock().published[0].payload, payload);
}

#[test]
fn a_lost_race_is_decided_again() {
    let world = World::default()
        .with_row("o1", open(NOW), vec![])
        .with_batch([paid("o1", "p1")])
        .with(|world| world.rival = Some((id("o1"), order(Phase::Cancelled, NOW))));
    assert_eq!(
        run(&world)[1..],
        [
            "rival o1",
            "conflict o1",
            "commit o1 cancelled owes 1",
            "publish payment:late",
            "commit o1 cancelled owes 0",
            "ack 1",
        ]
    );
}

#[test]
fn an_order_without_a_ticket_is_rejected_and_its_batch_is_not() {
    let bare = br#"{"id":"o1","expiresAt":"2026-11-22T10:00:00Z"}"#;
    let world = World::default()
        .with_batch([Message::new(Subject::OrderCreated, *bare), created("o2", NOW)]);
    assert_eq!(
        run(&world)[1..],
        [
            "commit o2 created owes 0",
            "ack 2",
            "reject 1",
            "rejected: not a valid order:created: missing field `ticket`",
        ]
    );
}

#[test]
fn a_record_that_can_never_be_stored_is_rejected_alone() {
    let world = World::default()
        .with_batch((0..4).map(|n| created(&format!("o{n}"), NOW)))
        .with(|world| world.poison = Some("o1"));
    let journal = run(&world);
    assert_eq!(journal[4..8], ["ack 1", "ack 3", "ack 4", "reject 2"]);
}

#[test]
fn nothing_is_acked_uncommitted() {
    let world = World::default()
        .with_fault("commit", ErrorKind::TimedOut)
        .with_batch([created("o1", NOW)])
        .with_batch([created("o1", NOW)]);
    assert_eq!(
        run(&world)[1..],
        [
            "commit fails: timed out",
            "release 1 for 100 ms",
            "recorder reports: timed out",
            "commit o1 created owes 0",
            "ack 2",
        ]
    );
}

#[test]
fn our_own_announcement_that_comes_back_before_it_is_cleared_is_not_repeated() {
    let ticket = Some(crate::event::TicketRef { id: ticket().id });
    let cancelled = crate::event::OrderCancelled { id: id("o1"), version: 1, ticket };
    let owed = Event::OrderCancelled(cancelled);
    let world = World::default()
        .with_row("o1", order(Phase::Cancelled, NOW), vec![owed.clone()])
        .with_batch([owed.message()]);
    assert_eq!(run(&world)[1..], ["ack 1"]);
    assert_eq!(world.lock().rows[&id("o1")].owes, [owed], "not confirmed: still owed");
}

#[test]
fn a_row_that_cannot_be_read_holds_no_other_up() {
    let world = World::default()
        .with_batch((0..4).map(|n| paid(&format!("o{n}"), &format!("p{n}"))))
        .with(|world| world.corrupt = Some("o2"));
    let journal = run(&world);
    assert_eq!(
        journal[4..],
        ["ack 1", "ack 2", "ack 4", "release 3 for 100 ms", "recorder reports: corrupt",]
    );
}

#[test]
fn poison_that_the_dead_letters_do_not_take_is_given_back_and_holds_no_other_up() {
    let poison = |json: &'static [u8]| Message::new(Subject::PaymentCreated, json);
    let world = World::default()
        .with_batch([poison(b"{"), poison(b"[]"), paid("o1", "p1")])
        .with_batch([paid("o1", "p1")])
        .with(|world| world.poison = Some("EOF"));
    let journal = run(&world);
    assert_eq!(
        journal[1..],
        [
            "commit ahead owes 0".replace("ahead", "o1 ahead"),
            "ack 3".to_owned(),
            "reject 2".to_owned(),
            "recorder reports: invalid".to_owned(),
            journal[5].clone(),
            "release 1 for 5000 ms".to_owned(),
            "ack 4".to_owned(),
        ]
    );
    assert!(journal[5].starts_with("rejected: not a valid payment:created"), "{journal:?}");
}

#[test]
fn a_loop_is_ready_when_its_repository_answers_and_again_after_a_fault() {
    let world = World::default()
        .with_fault("probe", ErrorKind::Unavailable)
        .with_fault("commit", ErrorKind::Unavailable)
        .with_fault("probe", ErrorKind::Unavailable)
        .with_batch([created("o1", NOW)])
        .with_batch([created("o1", NOW)])
        .with(|world| world.journal_ready = true);
    assert_eq!(
        run(&world),
        [
            "subscribe orders-service",
            "probe fails: unavailable",
            "recorder reports: unavailable",
            "subscribe orders-service",
            "probe fails: unavailable",
            "recorder reports: unavailable",
            "subscribe orders-service",
            "recorder is ready",
            "commit fails: unavailable",
            "release 1 for 400 ms",
            "recorder reports: unavailable",
            "recorder is ready",
            "commit o1 created owes 0",
            "ack 2",
        ]
    );
}

#[test]
fn what_another_is_about_to_announce_is_left_to_it() {
    let ticket = Some(crate::event::TicketRef { id: ticket().id });
    let cancelled = crate::event::OrderCancelled { id: id("o1"), version: 1, ticket };
    let world = World::default()
        .with_row("o1", order(Phase::Cancelled, NOW), vec![Event::OrderCancelled(cancelled)])
        .with_fault("publish", ErrorKind::Unavailable)
        .with_batch([paid("o1", "p1")])
        .with_batch([paid("o1", "p1")])
        .with_batch([paid("o1", "p1")]);
    assert_eq!(
        run(&world)[1..],
        [
            "commit o1 cancelled owes 2",
            "publish fails: unavailable",
            "release 1 for 100 ms",
            "recorder reports: unavailable",
            // A repeat finishes what was cut off, and no more.
            "publish payment:late",
            "commit o1 cancelled owes 1",
            "ack 2",
            "ack 3",
        ]
    );
}
