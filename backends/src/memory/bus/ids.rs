//! Ids for messages that come without one.

use std::fmt::Write as _;

use expirer_core::MessageId;

/// Makes message ids that no other process makes, and that fit inline.
pub(super) struct Ids {
    /// The last one: allocated once.
    text: String,
    prefix: usize,
}

impl Ids {
    pub(super) fn new(seed: u64) -> Self {
        let text = format!("{:08x}-", (seed ^ seed >> 32) & 0xffff_ffff);
        Self { prefix: text.len(), text }
    }

    pub(super) fn mint(&mut self, sequence: u64) -> MessageId {
        self.text.truncate(self.prefix);
        // Writing to a string does not fail.
        let _ = write!(self.text, "{sequence}");
        MessageId::new(&self.text)
    }
}
