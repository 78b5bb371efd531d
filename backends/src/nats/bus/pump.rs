//! Pulling from consumers, on a task of the backend's own: what a pull brings stays here when the
//! call that wanted it is dropped.
//!
//! A pull takes what is there, or else waits at the server for what comes first. A member gives back
//! what nobody fetches in good time; a tail keeps it.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_nats::{Message, StatusCode, Subscriber};
use event_listener::Event;
use expirer_core::{Result, Timestamp};
use futures_lite::{StreamExt, future};
use serde_json::json;

use crate::leaving::Leaver;
use crate::nats::connection::Connection;

/// How long one pull waits at the server: also how soon it is noticed that a server has lost it
/// (2.9 does not say when a consumer is deleted).
const PULL_MAX: Duration = Duration::from_secs(3);
/// A pull for less is not worth it.
const PULL_MIN: Duration = Duration::from_millis(20);
/// How long the rest of what a pull takes may be on its way before the first of it is handed over.
const BURST_MAX: Duration = Duration::from_millis(50);
/// Pause after a pull that the server ended at once.
const PAUSE: Duration = Duration::from_millis(100);
/// The most messages of one pull.
const BATCH_MAX: usize = 4096;

/// A message that came, and when.
#[derive(Debug)]
pub(super) struct Came {
    /// The place of its consumer.
    pub(super) seat: usize,
    pub(super) at: Timestamp,
    pub(super) message: Message,
}

/// What a call waits for, and until when.
#[derive(Clone, Copy, Debug)]
pub(super) struct Want {
    pub(super) max: usize,
    pub(super) wait: Duration,
    pub(super) deadline: Timestamp,
}

/// What came of waiting.
#[derive(Debug)]
pub(super) enum Next {
    Came(Vec<Came>),
    Nothing,
    /// The consumer at this place may be gone: see to it, and [say so](Pump::mended).
    Broken(usize),
}

/// Pulls from some consumers. Dropped, it gives back what came in.
#[derive(Debug)]
pub(super) struct Pump {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    connection: Arc<Connection>,
    inbox: String,
    /// How long a message may lie here; for ever, where it cannot be given back.
    fresh: Option<Duration>,
    state: Mutex<State>,
    changed: Event,
    is_over: AtomicBool,
    over: Event,
}

#[derive(Debug)]
struct State {
    lines: Vec<Line>,
    ready: VecDeque<Came>,
    number: u64,
}

/// One consumer.
#[derive(Debug)]
struct Line {
    wire: String,
    /// Its stream and name.
    target: String,
    pull: Option<Pull>,
    /// The number of the last pull that ended.
    ended: u64,
    /// No pull before then.
    rests_until: Timestamp,
    is_broken: bool,
}

/// A pull at the server.
#[derive(Debug)]
struct Pull {
    number: u64,
    begun: Timestamp,
    left: usize,
    first_came: Option<Timestamp>,
    /// Whether it waits for something to come.
    is_waiting: bool,
    /// When it is given up for lost.
    lost_at: Timestamp,
    generation: u64,
}

/// What is to be done next.
enum Step {
    Return(Next),
    Send(Vec<(String, String, Vec<u8>)>),
    Wait(Timestamp),
    Lost,
}

impl Want {
    pub(super) fn new(max: usize, wait: Duration, now: Timestamp) -> Self {
        Self { max: max.max(1), wait, deadline: now + wait }
    }
}

impl Pump {
    /// Subscribes to the answers for consumers, each given by its subject on the wire and by its
    /// stream and name.
    pub(super) async fn open(
        op: &'static str,
        connection: &Arc<Connection>,
        fresh: Option<Duration>,
        targets: Vec<(String, String)>,
        leaver: Leaver,
    ) -> Result<Self> {
        let inbox = connection.client().new_inbox();
        let subscriber = connection.subscribe(op, format!("{inbox}.>")).await?;
        let line = |(wire, target)| Line {
            wire,
            target,
            pull: None,
            ended: 0,
            rests_until: Timestamp::MIN,
            is_broken: false,
        };
        let lines = targets.into_iter().map(line).collect();
        let state = Mutex::new(State { lines, ready: VecDeque::new(), number: 0 });
        let connection = Arc::clone(connection);
        let (changed, is_over, over) = (Event::new(), AtomicBool::new(false), Event::new());
        let inner = Arc::new(Inner { connection, inbox, fresh, state, changed, is_over, over });
        let reader = Arc::clone(&inner);
        tokio::spawn(async move {
            reader.read(subscriber).await;
            drop(leaver);
        });
        Ok(Self { inner })
    }

    /// Waits for messages. Cancel safe.
    ///
    /// # Errors
    /// That there is no connection when the wait is over, or that pulling is forbidden.
    pub(super) async fn next(&self, op: &'static str, want: &mut Want) -> Result<Next> {
        let inner = &self.inner;
        let (clock, begun) = (inner.connection.clock(), inner.lock().number);
        loop {
            let (changed, connected) = (inner.changed.listen(), inner.connection.changed());
            let now = clock.now();
            // So that a clock that is set back does not prolong the wait.
            want.deadline = want.deadline.min(now + want.wait);
            match inner.look(want, begun, now) {
                Step::Return(Next::Broken(seat)) => {
                    let next = inner.lock().lines[seat].next();
                    inner.connection.check_allowed(op, &next)?;
                    inner.connection.check_allowed(op, &inner.inbox)?;
                    return Ok(Next::Broken(seat));
                }
                Step::Return(next) => return Ok(next),
                Step::Send(pulls) => inner.send(pulls).await,
                Step::Wait(until) => {
                    let woken = future::or(changed, connected);
                    future::or(woken, clock.sleep_until(until)).await;
                }
                Step::Lost => return Err(inner.connection.lost(op)),
            }
        }
    }

    /// The consumer at this place is there (again).
    pub(super) fn mended(&self, seat: usize, target: String) {
        let line = &mut self.inner.lock().lines[seat];
        (line.is_broken, line.target) = (false, target);
    }
}

impl Drop for Pump {
    fn drop(&mut self) {
        self.inner.is_over.store(true, Ordering::SeqCst);
        self.inner.over.notify(usize::MAX);
    }
}

impl Inner {
    fn look(&self, want: &Want, begun: u64, now: Timestamp) -> Step {
        let mut state = self.lock();
        let generation = self.connection.generation();
        let is_connected = self.connection.is_connected();
        state.lines.iter_mut().for_each(|line| line.expire(now, generation, self.fresh.is_none()));
        if state.is_ready(want.max, now) {
            return Step::Return(Next::Came(state.take(want.max)));
        }
        if !is_connected {
            return if now < want.deadline { Step::Wait(want.deadline) } else { Step::Lost };
        }
        if let Some(seat) = state.lines.iter().position(|line| line.is_broken) {
            return Step::Return(Next::Broken(seat));
        }
        let pulls = self.pulls(&mut state, want, begun, now, generation);
        if !pulls.is_empty() {
            return Step::Send(pulls);
        }
        if now >= want.deadline && state.lines.iter().all(|line| !line.owes_an_answer()) {
            return Step::Return(Next::Nothing);
        }
        Step::Wait(state.wakes_at(want, now))
    }

    /// Pulls for consumers that have none.
    fn pulls(
        &self,
        state: &mut State,
        want: &Want,
        begun: u64,
        now: Timestamp,
        generation: u64,
    ) -> Vec<(String, String, Vec<u8>)> {
        let left = want.deadline.since(now);
        let batch = (want.max / state.lines.len().max(1)).clamp(1, BATCH_MAX);
        let mut pulls = Vec::new();
        let State { lines, number, .. } = state;
        for (seat, line) in lines.iter_mut().enumerate() {
            let is_asked = left < PULL_MIN && line.ended > begun;
            if line.pull.is_some() || is_asked || now < line.rests_until {
                continue;
            }
            *number += 1;
            let expires = (left >= PULL_MIN).then(|| left.min(PULL_MAX));
            line.pull = Some(Pull {
                number: *number,
                begun: now,
                left: batch,
                first_came: None,
                is_waiting: expires.is_some(),
                lost_at: now + expires.unwrap_or_default() + self.connection.answer_within(),
                generation,
            });
            let mut body = json!({ "batch": batch, "no_wait": true });
            if let Some(expires) = expires {
                body["expires"] = json!(u64::try_from(expires.as_nanos()).unwrap_or(u64::MAX));
            }
            let call = line.next();
            let reply = format!("{}.{seat}.{number}", self.inbox);
            pulls.push((call, reply, body.to_string().into_bytes()));
        }
        pulls
    }

    async fn send(&self, pulls: Vec<(String, String, Vec<u8>)>) {
        for (call, reply, body) in pulls {
            // What does not go out is given up for lost after a while.
            drop(self.connection.client().publish_with_reply(call, reply, body.into()).await);
        }
    }

    /// Reads until the pump or the client has ended.
    async fn read(self: Arc<Self>, mut subscriber: Subscriber) {
        loop {
            let over = self.over.listen();
            if self.is_over.load(Ordering::SeqCst) {
                return self.end(subscriber).await;
            }
            let stale_at = self.stale_at();
            let wake = future::or(over, async {
                match stale_at {
                    Some(at) => self.connection.clock().sleep_until(at).await,
                    None => future::pending().await,
                }
            });
            let next = async { Some(subscriber.next().await) };
            match future::or(next, async {
                wake.await;
                None
            })
            .await
            {
                Some(Some(message)) => self.take_in(message),
                Some(None) => return,
                None => self.give_back(self.stale()).await,
            }
        }
    }

    /// Gives back all that came in, and what is on its way.
    async fn end(&self, mut subscriber: Subscriber) {
        while self.lock().lines.iter().any(|line| line.pull.is_some()) {
            let next = self.connection.quiet(&mut subscriber).await;
            let Some(message) = next else { break };
            self.take_in(message);
        }
        // Before the server hears of it, or it would give to our pull again what comes back.
        drop(subscriber);
        let left: Vec<Came> = self.lock().ready.drain(..).collect();
        if self.fresh.is_some() {
            self.give_back(left).await;
        }
    }

    fn take_in(&self, message: Message) {
        let now = self.connection.clock().now();
        let mut state = self.lock();
        match message.status {
            Some(status) => state.end(&self.inbox, status, &message, now),
            None => state.add(message, now),
        }
        drop(state);
        self.changed.notify(usize::MAX);
    }

    /// When the oldest message here has lain too long.
    fn stale_at(&self) -> Option<Timestamp> {
        let fresh = self.fresh?;
        self.lock().ready.front().map(|came| came.at + fresh)
    }

    fn stale(&self) -> Vec<Came> {
        let now = self.connection.clock().now();
        let mut state = self.lock();
        let is_stale = |came: &Came| self.fresh.is_some_and(|fresh| came.at + fresh <= now);
        let count = state.ready.iter().take_while(|came| is_stale(came)).count();
        state.ready.drain(..count).collect()
    }

    async fn give_back(&self, came: Vec<Came>) {
        for reply in came.into_iter().filter_map(|came| came.message.reply) {
            // Where it fails, they come again after their deadline.
            drop(self.connection.client().publish(reply, "-NAK".into()).await);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Whether there is enough, or nothing more on its way.
    fn is_ready(&self, max: usize, now: Timestamp) -> bool {
        let is_full = self.ready.len() >= max;
        is_full || !self.ready.is_empty() && !self.lines.iter().any(|line| line.is_in_burst(now))
    }

    fn take(&mut self, max: usize) -> Vec<Came> {
        let count = max.min(self.ready.len());
        self.ready.drain(..count).collect()
    }

    fn add(&mut self, message: Message, now: Timestamp) {
        let is_its = |line: &Line| line.wire == message.subject.as_str();
        let Some(seat) = self.lines.iter().position(is_its) else { return };
        self.lines[seat].count(now);
        self.ready.push_back(Came { seat, at: now, message });
    }

    /// The server has ended a pull: `INBOX.SEAT.NUMBER`.
    fn end(&mut self, inbox: &str, status: StatusCode, message: &Message, now: Timestamp) {
        let place = message.subject.strip_prefix(inbox).and_then(|rest| {
            let (seat, number) = rest.strip_prefix('.')?.split_once('.')?;
            Some((seat.parse::<usize>().ok()?, number.parse::<u64>().ok()?))
        });
        let Some((seat, number)) = place else { return };
        let Some(line) = self.lines.get_mut(seat) else { return };
        let description = message.description.as_deref().unwrap_or_default();
        line.end(number, ending(status, description), now);
    }

    /// When to look again, should nothing come.
    fn wakes_at(&self, want: &Want, now: Timestamp) -> Timestamp {
        let deadline = (now < want.deadline).then_some(want.deadline);
        let lines = self.lines.iter().flat_map(|line| {
            let burst = line.pull.as_ref().and_then(|pull| pull.first_came);
            let lost = line.pull.as_ref().map(|pull| pull.lost_at);
            let rest = (now < line.rests_until).then_some(line.rests_until);
            [burst.map(|came| came + BURST_MAX), lost, rest]
        });
        let wakes = lines.flatten().filter(|at| *at > now).chain(deadline).min();
        wakes.unwrap_or(now + PAUSE)
    }
}

/// Why the server ended a pull.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    /// There is nothing (more), or the time is over.
    Plain,
    /// The consumer has moved to another server.
    Moved,
    /// It is gone, or something else is wrong with it.
    Wrong,
}

fn ending(status: StatusCode, description: &str) -> Ending {
    match status {
        StatusCode::NOT_FOUND | StatusCode::TIMEOUT => Ending::Plain,
        _ if ["Leadership Change", "Server Shutdown"].contains(&description) => Ending::Moved,
        _ => Ending::Wrong,
    }
}

impl Line {
    /// What a pull is sent to.
    fn next(&self) -> String {
        format!("$JS.API.CONSUMER.MSG.NEXT.{}", self.target)
    }

    /// Gives up a pull that went through another connection, or whose end is overdue.
    fn expire(&mut self, now: Timestamp, generation: u64, minds_gaps: bool) {
        let Some(pull) = &self.pull else { return };
        let is_cut = pull.generation != generation;
        if is_cut || now >= pull.lost_at {
            self.is_broken = !is_cut || minds_gaps;
            self.ended = pull.number;
            self.pull = None;
        }
    }

    /// One more of what the pull may bring.
    fn count(&mut self, now: Timestamp) {
        let Some(pull) = &mut self.pull else { return };
        pull.first_came.get_or_insert(now);
        pull.left -= 1;
        if pull.left == 0 {
            self.ended = pull.number;
            self.pull = None;
        }
    }

    fn end(&mut self, number: u64, ending: Ending, now: Timestamp) {
        let Some(pull) = self.pull.take_if(|pull| pull.number == number) else { return };
        self.ended = number;
        self.is_broken = ending == Ending::Wrong;
        let is_sudden =
            pull.is_waiting && pull.first_came.is_none() && now.since(pull.begun) < PAUSE;
        if is_sudden || ending != Ending::Plain {
            self.rests_until = now + PAUSE;
        }
    }

    fn is_in_burst(&self, now: Timestamp) -> bool {
        let first = self.pull.as_ref().and_then(|pull| pull.first_came);
        first.is_some_and(|first| now < first + BURST_MAX)
    }

    /// Whether it was asked for what is there at once, and has not answered.
    fn owes_an_answer(&self) -> bool {
        self.pull.as_ref().is_some_and(|pull| !pull.is_waiting)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_millis(millis)
    }

    /// With a pull for two, of the first connection, that is given up at 100 ms.
    fn line() -> Line {
        let pull = Pull {
            number: 5,
            begun: at(0),
            left: 2,
            first_came: None,
            is_waiting: true,
            lost_at: at(100),
            generation: 1,
        };
        Line {
            wire: "order:created".to_owned(),
            target: "s.c".to_owned(),
            pull: Some(pull),
            ended: 0,
            rests_until: Timestamp::MIN,
            is_broken: false,
        }
    }

    #[test]
    fn a_pull_ends_with_its_messages_its_connection_or_its_time() {
        let mut whole = line();
        whole.count(at(1));
        assert!(whole.is_in_burst(at(2)) && !whole.is_in_burst(at(1) + BURST_MAX));
        whole.count(at(2));
        assert!(whole.pull.is_none() && whole.ended == 5 && !whole.is_in_burst(at(2)));
        for (generation, now, minds_gaps, left) in
            [(1, 99, false, (true, false)), (1, 100, false, (false, true))]
                .into_iter()
                .chain([(2, 0, false, (false, false)), (2, 0, true, (false, true))])
        {
            let mut line = line();
            line.expire(at(now), generation, minds_gaps);
            assert_eq!((line.pull.is_some(), line.is_broken), left, "{generation} {now}");
        }
    }

    #[test]
    fn the_end_of_another_pull_is_none_of_this_one() {
        let mut line = line();
        line.end(4, Ending::Wrong, at(1));
        assert!(line.pull.is_some() && !line.is_broken);
        line.end(5, Ending::Plain, at(1));
        assert!(line.pull.is_none() && line.rests_until == at(1) + PAUSE, "it ended at once");
    }

    #[test]
    fn a_server_says_in_different_words_that_a_pull_is_over() {
        let conflict = StatusCode::from_u16(409).unwrap();
        assert_eq!(ending(StatusCode::NOT_FOUND, "No Messages"), Ending::Plain);
        assert_eq!(ending(StatusCode::TIMEOUT, "Request Timeout"), Ending::Plain);
        assert_eq!(ending(conflict, "Leadership Change"), Ending::Moved);
        assert_eq!(ending(conflict, "Consumer Deleted"), Ending::Wrong);
        assert_eq!(ending(StatusCode::NO_RESPONDERS, ""), Ending::Wrong);
    }
}
