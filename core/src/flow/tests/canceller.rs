use std::time::Duration;

use super::*;
use crate::ErrorKind;
use crate::flow::{Canceller, UNKNOWN_MAX};

fn run(world: &World) -> Vec<String> {
    let canceller = Canceller::new(world.bus(), world.repo(), world.queue(), world.env());
    world.run(async |stop| canceller.run(stop).await)
}

/// One order past due, and its `expiration:complete`.
fn due() -> World {
    World::default().with_row("o1", open(NOW), vec![]).with_batch([expired("o1", Some(NOW))])
}

#[test]
fn the_orders_status_becomes_cancelled() {
    let world = due();
    run(&world);
    let row = world.lock().rows[&id("o1")].clone();
    let order = row.state.order().expect("an order");
    assert_eq!((order.phase.as_str(), order.version), ("cancelled", 1));
    assert!(row.owes.is_empty(), "what was owed is announced");
}

#[test]
fn an_order_cancelled_event_is_published() {
    let world = due();
    run(&world);
    let published = &world.lock().published;
    assert_eq!(published.len(), 1);
    assert_eq!(published[0].subject, Subject::OrderCancelled);
    assert_eq!(&*published[0].payload, br#"{"id":"o1","version":1,"ticket":{"id":"t1"}}"#);
    assert_eq!(
        published[0].id.as_ref().map(crate::MessageId::as_str),
        Some("order:cancelled:o1:1")
    );
}

#[test]
fn the_message_is_acked() {
    // Last of all: a crash between any two steps finds what is left to do in the row.
    let journal = run(&due());
    assert_eq!(
        journal,
        [
            "subscribe orders-service",
            "commit o1 cancelled owes 1",
            "publish order:cancelled",
            "commit o1 cancelled owes 0",
            "ack 1",
        ]
    );
}

#[test]
fn a_completed_order_is_acked_and_left_alone() {
    let complete = order(Phase::Complete { payment: None }, NOW);
    let world = World::default()
        .with_row("o1", complete.clone(), vec![])
        .with_batch([expired("o1", Some(NOW))]);
    assert_eq!(run(&world), ["subscribe orders-service", "ack 1"]);
    assert_eq!(world.lock().rows[&id("o1")].state, complete);
    assert!(world.lock().published.is_empty());
}

#[test]
fn a_payment_that_wins_the_race_is_never_cancelled() {
    let complete = order(Phase::Complete { payment: None }, NOW);
    let world = due().with(|world| world.rival = Some((id("o1"), complete)));
    assert_eq!(run(&world)[1..], ["rival o1", "conflict o1", "ack 1"]);
    assert!(world.lock().published.is_empty());
}

#[test]
fn what_a_crash_left_owed_is_announced_the_same_to_the_byte_and_not_twice() {
    let world =
        due().with_batch([expired("o1", Some(NOW))]).with_fault("publish", ErrorKind::Unavailable);
    let journal = run(&world);
    assert_eq!(
        journal,
        [
            "subscribe orders-service",
            "commit o1 cancelled owes 1",
            "publish fails: unavailable",
            "release 1 for 100 ms",
            "canceller reports: unavailable",
            "publish order:cancelled",
            "commit o1 cancelled owes 0",
            "ack 2",
        ]
    );
    assert_eq!(world.lock().rows[&id("o1")].state.order().map(|order| order.version), Some(1));
}

#[test]
fn an_announcement_whose_clearing_is_lost_is_repeated_identically() {
    let world = due().with_batch([expired("o1", Some(NOW))]).with(|world| {
        world.fail_clearing = true;
    });
    let journal = run(&world);
    assert_eq!(
        journal[1..],
        [
            "commit o1 cancelled owes 1",
            "publish order:cancelled",
            "commit fails: unavailable",
            "release 1 for 100 ms",
            "canceller reports: unavailable",
            "publish order:cancelled",
            "commit o1 cancelled owes 0",
            "ack 2",
        ]
    );
    let published = &world.lock().published;
    assert_eq!(published[0], published[1]);
}

#[test]
fn an_unknown_order_is_retried_and_then_dead_lettered() {
    let batches = UNKNOWN_MAX as usize;
    let world =
        (0..batches).fold(World::default(), |world, _| world.with_batch([expired("o1", None)]));
    let journal = run(&world);
    let waits: Vec<&str> = journal.iter().filter_map(|line| line.split(" for ").nth(1)).collect();
    assert_eq!(
        waits,
        [
            "100 ms", "200 ms", "400 ms", "800 ms", "1600 ms", "3200 ms", "5000 ms", "5000 ms",
            "5000 ms"
        ]
    );
    assert_eq!(
        journal[journal.len() - 2..],
        ["reject 10", "rejected: the repository did not know order o1, 10 times",]
    );
}

#[test]
fn a_repository_that_does_not_answer_is_no_unknown_order() {
    let world = (0..20).fold(World::default(), |world, _| {
        world.with_batch([expired("o1", None)]).with_fault("load", ErrorKind::Unavailable)
    });
    assert!(run(&world).iter().all(|line| !line.starts_with("reject")));
}

#[test]
fn an_expiry_by_the_orders_own_time_that_comes_early_is_given_back() {
    for (due, after) in [(700, 700), (60_000, 10_000)] {
        let world = World::default()
            .with_row("o1", open(at(due)), vec![])
            .with_batch([expired("o1", Some(at(due)))]);
        assert_eq!(run(&world)[1..], [format!("release 1 for {after} ms")]);
    }
}

#[test]
fn a_stale_timer_is_replaced_by_one_at_the_orders_own_time() {
    for fired in [None, Some(NOW)] {
        let world = World::default()
            .with_row("o1", open(at(60_000)), vec![])
            .with_batch([expired("o1", fired)]);
        assert_eq!(run(&world)[1..], ["schedule o1 60000", "ack 1"]);
    }
}

#[test]
fn an_order_waits_for_payments_that_were_stored_in_time_and_are_unread() {
    let world = World::default()
        .with_row("o1", open(at(10)), vec![])
        .with(|world| (world.now, world.worked_off) = (at(20), Some(at(9))));
    let world = (0..3).fold(world, |world, _| world.with_batch([expired("o1", Some(at(10)))]));
    assert_eq!(
        run(&world)[1..],
        ["release 1 for 100 ms", "release 2 for 200 ms", "release 3 for 400 ms",]
    );
}

#[test]
fn the_payment_wait_is_bounded() {
    let world = World::default()
        .with_row("o1", open(NOW), vec![])
        .with(|world| world.worked_off = Some(Timestamp::MIN))
        .with_batch([expired("o1", Some(NOW))])
        .with_batch([expired("o1", Some(NOW))]);
    let canceller = Canceller::new(world.bus(), world.repo(), world.queue(), world.env());
    let wait = Duration::from_secs(30);
    world.run(async |stop| {
        let batches = std::mem::take(&mut world.lock().deliveries);
        for (batch, now) in batches.into_iter().zip([NOW, NOW + wait]) {
            let verdicts = crate::flow::consume::Handler::handle(&canceller, &batch).await;
            let cancels = matches!(verdicts[0], crate::flow::consume::Verdict::Ack);
            assert_eq!(cancels, now > NOW);
            world.lock().now = NOW + wait;
        }
        drop(stop);
    });
    assert_eq!(world.lock().published.len(), 1);
}

#[test]
fn nothing_is_cancelled_while_the_watermark_is_unknown() {
    let world = due().with_fault("progress", ErrorKind::Unavailable);
    let canceller = Canceller::new(world.bus(), world.repo(), world.queue(), world.env());
    let batch = world.lock().deliveries[0].clone();
    let handled = crate::flow::consume::Handler::handle(&canceller, &batch);
    let verdicts = futures_lite::future::block_on(handled);
    assert!(matches!(verdicts[0], crate::flow::consume::Verdict::Failed(_)), "{verdicts:?}");
    assert_eq!(world.journal(), ["progress fails: unavailable"]);
}

#[test]
fn poison_is_rejected_and_the_rest_of_the_batch_is_not() {
    let poison = Message::new(Subject::ExpirationComplete, *b"{");
    let world = World::default().with_row("o1", open(NOW), vec![]).with_batch([
        poison,
        expired("o1", Some(NOW)),
        expired("o1", Some(NOW)),
    ]);
    let journal = run(&world);
    assert_eq!(journal[4..7], ["ack 2", "ack 3", "reject 1"]);
    assert!(journal[7].starts_with("rejected: not a valid expiration:complete: "));
    assert_eq!(world.lock().published.len(), 1, "the same order twice in a batch");
}

#[test]
fn copies_of_a_message_are_not_answers() {
    let copies = || (0..UNKNOWN_MAX).map(|_| expired("o1", None));
    let world = World::default().with_batch(copies()).with_batch(copies());
    let journal = run(&world);
    assert!(journal[1..11].iter().all(|line| line.ends_with(" for 100 ms")), "{journal:?}");
    assert!(journal[11..].iter().all(|line| line.ends_with(" for 200 ms")), "{journal:?}");
}

/// What a Canceller does at `now` with the expiry of `o1`.
async fn handled_at(
    world: &World,
    canceller: &Canceller,
    now: Timestamp,
) -> crate::flow::consume::Verdict {
    let world = world.clone().with_batch([expired("o1", Some(now))]);
    world.lock().now = now;
    let batch = world.lock().deliveries.pop_front().expect("one batch");
    crate::flow::consume::Handler::handle(canceller, &batch).await.remove(0)
}

#[test]
fn a_moved_order_waits_for_its_payments_anew() {
    let world = World::default()
        .with_row("o1", open(NOW), vec![])
        .with(|world| world.worked_off = Some(Timestamp::MIN));
    let canceller = Canceller::new(world.bus(), world.repo(), world.queue(), world.env());
    let handle = async |now: Timestamp| handled_at(&world, &canceller, now).await;
    futures_lite::future::block_on(async {
        handle(NOW).await;
        let later = at(20_000);
        world.clone().with_row("o1", open(at(40_000)), vec![]);
        handle(later).await;
        let verdict = handle(at(40_000)).await;
        assert!(matches!(verdict, crate::flow::consume::Verdict::Again { .. }), "{verdict:?}");
    });
    assert!(world.lock().published.is_empty());
}

#[test]
fn a_wait_that_began_before_a_move_is_not_the_wait_of_the_moved_order() {
    let world = World::default()
        .with_row("o1", open(NOW), vec![])
        .with(|world| world.worked_off = Some(Timestamp::MIN));
    let canceller = Canceller::new(world.bus(), world.repo(), world.queue(), world.env());
    let handle = async |now: Timestamp| handled_at(&world, &canceller, now).await;
    futures_lite::future::block_on(async {
        handle(NOW).await;
        // Another replica is told that it is not yet time; this one hears of it again only then.
        world.clone().with_row("o1", open(at(40_000)), vec![]);
        let waits = handle(at(41_000)).await;
        assert!(matches!(waits, crate::flow::consume::Verdict::Again { .. }), "{waits:?}");
        let ends = handle(at(70_000)).await;
        assert!(matches!(ends, crate::flow::consume::Verdict::Ack), "{ends:?}");
    });
    assert_eq!(world.lock().published.len(), 1);
}

#[test]
fn what_is_published_is_cleared_and_not_repeated_when_the_record_changes_meanwhile() {
    let world = due().with(|world| {
        // A payment comes in between publishing and clearing.
        world.rival_at_clearing = Some((id("o1"), order(Phase::Cancelled, NOW)));
    });
    assert_eq!(
        run(&world)[1..],
        [
            "commit o1 cancelled owes 1",
            "publish order:cancelled",
            "rival o1",
            "conflict o1",
            "commit o1 cancelled owes 0",
            "ack 1",
        ]
    );
}
