//! One handle on Redis, whatever stands behind it: it connects, sends, and connects again.
//!
//! A call that meets a connection which broke while it was idle opens one new connection and
//! repeats itself once; every other failure is the caller's to repeat. A connection that failed
//! is never used again: the next call opens another, so that an outage of any length ends without
//! a restart. That includes one that only stopped answering: TCP alone would notice that after a
//! quarter of an hour.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use expirer_core::{Error, Result};
use redis::aio::PubSub;
use redis::{Cmd, FromRedisValue, RedisError, Value};
use tokio::sync::Mutex;

use super::error::{classify, unreadable};
use super::join::join_all;
use super::script::{Call, Script, pipeline, with_text};
use super::target::{Link, Target};
use super::url::Options;

/// How long one answer may take: less than the shortest step of a loop (2 s), since a caller that
/// gives up first would leave a connection that no longer answers in place.
const RESPONSE_MAX: Duration = Duration::from_millis(1500);
/// The most calls in one pipeline; more are sent in several, one after the other.
const PIPELINE_MAX: usize = 64;

/// A handle on one server or cluster. Calls from any number of tasks share its connection.
pub(crate) struct Connection {
    target: Target,
    place: String,
    response: Duration,
    slot: Mutex<Slot>,
    /// How many attempts to connect have failed: who waited for one takes its result.
    failures: AtomicU64,
    turn: AtomicU64,
}

#[derive(Default)]
struct Slot {
    link: Option<Link>,
    /// Tells a connection from the one before.
    generation: u64,
    failure: Option<RedisError>,
}

/// A connection as one call sees it.
struct Lent {
    link: Link,
    generation: u64,
    is_new: bool,
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("place", &self.place).finish_non_exhaustive()
    }
}

impl Connection {
    /// Connects.
    ///
    /// # Errors
    /// [`Invalid`](expirer_core::ErrorKind::Invalid) for certificates that cannot be read, and
    /// what connecting gives.
    pub(crate) async fn open(options: &Options) -> Result<Self> {
        let target = Target::new(options, RESPONSE_MAX)?;
        let connection = Self::lazy(target, options.place(), RESPONSE_MAX);
        connection.lend("connect").await?;
        Ok(connection)
    }

    /// A handle with a connection of its own, for commands that block for up to `block`. It
    /// connects with its first call.
    pub(crate) fn blocking(&self, options: &Options, block: Duration) -> Result<Self> {
        let response = block + RESPONSE_MAX;
        Ok(Self::lazy(Target::new(options, response)?, self.place.clone(), response))
    }

    fn lazy(target: Target, place: String, response: Duration) -> Self {
        let slot = Mutex::default();
        Self { target, place, response, slot, failures: AtomicU64::new(0), turn: AtomicU64::new(0) }
    }

    pub(crate) const fn is_cluster(&self) -> bool {
        self.target.is_cluster()
    }

    /// The addresses, for people.
    pub(crate) fn place(&self) -> &str {
        &self.place
    }

    /// Sends one call and reads its answer.
    ///
    /// # Errors
    /// What the server or the connection says; `Corrupt` for an answer of another shape.
    pub(crate) async fn call<T: FromRedisValue>(&self, op: &'static str, call: Call) -> Result<T> {
        let mut answers = self.run(op, vec![call]).await;
        let answer = answers.pop().unwrap_or(Ok(Value::Nil))?;
        redis::from_redis_value(answer).map_err(|error| unreadable(op, error))
    }

    /// Sends calls, pipelined, and gives one answer for each, in order.
    ///
    /// They may run in any order: those of several hash tags run beside each other in a cluster,
    /// and a call of a script that the server had forgotten is repeated after the others. A call
    /// that has to come after another is sent once that one is answered.
    pub(crate) async fn run(&self, op: &'static str, calls: Vec<Call>) -> Vec<Result<Value>> {
        let mut answers: Vec<_> = calls.iter().map(|_| None).collect();
        let groups = self.grouped(calls);
        let sent = groups
            .into_iter()
            .map(|(places, calls)| async move { (places, self.run_group(op, calls).await) });
        for (places, group) in join_all(sent).await {
            for (place, answer) in places.into_iter().zip(group) {
                answers[place] = Some(answer);
            }
        }
        let missing = || Err(unreadable(op, "fewer answers than calls"));
        answers.into_iter().map(|answer| answer.unwrap_or_else(missing)).collect()
    }

    /// Opens a connection for subscriptions: in a cluster, to another node each time.
    pub(crate) async fn subscriber(&self, op: &'static str) -> Result<PubSub> {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let opened = self.target.subscriber(usize::try_from(turn).unwrap_or(0)).await;
        opened.map_err(|error| self.classify(op, &error))
    }

    /// What an error of the client means to a caller.
    pub(crate) fn classify(&self, op: &'static str, error: &RedisError) -> Error {
        classify(op, &self.place, error)
    }

    /// One group in a node; in a cluster, one for each hash tag.
    fn grouped(&self, calls: Vec<Call>) -> Vec<(Vec<usize>, Vec<Call>)> {
        if !self.is_cluster() {
            return vec![((0..calls.len()).collect(), calls)];
        }
        let mut groups = BTreeMap::<String, (Vec<usize>, Vec<Call>)>::new();
        for (place, call) in calls.into_iter().enumerate() {
            let (places, group) = groups.entry(call.tag().to_owned()).or_default();
            places.push(place);
            group.push(call);
        }
        groups.into_values().collect()
    }

    async fn run_group(&self, op: &'static str, calls: Vec<Call>) -> Vec<Result<Value>> {
        let scripts: Vec<_> = calls.iter().map(Call::script).collect();
        let cmds: Vec<Cmd> = calls.into_iter().map(Call::into_cmd).collect();
        let mut answers = Vec::with_capacity(cmds.len());
        for (cmds, scripts) in cmds.chunks(PIPELINE_MAX).zip(scripts.chunks(PIPELINE_MAX)) {
            match self.send(op, cmds).await {
                Ok(part) => answers.extend(self.with_scripts(op, part, cmds, scripts).await),
                Err(error) => answers.extend(cmds.iter().map(|_| Err(error.clone()))),
            }
        }
        answers
    }

    /// Repeats, with their whole text, the calls of scripts that the server does not know: it was
    /// restarted, flushed, or took over from another.
    async fn with_scripts(
        &self,
        op: &'static str,
        mut answers: Vec<Value>,
        cmds: &[Cmd],
        scripts: &[Option<&'static Script>],
    ) -> Vec<Result<Value>> {
        let places: Vec<usize> =
            (0..answers.len()).filter(|at| is_unknown(&answers[*at])).collect();
        let whole = |at: &usize| scripts[*at].map(|script| with_text(&cmds[*at], script));
        let again: Vec<Cmd> = places.iter().filter_map(whole).collect();
        if again.len() == places.len() && !again.is_empty() {
            match self.send(op, &again).await {
                Ok(second) => {
                    for (place, answer) in places.into_iter().zip(second) {
                        answers[place] = answer;
                    }
                }
                Err(error) => return answers.iter().map(|_| Err(error.clone())).collect(),
            }
        }
        answers.into_iter().map(|answer| self.read(op, answer)).collect()
    }

    fn read(&self, op: &'static str, answer: Value) -> Result<Value> {
        match answer {
            Value::ServerError(error) => Err(self.classify(op, &error.into())),
            answer => Ok(answer),
        }
    }

    /// Sends one pipeline; once more on a new connection if the old one had broken.
    async fn send(&self, op: &'static str, cmds: &[Cmd]) -> Result<Vec<Value>> {
        let pipeline = pipeline(cmds.iter().cloned());
        loop {
            let mut lent = self.lend(op).await?;
            let sent = lent.link.send(&pipeline, cmds.len()).await;
            let Err(error) = sent else { return sent.map_err(|error| self.classify(op, &error)) };
            if error.is_io_error() || error.is_unrecoverable_error() {
                self.discard(lent.generation).await;
                if !lent.is_new && !error.is_timeout() {
                    continue;
                }
            }
            return Err(self.classify(op, &error));
        }
    }

    /// The connection; opens one where there is none.
    async fn lend(&self, op: &'static str) -> Result<Lent> {
        let seen = self.failures.load(Ordering::SeqCst);
        let mut slot = self.slot.lock().await;
        let generation = slot.generation;
        if let Some(link) = slot.link.clone() {
            return Ok(Lent { link, generation, is_new: false });
        }
        if let (Some(failure), true) = (&slot.failure, seen != self.failures.load(Ordering::SeqCst))
        {
            return Err(self.classify(op, failure));
        }
        let opened = self.target.open(self.response).await;
        slot.generation += 1;
        match opened {
            Ok(link) => {
                (slot.link, slot.failure) = (Some(link.clone()), None);
                Ok(Lent { link, generation: slot.generation, is_new: true })
            }
            Err(error) => {
                self.failures.fetch_add(1, Ordering::SeqCst);
                let failure = self.classify(op, &error);
                slot.failure = Some(error);
                Err(failure)
            }
        }
    }

    async fn discard(&self, generation: u64) {
        let mut slot = self.slot.lock().await;
        if slot.generation == generation {
            slot.link = None;
        }
    }
}

fn is_unknown(answer: &Value) -> bool {
    matches!(answer, Value::ServerError(error) if error.code() == "NOSCRIPT")
}
