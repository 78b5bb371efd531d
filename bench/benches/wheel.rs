//! The wheel beside `DelayQueue` + `HashMap`, and beside a plain `HashMap`.
//!
//! Each structure is filled with 10 thousand, 1 million and 10 million timers and kept at that
//! size; an iteration is a batch of 256. `cargo bench -p expirer-bench --bench wheel -- 10M` runs
//! one size, `-- lease` one row, `-- /wheel/` one structure.

use std::cell::{LazyCell, RefCell};
use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use expirer_bench::wheel::{
    BATCH, Contestant, HORIZON, OurWheel, PlainMap, Population, SIZES, TokioQueue,
};
use expirer_core::{Timer, Timestamp};

/// A structure at its size, and what is in it.
struct Filled<S> {
    timers: S,
    population: Population,
    size: usize,
}

impl<C: Contestant> Filled<C> {
    fn new(size: usize) -> Self {
        let (mut timers, mut population) = (C::new(), Population::default());
        for _ in 0..size / BATCH {
            timers.schedule(&population.add(timers.now()));
        }
        Self { timers, population, size }
    }

    fn schedule(&mut self) -> Duration {
        self.timers.cancel(&self.population.remove());
        let batch = self.population.add(self.timers.now());
        timed(|| self.timers.schedule(&batch))
    }

    fn reschedule(&mut self) -> Duration {
        let batch = self.population.change(self.timers.now());
        timed(|| self.timers.schedule(&batch))
    }

    fn cancel(&mut self) -> Duration {
        let added = self.population.add(self.timers.now());
        self.timers.schedule(&added);
        let batch = self.population.remove();
        timed(|| self.timers.cancel(&batch))
    }

    /// As much time passes as brings a batch on the average.
    fn lease(&mut self) -> Duration {
        self.timers.advance(HORIZON * BATCH as u32 / self.size as u32);
        let mut fired = Vec::with_capacity(BATCH);
        let time = timed(|| self.timers.fire(BATCH, &mut fired));
        let now = self.timers.now();
        let again = |id| Timer::new(id, self.population.due(now));
        self.timers.schedule(&fired.into_iter().map(again).collect::<Vec<_>>());
        time
    }
}

impl Filled<PlainMap> {
    fn new_map(size: usize) -> Self {
        let mut filled =
            Self { timers: PlainMap::default(), population: Population::default(), size };
        for _ in 0..filled.size / BATCH {
            filled.timers.insert(&filled.population.add(Timestamp::EPOCH));
        }
        filled
    }

    fn insert(&mut self) -> Duration {
        self.timers.remove(&self.population.remove());
        let batch = self.population.add(Timestamp::EPOCH);
        timed(|| self.timers.insert(&batch))
    }

    fn lookup(&mut self) -> Duration {
        let batch = self.population.change(Timestamp::EPOCH);
        timed(|| {
            black_box(self.timers.lookup(&batch));
        })
    }
}

#[expect(clippy::disallowed_methods, reason = "a benchmark measures time")]
fn timed(work: impl FnOnce()) -> Duration {
    let start = Instant::now();
    work();
    start.elapsed()
}

type Row<S> = (&'static str, fn(&mut Filled<S>) -> Duration);

/// Runs rows over one structure, which is filled when the first of them is due (a filter may
/// leave out all).
fn rows<S>(
    criterion: &mut Criterion,
    name: &str,
    size: &str,
    filled: impl FnOnce() -> Filled<S>,
    rows: &[Row<S>],
) {
    let filled = LazyCell::new(|| RefCell::new(filled()));
    for (row, batch) in rows {
        let mut group = criterion.benchmark_group(*row);
        group.throughput(Throughput::Elements(BATCH as u64));
        group.bench_function(BenchmarkId::new(name, size), |bencher| {
            let mut filled = filled.borrow_mut();
            bencher.iter_custom(|batches| (0..batches).map(|_| batch(&mut filled)).sum());
        });
    }
}

fn contest<C: Contestant>(criterion: &mut Criterion, label: &str, size: usize) {
    let all: [Row<C>; 4] = [
        ("schedule", Filled::schedule),
        ("reschedule", Filled::reschedule),
        ("cancel", Filled::cancel),
        ("lease", Filled::lease),
    ];
    rows(criterion, C::NAME, label, || Filled::<C>::new(size), &all);
}

fn floor(criterion: &mut Criterion, label: &str, size: usize) {
    let all: [Row<PlainMap>; 2] = [("insert", Filled::insert), ("lookup", Filled::lookup)];
    rows(criterion, "HashMap", label, || Filled::new_map(size), &all);
}

fn all(criterion: &mut Criterion) {
    for (label, size) in SIZES {
        contest::<OurWheel>(criterion, label, size);
        contest::<TokioQueue>(criterion, label, size);
        floor(criterion, label, size);
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_secs(1))
        .measurement_time(Duration::from_secs(2));
    targets = all
}
criterion_main!(benches);
