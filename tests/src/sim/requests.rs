//! Somebody who asks the service for something, and asks again until there is an answer.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use expirer_core::flow::{Orders, OrdersError};
use expirer_core::order::{Input, Phase, Refused, State};
use expirer_core::{Clock, OrderId, Timestamp};

use crate::lock;
use crate::time::VirtualTime;

/// How long after a failure it asks again.
const AGAIN_AFTER: Duration = Duration::from_secs(1);

#[derive(Clone, Debug)]
pub(super) struct Request {
    pub(super) id: OrderId,
    pub(super) input: Input,
}

/// What came of a request.
#[derive(Clone, Debug)]
pub(super) struct Told {
    pub(super) request: Request,
    /// When it was asked for the last time.
    pub(super) asked_at: Timestamp,
    /// Where the order stood by the answer.
    pub(super) answer: Result<Option<Phase>, Refused>,
}

impl Request {
    pub(super) async fn made(self, orders: Orders, time: VirtualTime, told: Arc<Mutex<Vec<Told>>>) {
        let clock = time.clock();
        let (asked_at, answer) = loop {
            let asked_at = time.now();
            match orders.apply(&self.id, self.input.clone()).await {
                Ok((_, state)) => break (asked_at, Ok(phase(&state))),
                Err(OrdersError::Refused(refused)) => break (asked_at, Err(refused)),
                Err(OrdersError::Failed(_)) => clock.sleep_until(clock.now() + AGAIN_AFTER).await,
            }
        };
        lock(&told).push(Told { request: self, asked_at, answer });
    }
}

fn phase(state: &State) -> Option<Phase> {
    state.order().map(|order| order.phase.clone())
}
