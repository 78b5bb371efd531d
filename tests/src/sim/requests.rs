//! Somebody who asks the service for something, and asks again until there is an answer.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use expirer_core::flow::{Orders, OrdersError};
use expirer_core::order::{Input, Phase, Refused, State};
use expirer_core::{Clock, OrderId};

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
    /// Where the order stood by the answer.
    pub(super) answer: Result<Option<Phase>, Refused>,
}

impl Request {
    pub(super) async fn made(
        self,
        orders: Orders,
        clock: Arc<dyn Clock>,
        told: Arc<Mutex<Vec<Told>>>,
    ) {
        let answer = loop {
            match orders.apply(&self.id, self.input.clone()).await {
                Ok((_, state)) => break Ok(phase(&state)),
                Err(OrdersError::Refused(refused)) => break Err(refused),
                Err(OrdersError::Failed(_)) => clock.sleep_until(clock.now() + AGAIN_AFTER).await,
            }
        };
        let mut told = told.lock().unwrap_or_else(PoisonError::into_inner);
        told.push(Told { request: self, answer });
    }
}

fn phase(state: &State) -> Option<Phase> {
    state.order().map(|order| order.phase.clone())
}
