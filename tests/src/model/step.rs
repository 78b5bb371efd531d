//! The calls, and how sequences of them are made.

use std::ops::RangeInclusive;
use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest_state_machine::Sequential;

/// The ids that the calls are about, by number.
pub(super) const NAMES: [&str; 7] = ["o1", "o2", "o3", "o4", "o:5", "o6 ü", "O1"];

/// One call, or a wait.
#[derive(Clone, Debug)]
pub(super) enum Step {
    /// Timers, by the number of their id.
    Schedule(Vec<(usize, Due)>),
    Cancel(Vec<usize>),
    Lease(Ask),
    /// A lease that is polled once and dropped.
    DropLease(Ask),
    /// Receipts, counted back from the latest.
    Ack(Vec<usize>),
    /// Receipts, counted back from the latest, and in how many milliseconds to be visible.
    Release(Vec<(usize, i64)>),
    Wait(Until),
    Stats,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Due {
    /// In so many milliseconds; past, if negative.
    In(i64),
    /// When it is due already.
    Same,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Ask {
    pub(super) max: usize,
    pub(super) wait: Duration,
    pub(super) duration: Duration,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Until {
    /// So many milliseconds from now.
    In(u64),
    /// The next timer is visible, and so many milliseconds more, or less if negative.
    Next(i64),
}

/// What is known of a sequence while it is made: enough to make the next step worth while.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sketch {
    is_virtual: bool,
    timers: usize,
    receipts: usize,
}

/// Sequences of steps. On real time they are short, and no time in them is far away.
pub(super) fn steps(
    is_virtual: bool,
) -> Sequential<Sketch, Step, BoxedStrategy<Sketch>, BoxedStrategy<Step>> {
    let sketch = Sketch { is_virtual, timers: 0, receipts: 0 };
    let size = if is_virtual { 1..=60 } else { 1..=25 };
    Sequential::new(size.into(), move || Just(sketch).boxed(), is_possible, next_step, sketched)
}

/// A receipt can only be used once there may be one.
const fn is_possible(sketch: &Sketch, step: &Step) -> bool {
    sketch.receipts > 0 || !matches!(step, Step::Ack(_) | Step::Release(_))
}

fn sketched(mut sketch: Sketch, step: &Step) -> Sketch {
    match step {
        Step::Schedule(timers) => sketch.timers += timers.len(),
        Step::Lease(ask) => sketch.receipts += sketch.timers.min(ask.max),
        _ => {}
    }
    sketch
}

fn next_step(sketch: &Sketch) -> BoxedStrategy<Step> {
    let id = 0..NAMES.len();
    let schedule = vec((id.clone(), due(sketch.is_virtual)), 1..=6).prop_map(Step::Schedule);
    if sketch.timers == 0 {
        return schedule.boxed();
    }
    let ask = ask(sketch.is_virtual);
    let others = prop_oneof![
        6 => schedule,
        2 => vec(id, 1..=3).prop_map(Step::Cancel),
        6 => ask.clone().prop_map(Step::Lease),
        1 => ask.prop_map(Step::DropLease),
        5 => until(sketch.is_virtual).prop_map(Step::Wait),
        1 => Just(Step::Stats),
    ];
    if sketch.receipts == 0 {
        return others.boxed();
    }
    let at = -100..=millis_max(sketch.is_virtual);
    let ack = vec(receipt(), 1..=4).prop_map(Step::Ack);
    let release = vec((receipt(), at), 1..=4).prop_map(Step::Release);
    prop_oneof![21 => others, 4 => ack, 4 => release].boxed()
}

const fn millis_max(is_virtual: bool) -> i64 {
    if is_virtual { 2_000 } else { 200 }
}

/// Mostly one of the latest receipts, whose lease may still run.
fn receipt() -> impl Strategy<Value = usize> + Clone {
    prop_oneof![3 => 0..4_usize, 1 => 0..40_usize]
}

fn due(is_virtual: bool) -> BoxedStrategy<Due> {
    let near = (-300..=millis_max(is_virtual)).prop_map(Due::In);
    let near = prop_oneof![4 => near, 1 => (-2..=2_i64).prop_map(Due::In), 2 => Just(Due::Same)];
    if !is_virtual {
        return near.boxed();
    }
    // Up to 34 years, about the powers of two, where a structure by digits has its seams.
    let far = (8..=40_u32, -2..=2_i64).prop_map(|(power, more)| Due::In((1 << power) + more));
    let past = (8..=45_u32).prop_map(|power| Due::In(-(1 << power)));
    prop_oneof![12 => near, 2 => far, 1 => past].boxed()
}

fn ask(is_virtual: bool) -> BoxedStrategy<Ask> {
    let max = prop_oneof![4 => 1..=3_usize, 2 => 4..=10_usize, 1 => Just(0)];
    let wait = prop_oneof![3 => Just(0), 1 => millis(0..=100)];
    // The last one is more than a lease may run.
    let duration = match is_virtual {
        true => prop_oneof![6 => millis(1..=2_000), 1 => Just(7_200_000)].boxed(),
        false => millis(50..=300).boxed(),
    };
    let ask = |(max, wait, duration)| Ask {
        max,
        wait: Duration::from_millis(wait),
        duration: Duration::from_millis(duration),
    };
    (max, wait, duration).prop_map(ask).boxed()
}

fn until(is_virtual: bool) -> BoxedStrategy<Until> {
    let next = (-1..=1_i64).prop_map(Until::Next);
    let longest = if is_virtual { 3_000 } else { 300 };
    prop_oneof![1 => millis(0..=longest).prop_map(Until::In), 1 => next].boxed()
}

fn millis(range: RangeInclusive<u64>) -> impl Strategy<Value = u64> + Clone {
    range
}
