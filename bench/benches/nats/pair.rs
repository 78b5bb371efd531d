//! Two that do the same in turns.

use expirer_bench::report::{Outcome, say, spread};

/// Whether it is our turn: who begins changes from round to round.
pub(crate) const fn turns(round: usize) -> [bool; 2] {
    let ours_first = round.is_multiple_of(2);
    [ours_first, !ours_first]
}

/// The figures of both, round by round.
pub(crate) struct Pair {
    what: String,
    ours: Vec<f64>,
    raw: Vec<f64>,
}

impl Pair {
    pub(crate) fn new(what: impl Into<String>) -> Self {
        Self { what: what.into(), ours: Vec::new(), raw: Vec::new() }
    }

    pub(crate) fn add(&mut self, is_ours: bool, figure: f64) {
        if is_ours { self.ours.push(figure) } else { self.raw.push(figure) }
    }

    pub(crate) fn head(rounds: usize) -> Outcome<()> {
        say(format!("{rounds} rounds, a second: least, median, most"))?;
        say("| what | Expirer | raw client | Expirer ÷ raw, round by round |\n|---|---|---|---|")
    }

    pub(crate) fn say(&self) -> Outcome<()> {
        let ratios: Vec<f64> = self.ours.iter().zip(&self.raw).map(|(a, b)| a / b).collect();
        let shown =
            |figures, places| spread(figures).map(|figure| format!("{figure:.places$}")).join(", ");
        let (ours, raw, ratios) = (shown(&self.ours, 0), shown(&self.raw, 0), shown(&ratios, 2));
        say(format!("| {} | {ours} | {raw} | {ratios} |", self.what))
    }
}
