//! What backends finish after they were dropped.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use event_listener::Event;

/// Work that goes on for a moment after a backend, consumer or tail was dropped: it hands back what
/// it was given and nobody wants any more, so that others need not wait for its deadline. A clone
/// counts the same work.
#[derive(Clone, Debug, Default)]
pub struct Leaving {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    count: AtomicUsize,
    changed: Event,
}

/// One piece of work, for as long as this is there.
#[derive(Debug)]
pub(crate) struct Leaver {
    shared: Arc<Shared>,
}

impl Leaving {
    /// Returns once nothing is left to do, which while a backend is in use may be never: drop it
    /// first, and bound this by a time of your own, since a server may be gone.
    pub async fn done(&self) {
        loop {
            let changed = self.shared.changed.listen();
            if self.shared.count.load(Ordering::SeqCst) == 0 {
                return;
            }
            changed.await;
        }
    }

    #[cfg_attr(not(feature = "nats"), expect(dead_code, reason = "the others hand back in time"))]
    pub(crate) fn enter(&self) -> Leaver {
        self.shared.count.fetch_add(1, Ordering::SeqCst);
        Leaver { shared: Arc::clone(&self.shared) }
    }
}

impl Drop for Leaver {
    fn drop(&mut self) {
        self.shared.count.fetch_sub(1, Ordering::SeqCst);
        self.shared.changed.notify(usize::MAX);
    }
}

#[cfg(test)]
mod tests {
    use futures_lite::future::{block_on, poll_once};

    use super::*;

    #[test]
    fn it_is_done_when_everybody_has_left() {
        let leaving = Leaving::default();
        let (one, other) = (leaving.enter(), leaving.enter());
        block_on(async {
            let mut done = Box::pin(leaving.done());
            assert!(poll_once(&mut done).await.is_none());
            drop(one);
            assert!(poll_once(&mut done).await.is_none());
            drop(other);
            done.await;
        });
    }
}
