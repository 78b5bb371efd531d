//! Strangers and operators on the same streams.

use std::time::Duration;

use expirer_core::{
    Delivery, ErrorKind, Group, Message, ReceiveOptions, Rejection, Release, Subject,
    SubscribeOptions,
};
use futures_lite::future::zip;

use super::{KEY, LIMIT, SUBJECT, ack, join, open, progress, publish, receive};
use crate::place::Place;

const VISIBLE: &str = "bus:{order:created}:a:visible";

pub(super) fn a_message_of_redis_cli_wakes_and_is_taken() {
    let place = Place::plain();
    place.block_on(async {
        let consumer = join(&open(&place, "").await, LIMIT).await;
        let mut lateness = Vec::new();
        for _ in 0..5 {
            let add = async {
                place.pause(Duration::from_millis(200)).await;
                let data = r#"{"id":"o1"}"#;
                place.server.cli(&["XADD", KEY, "*", "data", data, "traceparent", "t"])
            };
            let (came, entry) = zip(receive(&*consumer, LIMIT), add).await;
            lateness.push(place.now().since(came[0].published));
            assert_eq!(*came[0].message.payload, *br#"{"id":"o1"}"#);
            assert_eq!(came[0].message.headers.get("traceparent"), Some("t"));
            let id = came[0].message.id.as_ref().expect("an id").as_str();
            assert_eq!(id, format!("order:created@{entry}"));
            ack(&*consumer, &came).await;
        }
        // A poll alone would bring each of them 0.8 s late.
        let least = lateness.iter().min().expect("five");
        assert!(*least < Duration::from_millis(400), "expected wake-ups, came {lateness:?}");
    });
}

pub(super) fn a_stream_is_trimmed_behind_every_group() {
    let place = Place::plain();
    place.block_on(async {
        let bus = open(&place, "?retain=1s").await;
        let consumer = join(&bus, LIMIT).await;
        place.server.cli(&["XGROUP", "CREATE", KEY, "stranger", "0"]);
        publish(&bus, 1000).await;
        for _ in 0..4 {
            ack(&*consumer, &receive(&*consumer, Duration::ZERO).await).await;
        }
        let length = || place.server.cli(&["XLEN", KEY]);
        assert_eq!(receive(&*consumer, Duration::from_secs(4)).await, []);
        assert_eq!(length(), "1000", "the stranger has read nothing");
        let all = ["XREADGROUP", "GROUP", "stranger", "m", "COUNT", "1000", "STREAMS", KEY, ">"];
        place.server.cli(&all);
        assert_eq!(receive(&*consumer, Duration::from_secs(4)).await, []);
        assert_eq!(length(), "1000", "the stranger has settled nothing");
        place.server.cli(&["XGROUP", "DESTROY", KEY, "stranger"]);
        let end = place.now() + LIMIT;
        while length() == "1000" {
            assert!(place.now() < end, "expected the stream to be trimmed by {end}");
            assert_eq!(receive(&*consumer, Duration::from_secs(1)).await, []);
        }
        let late = bus.subscribe(SubscribeOptions::new(Group::STDIO, [SUBJECT])).await;
        assert!(!receive(&*late.expect("it joins"), LIMIT).await.is_empty(), "a node is left");
    });
}

pub(super) fn a_stream_and_its_groups_that_are_gone_come_back() {
    let place = Place::plain();
    place.block_on(async {
        let bus = open(&place, "").await;
        let (consumer, tail) = (join(&bus, LIMIT).await, bus.tail(&[SUBJECT]).await.expect("it"));
        for gone in [&["FLUSHALL"][..], &["DEL", KEY], &["XGROUP", "DESTROY", KEY, "a"]] {
            publish(&bus, 3).await;
            let held = receive(&*consumer, LIMIT).await;
            place.server.cli(gone);
            ack(&*consumer, &held).await;
            publish(&bus, 1).await;
            let came = receive(&*consumer, LIMIT).await;
            assert!(!came.is_empty() && came.iter().all(|came| came.attempt == 1), "{came:?}");
            ack(&*consumer, &came).await;
            let progress = bus.progress(&Group::new("a").expect("a name"), &SUBJECT).await;
            let progress = progress.expect("it tells");
            assert_eq!((progress.waiting, progress.unacked), (0, 0), "after {gone:?}");
        }
        let options = ReceiveOptions::new(256).with_wait(LIMIT);
        assert!(!tail.receive(options).await.expect("it sees").messages.is_empty());
    });
}

pub(super) fn a_stream_that_nobody_of_ours_reads_is_trimmed_by_hand() {
    /// As docs/backends/redis.md says.
    const SCRIPT: &str = include_str!("../../../../../backends/src/redis/scripts/bus/trim.lua");
    const LATE: &str = "bus:{payment:late}";
    const AHEAD: &str = "bus:{payment:late}:ahead";
    let place = Place::plain();
    place.block_on(async {
        let bus = open(&place, "?retain=1s").await;
        let late = vec![Message::new(Subject::PaymentLate, *b"{}"); 1000];
        bus.publish(&late).await.expect("it is published");
        place.server.cli(&["XGROUP", "CREATE", LATE, "refunds", "0"]);
        place.pause(Duration::from_millis(5)).await;
        let trim =
            || place.server.cli(&["EVAL", SCRIPT, "2", LATE, AHEAD, "refunds", "1", "10000"]);
        assert_eq!(trim(), "0", "nobody has read it");
        let read = ["XREADGROUP", "GROUP", "refunds", "m", "NOACK", "STREAMS", LATE, ">"];
        place.server.cli(&read);
        assert_eq!(trim(), "900", "whole nodes of a hundred, and not the one with the last entry");
    });
}

pub(super) fn a_group_that_is_made_anew_keeps_nothing_of_the_old_one() {
    let place = Place::plain();
    place.block_on(async {
        let bus = open(&place, "").await;
        let ended = join(&bus, LIMIT).await;
        publish(&bus, 3).await;
        assert_eq!(receive(&*ended, LIMIT).await.len(), 3);
        drop(ended);
        place.server.cli(&["XGROUP", "DESTROY", KEY, "a"]);
        assert_eq!(place.server.cli(&["ZCARD", VISIBLE]), "3", "no more than was held");
        let consumer = join(&bus, LIMIT).await;
        assert_eq!(place.server.cli(&["EXISTS", VISIBLE]), "0");
        let came = receive(&*consumer, LIMIT).await;
        assert_eq!(came.iter().map(|came| came.attempt).collect::<Vec<_>>(), [1, 1, 1]);
    });
}

pub(super) fn what_others_settle_while_it_is_held_comes_again() {
    let place = Place::plain();
    place.block_on(async {
        let bus = open(&place, "").await;
        let consumer = join(&bus, Duration::from_secs(1)).await;
        publish(&bus, 2).await;
        assert_eq!(receive(&*consumer, LIMIT).await.len(), 2);
        let consumers = place.server.cli(&["XINFO", "CONSUMERS", KEY, "a"]);
        let name = consumers.lines().find(|line| line.starts_with("expirer-")).expect("a name");
        assert_eq!(place.server.cli(&["XGROUP", "DELCONSUMER", KEY, "a", name]), "2");
        let again = receive(&*consumer, LIMIT).await;
        assert_eq!(again.len(), 2, "deleted with its consumer");
        let ids = again.iter().map(entry).collect::<Vec<_>>();
        assert_eq!(place.server.cli(&["XACK", KEY, "a", ids[0], ids[1]]), "2");
        let again = receive(&*consumer, LIMIT).await;
        assert_eq!(again.len(), 2, "settled by hand");
        ack(&*consumer, &again).await;
        let progress = progress(&bus, "a").await;
        assert_eq!((progress.waiting, progress.unacked), (0, 0));
        assert_eq!(place.server.cli(&["EXISTS", VISIBLE]), "0");
    });
}

/// The id of the entry that a delivery brought.
fn entry(came: &Delivery) -> &str {
    let id = came.message.id.as_ref().expect("an id").as_str();
    id.split_once('@').expect("an entry").1
}

pub(super) fn what_is_deleted_from_the_stream_leaves_nothing() {
    let place = Place::plain();
    place.block_on(async {
        let bus = open(&place, "").await;
        let consumer = join(&bus, Duration::from_secs(1)).await;
        publish(&bus, 1).await;
        let held = receive(&*consumer, LIMIT).await;
        assert_eq!(place.server.cli(&["XDEL", KEY, entry(&held[0])]), "1");
        assert_eq!(receive(&*consumer, Duration::from_secs(3)).await, []);
        assert_eq!(progress(&bus, "a").await.unacked, 0);
        assert_eq!(place.server.cli(&["EXISTS", VISIBLE]), "0");
    });
}

pub(super) fn a_value_of_another_type_is_named() {
    let place = Place::plain();
    place.block_on(async {
        let bus = open(&place, "").await;
        let group = Group::new("a").expect("a name");
        let consumer = join(&bus, LIMIT).await;
        publish(&bus, 1).await;
        let receipt = receive(&*consumer, LIMIT).await[0].receipt;
        place.server.cli(&["DEL", KEY]);
        place.server.cli(&["SET", KEY, "x"]);
        let release = Release { receipt, at: place.now() };
        let rejection = Rejection { receipt, reason: "broken".to_owned() };
        let errors = [
            consumer.ack(&[receipt]).await.expect_err("no stream"),
            consumer.release(&[release]).await.expect_err("no stream"),
            consumer.reject(&[rejection]).await.expect_err("no stream"),
            bus.publish(&[Message::new(SUBJECT, *b"{}")]).await.expect_err("no stream"),
            consumer.receive(ReceiveOptions::new(1)).await.expect_err("no stream"),
            bus.progress(&group, &SUBJECT).await.expect_err("no stream"),
            bus.tail(&[SUBJECT]).await.expect_err("no stream"),
            bus.subscribe(SubscribeOptions::new(group, [SUBJECT])).await.expect_err("no stream"),
        ];
        for error in errors {
            assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
            assert!(error.to_string().contains(KEY), "{error}");
        }
        place.server.cli(&["DEL", KEY]);
        publish(&bus, 1).await;
        assert_eq!(receive(&*consumer, LIMIT).await.len(), 1, "on the same handle");
        place.server.cli(&["SET", VISIBLE, "x"]);
        let error = consumer.receive(ReceiveOptions::new(1)).await.expect_err("no sorted set");
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
    });
}

pub(super) fn what_a_stranger_read_for_our_group_is_taken_over() {
    let place = Place::plain();
    place.block_on(async {
        let bus = open(&place, "").await;
        let consumer = join(&bus, Duration::from_secs(1)).await;
        publish(&bus, 2).await;
        place.server.cli(&["XREADGROUP", "GROUP", "a", "stranger", "STREAMS", KEY, ">"]);
        let came = receive(&*consumer, LIMIT).await;
        let attempts: Vec<u32> = came.iter().map(|came| came.attempt).collect();
        assert_eq!(attempts, [2, 2]);
        ack(&*consumer, &came).await;
        assert!(place.server.cli(&["XPENDING", KEY, "a"]).starts_with('0'));
    });
}

/// More than one look of the adoption takes in, behind as much that a member holds.
pub(super) fn however_much_a_stranger_left_is_taken_over() {
    const EACH: usize = 1500;
    let place = Place::plain();
    place.block_on(async {
        let bus = open(&place, "").await;
        let holder = join(&bus, LIMIT * 60).await;
        publish(&bus, EACH * 2).await;
        let mut held = 0;
        while held < EACH {
            let options = ReceiveOptions::new((EACH - held).min(256));
            held += holder.receive(options).await.expect("it receives").len();
        }
        place.server.cli(&["XREADGROUP", "GROUP", "a", "cli", "STREAMS", KEY, ">"]);
        let adopt = include_str!("../../../../../backends/src/redis/scripts/bus/adopt.lua");
        let idle = ["EVAL", adopt, "2", KEY, VISIBLE, "a", "3600000", "-", "500"];
        let goes_on = place.server.cli(&idle).starts_with('(');
        assert!(goes_on, "a look ends with its page, though nothing of it is idle");
        let consumer = join(&bus, Duration::from_secs(1)).await;
        let (mut came, end) = (0, place.now() + LIMIT * 3);
        while came < EACH {
            assert!(place.now() < end, "expected {EACH} by {end}, came {came}");
            let some = receive(&*consumer, Duration::from_secs(1)).await;
            assert!(some.iter().all(|one| one.attempt == 2), "each was read once before");
            ack(&*consumer, &some).await;
            came += some.len();
        }
        assert_eq!(progress(&bus, "a").await.unacked, EACH as u64, "what is held is left alone");
    });
}
