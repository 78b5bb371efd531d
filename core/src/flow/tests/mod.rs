//! Each loop with mocks of its backends, which write down what is asked of them.

mod canceller;
mod expirer;
mod orders;
mod reconciler;
mod recorder;
mod scheduler;
mod spawn;
pub(crate) mod world;

use world::World;

use crate::event::{Event, OpenStatus, OrderCreated, PaymentCreated, Ticket};
use crate::order::{Order, Phase, State};
use crate::{Message, OrderId, PaymentId, Subject, TicketId, Timestamp};

/// The time at which every test begins.
const NOW: Timestamp = Timestamp::EPOCH;

fn id(text: &str) -> OrderId {
    OrderId::new(text).unwrap()
}

fn at(millis: i64) -> Timestamp {
    Timestamp::from_millis(millis)
}

fn ticket() -> Ticket {
    Ticket { id: TicketId::new("t1").unwrap(), price: None }
}

/// A known order that expires at a time.
fn order(phase: Phase, expires_at: Timestamp) -> State {
    let (user_id, late, trace) = (None, Default::default(), None);
    State::Order(Order { version: 0, phase, user_id, expires_at, ticket: ticket(), late, trace })
}

fn open(expires_at: Timestamp) -> State {
    order(Phase::Open(OpenStatus::Created), expires_at)
}

fn created(order_id: &str, expires_at: Timestamp) -> Message {
    Event::OrderCreated(OrderCreated {
        id: id(order_id),
        version: 0,
        status: OpenStatus::Created,
        user_id: None,
        expires_at,
        ticket: Some(ticket()),
    })
    .message()
}

fn paid(order_id: &str, payment: &str) -> Message {
    let id = PaymentId::new(payment).unwrap();
    Event::PaymentCreated(PaymentCreated { id, order_id: self::id(order_id) }).message()
}

/// `expiration:complete`, with the due time that fired.
fn expired(order_id: &str, fired: Option<Timestamp>) -> Message {
    let fired = fired.map(|at| format!(",\"expiresAt\":\"{at}\"")).unwrap_or_default();
    let json = format!("{{\"orderId\":\"{order_id}\"{fired}}}");
    Message::new(Subject::ExpirationComplete, json.into_bytes())
}
