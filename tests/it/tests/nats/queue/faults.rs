//! What servers and strangers do to a queue.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use async_nats::jetstream::{self, stream};
use expirer_backends::nats::NatsQueue;
use expirer_conformance::{Harness, QueueHarness, Server, Suite};
use expirer_core::{DelayQueue, Error, ErrorKind, LeaseOptions, OrderId, Result, Timer, Timestamp};
use futures_lite::future::zip;

use super::{Via, one, open, three};
use crate::place::Place;
use crate::servers::nats::{NatsServer, newest, packaged};
use crate::servers::real::options;

/// How long anything may take on a busy machine.
const LONG: Duration = Duration::from_secs(60);
const STREAM: &str = "expirer-timers";

pub(super) fn on_schedules(suite: Suite) -> Suite {
    suite
        .test("queue::killed_in_mid_load_loses_nothing_by_schedules", || {
            killed(&new("schedule"), true);
        })
        .test("queue::killed_in_mid_load_loses_nothing_by_redelivery", || {
            killed(&new("redelivery"), true);
        })
        .test("queue::a_stream_that_is_deleted_comes_back", a_stream_that_is_deleted)
        .test("queue::a_consumer_that_is_deleted_comes_back", a_consumer_that_is_deleted)
        .test("queue::a_foreign_stream_is_refused", a_foreign_stream_is_refused)
        .test("queue::what_a_stranger_puts_in_stands_in_nobodys_way", a_stranger)
        .test("queue::a_handle_that_ends_hands_back_what_it_holds", a_handle_that_ends)
        .test("queue::what_is_not_allowed_is_told", what_is_not_allowed)
        .test("queue::the_permissions_in_the_docs_are_enough", || enough(&new_program(), ""))
        .test("queue::too_few_copies_are_warned_of", too_few_copies)
        .test("queue::a_leader_that_is_killed_is_replaced", a_leader_that_is_killed)
        .test("queue::two_of_three_gone_and_back_are_an_outage", two_of_three)
}

pub(super) fn on_both(suite: Suite) -> Suite {
    suite
        .test("queue::killed_in_mid_load_loses_nothing_on_an_old_server", || {
            killed(&one(&packaged(), "redelivery"), false);
        })
        .test("queue::a_server_without_schedules_is_refused_with_a_hint", too_old)
        .test("queue::the_permissions_in_the_docs_are_enough_for_redelivery", || {
            enough(&packaged(), "?via=redelivery");
        })
}

fn new_program() -> PathBuf {
    newest().expect("a new server")
}

fn new(via: &str) -> Via<Place> {
    one(&new_program(), via)
}

fn timer(name: &str, due: Timestamp) -> Timer {
    Timer::new(OrderId::new(name).expect("an id"), due)
}

fn crowd(count: usize, due: Timestamp) -> Vec<Timer> {
    (0..count).map(|number| timer(&format!("o{number}"), due)).collect()
}

fn now(place: &impl Harness) -> Timestamp {
    place.time().clock().now()
}

async fn pause(place: &impl Harness, duration: Duration) {
    place.time().clock().sleep_until(now(place) + duration).await;
}

/// Repeats a call until it succeeds, as the loops do.
async fn eventually<T>(place: &impl Harness, call: impl AsyncFn() -> Result<T>) -> T {
    let limit = now(place) + LONG;
    loop {
        match call().await {
            Ok(done) => return done,
            Err(error) => assert!(now(place) < limit, "{error}"),
        }
        pause(place, Duration::from_millis(20)).await;
    }
}

/// Works like a loop until each of these has come, at its time or later.
async fn all_come(place: &impl Harness, queue: &dyn DelayQueue, timers: &[Timer]) {
    let mut missing: BTreeSet<_> = timers.iter().cloned().collect();
    let limit = now(place) + LONG;
    while !missing.is_empty() {
        assert!(now(place) < limit, "{} are missing, such as {:?}", missing.len(), missing.first());
        let options = LeaseOptions::new(64).with_wait(Duration::from_millis(500));
        let Ok(leases) = queue.lease(options).await else {
            pause(place, Duration::from_millis(50)).await;
            continue;
        };
        for lease in &leases {
            assert!(now(place) >= lease.timer.due, "early: {lease:?}");
            missing.remove(&lease.timer);
        }
        let receipts: Vec<_> = leases.iter().map(|lease| lease.receipt).collect();
        eventually(place, async || queue.ack(&receipts).await).await;
    }
}

/// Works like a loop until there is nothing left: what was acked just before a server was killed
/// may come again.
async fn is_empty(place: &impl Harness, queue: &dyn DelayQueue) {
    eventually(place, async || {
        let options = LeaseOptions::new(64).with_wait(Duration::from_millis(100));
        let leases = queue.lease(options).await?;
        let receipts: Vec<_> = leases.iter().map(|lease| lease.receipt).collect();
        queue.ack(&receipts).await?;
        let stats = queue.stats().await?;
        let error = Error::new(ErrorKind::Unavailable, "test", "stats", format!("{stats:?}"));
        if stats.pending + stats.leased == 0 { Ok(()) } else { Err(error) }
    })
    .await;
}

/// NATS 2.9 may remember what was acked just before it was killed, and never deliver it again: it
/// only counts.
fn killed(place: &Via<Place>, forgets_what_was_acked: bool) {
    place.place.block_on(async {
        let queue = place.queue().await.expect("a queue");
        let timers = crowd(3000, now(place) + Duration::from_secs(4));
        let (early, late) = timers.split_at(1500);
        eventually(place, async || queue.schedule(early).await).await;
        let load = async {
            for timers in late.chunks(50) {
                eventually(place, async || queue.schedule(timers).await).await;
            }
        };
        let kill = async {
            pause(place, Duration::from_millis(30)).await;
            place.place.restart().await;
            let due = timers[0].due + Duration::from_millis(100);
            pause(place, due.since(now(place))).await;
            place.place.restart().await;
        };
        zip(zip(load, kill), all_come(place, &*queue, &timers)).await;
        // What was leased while the server was killed may come twice.
        let last = [timer("last", now(place))];
        eventually(place, async || queue.schedule(&last).await).await;
        all_come(place, &*queue, &last).await;
        if forgets_what_was_acked {
            is_empty(place, &*queue).await;
        }
    });
}

async fn client(place: &Via<Place>) -> jetstream::Context {
    jetstream::new(async_nats::connect(place.place.url()).await.expect("connects"))
}

fn a_stream_that_is_deleted() {
    let place = new("schedule");
    place.place.block_on(async {
        let queue = place.queue().await.expect("a queue");
        queue.schedule(&[timer("lost", now(&place))]).await.expect("scheduled");
        client(&place).await.delete_stream(STREAM).await.expect("deleted");
        assert_eq!(queue.stats().await.expect("stats").pending, 0);
        queue.cancel(&[OrderId::new("lost").expect("an id")]).await.expect("it is gone");
        let timers = crowd(20, now(&place) + Duration::from_secs(1));
        queue.schedule(&timers).await.expect("made again");
        all_come(&place, &*queue, &timers).await;
        client(&place).await.delete_stream(STREAM).await.expect("deleted");
        // Who waits makes it again, too.
        let timers = crowd(20, now(&place) + Duration::from_secs(1));
        let schedule = async {
            pause(&place, Duration::from_millis(1500)).await;
            eventually(&place, async || queue.schedule(&timers).await).await;
        };
        zip(all_come(&place, &*queue, &timers), schedule).await;
    });
}

fn a_consumer_that_is_deleted() {
    let place = new("schedule");
    place.place.block_on(async {
        let queue = place.queue().await.expect("a queue");
        let timers = crowd(200, now(&place) + Duration::from_secs(3));
        queue.schedule(&timers).await.expect("scheduled");
        let delete = async {
            for _ in 0..2 {
                pause(&place, Duration::from_millis(1300)).await;
                let stream = client(&place).await.get_stream(STREAM).await.expect("there");
                stream.delete_consumer("queue").await.expect("deleted");
            }
        };
        zip(all_come(&place, &*queue, &timers), delete).await;
        is_empty(&place, &*queue).await;
    });
}

async fn refused(url: &str) -> Error {
    match open(url).await {
        Ok(_) => panic!("{url} opens"),
        Err(error) => error,
    }
}

fn a_foreign_stream_is_refused() {
    let place = new("schedule");
    place.place.block_on(async {
        let context = client(&place).await;
        let foreign = |name: &str, subject: &str| stream::Config {
            name: name.to_owned(),
            subjects: vec![subject.to_owned()],
            allow_message_schedules: true,
            ..stream::Config::default()
        };
        context.create_stream(foreign(STREAM, "theirs.>")).await.expect("created");
        let error = refused(&place.url).await;
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
        assert!(error.to_string().contains("expirer-timers is there with another"), "{error}");
        context.create_stream(foreign("overlapping", "b.timers.x.due")).await.expect("created");
        let error = refused(&format!("{}&prefix=b", place.url)).await;
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
        let limited = stream::Config {
            max_messages: 5,
            max_messages_per_subject: 1,
            ..foreign("c-timers", "c.timers.*.*")
        };
        context.create_stream(limited).await.expect("created");
        let error = refused(&format!("{}&prefix=c", place.url)).await;
        assert!(error.to_string().contains("another max_msgs"), "{error}");
        open(&format!("{}&prefix=d", place.url)).await.expect("another queue");
    });
}

fn a_stranger() {
    let place = new("schedule");
    place.place.block_on(async {
        let queue = place.queue().await.expect("a queue");
        let context = client(&place).await;
        for (subject, text) in [
            ("expirer.timers.o1.due", "no timer"),
            ("expirer.timers.=zz.due", "{\"due\": 1}"),
            ("expirer.timers.x.due", "{\"due\": \"soon\"}"),
        ] {
            let sent = context.publish(subject, text.into()).await.expect("sent");
            sent.await.expect("stored");
        }
        let timers = crowd(3, now(&place));
        queue.schedule(&timers).await.expect("o1 is replaced");
        all_come(&place, &*queue, &timers).await;
        assert_eq!(queue.stats().await.expect("stats").pending, 2, "left for an operator");
    });
}

fn a_handle_that_ends() {
    let place = new("schedule");
    place.place.block_on(async {
        let options = options();
        let queue = NatsQueue::open(&place.url, &options).await.expect("one").backend;
        let other = place.queue().await.expect("two");
        let timers = crowd(300, now(&place));
        queue.schedule(&timers).await.expect("scheduled");
        let held = queue.lease(LeaseOptions::new(1).with_wait(LONG)).await.expect("leases");
        queue.ack(&[held[0].receipt]).await.expect("acks");
        let begun = now(&place);
        drop(queue);
        options.leaving.done().await;
        let left_after = now(&place).since(begun);
        // Sooner than the pull that it had at the server would have ended.
        assert!(left_after < Duration::from_secs(1), "it left after {left_after:?}");
        let left: Vec<_> = timers.into_iter().filter(|timer| *timer != held[0].timer).collect();
        all_come(&place, &*other, &left).await;
        let took = now(&place).since(begun);
        assert!(took < Duration::from_secs(12), "the server has waited for an ack: {took:?}");
    });
}

/// What docs/backends/nats.md says, with the names of the stream and its subjects.
const PERMISSIONS: &str = r#"publish: ["$JS.API.INFO", "$JS.API.STREAM.*.STREAM",
      "$JS.API.STREAM.MSG.*.STREAM", "$JS.API.CONSUMER.DURABLE.CREATE.STREAM.queue",
      "$JS.API.CONSUMER.MSG.NEXT.STREAM.queue", "$JS.ACK.STREAM.queue.>", "SUBJECTS.*.*"]
    subscribe: ["_INBOX.>"]"#;

fn restricted(program: &Path, permissions: &str) -> Place {
    let config = format!(
        "jetstream {{ store_dir: $STORE_DIR }}\nauthorization {{ users: [{{ user: app, \
         password: secret, permissions: {{ {permissions} }} }}] }}"
    );
    Place::on(NatsServer::with(program, &config))
}

fn with_login(place: &Place) -> String {
    place.url().replace("nats://", "nats://app:secret@")
}

fn enough(program: &Path, options: &str) {
    let kind = if options.is_empty() { "timers" } else { "redelivery" };
    let named = PERMISSIONS.replace("STREAM.queue", &format!("expirer-{kind}.queue"));
    let named = named.replace(".STREAM\"", &format!(".expirer-{kind}\""));
    let place = restricted(program, &named.replace("SUBJECTS", &format!("expirer.{kind}")));
    place.block_on(async {
        let queue = open(&format!("{}{options}", with_login(&place))).await.expect("opens");
        let timers = crowd(10, now(&place) + Duration::from_secs(3));
        queue.schedule(&timers).await.expect("schedules");
        queue.cancel(&[timers[9].id.clone()]).await.expect("cancels");
        all_come(&place, &*queue, &timers[..9]).await;
        is_empty(&place, &*queue).await;
    });
}

fn what_is_not_allowed() {
    let place = restricted(
        &new_program(),
        r#"publish: { deny: ["$JS.API.CONSUMER.MSG.NEXT.>"] }, subscribe: ">""#,
    );
    place.block_on(async {
        let queue = open(&with_login(&place)).await.expect("opens");
        queue.schedule(&[timer("o1", now(&place))]).await.expect("schedules");
        let limit = now(&place) + LONG;
        let error = loop {
            assert!(now(&place) < limit, "it says nothing");
            let options = LeaseOptions::new(1).with_wait(Duration::from_millis(500));
            if let Err(error) = queue.lease(options).await {
                break error;
            }
        };
        assert_eq!(error.kind(), ErrorKind::Denied, "{error}");
        assert!(error.to_string().contains("$JS.API.CONSUMER.MSG.NEXT"), "{error}");
    });
}

fn too_few_copies() {
    let place = new("schedule");
    place.place.block_on(async {
        open(&place.url).await.expect("opens");
        let url = format!("{}&replicas=3", place.url);
        let warnings = NatsQueue::open(&url, &options()).await.expect("opens").warnings;
        assert!(warnings.concat().contains("has 1 copies, not 3"), "{warnings:?}");
    });
}

fn a_leader_that_is_killed() {
    let place = three(&newest().expect("a new server"), "schedule");
    place.place.block_on(async {
        let queue = place.queue().await.expect("a queue");
        let timers = crowd(500, now(&place) + Duration::from_secs(4));
        eventually(&place, async || queue.schedule(&timers).await).await;
        let leader = place.place.cluster.leader_of(STREAM);
        let kill = async {
            pause(&place, Duration::from_millis(3500)).await;
            leader.kill();
        };
        zip(all_come(&place, &*queue, &timers), kill).await;
        leader.spawn();
        assert!(leader.is_up());
        is_empty(&place, &*queue).await;
    });
}

fn two_of_three() {
    let place = three(&newest().expect("a new server"), "schedule");
    place.place.block_on(async {
        let queue = place.queue().await.expect("a queue");
        let timers = crowd(200, now(&place) + Duration::from_secs(2));
        eventually(&place, async || queue.schedule(&timers).await).await;
        let gone = &place.place.cluster.nodes()[..2];
        gone.iter().for_each(|node| node.kill());
        let error = queue.schedule(&[timer("late", now(&place))]).await.expect_err("no quorum");
        assert!(matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::TimedOut), "{error}");
        gone.iter().for_each(|node| node.spawn());
        assert!(gone.iter().all(|node| node.is_up()));
        all_come(&place, &*queue, &timers).await;
    });
}

fn too_old() {
    let place = one(&packaged(), "schedule");
    place.place.block_on(async {
        let error = refused(&place.url).await;
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
        assert!(error.to_string().contains("?via=redelivery"), "{error}");
    });
}
