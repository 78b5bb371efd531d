//! Orders on request: create, read, complete, cancel.

use std::fmt;
use std::sync::Arc;

use super::announce::Outbox;
use super::env::Env;
use super::ledger::Case;
use super::recorder::cancel_timers;
use crate::order::{Effect, Input, Refused, State};
use crate::{DelayQueue, Error, ErrorKind, EventBus, OrderId, OrderRepo, Record, Result};

/// What an HTTP handler or an embedding service calls: each call is one transaction, and returns
/// when what it owed is published and confirmed.
#[derive(Clone, Debug)]
pub struct Orders {
    outbox: Outbox,
    queue: Arc<dyn DelayQueue>,
}

/// Why a request was not done.
#[derive(Clone, Debug)]
pub enum OrdersError {
    /// The order says no; asking again changes nothing.
    Refused(Refused),
    /// A backend failed. The change may have been made; the same request again finishes it.
    Failed(Error),
}

impl fmt::Display for OrdersError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(refused) => refused.fmt(f),
            Self::Failed(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for OrdersError {}

impl Orders {
    /// The orders in `repo`, announced on `bus`; paid ones need no timer in `queue`.
    #[must_use]
    pub fn new(
        bus: Arc<dyn EventBus>,
        repo: Arc<dyn OrderRepo>,
        queue: Arc<dyn DelayQueue>,
        env: Env,
    ) -> Self {
        Self { outbox: Outbox { bus, repo, env }, queue }
    }

    /// Reads an order; `None` if it is not known.
    ///
    /// # Errors
    /// The repository's own.
    pub async fn load(&self, id: &OrderId) -> Result<Option<Record>> {
        let records = self.outbox.env.step(self.outbox.repo.load(std::slice::from_ref(id))).await?;
        Ok(records.into_iter().next().flatten())
    }

    /// Applies an input to an order; answers with what was done and the state that it led to.
    ///
    /// # Errors
    /// [`OrdersError::Refused`] if the order says no, [`OrdersError::Failed`] if a backend failed.
    pub async fn apply(
        &self,
        id: &OrderId,
        input: Input,
    ) -> std::result::Result<(Effect, State), OrdersError> {
        let cases = [Case { id: id.clone(), inputs: vec![input] }];
        let mut results = self.outbox.settle(&cases).await;
        let settled = results.pop().unwrap_or_else(|| Err(unanswered()));
        let mut settled = settled.map_err(OrdersError::Failed)?;
        match (settled.answers.pop(), settled.state) {
            (Some(Ok(effect)), Some(state)) => {
                if effect == Effect::Completed {
                    let id = std::slice::from_ref(id);
                    cancel_timers(&*self.queue, &self.outbox.env, id).await;
                }
                Ok((effect, state))
            }
            (Some(Err(refused)), _) => Err(OrdersError::Refused(refused)),
            _ => Err(OrdersError::Failed(unanswered())),
        }
    }
}

fn unanswered() -> Error {
    Error::new(ErrorKind::Corrupt, "flow", "apply", "no answer for the order")
}
