//! Answers to calls: one subscription for all, each answer by a number in its subject.
//!
//! The client can do this, too; but what it keeps for a call that nobody answers it keeps for ever.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_nats::{Client, Message, SubscribeError};
use futures_lite::StreamExt;
use tokio::sync::oneshot;
use tokio::task::AbortHandle;

/// The calls that wait for an answer.
#[derive(Debug, Default)]
pub(crate) struct Calls {
    waiting: Mutex<Waiting>,
}

#[derive(Debug, Default)]
struct Waiting {
    calls: BTreeMap<u64, Call>,
    next: u64,
}

#[derive(Debug)]
struct Call {
    subject: String,
    answer: oneshot::Sender<Answer>,
}

/// What came of a call: a message, or why none will come.
pub(crate) type Answer = Result<Message, Lost>;

/// Why no answer will come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Lost {
    /// The connection broke.
    Disconnected,
    /// The server forbids it, in these words.
    Denied(String),
}

impl Calls {
    /// The connection broke: nobody answers what went through it.
    pub(crate) fn lose_all(&self) {
        for (_, call) in std::mem::take(&mut self.lock().calls) {
            // Who no longer waits has gone.
            drop(call.answer.send(Err(Lost::Disconnected)));
        }
    }

    /// The server forbids publishing on a subject, which it names in quotes.
    pub(crate) fn deny(&self, text: &str) {
        let is_meant = |call: &Call| text.contains(&format!("\"{}\"", call.subject));
        let mut waiting = self.lock();
        let denied: Vec<u64> =
            waiting.calls.iter().filter(|(_, call)| is_meant(call)).map(|(key, _)| *key).collect();
        for call in denied.into_iter().filter_map(|key| waiting.calls.remove(&key)) {
            drop(call.answer.send(Err(Lost::Denied(text.to_owned()))));
        }
    }

    fn add(&self, subject: &str) -> (u64, oneshot::Receiver<Answer>) {
        let (answer, receiver) = oneshot::channel();
        let mut waiting = self.lock();
        let key = waiting.next;
        waiting.next += 1;
        waiting.calls.insert(key, Call { subject: subject.to_owned(), answer });
        (key, receiver)
    }

    fn resolve(&self, message: Message) {
        let key = message.subject.rsplit('.').next().and_then(|key| key.parse().ok());
        let call = key.and_then(|key: u64| self.lock().calls.remove(&key));
        if let Some(call) = call {
            drop(call.answer.send(Ok(message)));
        }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where answers come in; it ends when dropped.
#[derive(Debug)]
pub(crate) struct Replies {
    calls: Arc<Calls>,
    inbox: String,
    reader: AbortHandle,
}

impl Replies {
    pub(crate) async fn open(client: &Client, calls: Arc<Calls>) -> Result<Self, SubscribeError> {
        let inbox = client.new_inbox();
        let mut subscriber = client.subscribe(format!("{inbox}.*")).await?;
        let resolved = Arc::clone(&calls);
        let reader = tokio::spawn(async move {
            while let Some(message) = subscriber.next().await {
                resolved.resolve(message);
            }
        });
        Ok(Self { calls, inbox, reader: reader.abort_handle() })
    }

    /// What the subjects of all answers begin with.
    pub(crate) fn inbox(&self) -> &str {
        &self.inbox
    }

    /// Prepares for the answer to one call.
    pub(crate) fn expect(&self, subject: &str) -> Expected {
        let (key, answer) = self.calls.add(subject);
        let (subject, reply) = (subject.to_owned(), format!("{}.{key}", self.inbox));
        Expected { calls: Arc::clone(&self.calls), key, subject, reply, answer }
    }
}

impl Drop for Replies {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

/// An answer that is to come; dropped, nobody waits for it.
#[derive(Debug)]
pub(crate) struct Expected {
    calls: Arc<Calls>,
    key: u64,
    /// What the call was sent to.
    pub(crate) subject: String,
    /// Where the answer is to be sent.
    pub(crate) reply: String,
    answer: oneshot::Receiver<Answer>,
}

impl Expected {
    pub(crate) async fn answer(&mut self) -> Answer {
        (&mut self.answer).await.unwrap_or(Err(Lost::Disconnected))
    }
}

impl Drop for Expected {
    fn drop(&mut self) {
        self.calls.lock().calls.remove(&self.key);
    }
}
