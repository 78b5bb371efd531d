//! The stream behind the bucket: found and looked at, or made.

use std::time::Duration;

use expirer_core::{Error, ErrorKind, Result};
use serde::Deserialize;
use serde_json::{Value, json};

use super::bucket::{Bucket, Put};
use crate::nats::BACKEND;
use crate::nats::connection::Answered;
use crate::nats::error::{NAME_IN_USE, STREAM_NOT_FOUND, SUBJECTS_OVERLAP};
use crate::nats::inspect::Version;

/// From here on a message may say how long it is kept.
pub(super) const KEEPS: Version = Version::new(2, 11);
/// Before this, of commits that meet in a replicated stream more than one may win (2.9.21 has it
/// right, too).
const COMPARES_IN_CLUSTERS: Version = Version::new(2, 10);
/// How often to ask at the start for what an election delays: about ten seconds.
const PREPARE_TRIES: u32 = 6;
const PREPARE_TURN: Duration = Duration::from_millis(300);
/// How often, and how far apart, to look whether a new stream listens: within a second.
const LISTENING_TURNS: u32 = 50;
const LISTENING_TURN: Duration = Duration::from_millis(20);
/// How many revisions a millisecond has room for: more than any server stores.
const REVISIONS_PER_MS: i64 = 1000;

/// What we rely on, as the server says that it is.
#[derive(Debug)]
pub(super) struct Layout {
    /// Whether it was made just now.
    pub(super) is_new: bool,
    pub(super) replicas: usize,
    /// In files.
    pub(super) is_durable: bool,
    /// Whether a message may say how long it is kept.
    pub(super) keeps: bool,
    /// Whether a limit may be reached: then it refuses what is new.
    pub(super) is_limited: bool,
}

#[derive(Deserialize)]
struct Info {
    config: Value,
}

/// What the server says of a stream. What it leaves out it does not know.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Config {
    subjects: Vec<String>,
    retention: String,
    storage: String,
    discard: String,
    max_age: i64,
    max_msgs: i64,
    max_bytes: i64,
    max_msgs_per_subject: i64,
    num_replicas: usize,
    deny_delete: bool,
    sealed: bool,
    allow_msg_ttl: bool,
}

impl Bucket {
    /// The same, in a cluster that may not have chosen its leaders yet.
    pub(super) async fn prepare_patiently(
        &self,
        op: &'static str,
        replicas: usize,
    ) -> Result<Layout> {
        let mut prepared = self.prepare(op, replicas).await;
        for _ in 1..PREPARE_TRIES {
            if !prepared.as_ref().is_err_and(is_outage) {
                break;
            }
            self.pause(PREPARE_TURN).await;
            prepared = self.prepare(op, replicas).await;
        }
        let layout = prepared?;
        self.listening(op).await?;
        Ok(layout)
    }

    async fn pause(&self, duration: Duration) {
        let clock = self.connection.clock();
        clock.sleep_until(clock.now() + duration).await;
    }

    /// Finds the stream, or makes it, with so many copies.
    ///
    /// # Errors
    /// `Corrupt` for a stream of that name which is not ours or could lose orders.
    pub(super) async fn prepare(&self, op: &'static str, replicas: usize) -> Result<Layout> {
        let (config, is_new) = match self.info(op).await {
            Ok(info) => (info.config, false),
            Err(failure) if failure.is(STREAM_NOT_FOUND) => {
                if self.is_unfit(replicas) {
                    return Err(self.unfit(op));
                }
                self.create(op, replicas).await?
            }
            Err(failure) => return Err(failure.into()),
        };
        let config = self.with_ttl(op, config).await?;
        let known: Config = self.read_config(op, &config)?;
        match self.why_not(&known) {
            Some(why) => Err(self.foreign(op, &why)),
            None if self.is_unfit(known.num_replicas) => Err(self.unfit(op)),
            None => Ok(known.layout(is_new)),
        }
    }

    /// Whether the server does not compare revisions in a stream with so many copies.
    fn is_unfit(&self, replicas: usize) -> bool {
        replicas > 1 && self.connection.version() < COMPARES_IN_CLUSTERS
    }

    fn unfit(&self, op: &'static str) -> Error {
        let (place, version) = (self.connection.place(), self.connection.version());
        let text = format!(
            "{place}: NATS {version} does not compare revisions in a stream with several copies: \
             orders would be lost; use NATS {COMPARES_IN_CLUSTERS} or later, or replicas=1"
        );
        Error::new(ErrorKind::Unsupported, BACKEND, op, text)
    }

    async fn info(&self, op: &'static str) -> Answered<Info> {
        let call = format!("STREAM.INFO.{}", self.stream());
        self.connection.api(op, &call, &Value::Null).await
    }

    async fn create(&self, op: &'static str, replicas: usize) -> Result<(Value, bool)> {
        let call = format!("STREAM.CREATE.{}", self.stream());
        match self.connection.api::<Info>(op, &call, &self.wanted(replicas)).await {
            Ok(info) => {
                self.listening(op).await?;
                Ok((info.config, true))
            }
            // Somebody else was faster.
            Err(failure) if failure.is(NAME_IN_USE) => Ok((self.info(op).await?.config, false)),
            Err(failure) if failure.is(SUBJECTS_OVERLAP) => {
                let why = format!("another stream takes {}", self.subject(">"));
                Err(self.foreign(op, &why))
            }
            Err(failure) => Err(failure.into()),
        }
    }

    /// Waits until the server that we are connected to knows who leads the new stream: asks for
    /// what cannot be done.
    async fn listening(&self, op: &'static str) -> Result<()> {
        for _ in 0..LISTENING_TURNS {
            let (key, expected) = ("probe".to_owned(), Some(1));
            let probe = Put { key, value: Vec::new(), expected, keep_s: None };
            match self.write(op, vec![probe]).await.pop() {
                Some(Err(failure)) if failure.is_nobody_there() => {}
                Some(Err(failure)) => return Err(failure.into()),
                _ => return Ok(()),
            }
            self.pause(LISTENING_TURN).await;
        }
        Ok(())
    }

    /// As `nats kv add` makes one, and such that no revision comes twice: also where the bucket
    /// was lost and is made again, its first revision is later than any before (from 2.10 on).
    fn wanted(&self, replicas: usize) -> Value {
        let now_ms = self.connection.clock().now().as_millis();
        json!({
            "name": self.stream(),
            "description": "Expirer's orders",
            "subjects": [self.subject(">")],
            "retention": "limits",
            "storage": "file",
            "discard": "new",
            "max_msgs_per_subject": 1,
            "num_replicas": replicas,
            "allow_rollup_hdrs": true,
            "allow_direct": replicas == 1,
            "allow_msg_ttl": self.connection.version() >= KEEPS,
            "first_seq": now_ms.max(1) * REVISIONS_PER_MS,
        })
    }

    /// Lets messages say how long they are kept, where the server can.
    async fn with_ttl(&self, op: &'static str, mut config: Value) -> Result<Value> {
        let has_ttl = config["allow_msg_ttl"] == true;
        let is_ours =
            self.read_config(op, &config).is_ok_and(|known| self.why_not(&known).is_none());
        if has_ttl || !is_ours || self.connection.version() < KEEPS {
            return Ok(config);
        }
        config["allow_msg_ttl"] = json!(true);
        let call = format!("STREAM.UPDATE.{}", self.stream());
        let updated = self.connection.api::<Info>(op, &call, &config).await?;
        Ok(updated.config)
    }

    fn read_config(&self, op: &'static str, config: &Value) -> Result<Config> {
        let read = Config::deserialize(config);
        read.map_err(|error| self.foreign(op, &format!("it cannot be read: {error}")))
    }

    /// What of a stream would lose orders, or is not as a bucket is.
    fn why_not(&self, known: &Config) -> Option<String> {
        let Config { subjects, retention, max_age, max_msgs_per_subject, .. } = known;
        let limited = known.max_msgs > 0 || known.max_bytes > 0;
        if *subjects != [self.subject(">")] {
            return Some(format!("its subjects are {}", subjects.join(", ")));
        }
        let why = match () {
            () if retention != "limits" => "its retention is not limits",
            () if *max_msgs_per_subject != 1 => "it has a history: set max_msgs_per_subject to 1",
            () if *max_age > 0 => "it forgets open orders: remove max_age",
            () if limited && known.discard != "new" => {
                "it forgets open orders when it is full: set discard to new"
            }
            () if known.deny_delete || known.sealed => "nothing can be removed from it",
            () => return None,
        };
        Some(why.to_owned())
    }

    fn foreign(&self, op: &'static str, why: &str) -> Error {
        let (place, stream) = (self.connection.place(), self.stream());
        let text = format!(
            "{place}: the stream {stream} cannot be the orders' bucket: {why}; mend or rename it, or \
             use another ?prefix="
        );
        Error::new(ErrorKind::Corrupt, BACKEND, op, text)
    }
}

fn is_outage(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::TimedOut)
}

impl Config {
    fn layout(&self, is_new: bool) -> Layout {
        Layout {
            is_new,
            replicas: self.num_replicas.max(1),
            is_durable: self.storage == "file",
            keeps: self.allow_msg_ttl,
            is_limited: self.max_msgs > 0 || self.max_bytes > 0,
        }
    }
}
