//! What a run did: a trace, of which the hash is kept, counts, and the first broken promises.

use std::fmt::{self, Write};
use std::hash::{DefaultHasher, Hasher};
use std::sync::{Arc, Mutex, MutexGuard};

use expirer_core::Timestamp;

use super::tally::Tally;
use crate::lock;

/// How many broken promises are kept: the first one matters.
const VIOLATIONS_MAX: usize = 8;

/// Shared by everything in one run.
#[derive(Clone, Debug)]
pub(super) struct Log(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    hasher: DefaultHasher,
    lines: Option<Vec<String>>,
    tally: Tally,
    violations: Vec<String>,
}

impl Log {
    pub(super) fn new(keeps_lines: bool) -> Self {
        Self(Arc::new(Mutex::new(State {
            hasher: DefaultHasher::new(),
            lines: keeps_lines.then(Vec::new),
            tally: Tally::default(),
            violations: Vec::new(),
        })))
    }

    /// One step of the trace.
    pub(super) fn trace(&self, at: Timestamp, text: fmt::Arguments<'_>) {
        let mut state = self.state();
        state.hasher.write_i64(at.as_millis());
        let _ = Hashed(&mut state.hasher).write_fmt(text);
        if let Some(lines) = &mut state.lines {
            lines.push(format!("{at} {text}"));
        }
    }

    pub(super) fn count(&self, count: impl FnOnce(&mut Tally)) {
        count(&mut self.state().tally);
    }

    /// A promise was broken.
    pub(super) fn violation(&self, at: Timestamp, text: &str) {
        let mut state = self.state();
        if state.violations.len() < VIOLATIONS_MAX {
            state.violations.push(format!("{at} {text}"));
        }
        drop(state);
        self.trace(at, format_args!("VIOLATION"));
    }

    pub(super) fn is_broken(&self) -> bool {
        !self.state().violations.is_empty()
    }

    pub(super) fn tally(&self) -> Tally {
        self.state().tally
    }

    pub(super) fn violations(&self) -> Vec<String> {
        self.state().violations.clone()
    }

    pub(super) fn lines(&self) -> Vec<String> {
        self.state().lines.clone().unwrap_or_default()
    }

    pub(super) fn hash(&self) -> u64 {
        self.state().hasher.finish()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.0)
    }
}

/// Hashes text without building it.
struct Hashed<'a>(&'a mut DefaultHasher);

impl Write for Hashed<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.write(text.as_bytes());
        Ok(())
    }
}
