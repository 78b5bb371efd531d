//! How a queue or a repository is laid out, as the store has it: a format and a number of shards.

use expirer_core::{Error, ErrorKind, OrderId, Result};

use super::BACKEND;
use super::connection::Connection;
use super::script::Script;
use super::url::SHARDS_MAX;

/// What this version reads and writes.
const FORMAT: &str = "1";
const SHARDS_OF_NODE: u16 = 1;
/// Enough to spread over the masters of a usual cluster; each costs a command per look.
const SHARDS_OF_CLUSTER: u16 = 8;

static LAYOUT: Script = Script::new("layout", include_str!("scripts/layout.lua"));

/// What was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    pub(crate) shards: u16,
    /// The server's time in microseconds: no two readers get the same.
    pub(crate) read_us: u64,
}

/// What is laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Queue,
    Repo,
}

impl Kind {
    /// What stands for it in keys.
    const fn letter(self) -> char {
        match self {
            Self::Queue => 'q',
            Self::Repo => 'r',
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Queue => "queue",
            Self::Repo => "repository",
        }
    }

    /// A shard's hash tag, braces and all: what its keys begin with.
    pub(crate) fn tag(self, prefix: &str, shard: usize) -> String {
        format!("{{{prefix}:{}:{shard}}}", self.letter())
    }
}

/// The number of shards; see [`read`].
pub(crate) async fn shards(
    connection: &Connection,
    kind: Kind,
    prefix: &str,
    asked: Option<u16>,
) -> Result<usize> {
    Ok(usize::from(read(connection, kind, prefix, asked).await?.shards))
}

/// The layout as recorded, else with `asked` shards or the default, which is recorded then.
///
/// # Errors
/// [`ErrorKind::Invalid`] if `asked` is not what was recorded, and as for [`record`].
pub(crate) async fn read(
    connection: &Connection,
    kind: Kind,
    prefix: &str,
    asked: Option<u16>,
) -> Result<Layout> {
    let usual = if connection.is_cluster() { SHARDS_OF_CLUSTER } else { SHARDS_OF_NODE };
    let layout = record(connection, kind, prefix, asked.unwrap_or(usual)).await?;
    if let Some(asked) = asked.filter(|asked| *asked != layout.shards) {
        let text = format!(
            "the {} has {} shards, the URL says {asked}: leave shards out, or begin anew under \
             another ?prefix=",
            kind.name(),
            layout.shards
        );
        return Err(Error::new(ErrorKind::Invalid, BACKEND, "open", text));
    }
    Ok(layout)
}

/// Records this number of shards where none is recorded; the layout as recorded.
///
/// # Errors
/// [`ErrorKind::Unsupported`] for another format, [`ErrorKind::Corrupt`] for what cannot be read.
pub(crate) async fn record(
    connection: &Connection,
    kind: Kind,
    prefix: &str,
    shards: u16,
) -> Result<Layout> {
    let key = format!("{{{prefix}:{}}}:layout", kind.letter());
    let call = LAYOUT.on(&[&key]).arg(FORMAT).arg(shards);
    let (format, recorded, seconds, micros): (String, String, u64, u64) =
        connection.call("open", call).await?;
    if format != FORMAT {
        let text = format!("{key}: format {format:?} is unknown: use the version that wrote it");
        return Err(Error::new(ErrorKind::Unsupported, BACKEND, "open", text));
    }
    let Some(shards) = recorded.parse().ok().filter(|n| (1..=SHARDS_MAX).contains(n)) else {
        let text = format!("{key}: {recorded:?} is no number of shards from 1 to {SHARDS_MAX}");
        return Err(Error::new(ErrorKind::Corrupt, BACKEND, "open", text));
    };
    Ok(Layout { shards, read_us: seconds.wrapping_mul(1_000_000).wrapping_add(micros) })
}

/// Records this number of shards where none is recorded any more.
///
/// # Errors
/// [`ErrorKind::Unsupported`] where another number is recorded: what was stored by the one is not
/// found by the other; else as for [`record`].
pub(crate) async fn keep(
    connection: &Connection,
    kind: Kind,
    prefix: &str,
    op: &'static str,
    shards: u16,
) -> Result<()> {
    let recorded = record(connection, kind, prefix, shards).await?.shards;
    if recorded == shards {
        return Ok(());
    }
    let text = format!(
        "{}: the {} has {recorded} shards by now, and this process has {shards}: the store was \
         emptied, and another process began anew; start this one again, with ?shards={recorded} or \
         without shards",
        connection.place(),
        kind.name()
    );
    Err(Error::new(ErrorKind::Unsupported, BACKEND, op, text))
}

/// Which of `shards` an id belongs to: FNV-1a, which every language has, since this must never
/// change for what is stored.
pub(crate) fn shard_of(id: &OrderId, shards: usize) -> usize {
    const BASIS: u64 = 0xcbf2_9ce4_8422_2325;
    const PRIME: u64 = 0x0100_0000_01b3;
    let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(PRIME);
    let hash = id.as_str().bytes().fold(BASIS, step);
    let shards = u64::try_from(shards.max(1)).unwrap_or(1);
    usize::try_from(hash % shards).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_spread_evenly_and_for_ever_the_same() {
        let id = |n: u32| OrderId::new(format!("{n:024x}")).unwrap();
        let mut counts = [0_u32; 8];
        (0..8000).for_each(|n| counts[shard_of(&id(n), 8)] += 1);
        assert!(counts.iter().all(|count| (800..1200).contains(count)), "{counts:?}");
        assert_eq!(shard_of(&OrderId::new("foobar").unwrap(), 1 << 32), 0xf739_67e8);
        assert_eq!(shard_of(&id(5), 1), 0);
    }
}
