//! Orders: create, read, complete, cancel.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State as Shared;
use axum::http::StatusCode;
use axum::http::header::{CONTENT_TYPE, HeaderMap, HeaderValue, LOCATION};
use axum::response::{IntoResponse, Response};
use expirer_core::event::{Price, Ticket};
use expirer_core::order::{Draft, Effect, Input, Order, State};
use expirer_core::{Headers, OrderId, PaymentId, TicketId, Timestamp, TraceParent, UserId};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::de::{self, Deserializer};
use serde::{Deserialize, Serialize};
use tracing::error;

use super::access::MayWrite;
use super::body::{Json, OptionalJson, OrderPath};
use super::{App, Problem};
use crate::random;

/// The body of `POST /orders`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct NewOrder {
    id: Option<OrderId>,
    user_id: UserId,
    ticket: NewTicket,
    expires_at: Option<Timestamp>,
    expires_in_ms: Option<Millis>,
}

#[derive(Debug, Deserialize)]
struct NewTicket {
    id: TicketId,
    price: Price,
}

/// A whole number of milliseconds, from zero on.
#[derive(Clone, Copy, Debug)]
struct Millis(u64);

impl<'de> Deserialize<'de> for Millis {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = Millis;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a whole number of milliseconds from 0 on")
            }

            fn visit_u64<E: de::Error>(self, millis: u64) -> Result<Millis, E> {
                Ok(Millis(millis))
            }
        }
        deserializer.deserialize_u64(Visitor)
    }
}

impl NewOrder {
    /// The order's draft; `expiresInMs` is counted from `now`.
    fn draft(self, now: Timestamp, trace: Option<TraceParent>) -> Result<Draft, Problem> {
        let (expires_at, expires_relative) = match (self.expires_at, self.expires_in_ms) {
            (Some(at), None) => (at, false),
            (None, Some(after)) => (later(now, after)?, true),
            (Some(_), Some(_)) => {
                let detail = "the body: expiresAt and expiresInMs are both given; give one of them";
                return Err(Problem::bad_request(detail));
            }
            (None, None) => {
                let detail = "the body: missing field `expiresAt` (or `expiresInMs`)";
                return Err(Problem::bad_request(detail));
            }
        };
        let ticket = Ticket { id: self.ticket.id, price: Some(self.ticket.price) };
        Ok(Draft { user_id: self.user_id, ticket, expires_at, expires_relative, trace })
    }
}

fn later(now: Timestamp, Millis(after): Millis) -> Result<Timestamp, Problem> {
    let room = Timestamp::MAX.since(now);
    let after = Duration::from_millis(after);
    if after > room {
        let room = room.as_millis();
        let detail = format!("the body: expiresInMs: leads beyond the year 9999; at most {room}");
        return Err(Problem::bad_request(detail));
    }
    Ok(now + after)
}

/// The body of `POST /orders/{id}/complete`.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Completion {
    payment_id: Option<PaymentId>,
}

/// An order, as on the wire.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Shown<'a> {
    id: &'a OrderId,
    version: u64,
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    user_id: Option<&'a UserId>,
    expires_at: Timestamp,
    ticket: &'a Ticket,
}

impl<'a> Shown<'a> {
    fn new(id: &'a OrderId, order: &'a Order) -> Self {
        Self {
            id,
            version: order.version,
            status: order.phase.as_str(),
            user_id: order.user_id.as_ref(),
            expires_at: order.expires_at,
            ticket: &order.ticket,
        }
    }
}

/// What is known only ahead of an order is no order yet.
fn show(status: StatusCode, id: &OrderId, state: &State) -> Result<Response, Problem> {
    let order = state.order().ok_or_else(Problem::no_such_order)?;
    // A struct of strings and numbers with string keys always serialises.
    let body = serde_json::to_vec(&Shown::new(id, order)).unwrap_or_default();
    let json = [(CONTENT_TYPE, HeaderValue::from_static("application/json"))];
    Ok((status, json, body).into_response())
}

/// `POST /orders`
pub(crate) async fn create(
    _: MayWrite,
    Shared(app): Shared<Arc<App>>,
    headers: HeaderMap,
    Json(mut new): Json<NewOrder>,
) -> Result<Response, Problem> {
    let id = new.id.take().map_or_else(fresh_id, Ok)?;
    let draft = new.draft(app.clock.now(), trace(&headers))?;
    let (effect, state) = app.orders.apply(&id, Input::Create(draft)).await?;
    let status = if effect == Effect::Nothing { StatusCode::OK } else { StatusCode::CREATED };
    let mut response = show(status, &id, &state)?;
    let path = format!("/orders/{}", utf8_percent_encode(id.as_str(), NON_ALPHANUMERIC));
    if let Ok(location) = HeaderValue::try_from(path) {
        response.headers_mut().insert(LOCATION, location);
    }
    Ok(response)
}

/// `GET /orders/{id}`
pub(crate) async fn read(
    Shared(app): Shared<Arc<App>>,
    OrderPath(id): OrderPath,
) -> Result<Response, Problem> {
    let record = app.orders.load(&id).await?.ok_or_else(Problem::no_such_order)?;
    show(StatusCode::OK, &id, &record.state)
}

/// `POST /orders/{id}/complete`
pub(crate) async fn complete(
    _: MayWrite,
    Shared(app): Shared<Arc<App>>,
    OrderPath(id): OrderPath,
    OptionalJson(completion): OptionalJson<Completion>,
) -> Result<Response, Problem> {
    let input = Input::Complete { payment: completion.payment_id };
    let (_, state) = app.orders.apply(&id, input).await?;
    show(StatusCode::OK, &id, &state)
}

/// `POST /orders/{id}/cancel`
pub(crate) async fn cancel(
    _: MayWrite,
    Shared(app): Shared<Arc<App>>,
    OrderPath(id): OrderPath,
) -> Result<Response, Problem> {
    let (_, state) = app.orders.apply(&id, Input::Cancel).await?;
    show(StatusCode::OK, &id, &state)
}

fn fresh_id() -> Result<OrderId, Problem> {
    let id = random::id().ok().and_then(|id| OrderId::new(id).ok());
    id.ok_or_else(|| {
        error!("the machine has no randomness for an id");
        Problem::unavailable("no id could be made; give one")
    })
}

fn trace(headers: &HeaderMap) -> Option<TraceParent> {
    headers.get(Headers::TRACEPARENT)?.to_str().ok()?.parse().ok()
}
