//! What the bus owes beyond the suite: strangers on the same streams, and servers that forget.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use expirer_backends::connect::{self, ConnectOptions};
use expirer_core::{
    Clock, Consumer, Delivery, ErrorKind, EventBus, Group, Message, ReceiveOptions, Rejection,
    Release, Subject, SubscribeOptions, Timestamp,
};
use futures_lite::future::{poll_once, zip};

use crate::place::{Place, options};
use crate::servers::redis::RedisServer;
use crate::servers::redis_cluster::RedisCluster;

const KEY: &str = "bus:{order:created}";
const SUBJECT: Subject = Subject::OrderCreated;
/// Generous: no test measures speed.
const LIMIT: Duration = Duration::from_secs(20);

async fn open(place: &Place, query: &str) -> Arc<dyn EventBus> {
    let url = format!("{}{query}", place.url());
    connect::bus(&url, &options()).await.expect("the bus opens").backend.bus
}

async fn join(bus: &Arc<dyn EventBus>, ack_deadline: Duration) -> Box<dyn Consumer> {
    let group = Group::new("a").expect("a name");
    let options = SubscribeOptions::new(group, [SUBJECT]).with_ack_deadline(ack_deadline);
    bus.subscribe(options).await.expect("it joins")
}

async fn publish(bus: &Arc<dyn EventBus>, count: usize) {
    let messages = vec![Message::new(SUBJECT, *b"{}"); count];
    bus.publish(&messages).await.expect("it is published");
}

async fn receive(consumer: &dyn Consumer, wait: Duration) -> Vec<Delivery> {
    let options = ReceiveOptions::new(256).with_wait(wait);
    consumer.receive(options).await.expect("it receives")
}

async fn ack(consumer: &dyn Consumer, came: &[Delivery]) {
    let receipts: Vec<_> = came.iter().map(|delivery| delivery.receipt).collect();
    consumer.ack(&receipts).await.expect("it acks");
}

pub(crate) fn a_message_of_redis_cli_wakes_and_is_taken() {
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

pub(crate) fn a_stream_is_trimmed_behind_every_group() {
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

pub(crate) fn a_stream_and_its_groups_that_are_gone_come_back() {
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

pub(crate) fn scripts_that_are_gone_come_back() {
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

pub(crate) fn a_value_of_another_type_is_named() {
    let place = Place::plain();
    place.block_on(async {
        let bus = open(&place, "").await;
        let group = Group::new("a").expect("a name");
        let consumer = join(&bus, LIMIT).await;
        place.server.cli(&["DEL", KEY]);
        place.server.cli(&["SET", KEY, "x"]);
        let errors = [
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
    });
}

/// A clock that is wrong by so much.
#[derive(Debug)]
struct Wrong(Arc<dyn Clock>, Duration);

#[async_trait]
impl Clock for Wrong {
    fn now(&self) -> Timestamp {
        self.0.now() + self.1
    }

    async fn sleep_until(&self, at: Timestamp) {
        self.0.sleep_until(at - self.1).await;
    }
}

pub(crate) fn a_full_server_refuses_and_takes_more_once_there_is_room() {
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

pub(crate) fn the_permissions_in_the_docs_are_enough() {
    /// What docs/backends/redis.md says.
    const COMMANDS: &str = "EVAL EVALSHA DEL EXISTS TIME XACK XADD XCLAIM XGROUP XINFO XLEN \
                            XPENDING XRANGE XREAD XREADGROUP XSETID XTRIM ZADD ZRANGE \
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

pub(crate) fn a_release_is_by_the_distance_to_the_callers_time() {
    let place = Place::plain();
    place.block_on(async {
        let given = options();
        let clock: Arc<dyn Clock> = Arc::new(Wrong(given.clock, Duration::from_secs(3600)));
        let options = ConnectOptions::new(Arc::clone(&clock), given.seed);
        let opened = connect::bus(&place.url(), &options).await;
        let bus = opened.expect("it opens").backend.bus;
        let consumer = join(&bus, LIMIT).await;
        publish(&bus, 1).await;
        let held = receive(&*consumer, LIMIT).await;
        let at = clock.now() + Duration::from_millis(400);
        consumer.release(&[Release { receipt: held[0].receipt, at }]).await.expect("it releases");
        let again = receive(&*consumer, LIMIT).await;
        let now = clock.now();
        assert_eq!(again.len(), 1, "expected within {LIMIT:?}");
        assert!(now >= at, "expected at {at} or later, came at {now}");
        ack(&*consumer, &again).await;
    });
}

pub(crate) fn what_a_stranger_read_for_our_group_is_taken_over() {
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

pub(crate) fn no_entry_is_stored_before_the_watermark() {
    let place = Place::plain();
    place.block_on(async {
        let bus = open(&place, "").await;
        for group in ["a", "nobody"] {
            let progress = bus.progress(&Group::new(group).expect("a name"), &SUBJECT).await;
            let mark = progress.expect("it tells").worked_off.expect("a watermark").as_millis();
            let early = format!("{}-5", mark - 1);
            let refused = place.server.cli(&["XADD", KEY, &early, "data", "{}"]);
            assert!(refused.contains("equal or smaller"), "expected a refusal, came {refused}");
        }
    });
}

pub(crate) fn what_a_dropped_call_took_is_given_back_at_once() {
    let place = Place::plain();
    place.block_on(async {
        let bus = open(&place, "").await;
        let (one, other) = (join(&bus, LIMIT * 6).await, join(&bus, LIMIT * 6).await);
        publish(&bus, 1).await;
        assert!(poll_once(one.receive(ReceiveOptions::new(1))).await.is_none());
        let end = place.now() + LIMIT;
        while place.server.cli(&["XPENDING", KEY, "a"]).starts_with('0') {
            assert!(place.now() < end, "expected the dropped call to take the message");
        }
        assert_eq!(receive(&*other, LIMIT).await.len(), 1);
    });
}

pub(crate) fn who_waits_costs_a_few_commands_a_second() {
    let place = Place::plain();
    place.block_on(async {
        let bus = open(&place, "").await;
        let consumer = join(&bus, LIMIT).await;
        assert_eq!(receive(&*consumer, Duration::from_secs(1)).await, []);
        let commands = || {
            let stats = place.server.cli(&["INFO", "stats"]);
            let line = stats.lines().find_map(|l| l.strip_prefix("total_commands_processed:"));
            line.and_then(|count| count.trim().parse::<u64>().ok()).expect("a number")
        };
        let before = commands();
        assert_eq!(receive(&*consumer, Duration::from_secs(4)).await, []);
        let spent = commands() - before;
        // A look is one script with seven commands in it, which the server counts, too.
        assert!(spent <= 60, "expected a look a second, came {spent} commands in 4 s");
    });
}

pub(crate) fn a_cluster_goes_on_without_the_master_of_a_stream() {
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
