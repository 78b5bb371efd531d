//! The order repository: rows with a revision, changed by compare-and-set only.

use std::fmt::Debug;

use async_trait::async_trait;

use crate::event::Event;
use crate::order::State;
use crate::{OrderId, Result, Timestamp};

/// Keeps orders. The row is the truth and the outbox: what it owes is announced until a commit
/// clears it.
///
/// *Batches*, *concurrency*, *retries* and *blocking* are as for
/// [`DelayQueue`](crate::DelayQueue). A repository must not lose what it has committed; one that can says so in
/// its [`capabilities`](Self::capabilities).
#[cfg_attr(any(test, feature = "mock"), mockall::automock)]
#[async_trait]
pub trait OrderRepo: Debug + Send + Sync + 'static {
    /// Reads records: one answer per id, in order, `None` for an unknown one.
    ///
    /// *Guarantee*: at least as new as every commit confirmed before the call.
    async fn load(&self, ids: &[OrderId]) -> Result<Vec<Option<Record>>>;

    /// Writes records whose revision is still the expected one: one outcome per change, in order.
    /// Ids may repeat in a batch; the changes are applied in order.
    ///
    /// *Dropped*, or failed with anything but `Invalid`: each change is done or not, possibly later; load and look.
    async fn commit(&self, changes: &[Change]) -> Result<Vec<Outcome>>;

    /// Finds records that need attention: open and past due, or owing, since before
    /// `options.before`; since when a record owes is by the repository's clock. At most `max`; what is
    /// returned to anybody is not returned again before `again_at`, so that stuck records hide no
    /// others, unless it changes. The revision stays.
    async fn overdue(&self, options: OverdueOptions) -> Result<Vec<Record>>;

    /// What this backend can and cannot do.
    fn capabilities(&self) -> RepoCapabilities;
}

/// The revision of a record: grows with every commit, means nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Revision(pub u64);

impl Revision {
    /// The revision of a record that does not exist yet.
    pub const ABSENT: Self = Self(0);
}

/// A stored order, or what is known ahead of it, and what it still owes.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// The order's id.
    pub id: OrderId,
    /// The revision to expect in the next commit.
    pub revision: Revision,
    /// The state.
    pub state: State,
    /// Events that are committed and not yet known to be published, oldest first.
    pub owes: Vec<Event>,
}

/// One record to write.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// The order's id.
    pub id: OrderId,
    /// The revision that was loaded; [`Revision::ABSENT`] for a new record.
    pub expected: Revision,
    /// The state from now on.
    pub state: State,
    /// What the record owes from now on.
    pub owes: Vec<Event>,
}

/// What became of a [`Change`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Written; this is the record's revision now.
    Committed(Revision),
    /// Somebody else was first, nothing was written: load again.
    Conflict,
}

/// What to look for in [`overdue`](OrderRepo::overdue).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct OverdueOptions {
    /// Open orders that expire before this, and records that have been owing since before this.
    pub before: Timestamp,
    /// What is returned is not returned again before this, by the same clock as `before`.
    pub again_at: Timestamp,
    /// At most this many.
    pub max: usize,
}

impl OverdueOptions {
    /// At most `max` records overdue `before`, returned again only from `again_at` on.
    #[must_use]
    pub const fn new(before: Timestamp, again_at: Timestamp, max: usize) -> Self {
        Self { before, again_at, max }
    }
}

/// What a repository can and cannot do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RepoCapabilities {
    /// The backend's name.
    pub backend: &'static str,
    /// A confirmed commit survives a restart of the backend.
    pub durable: bool,
}

impl RepoCapabilities {
    /// A repository that promises nothing; for backends to build on.
    #[must_use]
    pub const fn new(backend: &'static str) -> Self {
        Self { backend, durable: false }
    }
}
