//! The stream of the timers and its consumer: made where they are missing, and looked at closely
//! where they are there, since another setting would drop timers, or never fire them.

use std::time::Duration;

use expirer_core::{Error, ErrorKind, Result};
use serde::Deserialize;
use serde_json::{Value, json};

use super::wire::Names;
use crate::nats::BACKEND;
use crate::nats::connection::{Answered, Connection};
use crate::nats::error::STREAM_NOT_FOUND;
use crate::nats::inspect::Version;
use crate::nats::url::Via;

/// The consumer that all handles share.
pub(super) const CONSUMER: &str = "queue";
/// How long we count on the server to leave a timer with us.
pub(super) const KEEP: Duration = Duration::from_secs(10);
/// How long it does: longer than we count on, by what a message may take.
const ACK_WAIT: Duration = Duration::from_secs(15);
/// The most timers with all handles together: as many as one may hold.
const PENDING_MAX: usize = crate::hold::HELD_MAX;
/// The same for redelivery, where each one that was put off counts: what is beyond that waits
/// until another is done, however soon it is due.
pub(super) const PUT_OFF_MAX: usize = 200_000;

/// What the server says of a stream: what would drop or never fire a timer, were it otherwise.
#[derive(Debug, Deserialize, PartialEq, Eq)]
struct Config {
    subjects: Vec<String>,
    retention: String,
    storage: String,
    discard: String,
    max_msgs: i64,
    max_bytes: i64,
    max_age: i64,
    max_msgs_per_subject: i64,
    num_replicas: usize,
    #[serde(default)]
    deny_delete: bool,
    #[serde(default)]
    deny_purge: bool,
    #[serde(default)]
    sealed: bool,
    #[serde(default)]
    allow_msg_schedules: bool,
}

#[derive(Debug, Deserialize)]
struct Info {
    config: Config,
}

/// Makes sure that both are there; gives what an operator should know of them.
///
/// # Errors
/// [`ErrorKind::Unsupported`] where the server has no schedules, [`ErrorKind::Corrupt`] where a
/// stream of this name has other settings, and what a call gives.
pub(super) async fn settle(
    connection: &Connection,
    names: &Names,
    replicas: Option<usize>,
) -> Result<Option<String>> {
    if names.via == Via::Schedule && connection.version() < Version::of("2.12") {
        let why = format!("NATS {} has no schedules", connection.version());
        return Err(without_schedules(connection, &why));
    }
    let found = stream(connection, names, replicas).await?;
    judge(connection, names, &found.config)?;
    make_consumer(connection, names).await?;
    Ok(replicas.filter(|asked| found.config.num_replicas < *asked).map(|asked| {
        format!(
            "nats {}: the stream {} has {} copies, not {asked}: change it by nats stream edit",
            connection.place(),
            names.stream,
            found.config.num_replicas
        )
    }))
}

async fn stream(connection: &Connection, names: &Names, replicas: Option<usize>) -> Result<Info> {
    const OP: &str = "stream";
    let name = &names.stream;
    match connection.api(OP, &format!("STREAM.INFO.{name}"), &Value::Null).await {
        Err(failure) if failure.is(STREAM_NOT_FOUND) => {
            let config = wanted(names, replicas);
            Ok(connection.api(OP, &format!("STREAM.CREATE.{name}"), &config).await?)
        }
        answer => Ok(answer?),
    }
}

fn wanted(names: &Names, replicas: Option<usize>) -> Value {
    let mut config = json!({
        "name": names.stream,
        "subjects": [names.all()],
        "description": "timers of Expirer: the last message of each is what it is",
        "retention": "limits",
        "storage": "file",
        "discard": "old",
        "max_msgs": -1,
        "max_bytes": -1,
        "max_age": 0,
        "max_msgs_per_subject": 1,
        "num_replicas": replicas.unwrap_or(1),
    });
    if names.via == Via::Schedule {
        config["allow_msg_schedules"] = true.into();
    }
    config
}

/// Older servers take a configuration that they do not understand without a word.
fn judge(connection: &Connection, names: &Names, config: &Config) -> Result<()> {
    let needs_schedules = names.via == Via::Schedule;
    if needs_schedules && !config.allow_msg_schedules {
        let why = format!("the stream {} does not allow schedules", names.stream);
        return Err(without_schedules(connection, &why));
    }
    let wrong = [
        (config.subjects != [names.all()], "subjects"),
        (config.retention != "limits", "retention"),
        (config.storage != "file", "storage"),
        (config.discard != "old", "discard"),
        (config.max_msgs > 0, "max_msgs"),
        (config.max_bytes > 0, "max_bytes"),
        (config.max_age > 0, "max_age"),
        (config.max_msgs_per_subject != 1, "max_msgs_per_subject"),
        (config.deny_delete || config.deny_purge || config.sealed, "deny_delete, deny_purge"),
    ];
    let Some((_, setting)) = wrong.into_iter().find(|(is_wrong, _)| *is_wrong) else {
        return Ok(());
    };
    let text = format!(
        "{}: the stream {} is there with another {setting}: it would lose timers, or they are \
         somebody else's. Remove it, or choose another ?prefix=",
        connection.place(),
        names.stream
    );
    Err(Error::new(ErrorKind::Corrupt, BACKEND, "stream", text))
}

async fn make_consumer(connection: &Connection, names: &Names) -> Answered<()> {
    let most = match names.via {
        Via::Schedule => PENDING_MAX,
        Via::Redelivery => PUT_OFF_MAX,
    };
    let config = json!({
        "stream_name": names.stream,
        "config": {
            "durable_name": CONSUMER,
            "deliver_policy": "all",
            "ack_policy": "explicit",
            "ack_wait": nanos(ACK_WAIT),
            "max_ack_pending": most,
            "max_deliver": -1,
            "replay_policy": "instant",
            "filter_subject": names.all_due(),
        }
    });
    let call = format!("CONSUMER.DURABLE.CREATE.{}.{CONSUMER}", names.stream);
    connection.api::<Value>("consumer", &call, &config).await.map(drop)
}

pub(super) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

fn without_schedules(connection: &Connection, why: &str) -> Error {
    let text = format!(
        "{}: {why}: a queue on NATS needs 2.12 or later; on this one, use ?via=redelivery",
        connection.place()
    );
    Error::new(ErrorKind::Unsupported, BACKEND, "stream", text)
}
