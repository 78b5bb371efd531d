//! Which stream stores a subject: one that is there, or one that is made.
//!
//! A stream that covers a subject is taken as it is. Else the subject is added to our own stream,
//! which is made where there is none: one for events, one for dead letters.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use expirer_core::{Error, ErrorKind, Result, Subject};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::nats::BACKEND;
use crate::nats::connection::{Answered, Connection};
use crate::nats::error::{Failure, NAME_IN_USE, STREAM_NOT_FOUND, SUBJECTS_OVERLAP};
use crate::nats::url::Options;

/// What the stream is called unless the URL says otherwise.
pub(super) const STREAM: &str = "ticketing";
/// How long a repeat of a message is recognised: NATS's own default.
const DUPLICATES_NANOS: u64 = 120_000_000_000;
/// How often something is looked up and made before the caller is told: another process may make
/// the same at the same time, and a cluster may be slow.
pub(super) const TRIES: usize = 4;

/// The streams of one bus.
#[derive(Debug)]
pub(super) struct Streams {
    connection: Arc<Connection>,
    prefix: Option<String>,
    events: String,
    replicas: usize,
    known: Mutex<BTreeMap<Subject, String>>,
    /// Held while streams are made: they are made one after another.
    making: tokio::sync::Mutex<()>,
}

#[derive(Debug, Deserialize)]
struct Names {
    #[serde(default)]
    streams: Option<Vec<String>>,
}

/// A stream as the server describes it. The configuration is kept whole: what a newer server added
/// has to be sent back as it was.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Described {
    pub(super) config: Value,
    pub(super) created: String,
    pub(super) state: Counted,
    /// The server's time (2.10 and later).
    #[serde(default)]
    pub(super) ts: Option<String>,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Counted {
    pub(super) last_seq: u64,
    pub(super) last_ts: String,
}

impl Described {
    fn subjects(&self) -> Vec<String> {
        let subjects = self.config["subjects"].as_array().into_iter().flatten();
        subjects.filter_map(|subject| subject.as_str().map(str::to_owned)).collect()
    }

    /// How many servers keep a copy.
    pub(super) fn replicas(&self) -> u64 {
        self.config["num_replicas"].as_u64().unwrap_or(1)
    }
}

impl Streams {
    pub(super) fn new(connection: Arc<Connection>, options: &Options) -> Self {
        let (prefix, stream) = (options.prefix.clone(), options.stream.as_deref());
        let stream = stream.unwrap_or(STREAM);
        Self {
            connection,
            events: prefix.as_ref().map_or_else(|| stream.to_owned(), |p| format!("{p}-{stream}")),
            prefix,
            replicas: options.replicas.unwrap_or(1),
            known: Mutex::default(),
            making: tokio::sync::Mutex::default(),
        }
    }

    /// A subject as it is on the wire.
    pub(super) fn wire(&self, subject: &Subject) -> String {
        match &self.prefix {
            Some(prefix) => format!("{prefix}.{subject}"),
            None => subject.to_string(),
        }
    }

    /// The subject of the messages that tell the time of a stream.
    pub(super) fn clock(&self, stream: &str) -> String {
        let prefix = self.prefix.as_ref().map(|prefix| format!("{prefix}.")).unwrap_or_default();
        format!("{prefix}expirer:clock:{stream}")
    }

    /// The stream that stores a subject; looked up once, unless it is [forgotten](Self::forget).
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] or [`ErrorKind::Corrupt`] for a stream that will not do, and what
    /// a call gives.
    pub(super) async fn of(&self, op: &'static str, subject: &Subject) -> Result<String> {
        let known = self.known().get(subject).cloned();
        if let Some(stream) = known {
            return Ok(stream);
        }
        let _making = self.making.lock().await;
        let mut tries = 0;
        loop {
            tries += 1;
            match self.settle(op, subject).await {
                Ok(stream) => {
                    self.known().insert(subject.clone(), stream.clone());
                    return Ok(stream);
                }
                Err(failure) if tries < TRIES && may_pass(&failure) => (),
                Err(failure) => return Err(failure.into()),
            }
        }
    }

    /// Looks a subject's stream up again, the next time.
    pub(super) fn forget(&self, subject: &Subject) {
        self.known().remove(subject);
    }

    /// What the server says of a stream.
    pub(super) async fn describe(&self, op: &'static str, stream: &str) -> Answered<Described> {
        self.connection.api(op, &format!("STREAM.INFO.{stream}"), &Value::Null).await
    }

    /// Whether a stream is our own, which may be changed.
    pub(super) fn is_ours(&self, stream: &str) -> bool {
        stream == self.events
    }

    /// Adds a subject to a stream that does not cover it.
    pub(super) async fn add(&self, op: &'static str, stream: &str, subject: &str) -> Answered<()> {
        let described = self.describe(op, stream).await?;
        self.extend(op, described, &[subject.to_owned()]).await
    }

    /// Settings of the streams that can lose messages, in plain text.
    pub(super) async fn warnings(&self, op: &'static str) -> Result<Vec<String>> {
        let mut streams: Vec<String> = self.known().values().cloned().collect();
        streams.sort_unstable();
        streams.dedup();
        let mut warnings = Vec::new();
        for stream in streams {
            let described = self.describe(op, &stream).await?;
            warnings.extend(hazards(&stream, &described, self.replicas));
        }
        Ok(warnings)
    }

    async fn settle(&self, op: &'static str, subject: &Subject) -> Answered<String> {
        let wire = self.wire(subject);
        let found: Names =
            self.connection.api(op, "STREAM.NAMES", &json!({ "subject": wire })).await?;
        if let Some(stream) = found.streams.unwrap_or_default().into_iter().next() {
            let described = self.describe(op, &stream).await?;
            self.check(op, &stream, &described)?;
            return Ok(stream);
        }
        let home = self.home(subject);
        match self.describe(op, &home).await {
            Ok(described) => {
                self.check(op, &home, &described)?;
                self.check_ours(op, &home, &described)?;
                self.extend_or_one(op, described, &wire, subject).await?;
            }
            Err(failure) if failure.is(STREAM_NOT_FOUND) => {
                self.create_or_one(op, &home, &wire, subject).await?;
            }
            Err(failure) => return Err(failure),
        }
        Ok(home)
    }

    /// Our own stream for a subject.
    fn home(&self, subject: &Subject) -> String {
        match subject {
            Subject::Dead(_) => format!("{}-dead", self.events),
            _ => self.events.clone(),
        }
    }

    /// All that belongs into the stream of a subject.
    fn all(&self, subject: &Subject) -> Vec<String> {
        match subject {
            Subject::Dead(_) => vec![self.wire(subject)],
            _ => {
                let clock = self.clock(&self.events);
                Subject::EVENTS.iter().map(|event| self.wire(event)).chain([clock]).collect()
            }
        }
    }

    /// Makes a stream with all its subjects; where others have some of them, with the one.
    async fn create_or_one(
        &self,
        op: &'static str,
        stream: &str,
        wire: &str,
        subject: &Subject,
    ) -> Answered<()> {
        match self.create(op, stream, &self.all(subject)).await {
            Err(failure) if failure.is(SUBJECTS_OVERLAP) => {
                self.create(op, stream, &[wire.to_owned()]).await
            }
            created => created,
        }
    }

    async fn extend_or_one(
        &self,
        op: &'static str,
        described: Described,
        wire: &str,
        subject: &Subject,
    ) -> Answered<()> {
        match self.extend(op, described.clone(), &self.all(subject)).await {
            Err(failure) if failure.is(SUBJECTS_OVERLAP) => {
                self.extend(op, described, &[wire.to_owned()]).await
            }
            extended => extended,
        }
    }

    async fn create(&self, op: &'static str, stream: &str, subjects: &[String]) -> Answered<()> {
        let config = json!({
            "name": stream, "subjects": subjects, "retention": "limits", "storage": "file",
            "num_replicas": self.replicas, "discard": "old", "max_msgs": -1, "max_bytes": -1,
            "max_age": 0, "max_consumers": -1, "max_msgs_per_subject": -1, "max_msg_size": -1,
            "duplicate_window": DUPLICATES_NANOS,
        });
        let call = format!("STREAM.CREATE.{stream}");
        self.connection.api::<Described>(op, &call, &config).await.map(drop)
    }

    async fn extend(
        &self,
        op: &'static str,
        mut described: Described,
        more: &[String],
    ) -> Answered<()> {
        let mut subjects = described.subjects();
        subjects.extend(more.iter().cloned());
        subjects.sort_unstable();
        subjects.dedup();
        described.config["subjects"] = json!(subjects);
        let stream = described.config["name"].as_str().unwrap_or_default();
        let call = format!("STREAM.UPDATE.{stream}");
        self.connection.api::<Described>(op, &call, &described.config).await.map(drop)
    }

    fn check(&self, op: &'static str, stream: &str, described: &Described) -> Answered<()> {
        let text = |name: &str| described.config[name].as_str().unwrap_or_default().to_owned();
        let is_set = |name: &str| described.config[name].as_bool().unwrap_or_default();
        let wrong = if text("retention") != "limits" {
            "deletes what one group has settled (its retention is not limits)"
        } else if is_set("no_ack") {
            "confirms nothing (no_ack)"
        } else if is_set("sealed") || described.config.get("mirror").is_some() {
            "takes no messages (it is sealed, or a mirror)"
        } else {
            return Ok(());
        };
        let hint = "make another for our subjects, or name one by ?stream=";
        Err(self.refused(op, ErrorKind::Unsupported, &format!("stream {stream} {wrong}: {hint}")))
    }

    /// A stream of our name that has none of our subjects is somebody else's.
    fn check_ours(&self, op: &'static str, stream: &str, described: &Described) -> Answered<()> {
        let dead = self.wire(&Subject::OrderCreated).replace("order:created", "dead:");
        let ours: Vec<String> = self.all(&Subject::OrderCreated);
        let subjects = described.subjects();
        if subjects.iter().any(|subject| ours.contains(subject) || subject.starts_with(&dead)) {
            return Ok(());
        }
        let shown: String = subjects.join(", ").chars().take(200).collect();
        let text = format!(
            "the stream {stream} is there with other subjects ({shown}): name another by ?stream="
        );
        Err(self.refused(op, ErrorKind::Corrupt, &text))
    }

    fn refused(&self, op: &'static str, kind: ErrorKind, text: &str) -> Failure {
        let text = format!("{}: {text}", self.connection.place());
        Failure::new(Error::new(kind, BACKEND, op, text))
    }

    fn known(&self) -> std::sync::MutexGuard<'_, BTreeMap<Subject, String>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether another process was faster, or the server slower than we wait.
fn may_pass(failure: &Failure) -> bool {
    failure.is(NAME_IN_USE)
        || failure.is(SUBJECTS_OVERLAP)
        || failure.is(STREAM_NOT_FOUND)
        || failure.is_late()
}

fn hazards(stream: &str, described: &Described, replicas: usize) -> Vec<String> {
    let config = &described.config;
    let mut hazards = Vec::new();
    if config["storage"] != "file" {
        hazards.push(format!("the stream {stream} is in memory: a restart loses its messages"));
    }
    let limits = ["max_msgs", "max_bytes", "max_age", "max_msgs_per_subject"];
    let is_set = |limit: &&str| config[*limit].as_i64().is_some_and(|limit| limit > 0);
    for limit in limits.into_iter().filter(is_set) {
        let text = format!("the stream {stream} has {limit}: it may drop what no group has read");
        hazards.push(text);
    }
    if described.replicas() < replicas as u64 {
        hazards.push(format!(
            "the stream {stream} has {} copies, not {replicas}: change it by nats stream edit",
            described.replicas()
        ));
    }
    hazards
}

#[cfg(test)]
mod tests {
    use super::*;

    fn described(config: &Value) -> Described {
        let state = Counted { last_seq: 0, last_ts: String::new() };
        Described { config: config.clone(), created: String::new(), state, ts: None }
    }

    #[test]
    fn settings_that_lose_messages_are_told() {
        let safe = json!({ "storage": "file", "max_age": 0, "max_msgs": -1, "num_replicas": 3 });
        assert!(hazards("s", &described(&safe), 3).is_empty());
        let unsafe_ = json!({ "storage": "memory", "max_age": 5, "num_replicas": 1 });
        let told = hazards("s", &described(&unsafe_), 3);
        assert_eq!(told.len(), 3, "{told:?}");
        assert!(told[1].contains("max_age") && told[2].contains("1 copies, not 3"), "{told:?}");
    }
}
