//! What only a repository on NATS has to stand.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream::{self, stream};
use expirer_backends::connect::Opened;
use expirer_backends::nats::NatsRepo;
use expirer_conformance::Suite;
use expirer_core::{Error, ErrorKind, OrderRepo, Outcome, OverdueOptions, Result, Revision};
use tokio::task::JoinHandle;

use crate::cluster::ClusterPlace;
use crate::place::Place;
use crate::servers::nats::{NatsServer, packaged};
use crate::servers::orders::{
    FAR, PAST, Writers, change, ended, id, load, look, names, owing, put,
};
use crate::servers::process::wait_until;
use crate::servers::real::{options, production_options};
use crate::{on_each, on_newest, programs};

const STREAM: &str = "KV_expirer-orders";
const ORDER: &str = "$KV.expirer-orders.order.o1";
/// An entry in the first slot, whose mark is `m`.
const ENTRY: &str =
    "$KV.expirer-orders.due.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.m";

const OUTAGE: [ErrorKind; 2] = [ErrorKind::Unavailable, ErrorKind::TimedOut];

pub(crate) fn tests(mut suite: Suite) -> Suite {
    macro_rules! on_each {
        ($($test:ident,)+) => {
            $(suite = on_each(suite, "repo", stringify!($test), $test);)+
        };
    }
    macro_rules! on_newest {
        ($($test:ident,)+) => {
            $(suite = on_newest(suite, concat!("repo::", stringify!($test)), $test);)+
        };
    }
    on_each![
        a_foreign_value_hurts_that_order_alone,
        a_foreign_entry_hides_nothing_and_is_told,
        a_stream_that_is_no_bucket_of_ours_is_refused,
        a_bucket_that_is_deleted_is_made_again,
        an_entry_that_stands_for_nothing_goes,
        an_entry_whose_change_may_come_stays,
        many_entries_that_stand_for_nothing_yet_hide_no_other,
        an_entry_that_is_there_twice_is_one,
        an_order_at_its_end_leaves_its_row_alone,
        a_look_asks_as_much_however_many_orders_there_are,
        a_commit_whose_answer_was_lost_knows_its_own_work,
        a_call_that_is_repeated_does_nothing_twice,
        a_kill_in_mid_load_loses_no_confirmed_commit,
        a_full_bucket_refuses_and_changes_nothing,
        the_permissions_in_the_docs_are_enough,
    ];
    on_newest![
        a_bucket_that_is_made_again_gives_no_old_revision,
        what_has_ended_is_forgotten_in_time_and_nothing_else,
        a_leader_killed_in_mid_load_loses_no_confirmed_commit,
        a_commit_that_may_still_come_is_no_conflict,
        without_most_servers_it_fails_and_recovers,
    ];
    suite
        .test("repo::what_2_9_cannot_do_is_told", what_2_9_cannot_do)
        .test("repo::settings_that_can_lose_orders_are_warned_of", warnings)
}

fn a_foreign_value_hurts_that_order_alone(program: &Path) {
    let place = Place::plain(program);
    place.block_on(async {
        let repo = open(&place, "").await;
        let revision = put(&*repo, change("o1", Revision::ABSENT, PAST)).await;
        put(&*repo, change("o2", Revision::ABSENT, PAST)).await;
        let raw = Raw::of(&place).await;
        let foreign = raw.publish(ORDER, "{}").await;
        let error = repo.load(&[id("o2"), id("o1")]).await.expect_err("no order");
        assert_corrupt(&error, ORDER);
        assert!(load(&*repo, "o2").await.is_some());
        for expected in [Revision::ABSENT, revision] {
            let lost = repo.commit(&[change("o1", expected, PAST)]).await.expect("compares");
            assert_eq!(lost, [Outcome::Conflict]);
        }
        let upon = repo.commit(&[change("o1", Revision(foreign), PAST)]).await;
        assert_corrupt(&upon.expect_err("it cannot be read"), ORDER);
        assert_eq!(names(repo.overdue(look(10)).await), ["o2"]);
        assert_corrupt(&repo.overdue(look(10)).await.expect_err("it is told"), ORDER);
        assert_eq!(names(repo.overdue(look(10)).await), [""; 0], "and put off");
    });
}

fn a_foreign_entry_hides_nothing_and_is_told(program: &Path) {
    let place = Place::plain(program);
    place.block_on(async {
        let repo = open(&place, "").await;
        Raw::of(&place).await.publish(ENTRY, "x").await;
        put(&*repo, change("o1", Revision::ABSENT, PAST)).await;
        assert_eq!(names(repo.overdue(look(1)).await), ["o1"]);
        assert_corrupt(&repo.overdue(look(1)).await.expect_err("it is told"), ENTRY);
    });
}

fn a_stream_that_is_no_bucket_of_ours_is_refused(program: &Path) {
    let place = Place::plain(program);
    place.block_on(async {
        let bucket = || stream::Config {
            name: STREAM.to_owned(),
            subjects: vec!["$KV.expirer-orders.>".to_owned()],
            max_messages_per_subject: 1,
            ..stream::Config::default()
        };
        let day = Duration::from_secs(86_400);
        let retention = stream::RetentionPolicy::WorkQueue;
        for (config, why) in [
            (stream::Config { subjects: vec!["else".to_owned()], ..bucket() }, "subjects are else"),
            (stream::Config { retention, ..bucket() }, "retention is not limits"),
            (stream::Config { max_messages_per_subject: 5, ..bucket() }, "has a history"),
            (stream::Config { max_age: day, ..bucket() }, "forgets open orders: remove max_age"),
            (stream::Config { max_messages: 9, ..bucket() }, "set discard to new"),
            (stream::Config { deny_delete: true, ..bucket() }, "nothing can be removed"),
            (stream::Config { name: "other".to_owned(), ..bucket() }, "another stream takes"),
        ] {
            let raw = Raw::of(&place).await;
            let name = config.name.clone();
            raw.context.create_stream(config).await.expect("is made");
            let error = try_open(&place, "").await.expect_err(why);
            assert_corrupt(&error, why);
            assert!(error.to_string().contains(STREAM), "{error}");
            open(&place, "?prefix=shop").await;
            raw.context.delete_stream(name).await.expect("is deleted");
        }
        let plain = stream::Config { discard: stream::DiscardPolicy::New, ..bucket() };
        Raw::of(&place).await.context.create_stream(plain).await.expect("is made");
        put(&*open(&place, "").await, change("o1", Revision::ABSENT, PAST)).await;
    });
}

fn a_bucket_that_is_deleted_is_made_again(program: &Path) {
    let place = Place::plain(program);
    place.block_on(async {
        let repo = open(&place, "").await;
        let raw = Raw::of(&place).await;
        for turn in 0..3 {
            let revision = put(&*repo, change("o1", Revision::ABSENT, PAST)).await;
            raw.context.delete_stream(STREAM).await.expect("is deleted");
            let error = match turn {
                0 => repo.load(&[id("o1")]).await.map(drop),
                1 => repo.commit(&[change("o1", revision, PAST)]).await.map(drop),
                _ => repo.overdue(look(1)).await.map(drop),
            };
            let error = error.expect_err("it is told");
            assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
            assert!(error.to_string().contains("was gone, with its orders"), "{error}");
            assert_eq!(load(&*repo, "o1").await, None);
            assert_eq!(names(repo.overdue(look(1)).await), [""; 0]);
        }
    });
}

fn a_bucket_that_is_made_again_gives_no_old_revision(program: &Path) {
    let place = Place::plain(program);
    place.block_on(async {
        let repo = open(&place, "").await;
        let old = put(&*repo, change("o1", Revision::ABSENT, PAST)).await;
        Raw::of(&place).await.context.delete_stream(STREAM).await.expect("is deleted");
        let again = open(&place, "").await;
        assert!(put(&*again, change("o1", Revision::ABSENT, PAST)).await > old);
        let stale = repo.commit(&[change("o1", old, PAST)]).await.expect("compares");
        assert_eq!(stale, [Outcome::Conflict]);
    });
}

fn an_entry_that_stands_for_nothing_goes(program: &Path) {
    let place = Place::plain(program);
    place.block_on(async {
        let (repo, raw) = (open(&place, "").await, Raw::of(&place).await);
        let revision = put(&*repo, change("o1", Revision::ABSENT, FAR)).await;
        let count = raw.count().await;
        // Of a change over a revision that the order no longer has, or of an order that is gone.
        for (order, over) in [("o1", 0), ("o1", revision.0 - 1), ("o2", 7)] {
            raw.publish(ENTRY, &format!(r#"{{"id":"{order}","over":{over},"at":0}}"#)).await;
            assert_eq!(names(repo.overdue(look(1)).await), [""; 0]);
            assert_eq!(raw.count().await, count, "{order} over {over}");
        }
    });
}

fn an_entry_whose_change_may_come_stays(program: &Path) {
    let place = Place::plain(program);
    place.block_on(async {
        let (repo, raw) = (open(&place, "").await, Raw::of(&place).await);
        raw.publish(ENTRY, r#"{"id":"o1","over":0,"at":0}"#).await;
        // Put off for no longer than to the next look.
        let now = place.now();
        let soon = OverdueOptions::new(now, now, 1);
        assert_eq!(names(repo.overdue(soon).await), [""; 0]);
        assert_eq!(raw.count().await, 1);
        let row = |mark| {
            let change = change("o1", Revision::ABSENT, PAST);
            let state = serde_json::to_value(&change.state).expect("is JSON");
            serde_json::json!({ "mark": mark, "state": state, "entry": 1 }).to_string()
        };
        raw.publish(ORDER, &row("other")).await;
        place.pause(Duration::from_millis(1)).await;
        assert_eq!(names(repo.overdue(look(1)).await), [""; 0], "that was another change");
        assert_eq!(raw.count().await, 1);
        raw.publish(ENTRY, r#"{"id":"o1","over":0,"at":0}"#).await;
        raw.publish(ORDER, &row("m")).await;
        assert_eq!(names(repo.overdue(look(1)).await), ["o1"], "it came");
    });
}

/// Entries whose changes may come are in nobody's way meanwhile.
fn many_entries_that_stand_for_nothing_yet_hide_no_other(program: &Path) {
    let place = Place::plain(program);
    place.block_on(async {
        let (repo, raw) = (open(&place, "").await, Raw::of(&place).await);
        for n in 0..30 {
            let entry = ENTRY.replace(".m", &format!(".m{n}"));
            raw.publish(&entry, &format!(r#"{{"id":"none{n}","over":0,"at":0}}"#)).await;
        }
        put(&*repo, change("o1", Revision::ABSENT, PAST)).await;
        let mut found = Vec::new();
        for _ in 0..4 {
            found.extend(names(repo.overdue(look(1)).await));
        }
        assert_eq!(found, ["o1"]);
    });
}

fn an_entry_that_is_there_twice_is_one(program: &Path) {
    let place = Place::plain(program);
    place.block_on(async {
        let (repo, raw) = (open(&place, "").await, Raw::of(&place).await);
        put(&*repo, change("o1", Revision::ABSENT, place.now() - Duration::from_secs(9))).await;
        let (subject, entry) = raw.entry().await;
        let mark = subject.rsplit('.').next().expect("a mark");
        let twin = ENTRY.strip_suffix('m').expect("its mark").to_owned() + mark;
        raw.publish(&twin, &entry).await;
        assert_eq!(raw.count().await, 3);
        assert_eq!(names(repo.overdue(look(9)).await), ["o1"]);
        assert_eq!(raw.count().await, 2);
        assert_eq!(names(repo.overdue(look(9)).await), [""; 0]);
    });
}

fn an_order_at_its_end_leaves_its_row_alone(program: &Path) {
    let place = Place::plain(program);
    place.block_on(async {
        // Another handle knows nothing of the first one's entries.
        let (repo, other) = (open(&place, "").await, open(&place, "").await);
        let raw = Raw::of(&place).await;
        let opened = put(&*repo, change("o1", Revision::ABSENT, FAR)).await;
        let moved = put(&*other, change("o1", opened, place.now())).await;
        let owed = put(&*repo, owing(ended("o1", moved))).await;
        assert_eq!(raw.count().await, 2);
        let done = put(&*other, ended("o1", owed)).await;
        assert_eq!(raw.count().await, 1);
        assert_eq!(
            repo.commit(&[change("o1", owed, PAST)]).await.ok(),
            Some(vec![Outcome::Conflict])
        );
        assert_eq!(raw.count().await, 1, "a conflict leaves no entry");
        assert_eq!(load(&*repo, "o1").await.map(|record| record.revision), Some(done));
    });
}

fn a_look_asks_as_much_however_many_orders_there_are(program: &Path) {
    /// As many as a slot has digits.
    const QUESTIONS_MAX: u64 = 32;
    let place = Place::plain(program);
    place.block_on(async {
        let repo = open(&place, "").await;
        let asked = || place.server.monitor("/jsz").map(|jsz| jsz["api"]["total"].as_u64());
        let due = place.now() + Duration::from_secs(3600);
        for orders in [10, 2000] {
            let batch: Vec<_> = (0..orders)
                .map(|n| {
                    change(&format!("{orders}-{n}"), Revision::ABSENT, due + Duration::from_secs(n))
                })
                .collect();
            repo.commit(&batch).await.expect("commits");
            let before = asked().flatten().expect("is counted");
            assert_eq!(names(repo.overdue(look(100)).await), [""; 0]);
            let questions = asked().flatten().expect("is counted") - before;
            assert!((1..=QUESTIONS_MAX).contains(&questions), "{questions} with {orders}");
        }
    });
}

/// With the patience of the loops: an answer is given up after 1.5 s.
async fn impatient(url: &str) -> Arc<dyn OrderRepo> {
    Arc::new(NatsRepo::open(url, &production_options()).await.expect("opens").backend)
}

/// The leader has taken the order and cannot store it: it refuses what is behind it, and shows the
/// order as it was.
fn a_commit_that_may_still_come_is_no_conflict(program: &Path) {
    let place = ClusterPlace::new(program);
    place.block_on(async {
        let repo = impatient(&place.url()).await;
        let opened = put(&*repo, change("o1", Revision::ABSENT, FAR)).await;
        let leader = place.cluster.leader_of(STREAM).port();
        let followers: Vec<_> =
            place.cluster.nodes().iter().filter(|node| node.port() != leader).collect();
        followers.iter().for_each(|node| node.freeze());
        let commit = repo.commit(&[ended("o1", opened)]).await;
        let error = commit.expect_err("nobody knows what becomes of it");
        assert!(OUTAGE.contains(&error.kind()), "{error}");
        followers.iter().for_each(|node| node.thaw());
        let ids = [id("o1")];
        let record = until_ok(|| repo.load(&ids)).await.remove(0).expect("is there");
        let again = [ended("o1", record.revision)];
        let outcomes = until_ok(|| repo.commit(&again)).await;
        assert_eq!(outcomes.len(), 1);
    });
}

fn a_commit_whose_answer_was_lost_knows_its_own_work(program: &Path) {
    let place = Place::plain(program);
    place.block_on(async {
        let repo = impatient(&place.url()).await;
        put(&*repo, ended("o2", Revision::ABSENT)).await;
        place.server.freeze();
        let commit = committing(&repo, "o1");
        // The commit is given up after 1.5 s, and looked for until 3 s.
        place.pause(Duration::from_millis(2250)).await;
        place.server.thaw();
        let outcomes = commit.await.expect("ends").expect("it is found");
        let record = load(&*repo, "o1").await.expect("is there");
        assert_eq!(outcomes, [Outcome::Committed(record.revision)]);
    });
}

fn a_call_that_is_repeated_does_nothing_twice(program: &Path) {
    let place = Place::plain(program);
    place.block_on(async {
        let repo = impatient(&place.url()).await;
        put(&*repo, ended("o2", Revision::ABSENT)).await;
        place.server.freeze();
        let error = committing(&repo, "o1").await.expect("ends").expect_err("no answer");
        assert!(OUTAGE.contains(&error.kind()), "{error}");
        place.server.thaw();
        let ids = [id("o1")];
        assert!(until_ok(|| repo.load(&ids)).await[0].is_some(), "it came late");
        let again = repo.commit(&[ended("o1", Revision::ABSENT)]).await;
        assert_eq!(again.expect("compares"), [Outcome::Conflict]);
    });
}

fn committing(repo: &Arc<dyn OrderRepo>, name: &'static str) -> JoinHandle<Result<Vec<Outcome>>> {
    let repo = Arc::clone(repo);
    tokio::spawn(async move { repo.commit(&[ended(name, Revision::ABSENT)]).await })
}

fn what_has_ended_is_forgotten_in_time_and_nothing_else(program: &Path) {
    let place = Place::plain(program);
    place.block_on(async {
        let repo = open(&place, "?keep=1s").await;
        put(&*repo, change("open", Revision::ABSENT, FAR)).await;
        put(&*repo, owing(ended("owing", Revision::ABSENT))).await;
        let done = put(&*repo, ended("reopened", Revision::ABSENT)).await;
        put(&*repo, change("reopened", done, FAR)).await;
        put(&*open(&place, "").await, ended("kept", Revision::ABSENT)).await;
        let ended = put(&*repo, ended("o1", Revision::ABSENT)).await;
        let limit = place.now() + Duration::from_secs(60);
        while load(&*repo, "o1").await.is_some() {
            assert!(place.now() < limit, "it is not forgotten");
            place.pause(Duration::from_millis(50)).await;
        }
        for name in ["open", "owing", "reopened", "kept"] {
            assert!(load(&*repo, name).await.is_some(), "{name}");
        }
        let stale = repo.commit(&[change("o1", ended, PAST)]).await.expect("compares");
        assert_eq!(stale, [Outcome::Conflict]);
        assert!(put(&*repo, change("o1", Revision::ABSENT, PAST)).await > ended);
    });
}

fn a_kill_in_mid_load_loses_no_confirmed_commit(program: &Path) {
    let place = Place::plain(program);
    place.block_on(async {
        let repo = open(&place, "").await;
        let writers = Writers::start(&repo, 8);
        assert!(wait_until(|| stored(&place.server) >= 1000));
        place.server.kill();
        assert!(place.server.revive());
        let confirmed = writers.end().await;
        assert!(confirmed.len() > 400, "{} in mid-load", confirmed.len());
        assert_kept(&*repo, &confirmed).await;
    });
}

fn a_leader_killed_in_mid_load_loses_no_confirmed_commit(program: &Path) {
    let place = ClusterPlace::new(program);
    place.block_on(async {
        let repo = open_at(&place.url()).await.expect("opens").backend;
        let repo: Arc<dyn OrderRepo> = Arc::new(repo);
        let writers = Writers::start(&repo, 8);
        let leader = place.cluster.leader_of(STREAM);
        assert!(wait_until(|| stored(leader) >= 1000));
        leader.kill();
        place.cluster.leader_of(STREAM);
        let confirmed = writers.end().await;
        assert!(confirmed.len() > 400, "{} in mid-load", confirmed.len());
        assert_kept(&*repo, &confirmed).await;
        assert!(leader.revive() && place.cluster.wait_until_healthy());
        put(&*repo, change("o1", Revision::ABSENT, PAST)).await;
    });
}

fn without_most_servers_it_fails_and_recovers(program: &Path) {
    let place = ClusterPlace::new(program);
    place.block_on(async {
        let repo = place_repo(&place).await;
        let revision = put(&*repo, change("o1", Revision::ABSENT, PAST)).await;
        let [one, other, _] = place.cluster.nodes() else { panic!("three nodes") };
        one.kill();
        other.kill();
        let error = repo.commit(&[change("o1", revision, PAST)]).await.expect_err("alone");
        assert!(OUTAGE.contains(&error.kind()), "{error}");
        one.spawn();
        other.spawn();
        assert!(one.is_up() && other.is_up());
        let ids = [id("o1")];
        let record = until_ok(|| repo.load(&ids)).await.remove(0).expect("is there");
        let change = [ended("o1", record.revision)];
        assert_eq!(until_ok(|| repo.commit(&change)).await.len(), 1);
    });
}

async fn place_repo(place: &ClusterPlace) -> Arc<dyn OrderRepo> {
    Arc::new(open_at(&place.url()).await.expect("opens").backend)
}

/// Rows and index have what was confirmed.
async fn assert_kept(repo: &dyn OrderRepo, confirmed: &[(String, Revision)]) {
    let ids: Vec<_> = confirmed.iter().map(|(name, _)| id(name)).collect();
    let records = until_ok(|| repo.load(&ids)).await;
    let found = records.into_iter().map(|record| record.map(|record| record.revision));
    let lost: Vec<_> = confirmed
        .iter()
        .zip(found)
        .filter(|((_, revision), found)| *found < Some(*revision))
        .collect();
    assert!(lost.is_empty(), "{} of {} are lost: {lost:?}", lost.len(), confirmed.len());
    let mut overdue = 0;
    loop {
        match until_ok(|| repo.overdue(look(256))).await.len() {
            0 => break,
            count => overdue += count,
        }
    }
    assert!(overdue >= confirmed.len(), "{overdue} of {} are overdue", confirmed.len());
}

/// Calls until it answers, for as long as an election may take.
async fn until_ok<T, F: Future<Output = Result<T>>>(call: impl Fn() -> F) -> T {
    let clock = options().clock;
    let deadline = clock.now() + Duration::from_secs(60);
    loop {
        match call().await {
            Ok(answer) => return answer,
            Err(error) => assert!(clock.now() < deadline, "{error}"),
        }
        clock.sleep_until(clock.now() + Duration::from_millis(50)).await;
    }
}

fn stored(server: &NatsServer) -> u64 {
    let jsz = server.monitor("/jsz").unwrap_or_default();
    jsz["messages"].as_u64().unwrap_or(0)
}

fn a_full_bucket_refuses_and_changes_nothing(program: &Path) {
    let place = Place::plain(program);
    place.block_on(async {
        let raw = Raw::of(&place).await;
        let bucket = stream::Config {
            name: STREAM.to_owned(),
            subjects: vec!["$KV.expirer-orders.>".to_owned()],
            max_messages_per_subject: 1,
            max_messages: 2,
            discard: stream::DiscardPolicy::New,
            ..stream::Config::default()
        };
        raw.context.create_stream(bucket).await.expect("is made");
        let repo = open(&place, "").await;
        put(&*repo, change("o1", Revision::ABSENT, PAST)).await;
        let error = repo.commit(&[change("o2", Revision::ABSENT, PAST)]).await.expect_err("full");
        assert_eq!(error.kind(), ErrorKind::Overloaded, "{error}");
        assert_eq!((load(&*repo, "o2").await, raw.count().await), (None, 2));
        let stream = raw.context.get_stream(STREAM).await.expect("is there");
        let larger = stream::Config { max_messages: -1, ..stream.cached_info().config.clone() };
        raw.context.update_stream(larger).await.expect("is changed");
        put(&*repo, change("o2", Revision::ABSENT, PAST)).await;
    });
}

fn the_permissions_in_the_docs_are_enough(program: &Path) {
    /// What docs/backends/nats.md says.
    const PERMISSIONS: &str = r#"
        publish: ["$JS.API.INFO", "$JS.API.STREAM.*.KV_expirer-orders",
                  "$JS.API.STREAM.MSG.*.KV_expirer-orders", "$KV.expirer-orders.>"]
        subscribe: ["_INBOX.>"]"#;
    let place = Place::on(NatsServer::with(
        program,
        &format!(
            "jetstream {{ store_dir: $STORE_DIR }}\nauthorization {{ users: [{{ user: app, \
             password: secret, permissions: {{ {PERMISSIONS} }} }}] }}"
        ),
    ));
    place.block_on(async {
        let url = format!("nats://app:secret@127.0.0.1:{}", place.server.port());
        let repo = open_at(&url).await.expect("opens").backend;
        let opened = put(&repo, owing(change("o1", Revision::ABSENT, PAST))).await;
        assert_eq!(names(repo.overdue(look(10)).await), ["o1"]);
        put(&repo, ended("o1", opened)).await;
        let denied = open_at(&format!("{url}?prefix=other")).await;
        let error = denied.map(drop).expect_err("another prefix");
        assert_eq!(error.kind(), ErrorKind::Denied, "{error}");
    });
}

fn what_2_9_cannot_do() {
    let place = ClusterPlace::new(&packaged());
    place.block_on(async {
        let replicated = open_at(&place.url()).await.map(drop);
        let kept = open_at(&place.url().replace("replicas=3", "keep=1d")).await.map(drop);
        if place.cluster.nodes()[0].monitor("/varz").is_some_and(|varz| is_2_9(&varz["version"])) {
            let error = replicated.expect_err("it does not compare");
            assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
            assert!(error.to_string().contains("replicas=1"), "{error}");
            let error = kept.expect_err("it does not forget");
            assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
            assert!(error.to_string().contains("keep=forever"), "{error}");
        } else {
            replicated.expect("a later one does");
        }
        let one = place.url().replace("replicas=3", "replicas=1");
        let repo = open_at(&one).await.expect("opens").backend;
        put(&repo, change("o1", Revision::ABSENT, PAST)).await;
    });
}

fn is_2_9(version: &serde_json::Value) -> bool {
    version.as_str().is_some_and(|version| version.starts_with("2.9."))
}

fn warnings() {
    for (name, program) in programs() {
        let place = Place::plain(&program);
        place.block_on(async {
            let said =
                async |query: &str| try_open(&place, query).await.map(|opened| opened.warnings);
            let usual = said("").await.expect("opens").join("\n");
            assert!(usual.contains("sync_interval"), "{name}: {usual}");
            let forgets = said("?keep=1d").await.is_ok();
            assert_eq!(usual.contains("2.11 and later can forget"), !forgets, "{name}: {usual}");
            let other = said("?replicas=3&keep=forever").await.expect("opens").join("\n");
            assert!(other.contains("1 copies, and not 3"), "{name}: {other}");
        });
    }
}

/// The server without our backend.
struct Raw {
    context: jetstream::Context,
}

impl Raw {
    async fn of(place: &Place) -> Self {
        let client = async_nats::connect(place.server.url_by(place.server.port())).await;
        Self { context: jetstream::new(client.expect("connects")) }
    }

    async fn publish(&self, subject: &str, text: &str) -> u64 {
        let sent = self.context.publish(subject.to_owned(), text.to_owned().into()).await;
        sent.expect("is sent").await.expect("is stored").sequence
    }

    async fn count(&self) -> u64 {
        let stream = self.context.get_stream(STREAM).await.expect("is there");
        stream.cached_info().state.messages
    }

    /// The first entry of the index.
    async fn entry(&self) -> (String, String) {
        let stream = self.context.get_stream(STREAM).await.expect("is there");
        let entry = stream.get_first_raw_message_by_subject("$KV.expirer-orders.due.>", 1).await;
        let entry = entry.expect("is there");
        (entry.subject.to_string(), String::from_utf8(entry.payload.to_vec()).expect("is text"))
    }
}

async fn open(place: &Place, query: &str) -> Arc<dyn OrderRepo> {
    Arc::new(try_open(place, query).await.expect("opens").backend)
}

async fn try_open(place: &Place, query: &str) -> Result<Opened<NatsRepo>> {
    open_at(&format!("{}{query}", place.url())).await
}

async fn open_at(url: &str) -> Result<Opened<NatsRepo>> {
    NatsRepo::open(url, &options()).await
}

fn assert_corrupt(error: &Error, text: &str) {
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
    assert!(error.to_string().contains(text), "{error}");
}
