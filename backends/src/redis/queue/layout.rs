//! How a queue is laid out, as the store has it: a format and a number of shards.

use expirer_core::{Error, ErrorKind, Result};

use crate::redis::BACKEND;
use crate::redis::connection::Connection;
use crate::redis::script::Script;

/// What this version reads and writes.
const FORMAT: &str = "1";
const SHARDS_OF_NODE: u16 = 1;
/// Enough to spread over the masters of a usual cluster; each costs a command per look.
const SHARDS_OF_CLUSTER: u16 = 8;

static LAYOUT: Script = Script::new("layout", include_str!("../scripts/queue/layout.lua"));

/// The number of shards: as recorded, else `asked`, else the default, which is recorded then.
///
/// # Errors
/// [`ErrorKind::Invalid`] if `asked` is not what was recorded, [`ErrorKind::Unsupported`] for
/// another format, [`ErrorKind::Corrupt`] for what cannot be read.
pub(super) async fn shards(
    connection: &Connection,
    prefix: &str,
    asked: Option<u16>,
) -> Result<usize> {
    let usual = if connection.is_cluster() { SHARDS_OF_CLUSTER } else { SHARDS_OF_NODE };
    let key = format!("{{{prefix}:q}}:layout");
    let call = LAYOUT.on(&[&key]).arg(FORMAT).arg(asked.unwrap_or(usual));
    let (format, recorded): (String, String) = connection.call("open", call).await?;
    if format != FORMAT {
        let text = format!("{key}: format {format:?} is unknown: use the version that wrote it");
        return Err(Error::new(ErrorKind::Unsupported, BACKEND, "open", text));
    }
    let Some(shards) = recorded.parse::<u16>().ok().filter(|shards| *shards > 0) else {
        let text = format!("{key}: {recorded:?} is no number of shards");
        return Err(Error::new(ErrorKind::Corrupt, BACKEND, "open", text));
    };
    match asked {
        Some(asked) if asked != shards => {
            let text = format!(
                "the queue has {shards} shards, the URL says {asked}: leave shards out, or empty \
                 the queue under another ?prefix= first"
            );
            Err(Error::new(ErrorKind::Invalid, BACKEND, "open", text))
        }
        _ => Ok(usize::from(shards)),
    }
}
