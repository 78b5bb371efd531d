//! One handle on NATS: it connects, sends, and connects again.
//!
//! The client connects again by itself, for ever. A call that comes while there is no connection
//! waits a moment for one; what was on its way when the connection broke fails, and is the
//! caller's to repeat. A connection that only stopped answering is noticed within a few seconds.

use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_nats::client::traits::Publisher;
use async_nats::connection::State;
use async_nats::message::OutboundMessage;
use async_nats::{
    Client, Event, HeaderMap, Message, PublishError, PublishErrorKind, ServerError, StatusCode,
    Subscriber,
};
use event_listener::{Event as Listeners, EventListener};
use expirer_core::{Clock, Error, ErrorKind, Result, Timestamp};
use futures_lite::{StreamExt, future};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::BACKEND;
use super::error::{Failure, Refusal, connecting, unreadable};
use super::inspect::Version;
use super::replies::{Answer, Calls, Expected, Lost, Replies};
use super::target::{addresses, client_options};
use super::url::Options;
use crate::connect::ConnectOptions;

/// The most calls on their way at a time.
const IN_FLIGHT_MAX: usize = 256;
/// How often to look whether there is a connection again, should nobody say so.
const POLL: Duration = Duration::from_millis(100);

/// What was sent to us before is here after that.
const QUIET: Duration = Duration::from_millis(250);
/// How many refusals are kept for those whom they concern.
const REFUSALS_MAX: usize = 16;

/// A handle on one server or cluster. Calls from any number of tasks share its connection.
pub(crate) struct Connection {
    answer_within: Duration,
    client: Client,
    clock: Arc<dyn Clock>,
    place: String,
    replies: Replies,
    state: Arc<States>,
}

/// What the client says of its connection.
#[derive(Debug, Default)]
struct States {
    calls: Arc<Calls>,
    connects: AtomicU64,
    changed: Listeners,
    /// What the server has refused on this connection, in its words; the last ones.
    refusals: Mutex<VecDeque<String>>,
    /// Why there is no connection, as far as it is known.
    cause: Mutex<Option<String>>,
}

/// A message that waits for an answer: a call, a message to be stored, an ack.
#[derive(Clone, Debug)]
pub(crate) struct Outgoing {
    pub(crate) subject: String,
    pub(crate) headers: Option<HeaderMap>,
    pub(crate) payload: Vec<u8>,
}

/// What a call gave.
pub(crate) type Answered<T> = std::result::Result<T, Failure>;

/// What storing a message gave.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Stored {
    pub(crate) seq: u64,
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("place", &self.place).finish_non_exhaustive()
    }
}

impl States {
    fn take_in(&self, event: Event) {
        match event {
            Event::Connected => {
                self.refusals().clear();
                self.set_cause(None);
                self.connects.fetch_add(1, Ordering::SeqCst);
            }
            Event::Disconnected => self.calls.lose_all(),
            Event::ServerError(ServerError::Other(text)) => {
                self.calls.deny(&text);
                self.refuse(text);
            }
            Event::ServerError(error @ ServerError::AuthorizationViolation) => {
                self.set_cause(Some(error.to_string()));
            }
            Event::ClientError(error) => self.set_cause(Some(error.to_string())),
            _ => return,
        }
        self.changed.notify(usize::MAX);
    }

    fn set_cause(&self, cause: Option<String>) {
        *self.cause.lock().unwrap_or_else(PoisonError::into_inner) = cause;
    }

    fn not_connected(&self) -> String {
        match &*self.cause.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(cause) => format!("not connected: {cause}"),
            None => "not connected".to_owned(),
        }
    }

    fn refuse(&self, text: String) {
        let mut refusals = self.refusals();
        refusals.truncate(REFUSALS_MAX - 1);
        refusals.push_front(text);
    }

    /// Takes the refusal that speaks of a subject, or of one that begins so.
    fn refusal_of(&self, subject: &str) -> Option<String> {
        let mut refusals = self.refusals();
        let at = refusals.iter().position(|text| text.contains(&format!("\"{subject}")))?;
        refusals.remove(at)
    }

    fn refusals(&self) -> MutexGuard<'_, VecDeque<String>> {
        self.refusals.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Connection {
    /// Connects.
    ///
    /// # Errors
    /// [`Invalid`](ErrorKind::Invalid) for files that cannot be read, and what connecting gives.
    pub(crate) async fn open(url: &Options, options: &ConnectOptions) -> Result<Self> {
        const OP: &str = "connect";
        let (place, state) = (url.place(), Arc::new(States::default()));
        let (answer_within, clock) = (options.answer_within, Arc::clone(&options.clock));
        let heard = Arc::clone(&state);
        let client = client_options(url, answer_within)?.event_callback(move |event| {
            heard.take_in(event);
            std::future::ready(())
        });
        let client = client.connect(addresses(url)?).await;
        let client = client.map_err(|error| connecting(OP, &place, &error))?;
        let replies = Replies::open(&client, Arc::clone(&state.calls)).await;
        let replies = replies.map_err(|error| {
            Error::new(ErrorKind::Unavailable, BACKEND, OP, format!("{place}: {error}"))
        })?;
        Ok(Self { answer_within, client, clock, place, replies, state })
    }

    /// The client, for subscriptions.
    pub(crate) const fn client(&self) -> &Client {
        &self.client
    }

    /// The addresses, for people.
    pub(crate) fn place(&self) -> &str {
        &self.place
    }

    /// How long the server may take to answer one round of calls.
    pub(crate) const fn answer_within(&self) -> Duration {
        self.answer_within
    }

    pub(crate) const fn clock(&self) -> &Arc<dyn Clock> {
        &self.clock
    }

    /// The version of the server at the other end.
    pub(crate) fn version(&self) -> Version {
        Version::of(&self.client.server_info().version)
    }

    /// Grows with each connection: what was asked for on an older one has been forgotten.
    pub(crate) fn generation(&self) -> u64 {
        self.state.connects.load(Ordering::SeqCst)
    }

    /// Hears when the connection has come, gone, or been refused something.
    pub(crate) fn changed(&self) -> EventListener {
        self.state.changed.listen()
    }

    pub(crate) fn is_connected(&self) -> bool {
        self.client.connection_state() == State::Connected
    }

    /// That there is no connection.
    pub(crate) fn lost(&self, op: &'static str) -> Error {
        self.failure(op, ErrorKind::Unavailable, &self.state.not_connected()).into()
    }

    /// Takes note of what the server has refused of what goes to a subject without an answer.
    ///
    /// # Errors
    /// That it is forbidden.
    pub(crate) fn check_allowed(&self, op: &'static str, subject: &str) -> Result<()> {
        match self.state.refusal_of(subject) {
            Some(text) => Err(self.failure(op, ErrorKind::Denied, &text).into()),
            None => Ok(()),
        }
    }

    /// Subscribes to a subject of our own.
    ///
    /// # Errors
    /// That the client has ended.
    pub(crate) async fn subscribe(&self, op: &'static str, subject: String) -> Result<Subscriber> {
        let subscribed = self.client.subscribe(subject).await;
        subscribed
            .map_err(|error| self.failure(op, ErrorKind::Unavailable, &error.to_string()).into())
    }

    /// Calls JetStream: `call` is what follows `$JS.API.`.
    ///
    /// # Errors
    /// What JetStream or the connection says; `Corrupt` for an answer of another shape.
    pub(crate) async fn api<T: DeserializeOwned>(
        &self,
        op: &'static str,
        call: &str,
        body: &Value,
    ) -> Answered<T> {
        let payload = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
        let subject = format!("$JS.API.{call}");
        let answer = self.call(op, Outgoing { subject, headers: None, payload }).await?;
        self.read(op, &answer)
    }

    /// The same for many calls; one answer for each, in order.
    pub(crate) async fn api_all<T: DeserializeOwned>(
        &self,
        op: &'static str,
        calls: impl IntoIterator<Item = (String, Value)>,
    ) -> Vec<Answered<T>> {
        let calls = calls.into_iter().map(|(call, body)| Outgoing {
            subject: format!("$JS.API.{call}"),
            headers: None,
            payload: body.to_string().into_bytes(),
        });
        let answers = self.call_all(op, calls.collect()).await;
        answers.into_iter().map(|answer| self.read(op, &answer?)).collect()
    }

    /// Stores messages; one answer for each, in order. Those of one call are stored in their order,
    /// as long as none fails.
    pub(crate) async fn store_all(
        &self,
        op: &'static str,
        messages: Vec<Outgoing>,
    ) -> Vec<Answered<Stored>> {
        let answers = self.call_all(op, messages).await;
        answers.into_iter().map(|answer| self.read(op, &answer?)).collect()
    }

    /// Sends one call and waits for its answer.
    ///
    /// # Errors
    /// What the connection says; that nobody listens on the subject.
    pub(crate) async fn call(&self, op: &'static str, call: Outgoing) -> Answered<Message> {
        let answer = self.call_all(op, vec![call]).await.pop();
        answer.unwrap_or_else(|| Err(self.late(op)))
    }

    /// Sends calls and gives one answer for each, in order: many on their way at a time. Once the
    /// last of these has failed for want of a server, the rest is not sent.
    pub(crate) async fn call_all(
        &self,
        op: &'static str,
        calls: Vec<Outgoing>,
    ) -> Vec<Answered<Message>> {
        let (mut answers, mut calls) = (Vec::with_capacity(calls.len()), calls.into_iter());
        while calls.len() > 0 {
            let round: Vec<_> = calls.by_ref().take(IN_FLIGHT_MAX).collect();
            answers.extend(self.send_round(op, round).await);
            if let Some(Err(failure)) = answers.last()
                && failure.is_outage()
            {
                let failure = failure.clone();
                answers.extend(calls.by_ref().map(|_| Err(failure.clone())));
            }
        }
        answers
    }

    async fn send_round(&self, op: &'static str, calls: Vec<Outgoing>) -> Vec<Answered<Message>> {
        let (count, mut sent) = (calls.len(), Vec::with_capacity(calls.len()));
        let mut until = self.clock.now() + self.answer_within;
        let sending = self.within(until, self.send_all(op, calls, &mut sent)).await;
        let mut answers = Vec::with_capacity(count);
        for sent in sent {
            let answer = match sent {
                Ok(mut expected) => match self.within(until, expected.answer()).await {
                    Some(answer) => {
                        until = self.clock.now() + self.answer_within;
                        self.judge(op, &expected, answer)
                    }
                    None => Err(self.late(op)),
                },
                Err(failure) => Err(failure),
            };
            answers.push(answer);
        }
        if sending.is_none() {
            answers.resize_with(count, || Err(self.late(op)));
        }
        answers
    }

    /// Dropped, it has sent some.
    async fn send_all(
        &self,
        op: &'static str,
        calls: Vec<Outgoing>,
        sent: &mut Vec<Answered<Expected>>,
    ) {
        self.connected().await;
        for call in calls {
            let expected = self.replies.expect(&call.subject);
            let message = OutboundMessage {
                subject: call.subject.into(),
                reply: Some(expected.reply.as_str().into()),
                headers: call.headers,
                payload: call.payload.into(),
            };
            let published = self.client.publish_message(message).await;
            sent.push(match published {
                Ok(()) => Ok(expected),
                Err(error) => Err(self.unsendable(op, &error)),
            });
        }
    }

    async fn connected(&self) {
        loop {
            let changed = self.state.changed.listen();
            if self.is_connected() {
                return;
            }
            self.within(self.clock.now() + POLL, changed).await;
        }
    }

    /// What comes of a future; `None` if it is not there in time.
    pub(crate) async fn within<T>(
        &self,
        until: Timestamp,
        future: impl Future<Output = T>,
    ) -> Option<T> {
        future::or(async { Some(future.await) }, async {
            self.clock.sleep_until(until).await;
            None
        })
        .await
    }

    /// The next message of those that are on their way; `None` once none has come for a while.
    pub(crate) async fn quiet(&self, subscriber: &mut Subscriber) -> Option<Message> {
        self.within(self.clock.now() + QUIET, subscriber.next()).await.flatten()
    }

    fn judge(&self, op: &'static str, expected: &Expected, answer: Answer) -> Answered<Message> {
        match answer {
            Ok(message) if message.status == Some(StatusCode::NO_RESPONDERS) => {
                Err(Failure::nobody_listens(op, &self.place, &expected.subject))
            }
            Ok(message) => Ok(message),
            Err(Lost::Denied(text)) => Err(self.failure(op, ErrorKind::Denied, &text)),
            Err(Lost::Disconnected) => {
                Err(self.failure(op, ErrorKind::Unavailable, "the connection broke"))
            }
        }
    }

    fn read<T: DeserializeOwned>(&self, op: &'static str, answer: &Message) -> Answered<T> {
        #[derive(Deserialize)]
        struct Refused {
            error: Option<Refusal>,
        }
        let refused: Refused = from_json(op, &answer.payload)?;
        match refused.error {
            Some(refusal) => Err(Failure::refused(op, &self.place, &refusal)),
            None => Ok(from_json(op, &answer.payload)?),
        }
    }

    fn late(&self, op: &'static str) -> Failure {
        if let Some(text) = self.state.refusal_of(self.replies.inbox()) {
            return self.failure(op, ErrorKind::Denied, &text);
        }
        match self.is_connected() {
            true => {
                let text = format!("no answer within {} ms", self.answer_within.as_millis());
                self.failure(op, ErrorKind::TimedOut, &text)
            }
            false => self.failure(op, ErrorKind::Unavailable, &self.state.not_connected()),
        }
    }

    fn unsendable(&self, op: &'static str, error: &PublishError) -> Failure {
        let kind = match error.kind() {
            PublishErrorKind::MaxPayloadExceeded | PublishErrorKind::InvalidSubject => {
                ErrorKind::Invalid
            }
            PublishErrorKind::Send => ErrorKind::Unavailable,
        };
        self.failure(op, kind, &error.to_string())
    }

    fn failure(&self, op: &'static str, kind: ErrorKind, text: &str) -> Failure {
        Failure::new(Error::new(kind, BACKEND, op, format!("{}: {text}", self.place)))
    }
}

fn from_json<T: DeserializeOwned>(op: &'static str, payload: &[u8]) -> Answered<T> {
    serde_json::from_slice(payload).map_err(|error| Failure::new(unreadable(op, error)))
}
