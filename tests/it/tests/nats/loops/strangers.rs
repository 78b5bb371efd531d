//! Other services, which publish with a plain client.

use std::error::Error;
use std::time::Duration;

use async_nats::Subscriber;
use async_nats::header::{HeaderMap, NATS_MESSAGE_ID};
use async_nats::jetstream::Context;
use expirer_backends::TokioClock;
use expirer_core::{Clock, Timestamp};
use futures_lite::StreamExt;

use crate::replicas::announced::{Announced, Placed, SOON};
use crate::replicas::ends::LIMIT;

/// Where everything that is announced is kept.
pub(super) const STREAM: &str = "ticketing";

/// Another service.
#[derive(Debug)]
pub(super) struct Stranger {
    context: Context,
    clock: TokioClock,
}

impl Stranger {
    /// By way of these addresses, such as `127.0.0.1:4222`.
    pub(super) async fn join(addresses: &[String]) -> Self {
        let client = async_nats::connect(addresses).await.expect("it connects");
        Self { context: async_nats::jetstream::new(client), clock: TokioClock::new() }
    }

    /// Announces orders that expire soon, of which every third is paid.
    pub(super) async fn place(&self, name: &str, count: u32) -> Vec<Placed> {
        let announced = Announced::every_third_paid(name, count, self.clock.now() + SOON);
        let mut stored = Vec::new();
        for (subject, data) in announced.events() {
            stored.push(self.store(subject, data).await);
        }
        announced.stored(&stored)
    }

    /// Publishes it until the server confirms it; says when that stored it.
    async fn store(&self, subject: &'static str, data: &str) -> Timestamp {
        let limit = self.clock.now() + LIMIT;
        loop {
            match self.try_store(subject, data).await {
                Ok(stored) => return stored,
                Err(error) => assert!(self.clock.now() < limit, "{error}"),
            }
            self.clock.sleep_until(self.clock.now() + Duration::from_millis(50)).await;
        }
    }

    async fn try_store(
        &self,
        subject: &'static str,
        data: &str,
    ) -> Result<Timestamp, Box<dyn Error + Send + Sync>> {
        let mut headers = HeaderMap::new();
        // What is repeated says the same, and is stored once.
        headers.insert(NATS_MESSAGE_ID, data);
        let sent = self.context.publish_with_headers(subject, headers, data.to_owned().into());
        let confirmed = sent.await?.await?;
        let stream = self.context.get_stream_no_info(STREAM).await?;
        let stored = stream.get_raw_message(confirmed.sequence).await?;
        let millis = stored.time.unix_timestamp_nanos() / 1_000_000;
        Ok(Timestamp::from_millis(millis.try_into()?))
    }

    /// Listens to cancellations from now on.
    pub(super) async fn listen(&self) -> Cancellations {
        let client = self.context.client();
        let heard = client.subscribe("order:cancelled").await.expect("it subscribes");
        client.flush().await.expect("the server knows");
        Cancellations(heard)
    }
}

/// What a stranger hears.
#[derive(Debug)]
pub(super) struct Cancellations(Subscriber);

impl Cancellations {
    /// Waits until so many came.
    pub(super) async fn hear_of(self, count: usize) {
        assert_eq!(self.0.take(count).count().await, count, "the server went away");
    }
}
