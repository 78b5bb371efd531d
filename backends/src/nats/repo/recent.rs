//! What was loaded or committed last, so that a commit need not read it again.

use std::sync::{Mutex, MutexGuard, PoisonError};

use expirer_core::{OrderId, Revision};
use foldhash::fast::FixedState;
use hashbrown::HashMap;

use super::row::Past;

/// How many are remembered: up to twice as many.
const GENERATION: usize = 4096;

type Pasts = HashMap<OrderId, Past, FixedState>;

/// The pasts of the orders that were seen last, in two generations.
#[derive(Debug)]
pub(super) struct Recent(Mutex<[Pasts; 2]>);

impl Recent {
    pub(super) fn new(seed: u64) -> Self {
        Self(Mutex::new([(); 2].map(|()| Pasts::with_hasher(FixedState::with_seed(seed)))))
    }

    pub(super) fn insert(&self, id: &OrderId, past: Past) {
        let mut generations = self.lock();
        let [young, old] = &mut *generations;
        if young.len() >= GENERATION {
            old.clear();
            std::mem::swap(young, old);
        }
        young.insert(id.clone(), past);
    }

    /// The past of an order, if it was seen at this revision.
    pub(super) fn at(&self, id: &OrderId, revision: Revision) -> Option<Past> {
        let generations = self.lock();
        let known = generations.iter().find_map(|pasts| pasts.get(id)).copied();
        known.filter(|past| past.revision == revision)
    }

    fn lock(&self) -> MutexGuard<'_, [Pasts; 2]> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_revision_that_was_seen_last_is_known_and_memory_is_bounded() {
        let recent = Recent::new(1);
        let id = |n: usize| OrderId::new(format!("o{n}")).unwrap();
        let past = |revision| Past { revision: Revision(revision), ..Past::NONE };
        recent.insert(&id(0), past(1));
        recent.insert(&id(0), past(2));
        assert_eq!(recent.at(&id(0), Revision(1)), None);
        assert_eq!(recent.at(&id(0), Revision(2)), Some(past(2)));
        for n in 1..5 * GENERATION {
            recent.insert(&id(n), past(3));
        }
        assert_eq!(recent.at(&id(0), Revision(2)), None);
        assert!(recent.at(&id(5 * GENERATION - 1), Revision(3)).is_some());
        assert!(recent.lock().iter().map(Pasts::len).sum::<usize>() <= 2 * GENERATION);
    }
}
