//! A node with a replica: what is confirmed and what is announced is on both.

use expirer_backends::connect;
use expirer_core::{Error, ErrorKind, OrderRepo, Outcome, Revision};
use futures_lite::future::zip;

use super::relay::Relay;
use super::{FAR, PAST, change, id, is_committed, load, look, names, open, owing, put};
use crate::place::{Place, options};
use crate::servers::process::wait_until;
use crate::servers::redis::RedisServer;

/// A replica in step with a server.
fn replica_of(server: &RedisServer) -> RedisServer {
    let port = server.port().to_string();
    let replica = RedisServer::with(&["--replicaof", "127.0.0.1", &port]);
    assert!(wait_until(|| is_in_step(server)), "a replica is in step");
    replica
}

fn is_in_step(server: &RedisServer) -> bool {
    server.cli(&["WAIT", "1", "1"]) == "1"
}

async fn open_by(relay: &Relay) -> std::sync::Arc<dyn OrderRepo> {
    let url = format!("{}?replicas=1", relay.url());
    connect::repo(&url, &options()).await.expect("opens").backend
}

pub(super) fn a_commit_is_not_confirmed_by_a_master_that_lacks_it() {
    let (place, next) = (Place::plain(), RedisServer::start());
    let _replicas = (replica_of(&place.server), replica_of(&next));
    place.block_on(async {
        let relay = Relay::start(place.server.port()).await;
        let repo = open_by(&relay).await;
        put(&*repo, change("o1", Revision::ABSENT, FAR)).await;
        let failover = relay.stop().then(async { relay.lead_to(next.port()) }, false);
        let lost = [change("o2", Revision::ABSENT, FAR)];
        let (committed, ()) = zip(repo.commit(&lost), failover).await;
        let error = committed.expect_err("the next master has never heard of it");
        assert_eq!(error.kind(), ErrorKind::TimedOut, "{error}");
        assert!(error.to_string().contains("may have lost it"), "{error}");
        assert_eq!(load(&*open(&place, "").await, "o2").await.map(|o2| o2.id), Some(id("o2")));
    });
}

pub(super) fn a_rivals_commit_on_the_next_master_confirms_none_that_it_lacks() {
    let (place, next) = (Place::plain(), Place::plain());
    let _replicas = (replica_of(&place.server), replica_of(&next.server));
    place.block_on(async {
        let relay = Relay::start(place.server.port()).await;
        let (repo, rival) = (open_by(&relay).await, open(&next, "").await);
        // A fence is repeated only on a connection that has served before.
        put(&*repo, change("o0", Revision::ABSENT, FAR)).await;
        let ours = [change("o1", Revision::ABSENT, FAR)];
        let failover = relay.stop().then(
            async {
                relay.lead_to(next.server.port());
                put(&*rival, change("o1", Revision::ABSENT, PAST)).await;
            },
            false,
        );
        let (committed, ()) = zip(repo.commit(&ours), failover).await;
        assert_load_again(&committed.expect_err("the rival's is there, and not ours"));
        let there = load(&*rival, "o1").await;
        let repo = open_by(&relay).await;
        assert_eq!(repo.commit(&ours).await.expect("answers"), [Outcome::Conflict]);
        assert_eq!(load(&*repo, "o1").await, there, "as the rival has committed it");
    });
}

pub(super) fn a_commit_on_which_another_was_built_is_unknown_and_a_repeat_conflicts() {
    let place = Place::plain();
    let _replica = replica_of(&place.server);
    place.block_on(async {
        let relay = Relay::start(place.server.port()).await;
        let (repo, other) = (open_by(&relay).await, open(&place, "").await);
        let first = [change("o1", Revision::ABSENT, FAR)];
        let between = relay.stop().then(change_it(&*other), true);
        let (committed, ()) = zip(repo.commit(&first), between).await;
        assert_load_again(&committed.expect_err("the other's may be built on something else"));
        assert_eq!(repo.commit(&first).await.expect("answers"), [Outcome::Conflict]);
        let record = load(&*repo, "o1").await.expect("is there");
        put(&*repo, change("o1", record.revision, FAR)).await;
    });
}

pub(super) fn what_is_changed_before_the_replicas_have_it_is_not_shown_to_be_announced() {
    let place = Place::plain();
    let _replica = replica_of(&place.server);
    place.block_on(async {
        let relay = Relay::start(place.server.port()).await;
        let (repo, other) = (open_by(&relay).await, open(&place, "").await);
        put(&*other, owing(change("o1", Revision::ABSENT, PAST))).await;
        let between = relay.stop().then(change_it(&*other), true);
        let ids = [id("o1")];
        let (loaded, ()) = zip(repo.load(&ids), between).await;
        assert_load_again(&loaded.expect_err("it is not as it was read"));
        assert!(load(&*repo, "o1").await.is_some());
        let between = relay.stop().then(change_it(&*other), true);
        let (found, ()) = zip(repo.overdue(look(10)), between).await;
        assert_load_again(&found.expect_err("nothing else is there"));
        assert_eq!(names(repo.overdue(look(10)).await), ["o1"], "it comes again");
    });
}

/// Somebody else's commit on what is there; it owes.
async fn change_it(other: &dyn OrderRepo) {
    let record = load(other, "o1").await.expect("is there");
    put(other, owing(change("o1", record.revision, PAST))).await;
}

fn assert_load_again(error: &Error) {
    assert_eq!(error.kind(), ErrorKind::TimedOut, "{error}");
    assert!(error.to_string().contains("o1 is not as it was seen"), "{error}");
    assert!(error.to_string().contains("load again"), "{error}");
}

pub(super) fn what_no_replica_has_is_not_shown_to_be_announced() {
    let place = Place::plain();
    let replica = replica_of(&place.server);
    place.block_on(async {
        let (repo, alone) = (open(&place, "?replicas=1").await, open(&place, "").await);
        replica.kill();
        let owed = put(&*alone, owing(change("o1", Revision::ABSENT, PAST))).await;
        put(&*alone, change("o2", Revision::ABSENT, PAST)).await;
        assert!(load(&*repo, "o2").await.is_some(), "nothing to announce");
        let error = repo.load(&[id("o2"), id("o1")]).await.expect_err("no replica has it");
        assert_eq!(error.kind(), ErrorKind::TimedOut, "{error}");
        assert!(error.to_string().contains("0 of 1 replicas have o1"), "{error}");
        assert_eq!(names(repo.overdue(look(10)).await), ["o2"]);
        let again = put(&*alone, owing(change("o1", owed, PAST))).await;
        let error = repo.overdue(look(10)).await.expect_err("nothing else is there");
        assert_eq!(error.kind(), ErrorKind::TimedOut, "{error}");
        assert!(replica.revive() && wait_until(|| is_in_step(&place.server)));
        assert!(load(&*repo, "o1").await.is_some_and(|record| !record.owes.is_empty()));
        put(&*alone, owing(change("o1", again, PAST))).await;
        assert_eq!(names(repo.overdue(look(10)).await), ["o1"]);
    });
}

pub(super) fn a_commit_waits_once_on_a_node() {
    let place = Place::plain();
    let replica = replica_of(&place.server);
    place.block_on(async {
        let repo = open(&place, "?replicas=1&shards=8").await;
        let batch = |name: &str| -> Vec<_> {
            (0..200).map(|n| change(&format!("{name}{n}"), Revision::ABSENT, FAR)).collect()
        };
        assert_eq!(place.server.cli(&["CONFIG", "RESETSTAT"]), "OK");
        assert!(repo.commit(&batch("a")).await.expect("commits").into_iter().all(is_committed));
        assert_eq!(waits(&place.server), 1);
        replica.kill();
        assert!(repo.commit(&batch("b")).await.is_err(), "no replica has it");
        assert_eq!(waits(&place.server), 2);
    });
}

pub(super) fn a_commit_that_no_replica_has_is_not_confirmed() {
    let place = Place::plain();
    place.block_on(async {
        let repo = open(&place, "?replicas=1").await;
        let error = repo.commit(&[change("o1", Revision::ABSENT, PAST)]).await.expect_err("alone");
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        assert!(error.to_string().contains("0 of 1 replicas"), "{error}");
        let record = load(&*repo, "o1").await.expect("it is done");
        let lost = repo.commit(&[change("o1", Revision::ABSENT, PAST)]).await;
        assert_eq!(lost.expect("nothing to wait for"), [Outcome::Conflict]);
        put(&*open(&place, "").await, change("o1", record.revision, PAST)).await;
    });
}

/// How often the server was asked to wait.
fn waits(server: &RedisServer) -> usize {
    let stats = server.cli(&["INFO", "commandstats"]);
    let wait = stats.lines().find_map(|line| line.strip_prefix("cmdstat_wait:calls="));
    wait.and_then(|line| line.split(',').next()?.parse().ok()).unwrap_or(0)
}
