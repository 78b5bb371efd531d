//! Jittered exponential back-off with a bound.

use std::time::Duration;

/// Delays that double from `min` to `max`, each drawn from its upper half.
///
/// "Equal jitter" of Marc Brooker's *Exponential Backoff And Jitter* (AWS Architecture Blog,
/// 2015): it spreads a herd and still never comes back at once. The randomness comes from a seed
/// that the owner gives (`SplitMix64`), so that a simulation can be replayed.
#[derive(Clone, Debug)]
pub struct Backoff {
    min: Duration,
    max: Duration,
    failures: u32,
    seed: u64,
}

impl Backoff {
    /// Delays between half of `min` and `max`.
    #[must_use]
    pub const fn new(min: Duration, max: Duration, seed: u64) -> Self {
        Self { min, max, failures: 0, seed }
    }

    /// The delay after one more failure.
    pub fn next_delay(&mut self) -> Duration {
        self.seed = self.seed.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let delay = self.upper_bound();
        self.failures = self.failures.saturating_add(1);
        let half = delay / 2;
        let half_micros = u64::try_from(half.as_micros()).unwrap_or(u64::MAX - 1);
        half + Duration::from_micros(mix(self.seed) % (half_micros + 1))
    }

    /// The longest that the next delay can be.
    #[must_use]
    pub fn upper_bound(&self) -> Duration {
        delay_after(self.failures, self.min, self.max)
    }

    /// Starts again at `min`, after a success.
    pub const fn reset(&mut self) {
        self.failures = 0;
    }
}

/// `min` doubled after every failure, at most `max`.
#[must_use]
pub fn delay_after(failures: u32, min: Duration, max: Duration) -> Duration {
    min.saturating_mul(1_u32.checked_shl(failures).unwrap_or(u32::MAX)).min(max)
}

/// The output function of `SplitMix64` (Steele, Lea, Flood: *Fast Splittable Pseudorandom Number
/// Generators*, OOPSLA 2014).
const fn mix(seed: u64) -> u64 {
    let z = (seed ^ (seed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MIN: Duration = Duration::from_millis(100);
    const MAX: Duration = Duration::from_secs(5);

    #[test]
    fn doubles_up_to_the_bound_and_starts_again() {
        let upper: Vec<_> = (0..8).map(|n| delay_after(n, MIN, MAX).as_millis()).collect();
        assert_eq!(upper, [100, 200, 400, 800, 1600, 3200, 5000, 5000]);
        let mut backoff = Backoff::new(MIN, MAX, 1);
        (0..9).for_each(|_| _ = backoff.next_delay());
        assert!(backoff.next_delay() >= MAX / 2);
        backoff.reset();
        assert!(backoff.next_delay() <= MIN);
    }

    #[test]
    fn the_seed_decides_and_seeds_differ() {
        let delays = |seed| {
            let mut backoff = Backoff::new(MIN, MAX, seed);
            (0..9).map(|_| backoff.next_delay()).collect::<Vec<_>>()
        };
        assert_eq!(delays(7), delays(7));
        assert_ne!(delays(7), delays(8));
    }

    proptest! {
        #[test]
        fn every_delay_is_within_its_bounds(seed: u64, failures in 0..200_u32) {
            let mut backoff = Backoff { failures, ..Backoff::new(MIN, MAX, seed) };
            let delay = backoff.next_delay();
            prop_assert!(delay >= MIN / 2 && delay <= MAX);
        }
    }
}
