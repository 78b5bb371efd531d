//! The task that feeds the hold of one handle: asks the server for timers while somebody leases,
//! tells it of those that stay longer, and hands back what nobody wants.
//!
//! A pull cannot be taken back, so it runs here and not in the call that waits.

use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream::{self, Context};
use async_nats::{Message, StatusCode, Subject, SubscribeError, Subscriber};
use expirer_core::{Clock, OrderId, Timestamp};
use futures_lite::{StreamExt, future};
use serde_json::json;

use super::place::{CONSUMER, nanos};
use super::store::{Last, Put, Store};
use super::wire::{EARLY, Incoming};
use crate::hold::Hold;
use crate::leaving::Leaver;
use crate::nats::connection::Outgoing;
use crate::nats::url::Via;

/// How long the server answers one pull: then it is asked again, so that one that has forgotten
/// us with its connection is not waited for.
const PULL: Duration = Duration::from_secs(1);
/// How much longer an answer may take.
const PULL_LATE: Duration = Duration::from_millis(500);
/// How often to look whether something has to be handed back or told.
const TICK: Duration = Duration::from_millis(500);
/// Pause after a failure.
const PAUSE: Duration = Duration::from_millis(100);
/// A timer is put off by redelivery for no longer than this at a time: a clock that is set is
/// noticed by then.
const PUT_OFF_MAX: Duration = Duration::from_secs(3600);
/// What arrives so much earlier than it is visible was cut off at the horizon.
const CUT_OFF: Duration = Duration::from_secs(24 * 3600);

/// So many timers are told of in one go.
const TOLD_MAX: usize = 1024;

const PROGRESS: &[u8] = b"+WPI";
const TERM: &[u8] = b"+TERM";

/// Feeds one hold.
#[derive(Debug)]
pub(super) struct Feed {
    store: Arc<Store>,
    hold: Arc<Hold<Subject>>,
    context: Context,
    clock: Arc<dyn Clock>,
    inbox: String,
    pulls: u64,
    _leaving: Leaver,
}

/// How a pull went on.
enum Came {
    Timer(Message),
    /// The server has ended it.
    End,
    /// There is nobody to pull from.
    Nobody,
}

impl Feed {
    pub(super) fn new(store: &Arc<Store>, hold: &Arc<Hold<Subject>>, leaving: Leaver) -> Self {
        let client = store.connection.client();
        Self {
            store: Arc::clone(store),
            hold: Arc::clone(hold),
            context: jetstream::new(client.clone()),
            clock: Arc::clone(store.connection.clock()),
            inbox: client.new_inbox(),
            pulls: 0,
            _leaving: leaving,
        }
    }

    /// Runs until the hold is closed, and hands back what it holds.
    pub(super) async fn run(mut self) {
        while !self.hold.is_closed() {
            match self.subscribe().await {
                Ok(mut messages) => self.serve(&mut messages).await,
                Err(_) => self.pause().await,
            }
        }
        self.hand_back().await;
    }

    async fn subscribe(&self) -> Result<Subscriber, SubscribeError> {
        self.store.connection.client().subscribe(format!("{}.*", self.inbox)).await
    }

    async fn serve(&mut self, messages: &mut Subscriber) {
        while !self.hold.is_closed() {
            self.tell_of_what_stays().await;
            let wanted = self.hold.wanted();
            if wanted > 0 {
                if !self.pull(messages, wanted).await {
                    return;
                }
                continue;
            }
            if self.hold.is_idle() {
                self.hand_back().await;
            }
            self.hold.changed(TICK).await;
        }
        // What was on its way when the hold was closed.
        self.drain(messages).await;
    }

    /// Asks for timers once and takes in what comes; `false` if the subscription has ended.
    async fn pull(&mut self, messages: &mut Subscriber, wanted: usize) -> bool {
        self.pulls += 1;
        let reply = format!("{}.{}", self.inbox, self.pulls);
        let next_call = format!("$JS.API.CONSUMER.MSG.NEXT.{}.{CONSUMER}", self.store.names.stream);
        let ask = json!({ "batch": wanted, "expires": nanos(PULL) }).to_string();
        let client = self.store.connection.client();
        if client.publish_with_reply(next_call.clone(), reply.clone(), ask.into()).await.is_err() {
            self.pause().await;
            return true;
        }
        let begun = self.clock.now();
        let until = begun + PULL + PULL_LATE;
        let mut left = wanted;
        while left > 0 && !self.hold.is_closed() {
            let Some(next) = self.next(messages, until).await else {
                self.look_for_trouble(&next_call);
                return true;
            };
            let Some(message) = next else { return false };
            match came(message, &reply) {
                Some(Came::Timer(message)) => {
                    self.store.trouble.clear();
                    left -= 1;
                    self.take_in(message).await;
                }
                Some(Came::End) => {
                    self.store.trouble.clear();
                    if self.clock.now() < begun + PAUSE && left == wanted {
                        // It will not have us now.
                        self.pause().await;
                    }
                    return true;
                }
                Some(Came::Nobody) => {
                    self.mend().await;
                    return true;
                }
                None => {}
            }
        }
        true
    }

    /// The next message, `None` in place of it at the end; nothing if it does not come in time, or
    /// the hold is closed.
    async fn next(&self, messages: &mut Subscriber, until: Timestamp) -> Option<Option<Message>> {
        let next = self.store.connection.within(until, messages.next());
        future::or(next, async {
            self.hold.closed().await;
            None
        })
        .await
    }

    async fn take_in(&self, message: Message) {
        let handle = message.reply.clone();
        let Some(incoming) = self.store.names.read(&self.context, message) else {
            // It stays in the stream, for an operator to look at, and comes no more.
            return self.settle(handle, TERM).await;
        };
        let now = self.clock.now();
        let visible_at = incoming.arrival.visible_at;
        match self.store.names.via {
            Via::Schedule if visible_at > incoming.stored_at + CUT_OFF => {
                self.schedule_on(incoming).await;
            }
            Via::Redelivery if visible_at > now + EARLY * 2 => {
                let delay = (visible_at - EARLY).since(now).min(PUT_OFF_MAX);
                self.settle(handle, &nak(delay)).await;
            }
            _ => {
                // Its timer has changed: the next message of it says how.
                let useless = self.hold.take_in(incoming.arrival);
                self.settle(useless, TERM).await;
            }
        }
    }

    /// Puts off again what was cut off at the horizon; if that fails, it comes again.
    async fn schedule_on(&self, Incoming { arrival, body, .. }: Incoming) {
        let last = Some(Last::handed_over(arrival.version));
        let put = Put { id: arrival.timer.id, body, last };
        // Where it has changed since, its newer message stands for it.
        if let Some(Ok(_)) = self.store.put_all("schedule", &[put]).await.pop() {
            drop(self.store.remove("schedule", vec![arrival.version]).await);
        }
    }

    async fn settle(&self, handle: Option<Subject>, how: &[u8]) {
        if let Some(handle) = handle {
            let client = self.store.connection.client();
            // Not said, the server finds out by itself, a little later.
            drop(client.publish(handle, how.to_vec().into()).await);
        }
    }

    async fn hand_back(&self) {
        for handle in self.hold.hand_back() {
            self.settle(Some(handle), &nak(Duration::ZERO)).await;
        }
    }

    /// Gives back what was on its way to us.
    async fn drain(&self, messages: &mut Subscriber) {
        let until = self.clock.now() + PULL;
        let mut late = Vec::new();
        while self.clock.now() < until
            && let Some(message) = self.store.connection.quiet(messages).await
        {
            late.extend(message.reply.filter(|_| message.status.is_none()));
        }
        // Before the server hears of it, or it would give to our pull again what comes back.
        drop(messages.unsubscribe().await);
        for handle in late {
            self.settle(Some(handle), &nak(Duration::ZERO)).await;
        }
    }

    /// Tells the server of what is held for long, and forgets what it may have given away.
    async fn tell_of_what_stays(&self) {
        let (_, held) = self.hold.to_prolong();
        for held in held.chunks(TOLD_MAX) {
            let told = self.clock.now();
            if self.tell(held).await {
                self.hold.prolonged(told, held.iter().map(|(id, version, _)| (id, *version)));
            }
        }
    }

    /// Whether the server has heard it: it takes what one connection says in its order, so that an
    /// answer to the last stands for all.
    async fn tell(&self, held: &[(OrderId, u64, Subject)]) -> bool {
        let Some(((.., last), others)) = held.split_last() else { return true };
        let generation = self.store.connection.generation();
        for (.., handle) in others {
            self.settle(Some(handle.clone()), PROGRESS).await;
        }
        let (subject, payload) = (last.to_string(), PROGRESS.to_vec());
        let last = Outgoing { subject, headers: None, payload };
        let answer = self.store.connection.call("lease", last).await;
        answer.is_ok() && generation == self.store.connection.generation()
    }

    async fn mend(&self) {
        if let Err(error) = self.store.mend().await {
            self.store.trouble.set(error);
            self.pause().await;
        }
    }

    /// Why the server did not answer a pull, as far as it has said so.
    fn look_for_trouble(&self, next_call: &str) {
        let connection = &self.store.connection;
        let is_allowed = [next_call, &self.inbox].into_iter();
        let mut refused = is_allowed.filter_map(|to| connection.check_allowed("lease", to).err());
        if let Some(error) = refused.next() {
            self.store.trouble.set(error);
        }
    }

    async fn pause(&self) {
        self.clock.sleep_until(self.clock.now() + PAUSE).await;
    }
}

/// What a message means to the pull with this reply subject; nothing for the end of an older one.
fn came(message: Message, reply: &str) -> Option<Came> {
    let is_ours = message.subject.as_str() == reply;
    match message.status {
        None => Some(Came::Timer(message)),
        _ if !is_ours => None,
        Some(StatusCode::NO_RESPONDERS) => Some(Came::Nobody),
        Some(_) if is_deleted(&message) => Some(Came::Nobody),
        Some(StatusCode::IDLE_HEARTBEAT) => None,
        Some(_) => Some(Came::End),
    }
}

fn is_deleted(message: &Message) -> bool {
    message.description.as_deref().is_some_and(|text| text.contains("Consumer Deleted"))
}

fn nak(delay: Duration) -> Vec<u8> {
    if delay.is_zero() {
        return b"-NAK".to_vec();
    }
    format!("-NAK {{\"delay\": {}}}", nanos(delay)).into_bytes()
}
