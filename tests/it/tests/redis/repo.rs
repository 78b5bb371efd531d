//! What only a repository on Redis has to stand.

mod cluster;
mod layout;
mod relay;
mod replicas;

use std::sync::Arc;

use expirer_backends::connect;
use expirer_conformance::Suite;
use expirer_core::order::State;
use expirer_core::{
    Change, Error, ErrorKind, OrderRepo, Outcome, Revision, TicketId, Timestamp, UserId,
};

use crate::place::{Place, options};
use crate::servers::orders::{
    FAR, PAST, Writers, change, end, ended, id, is_committed, load, look, names, owing, put,
    revision,
};
use crate::servers::process::wait_until;
use crate::servers::redis::RedisServer;

const COMMIT: &str = include_str!("../../../../backends/src/redis/scripts/repo/commit.lua");
const KEY: &str = "{expirer:r:0}:o:o1";
const DUE: &str = "{expirer:r:0}:due";

pub(crate) fn tests(suite: Suite) -> Suite {
    on_replicas(suite)
        .test("repo::another_type_under_a_key_hurts_that_order_alone", another_type)
        .test("repo::a_foreign_hash_is_left_as_it_is", a_foreign_hash)
        .test("repo::a_foreign_index_is_left_as_it_is_and_nothing_is_written", a_foreign_index)
        .test("repo::what_cannot_be_read_hides_no_other_and_is_told", what_cannot_be_read)
        .test("repo::many_that_cannot_be_read_hide_no_other", many_that_cannot_be_read)
        .test("repo::an_order_deleted_by_hand_leaves_nothing", deleted_by_hand)
        .test("repo::another_number_of_shards_is_refused", another_number_of_shards)
        .test("repo::a_layout_that_is_gone_is_recorded_again", layout::gone)
        .test("repo::another_layout_is_refused_and_never_followed", layout::another)
        .test("repo::shards_share_what_is_overdue", shards_share)
        .test("repo::flushed_scripts_come_back", flushed_scripts)
        .test("repo::a_repeated_call_knows_its_own_work", a_repeated_call)
        .test("repo::a_revision_grows_though_the_clock_is_behind", a_clock_behind)
        .test("repo::what_was_lost_gets_no_old_revision", what_was_lost)
        .test("repo::only_what_has_ended_and_owes_nothing_is_forgotten", forgotten)
        .test("repo::a_kill_in_mid_load_loses_no_confirmed_commit", a_kill_in_mid_load)
        .test("repo::a_full_server_refuses_and_changes_nothing", a_full_server)
        .test("repo::a_policy_that_evicts_what_expires_is_warned_of", a_policy)
        .test("repo::the_permissions_in_the_docs_are_enough", permissions)
        .test("repo::an_order_costs_what_the_docs_say", memory)
}

fn on_replicas(suite: Suite) -> Suite {
    macro_rules! tests {
        ($($module:ident::$test:ident,)+) => {
            suite$(.test(concat!("repo::", stringify!($test)), $module::$test))+
        };
    }
    tests![
        replicas::a_commit_that_no_replica_has_is_not_confirmed,
        replicas::a_commit_is_not_confirmed_by_a_master_that_lacks_it,
        replicas::a_rivals_commit_on_the_next_master_confirms_none_that_it_lacks,
        replicas::a_commit_on_which_another_was_built_is_unknown_and_a_repeat_conflicts,
        replicas::what_is_changed_before_the_replicas_have_it_is_not_shown_to_be_announced,
        replicas::what_no_replica_has_is_not_shown_to_be_announced,
        replicas::a_commit_waits_once_on_a_node,
        cluster::in_a_cluster_a_replica_has_what_is_confirmed,
        cluster::a_failover_loses_no_confirmed_commit,
        cluster::a_failover_in_peace_loses_no_confirmed_commit,
        cluster::a_slot_that_moves_loses_no_confirmed_commit,
    ]
}

fn another_type() {
    let place = Place::plain();
    place.block_on(async {
        let repo = open(&place, "").await;
        put(&*repo, change("o2", Revision::ABSENT, PAST)).await;
        place.server.cli(&["SET", KEY, "x"]);
        let error = repo.load(&[id("o2"), id("o1")]).await.expect_err("no hash");
        assert_corrupt(&error, KEY);
        let error = repo.commit(&[change("o1", Revision::ABSENT, PAST)]).await.expect_err("no");
        assert_corrupt(&error, KEY);
        assert!(load(&*repo, "o2").await.is_some());
        assert_eq!(place.server.cli(&["GET", KEY]), "x");
    });
}

fn a_foreign_hash() {
    let place = Place::plain();
    place.block_on(async {
        let repo = open(&place, "").await;
        for fields in [&["a", "b"][..], &["revision", "5"], &["revision", "new", "state", "x"]] {
            place.server.cli(&["DEL", KEY]);
            place.server.cli(&[&["HSET", KEY], fields].concat());
            for expected in [Revision::ABSENT, Revision(5)] {
                let error = repo.commit(&[change("o1", expected, PAST)]).await.expect_err("no");
                assert_corrupt(&error, KEY);
            }
            assert_eq!(place.server.cli(&["HLEN", KEY]), (fields.len() / 2).to_string());
        }
        let error = repo.load(&[id("o1")]).await.expect_err("no order");
        assert_corrupt(&error, KEY);
    });
}

fn a_foreign_index() {
    let place = Place::plain();
    place.block_on(async {
        let repo = open(&place, "").await;
        place.server.cli(&["SET", DUE, "x"]);
        let error = repo.commit(&[change("o1", Revision::ABSENT, PAST)]).await.expect_err("no");
        assert_corrupt(&error, DUE);
        assert_eq!(load(&*repo, "o1").await, None);
        assert_corrupt(&repo.overdue(look(10)).await.expect_err("no index"), DUE);
    });
}

fn what_cannot_be_read() {
    let place = Place::plain();
    place.block_on(async {
        let repo = open(&place, "").await;
        let revision = put(&*repo, change("o1", Revision::ABSENT, PAST)).await;
        put(&*repo, change("o2", Revision::ABSENT, PAST)).await;
        place.server.cli(&["ZADD", DUE, "0", ""]);
        place.server.cli(&["HSET", KEY, "phase", "{"]);
        assert_corrupt(&repo.load(&[id("o1")]).await.expect_err("broken"), KEY);
        assert_eq!(names(repo.overdue(look(10)).await), ["o2"]);
        assert_corrupt(&repo.overdue(look(10)).await.expect_err("it is told"), KEY);
        assert_eq!(names(repo.overdue(look(10)).await), [""; 0], "and put off");
        // It is mended by a commit of what somebody knows it to be.
        put(&*repo, change("o1", revision, PAST)).await;
        assert_eq!(names(repo.overdue(look(10)).await), ["o1"]);
    });
}

fn many_that_cannot_be_read() {
    let place = Place::plain();
    place.block_on(async {
        let repo = open(&place, "").await;
        for n in 0..12 {
            put(&*repo, change(&format!("a{n}"), Revision::ABSENT, PAST)).await;
            let key = format!("{{expirer:r:0}}:o:a{n}");
            place.server.cli(&["HSET", &key, "owes", "[{}]", "since", "0"]);
        }
        put(&*repo, change("z", Revision::ABSENT, PAST)).await;
        assert_eq!(names(repo.overdue(look(2)).await), ["z"]);
        assert!(repo.overdue(look(2)).await.is_err());
        assert_eq!(names(repo.overdue(look(2)).await), [""; 0]);
    });
}

fn deleted_by_hand() {
    let place = Place::plain();
    place.block_on(async {
        let repo = open(&place, "").await;
        put(&*repo, change("o1", Revision::ABSENT, PAST)).await;
        put(&*repo, change("o2", Revision::ABSENT, PAST)).await;
        place.server.cli(&["DEL", KEY]);
        assert_eq!(names(repo.overdue(look(1)).await), ["o2"]);
        assert_eq!(place.server.cli(&["ZRANGE", DUE, "0", "-1"]), "o2");
    });
}

fn another_number_of_shards() {
    let place = Place::plain();
    place.block_on(async {
        let repo = open(&place, "?shards=4").await;
        put(&*repo, change("o1", Revision::ABSENT, PAST)).await;
        let url = format!("{}?shards=2", place.url());
        let error = connect::repo(&url, &options()).await.expect_err("other shards");
        assert_eq!(error.kind(), ErrorKind::Invalid);
        assert!(error.to_string().contains("the repository has 4 shards"), "{error}");
        assert!(load(&*open(&place, "").await, "o1").await.is_some(), "as recorded");
        assert_eq!(load(&*open(&place, "?prefix=other&shards=2").await, "o1").await, None);
    });
}

fn shards_share() {
    let place = Place::plain();
    place.block_on(async {
        let repo = open(&place, "?shards=8").await;
        let changes: Vec<_> =
            (0..400).map(|n| change(&format!("o{n}"), Revision::ABSENT, PAST)).collect();
        repo.commit(&changes).await.expect("commits");
        let mut found = Vec::new();
        loop {
            let batch = names(repo.overdue(look(20)).await);
            assert!(batch.len() <= 20);
            if batch.is_empty() {
                break;
            }
            found.extend(batch);
        }
        found.sort_unstable();
        found.dedup();
        assert_eq!(found.len(), 400, "each once");
        for shard in 0..8 {
            let due = format!("{{expirer:r:{shard}}}:due");
            assert_ne!(place.server.cli(&["ZCARD", &due]), "0", "shard {shard}");
        }
    });
}

fn flushed_scripts() {
    let place = Place::plain();
    place.block_on(async {
        let repo = open(&place, "").await;
        let mut revision = Revision::ABSENT;
        for _ in 0..3 {
            assert_eq!(place.server.cli(&["SCRIPT", "FLUSH"]), "OK");
            revision = put(&*repo, change("o1", revision, PAST)).await;
            assert_eq!(place.server.cli(&["SCRIPT", "FLUSH"]), "OK");
            assert_eq!(names(repo.overdue(look(10)).await), ["o1"]);
        }
    });
}

fn a_repeated_call() {
    let place = Place::plain();
    let commit = |digits: &str, state: &str| {
        let fields = ["state", "order", "phase", state];
        let args = ["EVAL", COMMIT, "2", KEY, DUE, "o1", "0", digits, "", "", ""];
        let args = [&args[..], &fields[..]].concat();
        place.server.cli(&args)
    };
    let first = commit("000007", "a");
    assert!(first.ends_with("000007"), "{first}");
    assert_eq!(commit("000007", "a"), first);
    assert_eq!(commit("000008", "a"), "", "somebody else's");
    assert_eq!(commit("000007", "b"), "", "another change");
}

fn a_clock_behind() {
    let place = Place::plain();
    place.block_on(async {
        let repo = open(&place, "").await;
        put(&*repo, change("o1", Revision::ABSENT, PAST)).await;
        let ahead = Revision(9_000_000_000_000_999_999);
        place.server.cli(&["HSET", KEY, "revision", &ahead.0.to_string()]);
        let next = put(&*repo, change("o1", ahead, PAST)).await;
        assert!(next > ahead, "{next:?}");
        assert!(put(&*repo, change("o1", next, PAST)).await > next);
    });
}

fn what_was_lost() {
    let place = Place::plain();
    place.block_on(async {
        let repo = open(&place, "").await;
        let mut last = Revision::ABSENT;
        for _ in 0..20 {
            let revision = put(&*repo, change("o1", Revision::ABSENT, PAST)).await;
            assert!(revision != last);
            place.server.cli(&["DEL", KEY]);
            let stale = repo.commit(&[change("o1", revision, PAST)]).await.expect("answers");
            assert_eq!(stale, [Outcome::Conflict]);
            last = revision;
        }
    });
}

fn forgotten() {
    let place = Place::plain();
    place.block_on(async {
        let ttl_s = || place.server.cli(&["TTL", KEY]).parse::<i64>().expect("a number");
        let repo = open(&place, "?keep=90s").await;
        let opened = put(&*repo, change("o1", Revision::ABSENT, FAR)).await;
        assert_eq!(ttl_s(), -1);
        let owing = put(&*repo, owing(ended("o1", opened))).await;
        assert_eq!(ttl_s(), -1);
        let ended_at = put(&*repo, ended("o1", owing)).await;
        assert!((80..=90).contains(&ttl_s()), "{}", ttl_s());
        let again = put(&*repo, change("o1", ended_at, FAR)).await;
        assert_eq!(ttl_s(), -1);
        let usual = put(&*open(&place, "").await, ended("o1", again)).await;
        assert!((29 * 86_400..=30 * 86_400).contains(&ttl_s()), "{}", ttl_s());
        put(&*open(&place, "?keep=forever").await, ended("o1", usual)).await;
        assert_eq!(ttl_s(), -1);
    });
}

fn a_kill_in_mid_load() {
    let place = Place::plain();
    place.block_on(async {
        let repo = open(&place, "").await;
        let writers = Writers::start(&repo, 8);
        let count = |server: &RedisServer| server.cli(&["ZCARD", DUE]).parse().unwrap_or(0);
        assert!(wait_until(|| count(&place.server) >= 500));
        place.server.kill();
        let confirmed = writers.end().await;
        assert!(place.server.revive());
        let restarted = open(&place, "").await;
        assert!(confirmed.len() > 400, "{} in mid-load", confirmed.len());
        for (name, revision) in &confirmed {
            let record = load(&*restarted, name).await.expect("is there");
            assert!(record.revision >= *revision, "{name}");
        }
        let found = (0..).map(|_| repo.overdue(look(256)));
        let mut overdue = 0;
        for look in found {
            match look.await.expect("looks").len() {
                0 => break,
                count => overdue += count,
            }
        }
        assert!(overdue >= confirmed.len(), "the index has them, too");
    });
}

fn a_full_server() {
    let place = Place::on(RedisServer::with(&["--maxmemory-policy", "noeviction"]));
    place.block_on(async {
        let repo = open(&place, "").await;
        let revision = put(&*repo, owing(change("o1", Revision::ABSENT, FAR))).await;
        let before = load(&*repo, "o1").await;
        place.server.cli(&["CONFIG", "SET", "maxmemory", "1"]);
        for change in [ended("o1", revision), change("o2", Revision::ABSENT, PAST)] {
            let error = repo.commit(&[change]).await.expect_err("it is full");
            assert_eq!(error.kind(), ErrorKind::Overloaded, "{error}");
        }
        assert_eq!(load(&*repo, "o1").await, before);
        assert_eq!(place.server.cli(&["ZRANGE", DUE, "0", "-1"]), "o1");
        place.server.cli(&["CONFIG", "SET", "maxmemory", "0"]);
        put(&*repo, ended("o1", revision)).await;
        assert_eq!(place.server.cli(&["ZCARD", DUE]), "0");
    });
}

fn a_policy() {
    let place = Place::on(RedisServer::with(&["--maxmemory-policy", "volatile-lru"]));
    place.block_on(async {
        for (query, count) in [("", 1), ("?keep=forever", 0)] {
            let url = format!("{}{query}", place.url());
            let warnings = connect::repo(&url, &options()).await.expect("opens").warnings;
            assert_eq!(warnings.len(), count, "{warnings:?}");
            let named = |text: &String| text.contains("volatile-lru");
            assert!(warnings.iter().all(named), "{warnings:?}");
        }
    });
}

fn permissions() {
    /// What docs/backends/redis.md says.
    const COMMANDS: &str = "EVAL EVALSHA HGETALL HMGET HLEN HSET HSETNX DEL EXISTS TYPE TIME \
                            PERSIST PEXPIRE ZADD ZREM ZRANGEBYSCORE SET WAIT";
    let place = Place::plain();
    let commands: Vec<_> = COMMANDS.split(' ').map(|name| format!("+{name}")).collect();
    let mut user = vec!["ACL", "SETUSER", "app", "on", ">secret", "~{expirer:r*"];
    user.extend(commands.iter().map(String::as_str));
    assert_eq!(place.server.cli(&user), "OK");
    place.block_on(async {
        let url = format!("redis://app:secret@127.0.0.1:{}", place.server.port());
        let repo = connect::repo(&url, &options()).await.expect("opens").backend;
        let opened = put(&*repo, owing(change("o1", Revision::ABSENT, PAST))).await;
        assert_eq!(names(repo.overdue(look(10)).await), ["o1"]);
        put(&*repo, ended("o1", opened)).await;
        let denied = format!("{url}?prefix=other");
        let error = connect::repo(&denied, &options()).await.expect_err("another prefix");
        assert_eq!(error.kind(), ErrorKind::Denied, "{error}");
        let waiting = connect::repo(&format!("{url}?replicas=1"), &options()).await.expect("opens");
        let error = waiting.backend.commit(&[change("o2", Revision::ABSENT, PAST)]).await;
        assert_eq!(error.expect_err("no replica").kind(), ErrorKind::TimedOut);
    });
}

fn memory() {
    const ORDERS: u32 = 20_000;
    /// What docs/backends/redis.md says.
    const OPEN_BYTES_MAX: u64 = 500;
    const ENDED_BYTES_MAX: u64 = 420;
    let place = Place::plain();
    place.block_on(async {
        let repo = open(&place, "").await;
        let before = used(&place.server);
        let each = || (used(&place.server) - before) / u64::from(ORDERS);
        let mut open = Vec::new();
        for batch in 0..ORDERS / 250 {
            let opened: Vec<_> = (0..250).map(|n| usual(batch * 250 + n)).collect();
            let owing = opened.iter().cloned().map(owing).collect::<Vec<_>>();
            let cleared = after(opened, &repo.commit(&owing).await.expect("commits"));
            let outcomes = repo.commit(&cleared).await.expect("commits");
            open.extend(after(cleared, &outcomes));
        }
        assert!(each() <= OPEN_BYTES_MAX, "{} bytes per open order", each());
        for changes in open.chunks_mut(250) {
            changes.iter_mut().for_each(end);
            assert!(repo.commit(changes).await.expect("commits").into_iter().all(is_committed));
        }
        assert!(each() <= ENDED_BYTES_MAX, "{} bytes per order that has ended", each());
    });
}

/// The same changes on top of what was committed.
fn after(changes: Vec<Change>, outcomes: &[Outcome]) -> Vec<Change> {
    let next = |(change, was): (Change, &Outcome)| Change { expected: revision(*was), ..change };
    changes.into_iter().zip(outcomes).map(next).collect()
}

fn used(server: &RedisServer) -> u64 {
    let info = server.cli(&["INFO", "memory"]);
    let mut lines = info.lines().filter_map(|line| line.strip_prefix("used_memory:"));
    lines.next().and_then(|used| used.trim().parse().ok()).expect("says what it uses")
}

/// An open order with ids as long as MongoDB's, due some time next year.
fn usual(n: u32) -> Change {
    let due = Timestamp::from_millis(1_800_000_000_000 + i64::from(n) * 1000);
    let name = format!("{n:024x}");
    let mut change = change(&name, Revision::ABSENT, due);
    if let State::Order(order) = &mut change.state {
        order.user_id = UserId::new(&name).ok();
        order.ticket.id = TicketId::new(&name).expect("is an id");
    }
    change
}

async fn open(place: &Place, query: &str) -> Arc<dyn OrderRepo> {
    let url = format!("{}{query}", place.url());
    connect::repo(&url, &options()).await.expect("opens").backend
}

fn assert_corrupt(error: &Error, key: &str) {
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
    assert!(error.to_string().contains(key), "{error}");
}
