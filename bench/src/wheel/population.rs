//! Which timers there are: ids of 24 characters in no order, due at random within an hour.

use std::time::Duration;

use expirer_core::{OrderId, Timer, Timestamp};

/// Timers in a batch.
pub const BATCH: usize = 256;

/// All timers are due within this.
pub const HORIZON: Duration = Duration::from_secs(3600);

/// How many timers wait, and what that is called.
pub const SIZES: [(&str, usize); 3] = [("10k", 10_000), ("1M", 1_000_000), ("10M", 10_000_000)];

/// The timers that are in a structure, and a seeded choice among them.
#[derive(Debug, Default)]
pub struct Population {
    present: Vec<u64>,
    next: u64,
    random: u64,
}

impl Population {
    /// A batch of timers that are not there yet.
    pub fn add(&mut self, now: Timestamp) -> Vec<Timer> {
        let from = self.next;
        self.next += BATCH as u64;
        self.present.extend(from..self.next);
        (from..self.next).map(|number| Timer::new(id(number), self.due(now))).collect()
    }

    /// A batch that is there and shall go.
    pub fn remove(&mut self) -> Vec<OrderId> {
        (0..BATCH)
            .map(|_| {
                let at = self.below(self.present.len());
                id(self.present.swap_remove(at))
            })
            .collect()
    }

    /// A batch of new due times.
    pub fn change(&mut self, now: Timestamp) -> Vec<Timer> {
        (0..BATCH)
            .map(|_| {
                let at = self.below(self.present.len());
                Timer::new(id(self.present[at]), self.due(now))
            })
            .collect()
    }

    /// A due time at random.
    pub fn due(&mut self, now: Timestamp) -> Timestamp {
        now + Duration::from_millis(self.below(HORIZON.as_millis() as usize) as u64 + 1)
    }

    fn below(&mut self, end: usize) -> usize {
        self.random = self.random.wrapping_add(1);
        mix(self.random) as usize % end
    }
}

fn id(number: u64) -> OrderId {
    let text = format!("{:08x}{:016x}", mix(number) >> 32, mix(!number));
    OrderId::new(text).expect("24 hexadecimal digits are an id")
}

/// SplitMix64.
const fn mix(number: u64) -> u64 {
    let mixed = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ mixed >> 31
}
