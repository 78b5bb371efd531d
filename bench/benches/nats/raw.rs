//! The client alone.

use std::fmt::Display;

use async_nats::jetstream::{self, Context};
use async_nats::{Client, HeaderMap, Message};
use expirer_bench::report::Outcome;
use futures_util::future::try_join_all;

/// A message to be stored: subject, headers, payload.
pub(crate) type Post = (String, HeaderMap, Vec<u8>);

/// A connection of its own.
#[derive(Clone)]
pub(crate) struct Raw {
    pub(crate) client: Client,
    pub(crate) context: Context,
}

impl Raw {
    pub(crate) async fn open(url: &str) -> Outcome<Self> {
        let client = async_nats::connect(url).await?;
        Ok(Self { context: jetstream::new(client.clone()), client })
    }

    /// Stores messages: all of a batch are sent, then their acks awaited.
    pub(crate) async fn store(
        &self,
        posts: impl Iterator<Item = Post>,
        batch: usize,
    ) -> Outcome<()> {
        let mut posts = posts.peekable();
        while posts.peek().is_some() {
            let mut acks = Vec::with_capacity(batch);
            for (subject, headers, payload) in posts.by_ref().take(batch) {
                let sent = self.context.publish_with_headers(subject, headers, payload.into());
                acks.push(sent.await?);
            }
            for ack in acks {
                ack.await?;
            }
        }
        Ok(())
    }

    /// Sends calls at once, and gives the answers.
    pub(crate) async fn call_all(
        &self,
        calls: impl Iterator<Item = (String, Vec<u8>)>,
    ) -> Outcome<Vec<Message>> {
        let call = |(subject, payload): (String, Vec<u8>)| {
            let client = self.client.clone();
            async move { client.request(subject, payload.into()).await }
        };
        Ok(try_join_all(calls.map(call)).await?)
    }

    /// The same to JetStream, whose answers say whether it did it.
    pub(crate) async fn api_all(
        &self,
        call: impl Display,
        bodies: impl Iterator<Item = serde_json::Value>,
    ) -> Outcome<Vec<serde_json::Value>> {
        let calls = bodies.map(|body| (format!("$JS.API.{call}"), body.to_string().into_bytes()));
        let mut answers = Vec::new();
        for answer in self.call_all(calls).await? {
            let answer: serde_json::Value = serde_json::from_slice(&answer.payload)?;
            match answer.get("error") {
                Some(error) => return Err(format!("{call}: {error}").into()),
                None => answers.push(answer),
            }
        }
        Ok(answers)
    }

    /// Empties a stream.
    pub(crate) async fn purge(&self, stream: &str) -> Outcome<()> {
        self.context.get_stream(stream).await?.purge().await?;
        Ok(())
    }
}
