//! The order's state machine: one total function, [`apply`].
//!
//! ```text
//!                     ┌────────┐  Paid, Cancelled ahead of Created
//!        ┌────────────│ absent │──────────────────────────┐
//!        │ Created    └────────┘                          ▼
//!        ▼                                            ┌───────┐
//!    ┌──────┐  Paid            ┌──────────┐  Created  │ ahead │
//!    │ open │─────────────────▶│ complete │◀──────────│       │
//!    │      │                  └──────────┘           │       │
//!    │      │  Cancel, Expire  ┌───────────┐ Created  │       │
//!    │      │─────────────────▶│ cancelled │◀─────────│       │
//!    └──────┘                  └───────────┘          └───────┘
//! ```
//!
//! A queue only says that it may be time; this decides. Of pay, cancel and expire racing, the
//! first to be committed wins, and the losers are told. Time and everything else from outside
//! comes in as an argument.

use serde::{Deserialize, Serialize};

use crate::event::{
    Event, LateReason, OpenStatus, OrderCancelled, OrderCreated, PaymentLate, Ticket, TicketRef,
    VERSION_MAX,
};
use crate::{OrderId, PaymentId, Timestamp, TraceParent, UserId};

/// How many payments that did not count an order remembers, so that a redelivery of one is not
/// announced again. Beyond this the oldest is forgotten.
pub const LATE_PAYMENTS_MAX: usize = 16;

/// What is known of an order. An unknown one is `None`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum State {
    /// Something was heard of an order before its `order:created`.
    Ahead(Ahead),
    /// The order.
    Order(Order),
}

impl State {
    /// The order, unless only something ahead of it is known.
    #[must_use]
    pub const fn order(&self) -> Option<&Order> {
        match self {
            Self::Order(order) => Some(order),
            Self::Ahead(_) => None,
        }
    }
}

/// What was heard of an order before its `order:created`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Ahead {
    /// The first payment, unless the order is cancelled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payment: Option<PaymentId>,
    /// The version that a cancellation gave it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cancelled: Option<u64>,
    /// Payments that do not count.
    #[serde(default, skip_serializing_if = "LatePayments::is_empty")]
    pub late: LatePayments,
}

/// An order.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Order {
    /// Grows by one with every change of ours, up to [`VERSION_MAX`]; taken over from
    /// `order:created`.
    pub version: u64,
    /// Where it stands.
    pub phase: Phase,
    /// Who placed it, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_id: Option<UserId>,
    /// When it expires if it is still open.
    pub expires_at: Timestamp,
    /// What it reserves; a cancelled order keeps it.
    pub ticket: Ticket,
    /// Payments that do not count.
    #[serde(default, skip_serializing_if = "LatePayments::is_empty")]
    pub late: LatePayments,
    /// The trace that the order began in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace: Option<TraceParent>,
}

/// Where an order stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Phase {
    /// It can still be paid, be cancelled, or expire.
    Open(OpenStatus),
    /// It is paid.
    Complete {
        /// The payment that counts; `None` if it was completed without naming one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        payment: Option<PaymentId>,
    },
    /// It expired or was cancelled.
    Cancelled,
}

impl Phase {
    /// The status as it is written on the wire.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Open(OpenStatus::Created) => "created",
            Self::Open(OpenStatus::AwaitingPayment) => "awaiting:payment",
            Self::Complete { .. } => "complete",
            Self::Cancelled => "cancelled",
        }
    }

    /// Whether the order can still expire.
    #[must_use]
    pub const fn is_open(&self) -> bool {
        matches!(self, Self::Open(_))
    }
}

/// The payments that did not count, oldest first, at most [`LATE_PAYMENTS_MAX`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LatePayments(Vec<PaymentId>);

impl LatePayments {
    /// Whether there was none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Notes a payment; `false` if it was noted before.
    fn note(&mut self, payment: &PaymentId) -> bool {
        if self.0.contains(payment) {
            return false;
        }
        if self.0.len() == LATE_PAYMENTS_MAX {
            self.0.remove(0);
        }
        self.0.push(payment.clone());
        true
    }
}

/// What can happen to an order.
#[derive(Clone, Debug, PartialEq)]
pub enum Input {
    /// We are asked to create it.
    Create(Draft),
    /// We hear that it was created elsewhere.
    Created(OrderCreated, Ticket, Option<TraceParent>),
    /// We hear of a payment.
    Paid(PaymentId),
    /// We hear that it was cancelled elsewhere, at this version.
    CancelledElsewhere {
        /// The version after that change.
        version: u64,
    },
    /// We are asked to complete it.
    Complete {
        /// The payment, if one is named.
        payment: Option<PaymentId>,
    },
    /// We are asked to cancel it.
    Cancel,
    /// Its time may be up.
    Expire {
        /// Every payment that the bus stored before this has been applied: an order that expires
        /// later than that waits, since a payment that was there in time counts even unread.
        payments_applied_until: Timestamp,
    },
}

impl Input {
    /// Whether this input may be what made an order in this state owe an event: then a repeat of
    /// it, which does nothing, may be the one whose announcement a crash cut off.
    #[must_use]
    pub fn may_owe(&self, state: Option<&State>, event: &Event) -> bool {
        match (self, event) {
            (Self::Create(_), Event::OrderCreated(_))
            | (Self::Cancel | Self::Expire { .. }, Event::OrderCancelled(_)) => true,
            (Self::CancelledElsewhere { .. }, Event::PaymentLate(_)) => {
                matches!(state, Some(State::Ahead(_)))
            }
            (Self::Paid(payment), Event::PaymentLate(late)) => *payment == late.id,
            _ => false,
        }
    }
}

/// A new order of ours.
#[derive(Clone, Debug, PartialEq)]
pub struct Draft {
    /// Who places it.
    pub user_id: UserId,
    /// What it reserves.
    pub ticket: Ticket,
    /// When it expires.
    pub expires_at: Timestamp,
    /// Whether `expires_at` was computed from a duration: then a repeat may differ in it and is
    /// the same order all the same.
    pub expires_relative: bool,
    /// The trace that it begins in.
    pub trace: Option<TraceParent>,
}

/// What [`apply`] decided.
#[derive(Clone, Debug, PartialEq)]
pub struct Decision {
    /// The new state; `None` if it stays as it is.
    pub state: Option<State>,
    /// What was done, for logs and metrics.
    pub effect: Effect,
    /// The events that are owed for it.
    pub owes: Vec<Event>,
}

/// What was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Effect {
    /// Nothing: a repeat, or too late to matter.
    Nothing,
    /// The order is open.
    Opened,
    /// A higher version moved an open order.
    Moved,
    /// A payment or a cancellation was noted ahead of its order.
    NotedAhead,
    /// The order is paid.
    Completed,
    /// A payment was named for an order that had been completed without one.
    PaymentNamed,
    /// The order expired.
    Expired,
    /// The order was cancelled, here or elsewhere.
    Cancelled,
    /// A payment does not count and is answered.
    PaidLate,
    /// A cancellation elsewhere contradicts a paid order: nothing is done, somebody should look.
    Contradicted,
}

/// Why an input cannot be: the caller is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Refused {
    /// The order is not known (yet).
    Unknown,
    /// Another order has this id.
    Differs,
    /// It is paid.
    Complete,
    /// It is cancelled.
    Cancelled,
    /// It expires only then.
    NotYet {
        /// The order's own time.
        expires_at: Timestamp,
    },
    /// Its time is up, but payments from before then have not all been read.
    PaymentsUnread,
}

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unknown => f.write_str("there is no such order"),
            Self::Differs => f.write_str("another order has this id"),
            Self::Complete => f.write_str("the order is complete"),
            Self::Cancelled => f.write_str("the order is cancelled"),
            Self::NotYet { expires_at } => write!(f, "the order expires only at {expires_at}"),
            Self::PaymentsUnread => {
                f.write_str("payments from before the order's time have not all been read")
            }
        }
    }
}

impl std::error::Error for Refused {}

/// Decides what an input does to an order. Total: it answers every input in every state, without
/// a panic; the one place where an order changes.
///
/// ```
/// use expirer_core::event::{OrderCreated, Payload};
/// use expirer_core::order::{Effect, Input, Refused, apply};
/// use expirer_core::{OrderId, Timestamp};
///
/// let json = br#"{ "id": "o1", "expiresAt": "2026-11-22T10:00:00Z", "ticket": { "id": "t1" } }"#;
/// let event = OrderCreated::decode(json).expect("valid");
/// let (id, ticket, due) = (event.id.clone(), event.ticket.clone().expect("named"), event.expires_at);
///
/// let open = apply(&id, None, &Input::Created(event, ticket, None), Timestamp::EPOCH)
///     .expect("an unknown order can be created");
/// let expire = Input::Expire { payments_applied_until: Timestamp::MAX };
/// let early = apply(&id, open.state.as_ref(), &expire, Timestamp::EPOCH);
/// assert_eq!(early, Err(Refused::NotYet { expires_at: due }));
///
/// let expired = apply(&id, open.state.as_ref(), &expire, due).expect("it is time");
/// assert_eq!(expired.effect, Effect::Expired);
/// assert_eq!(expired.owes[0].subject().to_string(), "order:cancelled");
/// ```
///
/// # Errors
/// [`Refused`] says why the input cannot be; the state stays as it is.
pub fn apply(
    id: &OrderId,
    state: Option<&State>,
    input: &Input,
    now: Timestamp,
) -> Result<Decision, Refused> {
    match state {
        None => ahead(id, &Ahead::default(), input),
        Some(State::Ahead(known)) => ahead(id, known, input),
        Some(State::Order(order)) => match &order.phase {
            Phase::Open(_) => open(id, order, input, now),
            Phase::Complete { payment } => complete(id, order, payment.as_ref(), input),
            Phase::Cancelled => cancelled(id, order, input),
        },
    }
}

/// An absent order is one of which nothing is known ahead.
fn ahead(id: &OrderId, known: &Ahead, input: &Input) -> Result<Decision, Refused> {
    match input {
        Input::Created(event, ticket, trace) => {
            Ok(arrive(known, Order::heard(event, ticket, *trace)))
        }
        Input::Create(_) if known.cancelled.is_some() => Err(Refused::Cancelled),
        Input::Create(draft) => {
            let order = Order::drafted(draft);
            let owes = vec![order.created_event(id)];
            Ok(Decision { owes, ..arrive(known, order) })
        }
        Input::Paid(payment) => Ok(paid_ahead(id, known, payment)),
        Input::CancelledElsewhere { version } => Ok(cancelled_ahead(id, known, *version)),
        Input::Complete { .. } | Input::Cancel | Input::Expire { .. } => Err(Refused::Unknown),
    }
}

/// An order arrives where a payment or a cancellation may have been before it.
fn arrive(known: &Ahead, mut order: Order) -> Decision {
    order.late.clone_from(&known.late);
    let effect = match (known.cancelled, &known.payment) {
        (Some(version), _) => {
            order.cancel_at(version);
            Effect::Cancelled
        }
        (None, Some(payment)) => {
            order.complete(Some(payment.clone()));
            Effect::Completed
        }
        (None, None) => Effect::Opened,
    };
    Decision::of(effect, State::Order(order))
}

fn paid_ahead(id: &OrderId, known: &Ahead, payment: &PaymentId) -> Decision {
    let reason = match (known.cancelled, &known.payment) {
        (Some(_), _) => LateReason::OrderCancelled,
        (None, Some(first)) if first == payment => return Decision::nothing(),
        (None, Some(_)) => LateReason::AlreadyPaid,
        (None, None) => {
            let noted = Ahead { payment: Some(payment.clone()), ..known.clone() };
            return Decision::of(Effect::NotedAhead, State::Ahead(noted));
        }
    };
    let mut next = known.clone();
    let new = next.late.note(payment);
    Decision::late(new, State::Ahead(next), payment_late(id, payment, reason))
}

fn cancelled_ahead(id: &OrderId, known: &Ahead, version: u64) -> Decision {
    if known.cancelled.is_some() {
        return Decision::nothing();
    }
    let mut next = Ahead { cancelled: Some(version), ..known.clone() };
    let owes = next
        .payment
        .take()
        .filter(|payment| next.late.note(payment))
        .map(|payment| payment_late(id, &payment, LateReason::OrderCancelled));
    let decision = Decision::of(Effect::NotedAhead, State::Ahead(next));
    Decision { owes: owes.into_iter().collect(), ..decision }
}

fn open(id: &OrderId, order: &Order, input: &Input, now: Timestamp) -> Result<Decision, Refused> {
    let mut next = order.clone();
    match input {
        Input::Create(draft) => order.same_as(draft),
        Input::Created(event, ticket, trace) if event.version > order.version => {
            Ok(Decision::of(Effect::Moved, State::Order(order.moved(event, ticket, *trace))))
        }
        Input::Created(..) => Ok(Decision::nothing()),
        Input::Paid(payment) => {
            next.complete(Some(payment.clone()));
            Ok(Decision::of(Effect::Completed, State::Order(next)))
        }
        Input::Complete { payment } => {
            next.complete(payment.clone());
            Ok(Decision::of(Effect::Completed, State::Order(next)))
        }
        Input::CancelledElsewhere { version } => {
            next.cancel_at(*version);
            Ok(Decision::of(Effect::Cancelled, State::Order(next)))
        }
        Input::Cancel => Ok(next.cancel(id, Effect::Cancelled)),
        Input::Expire { .. } if now < order.expires_at => {
            Err(Refused::NotYet { expires_at: order.expires_at })
        }
        Input::Expire { payments_applied_until } if *payments_applied_until < order.expires_at => {
            Err(Refused::PaymentsUnread)
        }
        Input::Expire { .. } => Ok(next.cancel(id, Effect::Expired)),
    }
}

fn complete(
    id: &OrderId,
    order: &Order,
    paid_by: Option<&PaymentId>,
    input: &Input,
) -> Result<Decision, Refused> {
    match input {
        Input::Create(draft) => order.same_as(draft),
        Input::Created(..) | Input::Expire { .. } => Ok(Decision::nothing()),
        Input::CancelledElsewhere { .. } => {
            Ok(Decision { effect: Effect::Contradicted, ..Decision::nothing() })
        }
        Input::Cancel => Err(Refused::Complete),
        Input::Complete { payment: None } => Ok(Decision::nothing()),
        Input::Paid(payment) | Input::Complete { payment: Some(payment) } => {
            match (paid_by, input) {
                (Some(first), _) if first == payment => Ok(Decision::nothing()),
                (None, _) => {
                    let mut next = order.clone();
                    next.phase = Phase::Complete { payment: Some(payment.clone()) };
                    Ok(Decision::of(Effect::PaymentNamed, State::Order(next)))
                }
                (Some(_), Input::Paid(_)) => {
                    Ok(order.paid_late(id, payment, LateReason::AlreadyPaid))
                }
                // Whoever asks us is told by the answer.
                (Some(_), _) => Err(Refused::Complete),
            }
        }
    }
}

fn cancelled(id: &OrderId, order: &Order, input: &Input) -> Result<Decision, Refused> {
    match input {
        Input::Create(draft) => order.same_as(draft),
        Input::Paid(payment) => Ok(order.paid_late(id, payment, LateReason::OrderCancelled)),
        Input::Complete { .. } => Err(Refused::Cancelled),
        Input::Created(..)
        | Input::CancelledElsewhere { .. }
        | Input::Cancel
        | Input::Expire { .. } => Ok(Decision::nothing()),
    }
}

fn payment_late(id: &OrderId, payment: &PaymentId, reason: LateReason) -> Event {
    Event::PaymentLate(PaymentLate { id: payment.clone(), order_id: id.clone(), reason })
}

impl Decision {
    const fn nothing() -> Self {
        Self { state: None, effect: Effect::Nothing, owes: Vec::new() }
    }

    const fn of(effect: Effect, state: State) -> Self {
        Self { state: Some(state), effect, owes: Vec::new() }
    }

    /// A payment that does not count: answered once.
    fn late(new: bool, state: State, answer: Event) -> Self {
        if new {
            Self { owes: vec![answer], ..Self::of(Effect::PaidLate, state) }
        } else {
            Self::nothing()
        }
    }
}

impl Order {
    fn heard(event: &OrderCreated, ticket: &Ticket, trace: Option<TraceParent>) -> Self {
        Self {
            version: event.version,
            phase: Phase::Open(event.status),
            user_id: event.user_id.clone(),
            expires_at: event.expires_at,
            ticket: ticket.clone(),
            late: LatePayments::default(),
            trace,
        }
    }

    /// This order at a higher version, which may leave out what is known.
    fn moved(&self, event: &OrderCreated, ticket: &Ticket, trace: Option<TraceParent>) -> Self {
        let mut moved = Self::heard(event, ticket, trace.or(self.trace));
        moved.user_id = moved.user_id.or_else(|| self.user_id.clone());
        moved.ticket.price = moved.ticket.price.or(self.ticket.price);
        moved
    }

    fn drafted(draft: &Draft) -> Self {
        Self {
            version: 0,
            phase: Phase::Open(OpenStatus::Created),
            user_id: Some(draft.user_id.clone()),
            expires_at: draft.expires_at,
            ticket: draft.ticket.clone(),
            late: LatePayments::default(),
            trace: draft.trace,
        }
    }

    fn created_event(&self, id: &OrderId) -> Event {
        Event::OrderCreated(OrderCreated {
            id: id.clone(),
            version: self.version,
            status: OpenStatus::Created,
            user_id: self.user_id.clone(),
            expires_at: self.expires_at,
            ticket: Some(self.ticket.clone()),
        })
    }

    fn same_as(&self, draft: &Draft) -> Result<Decision, Refused> {
        let same = self.user_id.as_ref() == Some(&draft.user_id)
            && self.ticket == draft.ticket
            && (draft.expires_relative || self.expires_at == draft.expires_at);
        if same { Ok(Decision::nothing()) } else { Err(Refused::Differs) }
    }

    /// The version after a change of ours. At the largest that the wire can carry it stays: a
    /// version beyond would be refused by whoever reads it, ourselves included.
    fn next_version(&self) -> u64 {
        self.version.saturating_add(1).min(VERSION_MAX)
    }

    fn complete(&mut self, payment: Option<PaymentId>) {
        self.version = self.next_version();
        self.phase = Phase::Complete { payment };
    }

    /// Elsewhere counts its versions itself; ours never falls behind.
    fn cancel_at(&mut self, version: u64) {
        self.version = version.max(self.next_version());
        self.phase = Phase::Cancelled;
    }

    fn cancel(mut self, id: &OrderId, effect: Effect) -> Decision {
        self.version = self.next_version();
        self.phase = Phase::Cancelled;
        let cancelled = Event::OrderCancelled(OrderCancelled {
            id: id.clone(),
            version: self.version,
            ticket: Some(TicketRef { id: self.ticket.id.clone() }),
        });
        Decision { owes: vec![cancelled], ..Decision::of(effect, State::Order(self)) }
    }

    fn paid_late(&self, id: &OrderId, payment: &PaymentId, reason: LateReason) -> Decision {
        let mut next = self.clone();
        let new = next.late.note(payment);
        Decision::late(new, State::Order(next), payment_late(id, payment, reason))
    }
}

#[cfg(test)]
mod tests;
