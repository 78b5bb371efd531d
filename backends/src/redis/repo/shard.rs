//! A part of a repository that lives in one hash slot: its keys, and the calls on them.

use std::time::Duration;

use expirer_core::{Change, OrderId, Timestamp};

use super::row::Written;
use crate::redis::layout::Kind;
use crate::redis::script::{Call, Script};

/// The most orders that one script call puts off.
pub(super) const CLAIM_MAX: usize = 256;
/// How many values the digits take that tell one change from the next.
const DIGITS: u64 = 1_000_000;
/// The most orders that one fence looks at.
pub(super) const FENCE_ORDERS_MAX: usize = 1024;

static COMMIT: Script = Script::new("commit", include_str!("../scripts/repo/commit.lua"));
static CLAIM: Script = Script::new("claim", include_str!("../scripts/repo/claim.lua"));
static FORGET: Script = Script::new("forget", include_str!("../scripts/repo/forget.lua"));
/// Sent whole: a server that does not know it would read only after the `WAIT`.
const REVISIONS: &str = include_str!("../scripts/repo/revisions.lua");

/// One shard's keys.
#[derive(Clone, Debug)]
pub(super) struct Shard {
    /// What precedes an id in the key of its hash.
    orders: String,
    /// Sorted set: id by when it is overdue, of the orders that are open or owe.
    due: String,
    /// A value that is written for `WAIT` to wait for.
    fence: String,
}

impl Shard {
    pub(super) fn new(prefix: &str, number: usize) -> Self {
        let tag = Kind::Repo.tag(prefix, number);
        let key = |what: &str| format!("{tag}:{what}");
        Self { orders: key("o:"), due: key("due"), fence: key("fence") }
    }

    /// The key of an order.
    pub(super) fn order(&self, id: &OrderId) -> String {
        format!("{}{id}", self.orders)
    }

    /// The index, for people.
    pub(super) fn index(&self) -> &str {
        &self.due
    }

    pub(super) fn load(&self, id: &OrderId) -> Call {
        let key = self.order(id);
        Call::command("HGETALL", &key).arg(&key)
    }

    /// `number` tells this change from others.
    pub(super) fn commit(&self, change: &Change, written: &Written, number: u64) -> Call {
        let millis = |at: Timestamp| at.as_millis().to_string();
        let call = COMMIT
            .on(&[&self.order(&change.id), &self.due])
            .arg(change.id.as_str())
            .arg(change.expected.0)
            .arg(format!("{:06}", number % DIGITS))
            .arg(written.due.map(millis).unwrap_or_default())
            .arg(written.keep_ms.map(|keep| keep.to_string()).unwrap_or_default())
            .arg(&written.owes);
        written.state.iter().fold(call, |call, (name, value)| call.arg(name).arg(value))
    }

    pub(super) fn claim(&self, before: Timestamp, again_at: Timestamp, max: usize) -> Call {
        let call = CLAIM.on(&[&self.due]).arg(before.as_millis()).arg(again_at.as_millis());
        call.arg(max.clamp(1, CLAIM_MAX))
    }

    pub(super) fn forget(&self, id: &OrderId) -> Call {
        FORGET.on(&[&self.order(id), &self.due]).arg(id.as_str())
    }

    /// Reads the revisions of orders, writes something, and waits until so many replicas have it:
    /// the first answers with the revisions, the last with how many replicas there are.
    ///
    /// The write comes second: the first call of a pipeline is what a node executes to which a
    /// slot is just moving, and a key that is made there stands in the way of the move.
    pub(super) fn fence(&self, orders: &[String], replicas: u16, wait: Duration) -> [Call; 3] {
        // To wait for 0 ms is to wait for ever.
        let wait_ms = wait.as_millis().clamp(1, u128::from(u32::MAX));
        let first = orders.first().unwrap_or(&self.fence);
        [
            Call::command("EVAL", first).arg(REVISIONS).arg(orders.len()).arg(orders),
            Call::command("SET", &self.fence).arg(&self.fence).arg(1),
            Call::command("WAIT", &self.fence).arg(replicas).arg(wait_ms.to_string()),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shard_lives_in_one_slot_whatever_the_id() {
        let shard = Shard::new("shop", 3);
        for name in ["o1", "{other}", "}{", "ü:*"] {
            let id = OrderId::new(name).unwrap();
            assert_eq!(shard.order(&id), format!("{{shop:r:3}}:o:{name}"));
            assert_eq!(shard.load(&id).tag(), "shop:r:3");
            assert_eq!(shard.forget(&id).tag(), "shop:r:3");
        }
        let orders = ["o1", "o2"].map(|name| shard.order(&OrderId::new(name).unwrap()));
        let fence = shard.fence(&orders, 1, Duration::ZERO);
        assert!(fence.iter().all(|call| call.tag() == "shop:r:3"));
        let wait = Vec::from_iter(fence).remove(2).into_cmd().get_packed_command();
        assert!(wait.ends_with(b"$1\r\n1\r\n$1\r\n1\r\n"), "never for ever");
    }
}
