//! What a benchmark is asked for, and what it says.

use std::error::Error;
use std::fmt::Display;
use std::io::Write;

/// Whatever goes wrong ends the benchmark.
pub type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// The parts that the arguments name, the usual ones where they name none, and the number of
/// rounds, if they have one.
#[must_use]
pub fn asked(
    usual: &[&'static str],
    others: &[&'static str],
) -> (Vec<&'static str>, Option<usize>) {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(|arg| arg.trim_start_matches("--")).collect();
    let named = usual.iter().chain(others).copied().filter(|part| args.contains(part));
    let mut parts: Vec<_> = named.collect();
    if parts.is_empty() {
        parts = usual.to_vec();
    }
    (parts, args.iter().find_map(|arg| arg.parse().ok()))
}

/// How many processes wanted to run in the last minutes: the machine may be shared.
#[must_use]
pub fn load() -> String {
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    load.split(' ').take(2).collect::<Vec<_>>().join(" ")
}

/// Writes a line to standard output.
///
/// # Errors
/// That nobody reads it.
pub fn say(line: impl Display) -> Outcome<()> {
    writeln!(std::io::stdout(), "{line}")?;
    Ok(())
}

/// Least, median and greatest.
#[must_use]
pub fn spread(figures: &[f64]) -> [f64; 3] {
    let mut figures = figures.to_vec();
    figures.sort_by(f64::total_cmp);
    match figures.as_slice() {
        [] => [f64::NAN; 3],
        [least, ..] => [*least, figures[figures.len() / 2], figures[figures.len() - 1]],
    }
}

/// A count as a number to reckon with; four thousand million and more as that.
#[must_use]
pub fn number(count: u64) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}
