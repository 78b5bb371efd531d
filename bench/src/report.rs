//! Figures, as lines of a table.

use std::error::Error;
use std::fmt::Display;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Whatever goes wrong ends the benchmark.
pub type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// One contestant's figures, round by round.
#[derive(Debug)]
pub struct Row {
    /// Of the contestant.
    pub name: &'static str,
    /// One for each round, the more the better.
    pub figures: Vec<f64>,
}

impl Row {
    /// Without figures yet.
    #[must_use]
    pub const fn new(name: &'static str) -> Self {
        Self { name, figures: Vec::new() }
    }
}

/// Writes a line to standard output.
///
/// # Errors
/// That nobody reads it.
pub fn say(line: impl Display) -> Outcome<()> {
    writeln!(std::io::stdout(), "{line}")?;
    Ok(())
}

/// A table of contestants: the first is compared with each other one.
///
/// # Errors
/// As [`say`].
pub fn table<'a>(what: &str, rows: impl IntoIterator<Item = &'a Row>) -> Outcome<()> {
    say(format!("\n| {what} | least | median | most | Expirer is |\n|---|---|---|---|---|"))?;
    let mut ours = None;
    for row in rows {
        let [least, median, most] = spread(&row.figures);
        let ratio = *ours.get_or_insert(median) / median;
        say(format!("| {} | {least:.0} | {median:.0} | {most:.0} | {ratio:.2} × |", row.name))?;
    }
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

/// So many a second since then.
#[must_use]
pub fn rate(count: u64, begun: Instant) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX)) / begun.elapsed().as_secs_f64()
}

/// How many processes wanted to run in the last minutes: the machine may be shared.
#[must_use]
pub fn load() -> String {
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    load.split(' ').take(2).collect::<Vec<_>>().join(" ")
}

/// The folder of the build.
#[must_use]
pub fn target() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent();
    root.map_or_else(std::env::temp_dir, |root| root.join("target"))
}
