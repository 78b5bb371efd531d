//! What every place on real servers has: a runtime, the machine's time, options of its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use expirer_backends::TokioClock;
use expirer_backends::connect::ConnectOptions;
use expirer_conformance::{Time, Tolerance};
use expirer_core::Clock;
use tokio::runtime::{Builder, Runtime};

/// What a backend is given: a seed of its own each time, as in a process of its own, and patience
/// with a busy machine.
pub(crate) fn options() -> ConnectOptions {
    production_options().with_answer_within(Duration::from_secs(10))
}

/// The same with the patience that the loops need.
pub(crate) fn production_options() -> ConnectOptions {
    static SEED: AtomicU64 = AtomicU64::new(1);
    ConnectOptions::new(clock(), SEED.fetch_add(1 << 32, Ordering::Relaxed))
}

fn clock() -> Arc<dyn Clock> {
    Arc::new(TokioClock::new())
}

pub(crate) fn runtime() -> Arc<Runtime> {
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build();
    Arc::new(runtime.expect("a runtime"))
}

/// The machine's time; server and test share its clock, and only whole milliseconds differ.
pub(crate) fn real_time(runtime: &Arc<Runtime>) -> Time {
    let tolerance = Tolerance { early: Duration::from_millis(1), late: Duration::from_secs(20) };
    let runtime = Arc::clone(runtime);
    Time::real(clock(), tolerance, move |case| runtime.block_on(case))
}
