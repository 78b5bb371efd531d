//! A layout that goes while handles are open.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use expirer_backends::connect;
use expirer_conformance::Harness;
use expirer_core::{Error, ErrorKind, OrderRepo, Revision};

use super::{FAR, PAST, change, id, load, look, names, open, put};
use crate::clocks::Wrong;
use crate::place::{Place, options};

const LAYOUT: &str = "{expirer:r}:layout";

/// A repository of 16 shards whose clock can be set.
struct Sixteen {
    repo: Arc<dyn OrderRepo>,
    ahead_ms: Arc<AtomicI64>,
}

impl Sixteen {
    async fn open(place: &Place) -> Self {
        let (right, ahead_ms) = (Arc::clone(place.time().clock()), Arc::<AtomicI64>::default());
        let mut options = options();
        options.clock = Arc::new(Wrong { right, ahead_ms: Arc::clone(&ahead_ms) });
        let url = format!("{}?shards=16", place.url());
        Self { repo: connect::repo(&url, &options).await.expect("opens").backend, ahead_ms }
    }

    /// Its next call looks at the layout.
    fn set(&self, ahead_ms: i64) {
        self.ahead_ms.store(ahead_ms, Ordering::SeqCst);
    }
}

pub(super) fn gone() {
    let place = Place::plain();
    place.block_on(async {
        let sixteen = Sixteen::open(&place).await;
        // Forth, and back to the right time.
        for ahead_ms in [60_000, 0] {
            assert_eq!(place.server.cli(&["FLUSHALL"]), "OK");
            sixteen.set(ahead_ms);
            put(&*sixteen.repo, change("o1", Revision::ABSENT, PAST)).await;
            assert_eq!(place.server.cli(&["HGET", LAYOUT, "shards"]), "16");
            assert!(load(&*open(&place, "").await, "o1").await.is_some(), "it looks there");
        }
    });
}

pub(super) fn another() {
    let place = Place::plain();
    place.block_on(async {
        let sixteen = Sixteen::open(&place).await;
        put(&*sixteen.repo, change("o1", Revision::ABSENT, PAST)).await;
        assert_eq!(place.server.cli(&["FLUSHALL"]), "OK");
        let one = open(&place, "").await;
        put(&*one, change("o1", Revision::ABSENT, PAST)).await;
        sixteen.set(60_000);
        for _ in 0..2 {
            let repo = &sixteen.repo;
            let commit = repo.commit(&[change("o1", Revision::ABSENT, FAR)]).await;
            assert_refused(&commit.expect_err("it would be there twice"));
            assert_refused(&repo.load(&[id("o1")]).await.expect_err("it is not there"));
            assert_refused(&repo.overdue(look(10)).await.expect_err("they are not there"));
        }
        assert_eq!(place.server.cli(&["KEYS", "*:o:o1"]), "{expirer:r:0}:o:o1", "once");
        assert_eq!(place.server.cli(&["HGET", LAYOUT, "shards"]), "1");
        assert_eq!(names(one.overdue(look(10)).await), ["o1"]);
        // Somebody decides for the other one.
        assert_eq!(place.server.cli(&["FLUSHALL"]), "OK");
        put(&*sixteen.repo, change("o2", Revision::ABSENT, PAST)).await;
        assert!(load(&*open(&place, "?shards=16").await, "o2").await.is_some());
    });
}

fn assert_refused(error: &Error) {
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
    assert!(error.to_string().contains("has 1 shards by now, and this process has 16"), "{error}");
    assert!(error.to_string().contains("without shards"), "{error}");
}
