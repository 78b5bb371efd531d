//! One handle on Redis, whatever stands behind it: it connects, sends, and connects again.
//!
//! A call that meets a connection which broke while it was idle opens one new connection and
//! repeats itself once; every other failure is the caller's to repeat. A connection that failed
//! is never used again: the next call opens another, so that an outage of any length ends without
//! a restart. That includes one that only stopped answering (TCP alone would notice that after a
//! quarter of an hour), and one to a server that is no master any more: its address may be
//! another's by now.
//!
//! A cluster's client mends what broke by itself, but it does not leave a node that hangs. So an
//! answer that is missing there opens another client, and this one serves on until that is open.
//!
//! Connecting is a task of its own: it goes on when the call that began it is given up.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use expirer_core::{Error, ErrorKind, Result};
use redis::aio::PubSub;
use redis::cluster_routing::{MultipleNodeRoutingInfo, RoutingInfo};
use redis::{
    Cmd, ErrorKind as Kind, FromRedisValue, RedisError, RedisResult, ServerErrorKind, Value,
};
use tokio::sync::watch;

use super::BACKEND;
use super::error::{classify, classify_tls, unreadable};
use super::join::join_all;
use super::script::{Call, Script, pipeline, with_text};
use super::target::{Link, Patience, Target};
use super::url::Options;

/// The most calls in one pipeline; more are sent in several, one after the other.
const PIPELINE_MAX: usize = 64;

/// A handle on one server or cluster. Calls from any number of tasks share its connection.
pub(crate) struct Connection {
    target: Target,
    place: String,
    is_tls: bool,
    slot: Arc<Mutex<Slot>>,
    turn: AtomicU64,
}

#[derive(Default)]
struct Slot {
    link: Option<Link>,
    /// Tells a connection from the one before.
    generation: u64,
    /// The attempt to connect that is under way.
    opening: Option<Opening>,
}

/// What an attempt to connect gives to all who wait for it: a connection and its generation.
type Opening = watch::Receiver<Option<RedisResult<(Link, u64)>>>;

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
    /// Connects; `answer` bounds that, and each answer.
    ///
    /// # Errors
    /// [`Invalid`](expirer_core::ErrorKind::Invalid) for certificates that cannot be read, and
    /// what connecting gives.
    pub(crate) async fn open(options: &Options, answer: Duration) -> Result<Self> {
        let patience = Patience { connect: answer, answer };
        let connection = Self::lazy(options, patience)?;
        connection.lend("connect").await?;
        Ok(connection)
    }

    /// A handle with a connection of its own, for commands that block for up to `block`. It
    /// connects with its first call.
    ///
    /// # Errors
    /// As for certificates in [`open`](Self::open).
    pub(crate) fn blocking(&self, options: &Options, block: Duration) -> Result<Self> {
        let patience = self.target.patience();
        Self::lazy(options, Patience { answer: patience.answer + block, ..patience })
    }

    /// Another handle on the same, which connects with its first call and reads no file.
    pub(crate) fn another(&self) -> Self {
        let (target, place) = (self.target.clone(), self.place.clone());
        Self { target, place, is_tls: self.is_tls, slot: Arc::default(), turn: AtomicU64::new(0) }
    }

    fn lazy(options: &Options, patience: Patience) -> Result<Self> {
        let (target, place) = (Target::new(options, patience)?, options.place());
        let is_tls = options.tls.is_some();
        Ok(Self { target, place, is_tls, slot: Arc::default(), turn: AtomicU64::new(0) })
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

    /// Sends a command that needs no key to every master, and gives each one's address and answer.
    ///
    /// # Errors
    /// What a server or the connection says.
    pub(crate) async fn ask_masters(
        &self,
        op: &'static str,
        call: Call,
    ) -> Result<Vec<(String, Result<Value>)>> {
        let mut lent = self.lend(op).await?;
        let Link::Cluster(cluster) = &mut lent.link else {
            let answer = self.run(op, vec![call]).await.pop().unwrap_or(Ok(Value::Nil));
            return Ok(vec![(self.place.clone(), answer)]);
        };
        let masters = RoutingInfo::MultiNode((MultipleNodeRoutingInfo::AllMasters, None));
        let answers = cluster.route_command(call.into_cmd(), masters).await;
        let answers = answers.map_err(|error| self.classify(op, &error))?;
        let answers: Vec<(String, Value)> =
            redis::from_redis_value(answers).map_err(|error| unreadable(op, error))?;
        Ok(answers.into_iter().map(|(node, answer)| (node, self.read(op, answer))).collect())
    }

    /// Opens a connection for subscriptions: in a cluster, to another node each time.
    pub(crate) async fn subscriber(&self, op: &'static str) -> Result<PubSub> {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let opened = self.target.subscriber(usize::try_from(turn).unwrap_or(0)).await;
        opened.map_err(|error| self.classify(op, &error))
    }

    /// What an error of the client means to a caller.
    pub(crate) fn classify(&self, op: &'static str, error: &RedisError) -> Error {
        let is_redirect =
            matches!(error.kind(), Kind::Server(ServerErrorKind::Moved | ServerErrorKind::Ask));
        if is_redirect && !self.is_cluster() {
            let text = format!(
                "{}: this is a node of a cluster, and the key is on another one: write \
                 redis+cluster:// (or rediss+cluster://) instead of redis:// ({error})",
                self.place
            );
            return Error::new(ErrorKind::Unsupported, BACKEND, op, text);
        }
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
        answers: Vec<Value>,
        cmds: &[Cmd],
        scripts: &[Option<&'static Script>],
    ) -> Vec<Result<Value>> {
        let whole = |place: usize| scripts[place].map(|script| with_text(&cmds[place], script));
        let unknown = (0..answers.len()).filter(|place| is_unknown(&answers[*place]));
        let (places, again): (Vec<usize>, Vec<Cmd>) =
            unknown.filter_map(|place| Some((place, whole(place)?))).unzip();
        let mut answers: Vec<_> = answers.into_iter().map(|answer| self.read(op, answer)).collect();
        if again.is_empty() {
            return answers;
        }
        match self.send(op, &again).await {
            Ok(second) => {
                for (place, answer) in places.into_iter().zip(second) {
                    answers[place] = self.read(op, answer);
                }
            }
            Err(error) => places.into_iter().for_each(|place| answers[place] = Err(error.clone())),
        }
        answers
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
            let error = match lent.link.send(&pipeline, cmds.len()).await {
                Ok(answers) => {
                    if !self.is_cluster() && answers.iter().any(is_of_no_master) {
                        self.discard(lent.generation);
                    }
                    return Ok(answers);
                }
                Err(error) => error,
            };
            if error.is_timeout() && self.is_cluster() {
                self.renew(lent.generation);
            } else if error.is_io_error() || error.is_unrecoverable_error() {
                self.discard(lent.generation);
                if !lent.is_new && !error.is_timeout() {
                    continue;
                }
            }
            return Err(self.classify(op, &error));
        }
    }

    /// The connection; opens one where there is none.
    async fn lend(&self, op: &'static str) -> Result<Lent> {
        let mut opening = {
            let mut slot = lock(&self.slot);
            if let Some(link) = slot.link.clone() {
                return Ok(Lent { link, generation: slot.generation, is_new: false });
            }
            self.opening(&mut slot)
        };
        let opened = opening.wait_for(Option::is_some).await.ok().and_then(|opened| opened.clone());
        match opened.unwrap_or_else(|| Err(io::Error::from(io::ErrorKind::NotConnected).into())) {
            Ok((link, generation)) => Ok(Lent { link, generation, is_new: true }),
            Err(error) if self.is_tls => Err(classify_tls(op, &self.place, &error)),
            Err(error) => Err(self.classify(op, &error)),
        }
    }

    /// The attempt to connect that is under way, or a new one.
    fn opening(&self, slot: &mut Slot) -> Opening {
        // One without its sender was ended together with the runtime that it ran on.
        let running = slot.opening.as_ref().filter(|opening| opening.has_changed().is_ok());
        if let Some(opening) = running {
            return opening.clone();
        }
        let (sender, opening) = watch::channel(None);
        slot.opening = Some(opening.clone());
        let (target, slot) = (self.target.clone(), Arc::clone(&self.slot));
        tokio::spawn(async move {
            let opened = target.open().await;
            let opened = lock(&slot).end_attempt(opened);
            sender.send_replace(Some(opened));
        });
        opening
    }

    fn discard(&self, generation: u64) {
        let mut slot = lock(&self.slot);
        if slot.generation == generation {
            slot.link = None;
        }
    }

    /// Opens another connection, which takes the place of this one.
    fn renew(&self, generation: u64) {
        let mut slot = lock(&self.slot);
        if slot.generation == generation {
            self.opening(&mut slot);
        }
    }
}

impl Slot {
    fn end_attempt(&mut self, opened: RedisResult<Link>) -> RedisResult<(Link, u64)> {
        self.opening = None;
        let link = opened?;
        self.generation += 1;
        self.link = Some(link.clone());
        Ok((link, self.generation))
    }
}

fn lock(slot: &Mutex<Slot>) -> MutexGuard<'_, Slot> {
    slot.lock().unwrap_or_else(PoisonError::into_inner)
}

fn is_unknown(answer: &Value) -> bool {
    matches!(answer, Value::ServerError(error) if error.code() == "NOSCRIPT")
}

/// Whether a server says that it is none that serves, at least not now.
fn is_of_no_master(answer: &Value) -> bool {
    const CODES: [&str; 4] = ["READONLY", "MASTERDOWN", "LOADING", "CLUSTERDOWN"];
    let Value::ServerError(error) = answer else { return false };
    // Before version 7, an error within a script has its code in the middle of its text.
    let within = error.details().unwrap_or_default();
    CODES.contains(&error.code()) || (error.code() == "ERR" && within.contains("READONLY "))
}

#[cfg(test)]
mod tests;
