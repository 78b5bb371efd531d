//! The simulation as tests: seeds in parts, one run twice, and every planted mistake.

use std::ops::Range;

use super::{Run, Simulation, Tally};
use crate::planted::Mistake;

/// The seeds of one test: enough for everything that can happen to happen.
const PART: u64 = 500;
/// Names the seeds to run.
const SEEDS_VARIABLE: &str = "EXPIRER_SIM_SEEDS";
/// How much of a trace is shown with a failure.
const TRACE_LINES_MAX: usize = 60;

/// A test, and its name.
pub(crate) type Trial = (String, Box<dyn FnOnce() -> Result<(), String> + Send>);

pub(crate) fn trials(simulation: &Simulation, seeds: Range<u64>) -> Vec<Trial> {
    let variable = std::env::var(SEEDS_VARIABLE).ok();
    let (seeds, is_whole) = chosen(variable.as_deref(), seeds);
    let mut trials: Vec<Trial> = parts(&seeds)
        .map(|part| {
            let simulation = simulation.clone();
            let name = format!("seeds::{}_to_{}", part.start, part.end - 1);
            let is_whole = is_whole && part.end - part.start >= PART;
            named(name, move || all_sound(&simulation, part, is_whole))
        })
        .collect();
    let simulation = simulation.clone();
    trials.push(named("a_seed_is_a_run".to_owned(), move || a_seed_is_a_run(&simulation)));
    trials
}

pub(crate) fn planted_trials(simulation: &Simulation) -> Vec<Trial> {
    let trial = |mistake: Mistake| {
        let simulation = simulation.clone().with_mistake(mistake);
        named(format!("{mistake:?}"), move || is_found(&simulation, mistake))
    };
    Mistake::ALL.map(trial).into()
}

fn named(name: String, test: impl FnOnce() -> Result<(), String> + Send + 'static) -> Trial {
    (name, Box::new(test))
}

/// The seeds to run, and whether they are enough to ask what has happened in them.
fn chosen(variable: Option<&str>, seeds: Range<u64>) -> (Range<u64>, bool) {
    let number = |text: &str| text.trim().parse::<u64>().ok();
    let read = match variable.map(|text| (text, text.split_once(".."))) {
        None => Some((seeds, true)),
        Some((count, None)) => number(count).map(|count| (0..count, true)),
        Some((_, Some((from, to)))) => {
            number(from).zip(number(to)).map(|(from, to)| (from..to, false))
        }
    };
    read.filter(|(seeds, _)| !seeds.is_empty()).unwrap_or_else(|| {
        panic!("{SEEDS_VARIABLE} is {variable:?}; write a number or a range such as 17..18")
    })
}

fn parts(seeds: &Range<u64>) -> impl Iterator<Item = Range<u64>> + use<> {
    let (start, end) = (seeds.start, seeds.end);
    (start..end).step_by(PART as usize).map(move |from| from..end.min(from + PART))
}

fn all_sound(simulation: &Simulation, seeds: Range<u64>, is_whole: bool) -> Result<(), String> {
    let mut tally = Tally::default();
    for seed in seeds {
        let run = simulation.run(seed);
        if !run.is_sound() {
            return Err(report(&simulation.trace(seed)));
        }
        tally.add(&run.tally);
    }
    match tally.missing() {
        missing if is_whole && !missing.is_empty() => {
            Err(format!("it proves nothing: no {}\n{tally}", missing.join(", no ")))
        }
        _ => Ok(()),
    }
}

/// What was broken, what came before it, and how to see it again.
fn report(run: &Run) -> String {
    let Run { seed, trace, .. } = run;
    let last = trace[trace.len().saturating_sub(TRACE_LINES_MAX)..].join("\n");
    let (next, binary) = (seed + 1, std::env::args().next().unwrap_or_default());
    format!(
        "{run}\nthe end of its trace:\n{last}\n\
         to replay it: {SEEDS_VARIABLE}={seed}..{next} {binary} simulation::seeds"
    )
}

/// The same seed is the same run to the last step, and another seed another.
fn a_seed_is_a_run(simulation: &Simulation) -> Result<(), String> {
    for seed in 0..20 {
        let (first, second) = (simulation.run(seed), simulation.run(seed));
        if (first.hash, first.tally) != (second.hash, second.tally) {
            return Err(format!("seed {seed} is not the same run twice"));
        }
        if first.hash == simulation.run(seed + 1).hash {
            return Err(format!("seeds {seed} and {} are the same run", seed + 1));
        }
    }
    Ok(())
}

/// Not only that something is wrong has to be found, but what.
fn is_found(simulation: &Simulation, mistake: Mistake) -> Result<(), String> {
    let seeds_max = mistake.seeds_max();
    let found = (0..seeds_max).map(|seed| simulation.run(seed)).find(|run| !run.is_sound());
    match found {
        None => Err(format!("{mistake:?} was not found in {seeds_max} seeds")),
        Some(run) if !mistake.is_shown_by(&run) => {
            Err(format!("{mistake:?} showed as something else: {run}"))
        }
        Some(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_are_a_number_a_range_or_the_default() {
        assert_eq!(chosen(None, 0..90), (0..90, true));
        assert_eq!(chosen(Some("600"), 0..90), (0..600, true));
        assert_eq!(chosen(Some("17..18"), 0..90), (17..18, false));
        assert_eq!(parts(&(0..1200)).collect::<Vec<_>>(), [0..500, 500..1000, 1000..1200]);
    }

    #[test]
    fn anything_else_is_refused_and_so_is_nothing() {
        for wrong in ["many", "0", "17..17", "18..17", "..", "-1"] {
            let refused = std::panic::catch_unwind(|| chosen(Some(wrong), 0..90));
            assert!(refused.is_err(), "{wrong}");
        }
    }
}
