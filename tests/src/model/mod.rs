//! Any sequence of calls on a queue, against the core's timer machine.
//!
//! Every sequence is made and shrunk by [`proptest`]. `PROPTEST_CASES` says how many to try (on
//! real time one in forty of that), `PROPTEST_RNG_SEED` which.

mod believed;
mod driver;
mod lease;
mod step;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::{Config, RngSeed, TestCaseError, TestRunner};

use self::driver::Driver;
use self::step::{Step, steps};
use crate::harness::QueueHarness;

/// On real time, only one in so many sequences is tried, and few ways to shrink one.
const REAL_SHARE: u32 = 40;
const REAL_SHRINKS_MAX: u32 = 60;

/// Tries sequences of calls, each in a place of its own.
///
/// # Errors
/// What went wrong, the shortest sequence found in which something does, and the seed.
pub fn check(place: &dyn Fn() -> Arc<dyn QueueHarness>) -> Result<(), String> {
    let is_virtual = place().time().is_virtual();
    let (config, seed) = config(is_virtual);
    let mut runner = TestRunner::new(config);
    let tried = runner.run(&steps(is_virtual), |(_, steps, seen)| {
        let count = || {
            seen.iter().for_each(|seen| {
                seen.fetch_add(1, Ordering::SeqCst);
            });
        };
        try_one(&*place(), &steps, &count).map_err(TestCaseError::fail)
    });
    tried.map_err(|error| format!("{error}\nPROPTEST_RNG_SEED={seed} tries the same again"))
}

fn config(is_virtual: bool) -> (Config, u64) {
    let mut config = Config { failure_persistence: None, ..Config::default() };
    let seed = match config.rng_seed {
        RngSeed::Fixed(seed) => seed,
        RngSeed::Random => any_seed(config.clone()),
    };
    config.rng_seed = RngSeed::Fixed(seed);
    if !is_virtual {
        config.cases = config.cases.div_ceil(REAL_SHARE).max(1);
        config.max_shrink_iters = REAL_SHRINKS_MAX;
    }
    (config, seed)
}

/// A seed that can be told, where proptest would keep it to itself.
fn any_seed(config: Config) -> u64 {
    let tree = proptest::num::u64::ANY.new_tree(&mut TestRunner::new(config));
    tree.map_or(0, |tree| tree.current())
}

fn try_one(
    harness: &dyn QueueHarness,
    steps: &[Step],
    count: &(dyn Fn() + Sync),
) -> Result<(), String> {
    let mut outcome = Err("the runner of the harness has not run the steps".to_owned());
    harness.time().block_on(async { outcome = Driver::drive(harness, steps, count).await });
    outcome
}
