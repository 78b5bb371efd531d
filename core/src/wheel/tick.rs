//! Time as the wheel counts it.

use crate::Timestamp;

/// Milliseconds since [`Timestamp::MIN`]: never negative, at most 49 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Tick(pub(super) u64);

/// Each level reads one byte of a tick.
pub(super) const LEVEL_BITS: u32 = 8;
/// Slots in a level.
pub(super) const LEVEL_SLOTS: usize = 1 << LEVEL_BITS;
/// Seven bytes hold every tick, so nothing is beyond the wheel.
pub(super) const LEVELS: usize = 7;
/// All slots of all levels.
pub(super) const SLOTS: usize = LEVELS * LEVEL_SLOTS;
/// The number of no slot.
pub(super) const SLOT_NONE: u16 = 2047;

const _: () = assert!(SLOTS <= SLOT_NONE as usize);
const _: () = assert!(
    Timestamp::MAX.as_millis() - Timestamp::MIN.as_millis() < 1 << (LEVELS as u32 * LEVEL_BITS)
);

impl Tick {
    /// The byte that this level reads.
    pub(super) const fn digit(self, level: usize) -> usize {
        (self.0 >> (level as u32 * LEVEL_BITS)) as usize % LEVEL_SLOTS
    }

    /// The highest level at which the two differ; the lowest, if they are equal.
    pub(super) const fn level_apart(self, other: Self) -> usize {
        ((self.0 ^ other.0 | 1).ilog2() / LEVEL_BITS) as usize
    }

    /// The first tick with this digit at `level`, and the same digits as `self` above.
    pub(super) const fn slot_start(self, level: usize, digit: usize) -> Self {
        let shift = level as u32 * LEVEL_BITS;
        let above = self.0 >> shift >> LEVEL_BITS;
        Self((above << LEVEL_BITS | digit as u64) << shift)
    }
}

impl From<Timestamp> for Tick {
    fn from(at: Timestamp) -> Self {
        Self(at.as_millis().abs_diff(Timestamp::MIN.as_millis()))
    }
}

impl From<Tick> for Timestamp {
    fn from(tick: Tick) -> Self {
        Self::from_millis(Self::MIN.as_millis().saturating_add_unsigned(tick.0))
    }
}
