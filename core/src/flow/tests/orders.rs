use futures_lite::future::block_on;

use super::*;
use crate::flow::{Orders, OrdersError};
use crate::order::{Draft, Effect, Input, Refused};
use crate::{ErrorKind, UserId};

fn orders(world: &World) -> Orders {
    Orders::new(world.bus(), world.repo(), world.queue(), world.env())
}

fn create() -> Input {
    let (user_id, expires_at) = (UserId::new("u1").unwrap(), at(5));
    Input::Create(Draft {
        user_id,
        ticket: ticket(),
        expires_at,
        expires_relative: false,
        trace: None,
    })
}

#[test]
fn a_new_order_is_committed_and_announced_before_the_answer() {
    let world = World::default();
    let (effect, state) = block_on(orders(&world).apply(&id("o1"), create())).expect("created");
    assert_eq!((effect, state), (Effect::Opened, world.lock().rows[&id("o1")].state.clone()));
    assert_eq!(
        world.journal(),
        ["commit o1 created owes 1", "publish order:created", "commit o1 created owes 0",]
    );
}

#[test]
fn the_same_request_again_finishes_what_a_fault_left_undone() {
    let world = World::default().with_fault("publish", ErrorKind::Unavailable);
    let orders = orders(&world);
    let error = block_on(orders.apply(&id("o1"), create())).expect_err("not announced");
    assert!(matches!(error, OrdersError::Failed(error) if error.kind() == ErrorKind::Unavailable));
    let (effect, _) = block_on(orders.apply(&id("o1"), create())).expect("announced");
    assert_eq!(effect, Effect::Nothing);
    assert!(world.lock().rows[&id("o1")].owes.is_empty());
}

#[test]
fn completing_cancels_the_timer_and_a_refusal_says_why() {
    let world = World::default().with_row("o1", open(at(5)), vec![]);
    let orders = orders(&world);
    let complete = Input::Complete { payment: None };
    block_on(orders.apply(&id("o1"), complete)).expect("open");
    assert_eq!(world.journal(), ["commit o1 complete owes 0", "cancel o1"]);
    for (order_id, refused) in [("o1", Refused::Complete), ("o2", Refused::Unknown)] {
        let error = block_on(orders.apply(&id(order_id), Input::Cancel)).expect_err("refused");
        assert!(matches!(error, OrdersError::Refused(why) if why == refused));
    }
    assert_eq!(block_on(orders.load(&id("o2"))).expect("no fault"), None);
}

#[test]
fn nobody_hears_of_the_end_of_an_order_before_its_beginning() {
    let world = World::default().with_fault("publish", ErrorKind::Unavailable);
    let orders = orders(&world);
    block_on(orders.apply(&id("o1"), create())).expect_err("not announced");
    block_on(orders.apply(&id("o1"), Input::Cancel)).expect("open");
    let subjects: Vec<Subject> =
        world.lock().published.iter().map(|message| message.subject.clone()).collect();
    assert_eq!(subjects, [Subject::OrderCreated, Subject::OrderCancelled]);
    assert!(world.lock().rows[&id("o1")].owes.is_empty());
}
