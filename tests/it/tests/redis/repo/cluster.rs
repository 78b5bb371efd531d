//! A repository on a cluster: masters that die or give way, and slots that move.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use expirer_backends::connect;
use expirer_core::{Error, ErrorKind, OrderRepo, Outcome, Result, Revision};
use tokio::task::JoinHandle;

use super::{DUE, FAR, PAST, Writers, change, id, is_committed, owing, put, revision};
use crate::cluster::ClusterPlace;
use crate::place::options;
use crate::servers::process::wait_until;
use crate::servers::redis::RedisServer;

const WRITERS: u32 = 4;

pub(super) fn in_a_cluster_a_replica_has_what_is_confirmed() {
    let place = ClusterPlace::alone();
    place.block_on(async {
        let url = place.cluster().url();
        let opened = connect::repo(&url, &options()).await.expect("opens");
        let warnings = opened.warnings.join("\n");
        assert!(warnings.contains("waits for 1 of the replicas"), "{warnings}");
        let repo = opened.backend;
        let all: Vec<_> =
            (0..64).map(|n| change(&format!("o{n}"), Revision::ABSENT, PAST)).collect();
        assert!(repo.commit(&all).await.expect("with replicas").into_iter().all(is_committed));
        let is_replica = |node: &&RedisServer| node.cli(&["ROLE"]).starts_with("slave");
        place.cluster().nodes().iter().filter(is_replica).for_each(RedisServer::kill);
        let mut more: Vec<_> =
            (0..64).map(|n| change(&format!("p{n}"), Revision::ABSENT, PAST)).collect();
        let mut took = Vec::new();
        for _ in 0..3 {
            let begin = options().clock.now();
            let error = repo.commit(&more).await.expect_err("without replicas");
            took.push(options().clock.now().since(begin));
            assert_eq!(error.kind(), ErrorKind::TimedOut, "{error}");
            assert!(error.to_string().contains("0 of 1 replicas"), "{error}");
            more.iter_mut().for_each(|change| change.id = id(&format!("{}x", change.id)));
        }
        // One of three masters has three of eight shards.
        assert!(took.iter().any(|took| *took < options().answer_within), "{took:?}");
        let alone = connect::repo(&format!("{url}?replicas=0"), &options()).await.expect("opens");
        put(&*alone.backend, change("q", Revision::ABSENT, PAST)).await;
    });
}

pub(super) fn a_failover_loses_no_confirmed_commit() {
    let place = ClusterPlace::alone();
    place.block_on(async {
        let opened = connect::repo(&place.cluster().url(), &options()).await;
        let repo = opened.expect("opens").backend;
        // Some in every shard.
        let first: Vec<_> =
            (0..64).map(|n| change(&format!("o{n}"), Revision::ABSENT, PAST)).collect();
        let revision = revision(repo.commit(&first).await.expect("commits")[1]);
        let writers = Writers::start(&repo, 4);
        let master = place.cluster().master_of(DUE);
        let count = || master.cli(&["DBSIZE"]).parse().unwrap_or(0);
        assert!(wait_until(|| count() >= 200));
        master.kill();
        let confirmed = writers.end().await;
        assert!(confirmed.len() > 100, "{} in mid-load", confirmed.len());
        let serves = |node: &RedisServer| node.cli(&["CLUSTER", "INFO"]).contains("state:ok");
        let is_over = || place.cluster().nodes().iter().filter(|node| serves(node)).count() == 5;
        assert!(wait_until(is_over), "a replica takes over");
        let ids: Vec<_> = confirmed.iter().map(|(name, _)| id(name)).collect();
        let records = until_ok(|| repo.load(&ids)).await;
        for (record, (name, revision)) in records.into_iter().zip(&confirmed) {
            assert!(record.is_some_and(|record| record.revision >= *revision), "{name}");
        }
        assert!(master.revive());
        assert!(place.cluster().wait_until_healthy());
        let outcomes = until_ok(|| async {
            let known = repo.load(&[id("o1")]).await?.remove(0).map_or(revision, |r| r.revision);
            repo.commit(&[change("o1", known, PAST)]).await
        });
        assert!(self::revision(outcomes.await[0]) > revision);
    });
}

/// Calls until it answers, for as long as a failover may take.
async fn until_ok<T, F: Future<Output = Result<T>>>(call: impl Fn() -> F) -> T {
    let deadline = options().clock.now() + Duration::from_secs(60);
    loop {
        match call().await {
            Ok(answer) => return answer,
            Err(error) => {
                assert!(passes(&error) && options().clock.now() < deadline, "{error}");
            }
        }
    }
}

/// Commits of several writers, for as long as they are let.
struct Writing {
    goes_on: Arc<AtomicBool>,
    batches: Arc<AtomicUsize>,
    writers: Vec<JoinHandle<BTreeMap<String, Revision>>>,
}

impl Writing {
    fn start(repo: &Arc<dyn OrderRepo>) -> Self {
        let goes_on = Arc::new(AtomicBool::new(true));
        let batches = Arc::new(AtomicUsize::new(0));
        let write = |writer| {
            let (repo, goes_on) = (Arc::clone(repo), Arc::clone(&goes_on));
            tokio::spawn(write_on(repo, writer, goes_on, Arc::clone(&batches)))
        };
        let writers = (0..WRITERS).map(write).collect();
        Self { goes_on, batches, writers }
    }

    /// Waits for so many more batches.
    fn wait_for(&self, count: usize) {
        let before = self.batches.load(Ordering::SeqCst);
        let has_come = || self.batches.load(Ordering::SeqCst) >= before + count;
        assert!(wait_until(has_come), "{count} more batches are committed");
    }

    /// Ends it; every confirmed commit has to be there.
    async fn end(self, repo: &dyn OrderRepo) {
        self.goes_on.store(false, Ordering::SeqCst);
        for writer in self.writers {
            let confirmed = writer.await.expect("ends");
            let ids: Vec<_> = confirmed.keys().map(|name| id(name)).collect();
            let records = until_ok(|| repo.load(&ids)).await;
            for (record, (name, revision)) in records.into_iter().zip(&confirmed) {
                assert!(record.is_some_and(|record| record.revision >= *revision), "{name}");
            }
        }
    }
}

/// Commits and loads batches of orders of all shards; repeats what fails.
async fn write_on(
    repo: Arc<dyn OrderRepo>,
    writer: u32,
    goes_on: Arc<AtomicBool>,
    batches: Arc<AtomicUsize>,
) -> BTreeMap<String, Revision> {
    let mut confirmed = BTreeMap::new();
    for n in 0.. {
        if !goes_on.load(Ordering::SeqCst) {
            break;
        }
        let names: Vec<_> = (0..10).map(|item| format!("w{writer}-{n}-{item}")).collect();
        let changes: Vec<_> =
            names.iter().map(|name| change(name, Revision::ABSENT, FAR)).collect();
        let ids: Vec<_> = names.iter().map(|name| id(name)).collect();
        let outcomes = until_ok(|| repo.commit(&changes)).await;
        for (name, outcome) in names.into_iter().zip(outcomes) {
            // Else an earlier attempt was done.
            if let Outcome::Committed(revision) = outcome {
                confirmed.insert(name, revision);
            }
        }
        let records = until_ok(|| repo.load(&ids)).await;
        assert!(records.iter().all(Option::is_some), "what is confirmed or in conflict is there");
        batches.fetch_add(1, Ordering::SeqCst);
    }
    confirmed
}

/// Whether it passes by itself.
fn passes(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::TimedOut)
}

pub(super) fn a_failover_in_peace_loses_no_confirmed_commit() {
    let place = ClusterPlace::alone();
    place.block_on(async {
        let opened = connect::repo(&place.cluster().url(), &options()).await;
        let repo = opened.expect("opens").backend;
        let first: Vec<_> =
            (0..64).map(|n| change(&format!("o{n}"), Revision::ABSENT, FAR)).collect();
        repo.commit(&first).await.expect("commits");
        let writing = Writing::start(&repo);
        writing.wait_for(20);
        let master = place.cluster().master_of(DUE);
        let replica = replica_of(&place, master);
        for next in [replica, master] {
            assert!(takes_over(next), "it takes over");
            writing.wait_for(40);
        }
        writing.end(&*repo).await;
    });
}

/// Asks a replica to, again and again: it gives up where it is not in step soon enough.
fn takes_over(replica: &RedisServer) -> bool {
    let mut looks = 0;
    wait_until(|| {
        if looks % 500 == 0 {
            assert_eq!(replica.cli(&["CLUSTER", "FAILOVER"]), "OK");
        }
        looks += 1;
        replica.cli(&["ROLE"]).starts_with("master")
    })
}

fn replica_of<'a>(place: &'a ClusterPlace, master: &RedisServer) -> &'a RedisServer {
    let port = master.port().to_string();
    let follows = |node: &&RedisServer| {
        let role = node.cli(&["ROLE"]);
        role.starts_with("slave") && role.lines().any(|line| line == port)
    };
    place.cluster().nodes().iter().find(follows).expect("a master has its replica")
}

pub(super) fn a_slot_that_moves_loses_no_confirmed_commit() {
    let place = ClusterPlace::alone();
    place.block_on(async {
        let opened = connect::repo(&place.cluster().url(), &options()).await;
        let repo = opened.expect("opens").backend;
        let owed: Vec<_> =
            (0..64).map(|n| owing(change(&format!("o{n}"), Revision::ABSENT, FAR))).collect();
        assert!(repo.commit(&owed).await.expect("commits").into_iter().all(is_committed));
        let writing = Writing::start(&repo);
        writing.wait_for(20);
        let slot = Move::begin(&place);
        let (moved, left) = slot.some_orders();
        slot.migrate(&moved);
        // Half of it is elsewhere: who looks finds it, or fails.
        for key in moved.iter().chain(&left) {
            let name = key.rsplit_once(":o:").expect("an order").1;
            match repo.load(&[id(name)]).await {
                Ok(records) => assert!(records[0].is_some(), "{name} is there"),
                Err(error) => assert!(passes(&error), "{error}"),
            }
        }
        slot.finish();
        writing.wait_for(40);
        writing.end(&*repo).await;
        put(&*repo, change("p", Revision::ABSENT, FAR)).await;
    });
}

/// The slot of shard 0 on its way from one master to another.
struct Move<'a> {
    place: &'a ClusterPlace,
    slot: String,
    from: &'a RedisServer,
    to: &'a RedisServer,
}

impl<'a> Move<'a> {
    fn begin(place: &'a ClusterPlace) -> Self {
        let from = place.cluster().master_of(DUE);
        let is_other = |node: &&RedisServer| {
            node.port() != from.port() && node.cli(&["ROLE"]).starts_with("master")
        };
        let to = place.cluster().nodes().iter().find(is_other).expect("another master");
        let slot = from.cli(&["CLUSTER", "KEYSLOT", DUE]);
        let [from_id, to_id] = [from, to].map(|node| node.cli(&["CLUSTER", "MYID"]));
        assert_eq!(to.cli(&["CLUSTER", "SETSLOT", &slot, "IMPORTING", &from_id]), "OK");
        assert_eq!(from.cli(&["CLUSTER", "SETSLOT", &slot, "MIGRATING", &to_id]), "OK");
        Self { place, slot, from, to }
    }

    /// Keys of orders of the slot in two halves.
    fn some_orders(&self) -> (Vec<String>, Vec<String>) {
        let keys = self.keys(100);
        let (orders, _): (Vec<_>, Vec<_>) = keys.into_iter().partition(|key| key.contains(":o:o"));
        assert!(orders.len() > 1, "{orders:?}");
        let (moved, left) = orders.split_at(orders.len() / 2);
        (moved.to_vec(), left.to_vec())
    }

    fn keys(&self, count: usize) -> Vec<String> {
        let keys = self.from.cli(&["CLUSTER", "GETKEYSINSLOT", &self.slot, &count.to_string()]);
        keys.lines().map(str::to_owned).collect()
    }

    fn migrate(&self, keys: &[String]) {
        let port = self.to.port().to_string();
        let mut migrate = vec!["MIGRATE", "127.0.0.1", &port, "", "0", "5000", "KEYS"];
        migrate.extend(keys.iter().map(String::as_str));
        let answer = self.from.cli(&migrate);
        assert!(["OK", "NOKEY"].contains(&answer.as_str()), "{answer}");
    }

    /// Moves what is left, as `redis-cli --cluster reshard` does.
    fn finish(&self) {
        loop {
            let keys = self.keys(10);
            if keys.is_empty() {
                break;
            }
            self.migrate(&keys);
        }
        let owner = self.to.cli(&["CLUSTER", "MYID"]);
        for node in [self.to, self.from].into_iter().chain(self.place.cluster().nodes()) {
            if node.cli(&["ROLE"]).starts_with("master") {
                let set = node.cli(&["CLUSTER", "SETSLOT", &self.slot, "NODE", &owner]);
                assert_eq!(set, "OK");
            }
        }
    }
}
