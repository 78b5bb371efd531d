//! A hundred thousand timers due in one millisecond.

use std::time::Duration;

use expirer_bench::burst::{self, Burst};
use expirer_bench::report::Outcome;

use crate::Bench;

const BURST: Burst = Burst { count: 100_000, ahead: Duration::from_secs(5) };

pub(crate) async fn measure(bench: &Bench) -> Outcome<()> {
    burst::measure(&bench.ours, BURST, bench.rounds).await
}
