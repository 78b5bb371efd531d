//! How long orders that have ended are kept, where the URL or its lack says so.

use std::time::Duration;

use expirer_core::order::State;

use crate::url::span;

/// How long an order is kept after its last commit, if it has ended and owes nothing: 30 days.
///
/// One that is forgotten is absent: a payment for it would wait for an order that never comes
/// instead of being answered as late, and a repeated `order:created` would open it again.
pub const KEEP: Duration = Duration::from_secs(30 * 86_400);
/// How long what was heard ahead of its order is kept at least.
pub const AHEAD_KEEP: Duration = Duration::from_secs(86_400);

/// How long something is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Keep {
    For(Duration),
    Forever,
}

impl Keep {
    /// # Errors
    /// What would be right; `name` is the option's.
    pub(crate) fn parse(name: &str, text: &str) -> Result<Self, String> {
        if text == "forever" {
            return Ok(Self::Forever);
        }
        span(name, text).map(Self::For).map_err(|error| format!("{error}, or forever"))
    }

    /// How long a state is kept that is at its end; `None` for ever.
    pub(crate) fn span(self, state: &State) -> Option<Duration> {
        match (self, state) {
            (Self::Forever, _) => None,
            (Self::For(keep), State::Order(_)) => Some(keep),
            (Self::For(keep), State::Ahead(_)) => Some(keep.max(AHEAD_KEEP)),
        }
    }
}
