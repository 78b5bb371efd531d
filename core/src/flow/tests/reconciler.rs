use futures_lite::future::block_on;

use super::*;
use crate::ErrorKind;
use crate::event::{OrderCancelled, TicketRef};
use crate::flow::{Pass, Reconciler};

fn reconciler(world: &World) -> Reconciler {
    Reconciler::new(world.bus(), world.repo(), world.queue(), world.env())
}

fn owed() -> Vec<Event> {
    let ticket = Some(TicketRef { id: ticket().id });
    vec![Event::OrderCancelled(OrderCancelled { id: id("o2"), version: 1, ticket })]
}

/// One open order past due, and one that was cancelled and never announced.
fn overdue() -> World {
    World::default()
        .with_row("o1", open(at(-60_000)), vec![])
        .with_row("o2", order(Phase::Cancelled, at(-60_000)), owed())
        .with(|world| {
            let rows = world.rows.values().cloned().collect();
            world.overdue.push_back(rows);
        })
}

#[test]
fn what_is_overdue_is_scheduled_again_and_what_is_owed_announced() {
    let world = overdue();
    let pass = block_on(reconciler(&world).pass()).expect("no fault");
    assert_eq!(pass, Pass { scheduled: 1, announced: 1 });
    assert_eq!(
        world.journal(),
        ["publish order:cancelled", "commit o2 cancelled owes 0", "schedule o1 -60000"]
    );
}

#[test]
fn an_open_order_that_owes_and_is_not_past_due_is_announced_and_gets_no_timer() {
    let world = World::default().with_row("o1", open(at(60_000)), owed()).with(|world| {
        let rows = world.rows.values().cloned().collect();
        world.overdue.push_back(rows);
    });
    let pass = block_on(reconciler(&world).pass()).expect("no fault");
    assert_eq!(pass, Pass { scheduled: 0, announced: 1 });
}

#[test]
fn no_fault_ends_the_loop() {
    let world = overdue()
        .with(|world| {
            let batch = world.overdue[0].clone();
            world.overdue.push_back(batch);
        })
        .with_fault("overdue", ErrorKind::Unavailable)
        .with_fault("schedule", ErrorKind::Unavailable)
        .with_fault("publish", ErrorKind::Unavailable);
    let reconciler = reconciler(&world);
    let journal = world.run(async |stop| reconciler.run(stop).await);
    let faults = journal.iter().filter(|line| line.starts_with("reconciler reports")).count();
    assert_eq!(faults, 2, "both of a batch are tried, and the first fault is reported");
    assert_eq!(journal[journal.len() - 2..], ["commit o2 cancelled owes 0", "schedule o1 -60000"]);
}

#[test]
fn an_order_that_cannot_be_scheduled_holds_no_announcement_up() {
    let world = overdue().with_fault("schedule", ErrorKind::Unavailable);
    block_on(reconciler(&world).pass()).expect_err("the queue is down");
    assert_eq!(world.lock().published.len(), 1);
}
