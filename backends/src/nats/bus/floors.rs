//! How far groups were seen to have come: where a consumer that was deleted begins again.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// By consumer: when its stream was made, and up to which sequence of it everything is settled.
#[derive(Debug, Default)]
pub(super) struct Floors {
    seen: Mutex<BTreeMap<String, (String, u64)>>,
}

impl Floors {
    /// Remembers a floor of a stream that was made then.
    pub(super) fn note(&self, consumer: &str, created: &str, floor: u64) {
        let mut seen = self.lock();
        let (of, reached) = seen.entry(consumer.to_owned()).or_default();
        if *of != created {
            (*of, *reached) = (created.to_owned(), 0);
        }
        *reached = floor.max(*reached);
    }

    /// Remembers a floor of the same stream as before.
    pub(super) fn raise(&self, consumer: &str, floor: u64) {
        if let Some((_, seen)) = self.lock().get_mut(consumer) {
            *seen = floor.max(*seen);
        }
    }

    /// The floor in a stream that was made then; sequences of another one mean nothing in it.
    pub(super) fn of(&self, consumer: &str, created: &str) -> Option<u64> {
        self.lock().get(consumer).filter(|(of, _)| of == created).map(|(_, floor)| *floor)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, (String, u64)>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_floor_is_of_one_stream() {
        let floors = Floors::default();
        floors.raise("a", 9);
        assert_eq!(floors.of("a", "monday"), None);
        floors.note("a", "monday", 5);
        floors.raise("a", 4);
        floors.note("a", "monday", 3);
        assert_eq!(floors.of("a", "monday"), Some(5));
        assert_eq!((floors.of("a", "tuesday"), floors.of("b", "monday")), (None, None));
        floors.note("a", "tuesday", 2);
        assert_eq!((floors.of("a", "monday"), floors.of("a", "tuesday")), (None, Some(2)));
    }
}
