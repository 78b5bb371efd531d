//! How a queue or a repository is laid out, as the store has it: a format and a number of shards.

use std::hash::BuildHasher;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use expirer_core::{Clock, Error, ErrorKind, OrderId, Result};
use foldhash::quality::FixedState;

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

/// For how long the layout is taken for what it was: it goes with `FLUSHALL`.
const KEPT_MS: i64 = 10_000;

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

/// The layout that a handle keeps to.
#[derive(Debug)]
pub(crate) struct Layout {
    connection: Arc<Connection>,
    clock: Arc<dyn Clock>,
    kind: Kind,
    prefix: String,
    shards: u16,
    /// The server's time when this was read.
    read_us: u64,
    /// When it was last looked at, in milliseconds.
    kept_at: AtomicI64,
    /// Whether it was another one then.
    is_other: AtomicBool,
}

impl Layout {
    /// The layout as recorded, else with `asked` shards or the default, which is recorded then.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] if `asked` is not what was recorded, and as for [`record`].
    pub(crate) async fn open(
        connection: &Arc<Connection>,
        clock: &Arc<dyn Clock>,
        kind: Kind,
        prefix: &str,
        asked: Option<u16>,
    ) -> Result<Self> {
        let usual = if connection.is_cluster() { SHARDS_OF_CLUSTER } else { SHARDS_OF_NODE };
        let kept_at = AtomicI64::new(clock.now().as_millis());
        let (shards, read_us) =
            record(connection, kind, prefix, "open", asked.unwrap_or(usual)).await?;
        if let Some(asked) = asked.filter(|asked| *asked != shards) {
            let text = format!(
                "the {} has {shards} shards, the URL says {asked}: leave shards out, or begin anew \
                 under another ?prefix=",
                kind.name()
            );
            return Err(Error::new(ErrorKind::Invalid, BACKEND, "open", text));
        }
        let (connection, clock) = (Arc::clone(connection), Arc::clone(clock));
        let prefix = prefix.to_owned();
        Ok(Self {
            connection,
            clock,
            kind,
            prefix,
            shards,
            read_us,
            kept_at,
            is_other: AtomicBool::new(false),
        })
    }

    pub(crate) fn shards(&self) -> usize {
        usize::from(self.shards)
    }

    /// Where a handle begins to count: far from every other one. A seed alone is no more than its
    /// owner makes of it, and two handles of one process may share it; the server tells none of them
    /// the same time.
    pub(crate) fn first_number(&self, seed: u64) -> u64 {
        FixedState::with_seed(seed).hash_one(self.read_us)
    }

    /// Looks once in a while whether it is still recorded, and records it again where it is gone.
    /// Where another one was recorded since, this handle is refused for as long as that is so: by
    /// following, it would leave behind what it has stored. Where nobody can say, as when the node of
    /// this one key is away, it holds as it was.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] for another number of shards; else as for [`record`].
    pub(crate) async fn keep(&self, op: &'static str) -> Result<()> {
        let now = self.clock.now().as_millis();
        // A clock that was set back says nothing.
        let is_fresh =
            (0..KEPT_MS).contains(&now.saturating_sub(self.kept_at.load(Ordering::Relaxed)));
        let was_other = self.is_other.load(Ordering::Relaxed);
        if is_fresh && !was_other {
            return Ok(());
        }
        let checked = self.check(op).await;
        self.kept_at.store(now, Ordering::Relaxed);
        let kind = checked.as_ref().err().map(Error::kind);
        let is_other = matches!(kind, Some(ErrorKind::Unsupported | ErrorKind::Corrupt));
        if is_other || was_other {
            self.is_other.store(checked.is_err(), Ordering::Relaxed);
            return checked;
        }
        Ok(())
    }

    async fn check(&self, op: &'static str) -> Result<()> {
        let Self { connection, kind, prefix, shards, .. } = self;
        let (recorded, _) = record(connection, *kind, prefix, op, *shards).await?;
        if recorded == *shards {
            return Ok(());
        }
        let text = format!(
            "{}: the {} has {recorded} shards by now, and this process has {shards}: the store was \
             emptied, and another process began anew; start this one again, with \
             ?shards={recorded} or without shards",
            connection.place(),
            kind.name()
        );
        Err(Error::new(ErrorKind::Unsupported, BACKEND, op, text))
    }
}

/// Records this number of shards where none is recorded; the number that is, and the server's time
/// in microseconds.
///
/// # Errors
/// [`ErrorKind::Unsupported`] for another format, [`ErrorKind::Corrupt`] for what cannot be read.
async fn record(
    connection: &Connection,
    kind: Kind,
    prefix: &str,
    op: &'static str,
    shards: u16,
) -> Result<(u16, u64)> {
    let key = format!("{{{prefix}:{}}}:layout", kind.letter());
    let call = LAYOUT.on(&[&key]).arg(FORMAT).arg(shards);
    let (format, recorded, seconds, micros): (String, String, u64, u64) =
        connection.call(op, call).await?;
    if format != FORMAT {
        let text = format!("{key}: format {format:?} is unknown: use the version that wrote it");
        return Err(Error::new(ErrorKind::Unsupported, BACKEND, op, text));
    }
    let Some(shards) = recorded.parse().ok().filter(|n| (1..=SHARDS_MAX).contains(n)) else {
        let text = format!("{key}: {recorded:?} is no number of shards from 1 to {SHARDS_MAX}");
        return Err(Error::new(ErrorKind::Corrupt, BACKEND, op, text));
    };
    Ok((shards, seconds.wrapping_mul(1_000_000).wrapping_add(micros)))
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
