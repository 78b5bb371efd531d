//! One subject's stream, and one group on it: their keys, and the calls on them.

use std::time::Duration;

use expirer_core::{Error, ErrorKind, Group, Message, Subject};

use super::entry::EntryId;
use super::wire;
use crate::redis::BACKEND;
use crate::redis::script::{Call, Script};

/// The most entries that one script call delivers: it holds up the server for about a millisecond.
pub(super) const TAKE_MAX: usize = 256;
/// The most receipts in one script call.
pub(super) const RECEIPTS_MAX: usize = 128;
/// The most entries that one call trims.
pub(super) const TRIM_MAX: u64 = 10_000;
/// The most pending entries that one call looks at, to adopt them.
const ADOPT_MAX: u64 = 500;
/// The most waiting messages that are counted where the server does not know.
const COUNT_MAX: u64 = 1000;
/// What the names of our members begin with.
const MEMBER: &str = "expirer-";
/// Who holds what is put off.
const RELEASED: &str = "released";
/// A member of ours that holds nothing and was not seen for so long is forgotten.
const MEMBER_IDLE: Duration = Duration::from_secs(3600);

/// A script, of one file or several, one behind the other.
macro_rules! script {
    ($($part:literal),+) => {
        concat!($(include_str!(concat!("../scripts/bus/", $part, ".lua"))),+)
    };
}

static JOIN: Script = Script::new("join", script!("xinfo", "join"));
static TAKE: Script = Script::new("take", script!("xinfo", "ahead", "take"));
static ACK: Script = Script::new("ack", script!("is_held", "ack"));
static RELEASE: Script = Script::new("release", script!("is_held", "release"));
static HELD: Script = Script::new("held", script!("is_held", "held"));
static ADOPT: Script = Script::new("adopt", script!("adopt"));
static TRIM: Script = Script::new("trim", script!("trim"));
static PROGRESS: Script = Script::new("progress", script!("xinfo", "ahead", "progress"));
static TAIL: Script = Script::new("tail", script!("xinfo", "tail"));

/// The key of a subject's stream; the subject is its hash tag.
pub(super) fn stream(prefix: Option<&str>, subject: &Subject) -> String {
    match prefix {
        Some(prefix) => format!("{prefix}:bus:{{{subject}}}"),
        None => format!("bus:{{{subject}}}"),
    }
}

/// String: the last end of a stream that was ahead of the server's clock.
fn ahead(stream: &str) -> String {
    format!("{stream}:ahead")
}

/// The name of a member: another one in each process, and for each member of it.
pub(super) fn member(seed: u64, number: u64) -> String {
    format!("{MEMBER}{seed:016x}-{number}")
}

/// Stores a message.
pub(super) fn add(stream: &str, message: &Message) -> Call {
    wire::write(Call::command("XADD", stream).arg(stream).arg("*"), message)
}

/// Waits for an entry after `last`, without taking it.
pub(super) fn watch(stream: &str, last: EntryId, block: Duration) -> Call {
    let call = Call::command("XREAD", stream).arg("COUNT").arg(1).arg("BLOCK").arg(millis(block));
    call.arg("STREAMS").arg(stream).arg(last.to_string())
}

/// Reads what came after `last`, or only where the end is.
pub(super) fn tail(stream: &str, last: Option<EntryId>, max: usize) -> Call {
    let last = last.map_or_else(|| "$".to_owned(), |last| last.to_string());
    TAIL.on(&[stream]).arg(last).arg(max.clamp(1, TAKE_MAX))
}

pub(super) fn progress(stream: &str, group: &Group) -> Call {
    PROGRESS.on(&[stream, &ahead(stream)]).arg(group.as_str()).arg(COUNT_MAX)
}

/// Says which key holds something else than we expect there, or where to see what was refused.
pub(super) fn explained(op: &'static str, stream: &str, error: Error) -> Error {
    let text = match error.kind() {
        ErrorKind::Corrupt => format!(
            "the key {stream} (or {stream}:GROUP:visible, or {stream}:ahead) holds something that \
             is not ours: look with redis-cli TYPE, and rename or remove it; {error}"
        ),
        ErrorKind::Denied => {
            format!("{stream}: redis-cli ACL LOG says which command or key is refused; {error}")
        }
        _ => return error,
    };
    Error::new(error.kind(), BACKEND, op, text)
}

/// What a receipt stands for: an entry, and for the how manyeth time it was delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Proof {
    pub(super) id: EntryId,
    pub(super) count: u32,
}

/// One member of a group on one stream.
#[derive(Clone, Debug)]
pub(super) struct Seat {
    pub(super) subject: Subject,
    pub(super) stream: String,
    /// Sorted set: what is delivered and not settled, by when it may come again.
    visible: String,
    group: String,
    member: String,
}

impl Seat {
    pub(super) fn new(prefix: Option<&str>, subject: &Subject, group: &Group, name: &str) -> Self {
        let stream = stream(prefix, subject);
        let visible = format!("{stream}:{group}:visible");
        let (group, member) = (group.as_str().to_owned(), name.to_owned());
        Self { subject: subject.clone(), stream, visible, group, member }
    }

    pub(super) fn join(&self) -> Call {
        self.on(&JOIN).arg(MEMBER).arg(millis(MEMBER_IDLE))
    }

    /// What comes again gets half of `max`, and of an odd one the larger half where it is `first`.
    pub(super) fn take(&self, max: usize, ack_deadline: Duration, first: bool) -> Call {
        let call = TAKE.on(&[&self.stream, &self.visible, &ahead(&self.stream)]).arg(&self.group);
        let call = call.arg(&self.member).arg(max.clamp(1, TAKE_MAX)).arg(millis(ack_deadline));
        call.arg(u8::from(first))
    }

    pub(super) fn ack(&self, proofs: impl IntoIterator<Item = Proof>) -> Call {
        with_proofs(self.on(&ACK).arg(&self.member), proofs)
    }

    pub(super) fn held(&self, proofs: impl IntoIterator<Item = Proof>) -> Call {
        with_proofs(self.on(&HELD).arg(&self.member), proofs)
    }

    pub(super) fn release(&self, delays: impl IntoIterator<Item = (Proof, Duration)>) -> Call {
        let mut call = self.on(&RELEASE).arg(&self.member).arg(RELEASED);
        for (proof, delay) in delays {
            call.push(proof.id.to_string());
            call.push(proof.count);
            call.push(millis(delay));
        }
        call
    }

    /// `from` is what the call before returned.
    pub(super) fn adopt(&self, idle: Duration, from: &str) -> Call {
        self.on(&ADOPT).arg(millis(idle)).arg(from).arg(ADOPT_MAX)
    }

    pub(super) fn trim(&self, retain: Duration) -> Call {
        let keys = [&*self.stream, &ahead(&self.stream)];
        TRIM.on(&keys).arg(&self.group).arg(millis(retain)).arg(TRIM_MAX)
    }

    fn on(&self, script: &'static Script) -> Call {
        script.on(&[&self.stream, &self.visible]).arg(&self.group)
    }
}

fn with_proofs(mut call: Call, proofs: impl IntoIterator<Item = Proof>) -> Call {
    for proof in proofs {
        call.push(proof.id.to_string());
        call.push(proof.count);
    }
    call
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_have_the_subject_for_a_hash_tag() {
        let group = Group::new("orders-service").unwrap();
        let seat = Seat::new(None, &Subject::OrderCreated, &group, "m");
        assert_eq!(seat.stream, "bus:{order:created}");
        assert_eq!(seat.visible, "bus:{order:created}:orders-service:visible");
        assert_eq!(seat.join().tag(), "order:created");
        let dead = stream(Some("shop"), &Subject::Dead(group));
        assert_eq!(dead, "shop:bus:{dead:orders-service}");
        assert_eq!(Call::command("XADD", &dead).tag(), "dead:orders-service");
    }
}
