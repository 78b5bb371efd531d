//! What servers do to the bus.

use std::sync::Arc;
use std::time::Duration;

use expirer_backends::connect;
use expirer_core::{
    Consumer, Delivery, ErrorKind, EventBus, Group, Message, ReceiveOptions, Rejection, Release,
    Subject, SubscribeOptions,
};

use super::{KEY, LIMIT, SUBJECT, ack, join, open, progress, publish, receive};
use crate::place::{Place, options};
use crate::servers::process::wait_until;
use crate::servers::redis::RedisServer;
use crate::servers::redis_cluster::RedisCluster;

pub(super) fn scripts_that_are_gone_come_back() {
    let place = Place::plain();
    place.block_on(async {
        let bus = open(&place, "").await;
        let consumer = join(&bus, LIMIT).await;
        publish(&bus, 2).await;
        for left in [1, 0] {
            place.server.cli(&["SCRIPT", "FLUSH"]);
            let came = consumer.receive(ReceiveOptions::new(1)).await.expect("it receives");
            place.server.cli(&["SCRIPT", "FLUSH"]);
            ack(&*consumer, &came).await;
            let progress = bus.progress(&Group::new("a").expect("a name"), &SUBJECT).await;
            assert_eq!(progress.expect("it tells").waiting, left);
        }
    });
}

pub(super) fn a_full_server_refuses_and_takes_more_once_there_is_room() {
    let place = Place::on(RedisServer::with(&["--maxmemory-policy", "noeviction"]));
    place.block_on(async {
        let bus = open(&place, "").await;
        let consumer = join(&bus, LIMIT).await;
        publish(&bus, 1).await;
        place.server.cli(&["CONFIG", "SET", "maxmemory", "1"]);
        let error = bus.publish(&[Message::new(SUBJECT, *b"{}")]).await.expect_err("it is full");
        assert_eq!(error.kind(), ErrorKind::Overloaded, "{error}");
        place.server.cli(&["CONFIG", "SET", "maxmemory", "0"]);
        publish(&bus, 1).await;
        let mut came = 0;
        while came < 2 {
            let some = receive(&*consumer, LIMIT).await;
            assert!(!some.is_empty(), "expected two messages within {LIMIT:?}, came {came}");
            ack(&*consumer, &some).await;
            came += some.len();
        }
    });
}

/// Whoever settles makes room: nothing that this takes is refused.
pub(super) fn a_full_server_is_drained() {
    let place = Place::on(RedisServer::with(&["--maxmemory-policy", "noeviction"]));
    place.block_on(async {
        let bus = open(&place, "").await;
        let early = join(&bus, LIMIT * 6).await;
        publish(&bus, 4).await;
        place.server.cli(&["XREADGROUP", "GROUP", "a", "cli", "COUNT", "1", "STREAMS", KEY, ">"]);
        place.server.cli(&["CONFIG", "SET", "maxmemory", "1"]);
        let held = receive(&*early, LIMIT).await;
        let [one, other, poison] = &held[..] else { panic!("expected three, came {held:?}") };
        ack(&*early, std::slice::from_ref(one)).await;
        let rejection = Rejection { receipt: poison.receipt, reason: "broken".to_owned() };
        let error = early.reject(std::slice::from_ref(&rejection)).await.expect_err("it is full");
        assert_eq!(error.kind(), ErrorKind::Overloaded, "{error}");
        let release = Release { receipt: other.receipt, at: place.now() };
        early.release(&[release]).await.expect("it releases");
        let late = join(&bus, Duration::from_secs(1)).await;
        // What was given back, and what the stranger left; twice, where the ack came too late.
        while progress(&bus, "a").await.unacked > 1 {
            let came = receive(&*late, LIMIT).await;
            ack(&*late, &came).await;
        }
        let new = bus.subscribe(SubscribeOptions::new(Group::STDIO, [SUBJECT])).await;
        let all = receive(&*new.expect("a group of its own"), LIMIT).await;
        assert_eq!(all.len(), 4);
        assert_eq!(progress(&bus, "a").await.unacked, 1, "what could not be rejected");
        place.server.cli(&["CONFIG", "SET", "maxmemory", "0"]);
        early.reject(&[rejection]).await.expect("there is room");
        place.server.cli(&["CONFIG", "SET", "maxmemory", "1"]);
        let settled = progress(&bus, "a").await;
        assert!(settled.worked_off >= Some(all[3].published), "{settled:?}");
    });
}

/// Its replica has its data and gives it back, as in a failover and the way back from it.
pub(super) fn a_replica_is_waited_for_until_it_is_a_master() {
    let place = Place::plain();
    place.block_on(async {
        let bus = open(&place, "").await;
        let consumer = join(&bus, LIMIT * 6).await;
        publish(&bus, 1).await;
        let held = receive(&*consumer, LIMIT).await;
        publish(&bus, 1).await;
        let other = RedisServer::start();
        follow(&other, &place.server);
        assert_eq!(other.cli(&["REPLICAOF", "NO", "ONE"]), "OK");
        follow(&place.server, &other);
        let message = [Message::new(SUBJECT, *b"{}")];
        let errors = [
            bus.publish(&message).await.expect_err("read-only"),
            consumer.receive(ReceiveOptions::new(1)).await.expect_err("read-only"),
            consumer.ack(&[held[0].receipt]).await.expect_err("read-only"),
        ];
        for error in errors {
            assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
        }
        assert_eq!(place.server.cli(&["REPLICAOF", "NO", "ONE"]), "OK");
        ack(&*consumer, &held).await;
        bus.publish(&message).await.expect("a master again");
        assert_eq!(receive(&*consumer, LIMIT).await.len(), 2);
    });
}

/// Makes a server a replica of another, and waits until it has its data.
fn follow(replica: &RedisServer, master: &RedisServer) {
    assert_eq!(replica.cli(&["REPLICAOF", "127.0.0.1", &master.port().to_string()]), "OK");
    let is_up = || replica.cli(&["INFO", "replication"]).contains("master_link_status:up");
    assert!(wait_until(is_up), "the replica has the data");
}

pub(super) fn a_wrong_password_is_told() {
    let place = Place::secured();
    place.block_on(async {
        let url = place.url().replace("pass%2Fw:rd", "secretguess");
        let Err(error) = connect::bus(&url, &options()).await else { panic!("it opens") };
        assert_eq!(error.kind(), ErrorKind::Denied, "{error}");
        assert!(!error.to_string().contains("secretguess"), "{error}");
    });
}

/// A bus for a user who may do all but what a test takes away, and a member that holds a message.
async fn watched(place: &Place) -> (Arc<dyn EventBus>, Box<dyn Consumer>, Vec<Delivery>) {
    permit(place, "+@all");
    let url = format!("redis://app:secret@127.0.0.1:{}?retain=1s", place.server.port());
    let bus = connect::bus(&url, &options()).await.expect("it opens").backend.bus;
    let consumer = join(&bus, LIMIT * 6).await;
    publish(&bus, 1).await;
    let held = receive(&*consumer, LIMIT).await;
    (bus, consumer, held)
}

fn permit(place: &Place, rule: &str) {
    let user = ["ACL", "SETUSER", "app", "on", ">secret", "~bus:{*", rule];
    assert_eq!(place.server.cli(&user), "OK");
}

pub(super) fn what_is_forbidden_is_told_and_not_taken_for_done() {
    let place = Place::plain();
    place.block_on(async {
        let (bus, consumer, held) = watched(&place).await;
        let receipt = held[0].receipt;
        permit(&place, "-xpending");
        let rejection = Rejection { receipt, reason: "broken".to_owned() };
        let errors = [
            consumer.ack(&[receipt]).await.expect_err("it cannot look"),
            consumer.release(&[Release { receipt, at: place.now() }]).await.expect_err("it cannot"),
            consumer.reject(&[rejection]).await.expect_err("it cannot look"),
            consumer.receive(ReceiveOptions::new(1)).await.expect_err("it cannot look"),
            bus.progress(&Group::new("a").expect("a name"), &SUBJECT).await.expect_err("it cannot"),
        ];
        for error in errors {
            assert_eq!(error.kind(), ErrorKind::Denied, "{error}");
            assert!(error.to_string().contains("ACL LOG"), "{error}");
        }
        assert!(place.server.cli(&["ACL", "LOG", "1"]).contains("xpending"));
        permit(&place, "+xpending");
        ack(&*consumer, &held).await;
        assert_eq!(progress(&bus, "a").await.unacked, 0);
    });
}

pub(super) fn a_chore_that_is_forbidden_is_told() {
    let place = Place::plain();
    place.block_on(async {
        let (_bus, consumer, held) = watched(&place).await;
        ack(&*consumer, &held).await;
        permit(&place, "-xtrim");
        let end = place.now() + LIMIT;
        let options = ReceiveOptions::new(1).with_wait(Duration::from_secs(1));
        let error = loop {
            match consumer.receive(options.clone()).await {
                Err(error) => break error,
                Ok(came) => assert_eq!(came, []),
            }
            assert!(place.now() < end, "expected an error within {LIMIT:?}");
        };
        assert_eq!(error.kind(), ErrorKind::Denied, "{error}");
        assert!(error.to_string().contains("trim"), "{error}");
        permit(&place, "+xtrim");
        while consumer.receive(options.clone()).await.is_err() {
            assert!(place.now() < end, "expected an end of the errors within {LIMIT:?}");
        }
    });
}

pub(super) fn the_permissions_in_the_docs_are_enough() {
    /// What docs/backends/redis.md says.
    const COMMANDS: &str = "EVAL EVALSHA DEL EXISTS GET SET TIME XACK XADD XCLAIM XGROUP XINFO \
                            XLEN XPENDING XRANGE XREAD XREADGROUP XSETID XTRIM ZADD ZRANGE \
                            ZRANGEBYSCORE ZREM ZSCORE";
    let place = Place::plain();
    let commands: Vec<_> = COMMANDS.split(' ').map(|name| format!("+{name}")).collect();
    let mut user = vec!["ACL", "SETUSER", "app", "on", ">secret", "~bus:{*"];
    user.extend(commands.iter().map(String::as_str));
    assert_eq!(place.server.cli(&user), "OK");
    place.block_on(async {
        let url = format!("redis://app:secret@127.0.0.1:{}", place.server.port());
        let opened = connect::bus(&format!("{url}?retain=1s"), &options()).await;
        let bus = opened.expect("it opens").backend.bus;
        let (consumer, tail) = (join(&bus, LIMIT).await, bus.tail(&[SUBJECT]).await.expect("it"));
        publish(&bus, 300).await;
        let came = receive(&*consumer, LIMIT).await;
        let [rejected, released, others @ ..] = &came[..] else { panic!("came {came:?}") };
        let reason = "broken".to_owned();
        let rejection = Rejection { receipt: rejected.receipt, reason };
        consumer.reject(&[rejection]).await.expect("it rejects");
        let release = Release { receipt: released.receipt, at: place.now() };
        consumer.release(&[release]).await.expect("it releases");
        ack(&*consumer, others).await;
        let group = Group::new("a").expect("a name");
        assert!(bus.progress(&group, &SUBJECT).await.expect("it tells").waiting > 0);
        let seen = tail.receive(ReceiveOptions::new(9).with_wait(LIMIT)).await.expect("it sees");
        assert!(!seen.messages.is_empty());
        ack(&*consumer, &receive(&*consumer, LIMIT).await).await;
        let end = place.now() + LIMIT;
        while place.server.cli(&["XLEN", KEY]) == "300" {
            assert!(place.now() < end, "expected the stream to be trimmed by {end}");
            ack(&*consumer, &receive(&*consumer, Duration::from_secs(1)).await).await;
        }
        let denied = connect::bus(&format!("{url}?prefix=other"), &options()).await;
        let denied = denied.expect("it opens").backend.bus;
        let error = denied.publish(&[Message::new(SUBJECT, *b"{}")]).await.expect_err("no");
        assert_eq!(error.kind(), ErrorKind::Denied, "{error}");
    });
}

pub(super) fn a_cluster_goes_on_without_the_master_of_a_stream() {
    let (cluster, place) = (RedisCluster::start(), Place::plain());
    place.block_on(async {
        let opened = connect::bus(&cluster.url(), &options()).await;
        let bus = opened.expect("the bus opens").backend.bus;
        let subjects = [SUBJECT, Subject::PaymentCreated, Subject::OrderCancelled];
        let joining = SubscribeOptions::new(Group::STDIO, subjects.clone());
        let consumer = bus.subscribe(joining).await.expect("it joins");
        let messages = subjects.map(|subject| Message::new(subject, *b"{}"));
        bus.publish(&messages).await.expect("it is published");
        let mut came = 0;
        while came < 3 {
            let some = receive(&*consumer, LIMIT).await;
            assert!(!some.is_empty(), "expected three messages, came {came}");
            ack(&*consumer, &some).await;
            came += some.len();
        }
        cluster.master_of(KEY).kill();
        let end = place.now() + LIMIT * 3;
        while let Err(error) = bus.publish(&messages[..1]).await {
            assert!(place.now() < end, "expected a new master by {end}, came: {error}");
            place.pause(Duration::from_millis(100)).await;
        }
        let options = ReceiveOptions::new(8).with_wait(Duration::from_secs(1));
        while !consumer.receive(options.clone()).await.is_ok_and(|came| !came.is_empty()) {
            assert!(place.now() < end, "expected a message of the new master by {end}");
        }
    });
}
