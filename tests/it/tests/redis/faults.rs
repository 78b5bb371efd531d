//! What servers do to us, and what they are asked for no reason.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use expirer_backends::connect;
use expirer_conformance::{Harness, QueueHarness};
use expirer_core::{
    Clock, Error, ErrorKind, Lease, LeaseOptions, OrderId, Release, Timer, Timestamp,
};

use crate::clocks::Wrong;
use crate::place::{Place, options, runtime};
use crate::servers::proxy::Mode;
use crate::servers::redis::RedisServer;

/// How long anything may take on a busy machine.
pub(crate) const LONG: Duration = Duration::from_secs(20);

pub(crate) fn timer(id: &str, due: Timestamp) -> Timer {
    Timer::new(OrderId::new(id).expect("an id"), due)
}

pub(crate) fn waiting(max: usize) -> LeaseOptions {
    LeaseOptions::new(max).with_wait(LONG).with_duration(Duration::from_secs(60))
}

pub(crate) fn ids(leases: &[Lease]) -> Vec<&str> {
    leases.iter().map(|lease| lease.timer.id.as_str()).collect()
}

/// The error of opening a queue.
async fn refused(url: &str) -> Error {
    match connect::queue(url, &options()).await {
        Ok(_) => panic!("{url} opens"),
        Err(error) => error,
    }
}

/// Repeats a call until it succeeds, as the loops do.
async fn eventually<T>(clock: &dyn Clock, call: impl AsyncFn() -> expirer_core::Result<T>) -> T {
    let limit = clock.now() + LONG;
    loop {
        match call().await {
            Ok(done) => return done,
            Err(error) => assert!(clock.now() < limit, "{error}"),
        }
        clock.sleep_until(clock.now() + Duration::from_millis(20)).await;
    }
}

pub(crate) fn scripts_are_loaded_again_after_a_flush() {
    let place = Place::plain();
    place.block_on(async {
        let queue = place.queue().await.expect("a queue");
        let now = place.time().clock().now();
        let timers: Vec<_> = (0..2000).map(|n| timer(&format!("o{n}"), now)).collect();
        for _ in 0..2 {
            assert_eq!(place.server.cli(&["SCRIPT", "FLUSH"]), "OK");
            queue.schedule(&timers).await.expect("in a pipeline, too");
            assert_eq!(place.server.cli(&["SCRIPT", "FLUSH"]), "OK");
            let leases = queue.lease(LeaseOptions::new(5)).await.expect("leases");
            assert_eq!(leases.len(), 5);
            assert_eq!(place.server.cli(&["SCRIPT", "FLUSH"]), "OK");
            let receipts: Vec<_> = leases.iter().map(|lease| lease.receipt).collect();
            queue.ack(&receipts).await.expect("acks");
        }
    });
}

pub(crate) fn a_full_server_refuses_and_takes_more_once_there_is_room() {
    let place = Place::on(RedisServer::with(&["--maxmemory-policy", "noeviction"]));
    place.block_on(async {
        let queue = place.queue().await.expect("a queue");
        let due = place.time().clock().now();
        queue.schedule(&[timer("o1", due)]).await.expect("there is room");
        assert_eq!(place.server.cli(&["CONFIG", "SET", "maxmemory", "1"]), "OK");
        let error = queue.schedule(&[timer("o2", due)]).await.expect_err("full");
        assert_eq!(error.kind(), ErrorKind::Overloaded, "{error}");
        assert_eq!(place.server.cli(&["CONFIG", "SET", "maxmemory", "0"]), "OK");
        queue.schedule(&[timer("o2", due)]).await.expect("there is room again");
        let leases = queue.lease(waiting(9)).await.expect("leases");
        assert_eq!(ids(&leases), ["o1", "o2"]);
    });
}

pub(crate) fn a_full_server_fires_what_it_has() {
    let place = Place::on(RedisServer::with(&["--maxmemory-policy", "noeviction"]));
    place.block_on(async {
        let queue = place.queue().await.expect("a queue");
        let due = place.time().clock().now();
        queue.schedule(&[timer("o1", due), timer("o2", due)]).await.expect("there is room");
        let soon = LeaseOptions::new(2).with_duration(Duration::from_millis(1));
        assert_eq!(queue.lease(soon).await.expect("leases").len(), 2);
        assert_eq!(place.server.cli(&["CONFIG", "SET", "maxmemory", "1"]), "OK");
        let error = queue.schedule(&[timer("o3", due)]).await.expect_err("full");
        assert_eq!(error.kind(), ErrorKind::Overloaded, "{error}");
        let again = queue.lease(waiting(2)).await.expect("those leases ran out");
        assert_eq!(ids(&again), ["o1", "o2"]);
        let back = Release { receipt: again[0].receipt, at: due };
        queue.release(&[back]).await.expect("released");
        queue.ack(&[again[1].receipt]).await.expect("acked");
        let other = place.queue().await.expect("another worker starts on a full server");
        let last = other.lease(waiting(2)).await.expect("leases");
        assert_eq!(ids(&last), ["o1"]);
        other.ack(&[last[0].receipt]).await.expect("acked");
        assert_eq!(other.stats().await.expect("stats").pending, 0);
    });
}

pub(crate) fn two_handles_of_one_seed_tell_their_receipts_apart() {
    let place = Place::plain();
    place.block_on(async {
        let options = options();
        let open = async || connect::queue(&place.url(), &options).await.expect("a queue").backend;
        let (one, other) = (open().await, open().await);
        one.schedule(&[timer("o1", options.clock.now())]).await.expect("scheduled");
        let short = LeaseOptions::new(1).with_duration(Duration::from_millis(1));
        let stale = one.lease(short).await.expect("leases").remove(0).receipt;
        let lease = other.lease(waiting(1)).await.expect("that lease ran out").remove(0);
        one.ack(&[stale]).await.expect("a stale receipt is no error");
        assert_eq!(other.stats().await.expect("stats").leased, 1, "the other's lease runs on");
        other.ack(&[lease.receipt]).await.expect("acked");
        assert_eq!(other.stats().await.expect("stats").leased, 0);
    });
}

pub(crate) fn the_layout_survives_a_flush() {
    let place = Place::plain();
    place.block_on(async {
        let (right, ahead) = (place.time().clock(), Arc::new(AtomicI64::new(0)));
        let mut options = options();
        options.clock = Arc::new(Wrong { right: Arc::clone(right), ahead_ms: Arc::clone(&ahead) });
        let url = |query: &str| format!("{}{query}", place.url());
        let open = async |query| connect::queue(&url(query), &options).await.map(|o| o.backend);
        let first = open("?shards=4").await.expect("a queue");
        assert_eq!(place.server.cli(&["FLUSHALL"]), "OK");
        let later = || ahead.fetch_add(60_000, Ordering::SeqCst);
        later();
        first.schedule(&[timer("o1", right.now())]).await.expect("scheduled");
        let error = open("?shards=3").await.expect_err("the layout is there again");
        assert!(error.to_string().contains("has 4 shards"), "{error}");
        assert_eq!(place.server.cli(&["FLUSHALL"]), "OK");
        ahead.fetch_sub(3_600_000, Ordering::SeqCst);
        first.schedule(&[timer("o1", right.now())]).await.expect("scheduled");
        let error = open("?shards=3").await.expect_err("a clock set back puts nothing off");
        assert!(error.to_string().contains("has 4 shards"), "{error}");
    });
}

pub(crate) fn another_layout_is_refused_with_each_call() {
    let place = Place::plain();
    place.block_on(async {
        let (right, ahead) = (place.time().clock(), Arc::new(AtomicI64::new(0)));
        let mut options = options();
        options.clock = Arc::new(Wrong { right: Arc::clone(right), ahead_ms: Arc::clone(&ahead) });
        let url = format!("{}?shards=4", place.url());
        let queue = connect::queue(&url, &options).await.expect("a queue").backend;
        let timers = [timer("o1", right.now())];
        for (field, value, said) in [("format", "2", "format"), ("shards", "9", "has 9 shards")] {
            place.server.cli(&["HSET", "{expirer:q}:layout", field, value]);
            ahead.fetch_add(60_000, Ordering::SeqCst);
            for _ in 0..2 {
                let scheduled = queue.schedule(&timers).await;
                let leased = queue.lease(LeaseOptions::new(1)).await.map(drop);
                for answer in [scheduled, leased] {
                    let error = answer.expect_err("another layout");
                    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
                    assert!(error.to_string().contains(said), "{error}");
                }
            }
            assert_eq!(queue.stats().await.expect("stats").pending, 0);
            assert_eq!(place.server.cli(&["FLUSHALL"]), "OK");
        }
        queue.schedule(&timers).await.expect("that layout is gone");
        assert_eq!(ids(&queue.lease(waiting(1)).await.expect("leases")), ["o1"]);
        assert_eq!(place.server.cli(&["HGET", "{expirer:q}:layout", "shards"]), "4");
    });
}

pub(crate) fn a_timer_whose_key_was_lost_is_stored_again() {
    let place = Place::plain();
    place.block_on(async {
        let queue = place.queue().await.expect("a queue");
        let (due, later) = (place.now(), place.now() + Duration::from_secs(3600));
        let timers = [timer("o1", due), timer("o2", due)];
        queue.schedule(&timers).await.expect("scheduled");
        assert_eq!(queue.lease(waiting(2)).await.expect("leases").len(), 2);
        assert_eq!(place.server.cli(&["DEL", "{expirer:q:0}:leased"]), "1");
        queue.schedule(&timers[..1]).await.expect("scheduled");
        let leases = queue.lease(waiting(2)).await.expect("leases");
        assert_eq!(ids(&leases), ["o1"]);
        queue.schedule(&timers).await.expect("scheduled");
        let others = queue.lease(waiting(2)).await.expect("leases");
        assert_eq!(ids(&others), ["o2"], "the other one is still leased");
        let back = |lease: &Lease| Release { receipt: lease.receipt, at: later };
        queue.release(&[back(&leases[0]), back(&others[0])]).await.expect("given back");
        queue.schedule(&timers).await.expect("scheduled");
        assert!(queue.lease(LeaseOptions::new(2)).await.expect("a look").is_empty());
        assert_eq!(place.server.cli(&["DEL", "{expirer:q:0}:due"]), "1");
        queue.schedule(&timers).await.expect("scheduled");
        let leases = queue.lease(waiting(2)).await.expect("leases");
        assert_eq!(ids(&leases), ["o1", "o2"]);
    });
}

pub(crate) fn a_key_of_another_type_is_named_and_nothing_panics() {
    let place = Place::plain();
    place.block_on(async {
        let queue = place.queue().await.expect("a queue");
        assert_eq!(place.server.cli(&["SET", "{expirer:q:0}:due", "x"]), "OK");
        let now = place.time().clock().now();
        let scheduled = queue.schedule(&[timer("o1", now)]).await;
        let leased = queue.lease(LeaseOptions::new(1)).await.map(drop);
        let counted = queue.stats().await.map(drop);
        for answer in [scheduled, leased, counted] {
            let error = answer.expect_err("a string is no sorted set");
            assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
        }
        place.server.cli(&["DEL", "{expirer:q:0}:due"]);
        queue.schedule(&[timer("o1", now)]).await.expect("mended");
    });
}

pub(crate) fn a_foreign_member_stands_in_nobodys_way() {
    let place = Place::plain();
    place.block_on(async {
        let queue = place.queue().await.expect("a queue");
        let now = place.time().clock().now();
        place.server.cli(&["ZADD", "{expirer:q:0}:due", "1", "two\nlines"]);
        let error = queue.lease(LeaseOptions::new(9)).await.expect_err("nothing else is there");
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
        place.server.cli(&["ZADD", "{expirer:q:0}:due", "2.5", "half"]);
        queue.schedule(&[timer("o1", now)]).await.expect("scheduled");
        assert_eq!(ids(&queue.lease(waiting(9)).await.expect("leases")), ["o1"]);
    });
}

pub(crate) fn another_number_of_shards_is_refused() {
    let place = Place::plain();
    place.block_on(async {
        let url = |options: &str| format!("{}?{options}", place.url());
        let open = async |url: String| connect::queue(&url, &options()).await.map(drop);
        open(url("shards=3")).await.expect("recorded");
        open(url("shards=3")).await.expect("the same");
        open(place.url()).await.expect("as recorded");
        open(url("shards=4&prefix=other")).await.expect("another queue");
        let error = refused(&url("shards=4")).await;
        assert_eq!(error.kind(), ErrorKind::Invalid);
        assert!(error.to_string().contains("has 3 shards, the URL says 4"), "{error}");
        place.server.cli(&["HSET", "{expirer:q}:layout", "format", "2"]);
        assert_eq!(refused(&place.url()).await.kind(), ErrorKind::Unsupported);
    });
}

pub(crate) fn several_shards_are_one_queue() {
    let place = Place::plain();
    place.block_on(async {
        let url = format!("{}?shards=7", place.url());
        let queue = connect::queue(&url, &options()).await.expect("a queue").backend;
        let now = place.time().clock().now();
        let timers: Vec<_> = (0..500).map(|n| timer(&format!("o{n}"), now)).collect();
        queue.schedule(&timers).await.expect("scheduled");
        assert_eq!(queue.stats().await.expect("stats").pending, 500);
        let mut seen = std::collections::BTreeSet::new();
        for max in [1, 2, 3, 300].into_iter().cycle() {
            let leases = queue.lease(LeaseOptions::new(max)).await.expect("leases");
            assert!(leases.len() <= max, "{} of {max}", leases.len());
            if leases.is_empty() {
                break;
            }
            seen.extend(leases.iter().map(|lease| lease.timer.id.clone()));
            let receipts: Vec<_> = leases.iter().map(|lease| lease.receipt).collect();
            queue.ack(&receipts).await.expect("acked");
        }
        assert_eq!(seen.len(), 500);
        assert_eq!(queue.stats().await.expect("stats").pending, 0);
    });
}

pub(crate) fn a_connection_that_stops_answering_is_replaced() {
    let place = Place::plain();
    place.block_on(async {
        let queue = place.queue().await.expect("a queue");
        let clock = place.time().clock();
        let due = clock.now();
        place.proxy.set(Mode::Stalled);
        let error = queue.schedule(&[timer("o1", due)]).await.expect_err("no answer");
        assert_eq!(error.kind(), ErrorKind::TimedOut, "{error}");
        place.proxy.set(Mode::Open);
        eventually(&**clock, async || queue.schedule(&[timer("o1", due)]).await).await;
        let leases = eventually(&**clock, async || queue.lease(waiting(1)).await).await;
        assert_eq!(ids(&leases), ["o1"]);
    });
}

pub(crate) fn a_replica_is_waited_for_until_it_is_a_master() {
    let place = Place::plain();
    place.block_on(async {
        let queue = place.queue().await.expect("a queue");
        let other = RedisServer::start();
        let port = other.port().to_string();
        assert_eq!(place.server.cli(&["REPLICAOF", "127.0.0.1", &port]), "OK");
        let due = place.time().clock().now();
        let error = queue.schedule(&[timer("o1", due)]).await.expect_err("read-only");
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
        assert_eq!(place.server.cli(&["REPLICAOF", "NO", "ONE"]), "OK");
        queue.schedule(&[timer("o1", due)]).await.expect("a master again");
    });
}

pub(crate) fn wrong_credentials_and_missing_permissions_are_told() {
    let place = Place::secured();
    place.block_on(async {
        let url = place.url().replace("pass%2Fw:rd", "secretguess");
        let error = refused(&url).await;
        assert_eq!(error.kind(), ErrorKind::Denied, "{error}");
        assert!(!error.to_string().contains("secretguess"), "{error}");
        let error = refused(&place.url().replace(":pass%2Fw:rd@", "")).await;
        assert_eq!(error.kind(), ErrorKind::Denied, "{error}");
        let ours = format!("ca={}/ca.pem", place.server.dir().display());
        let stranger = RedisServer::secured();
        let theirs = format!("ca={}/ca.pem", stranger.dir().display());
        let error = refused(&place.url().replace(&ours, &theirs)).await;
        assert_eq!(error.kind(), ErrorKind::Denied, "{error}");
    });
    let place = Place::plain();
    place.block_on(async {
        let acl = ["ACL", "SETUSER", "weak", "on", ">pw", "~*", "+@read", "+info"];
        assert_eq!(place.server.cli(&acl), "OK");
        let url = place.url().replace("redis://", "redis://weak:pw@");
        assert_eq!(refused(&url).await.kind(), ErrorKind::Denied);
        // Neither CONFIG nor INFO nor the channel.
        let acl = ["ACL", "SETUSER", "bare", "on", ">pw", "~*", "resetchannels", "+@all"];
        let acl = [&acl[..], &["-config", "-info"]].concat();
        assert_eq!(place.server.cli(&acl), "OK");
        let url = place.url().replace("redis://", "redis://bare:pw@");
        let opened = connect::queue(&url, &options()).await.expect("these are not needed");
        assert!(opened.warnings[0].contains("nobody can tell"), "{:?}", opened.warnings);
        assert!(!opened.backend.capabilities().durable);
        let due = place.time().clock().now() + Duration::from_millis(300);
        opened.backend.schedule(&[timer("o1", due)]).await.expect("scheduled");
        assert_eq!(ids(&opened.backend.lease(waiting(1)).await.expect("leases")), ["o1"]);
    });
}

pub(crate) fn the_permissions_in_the_docs_are_enough() {
    const DOCS: &str = include_str!("../../../../docs/backends/redis.md");
    const BEGIN: &str = "`~expirer:* ~{expirer:*`, the channel `&expirer:*`, and\n`";
    let (_, rest) = DOCS.split_once(BEGIN).expect("the keys and the channel");
    let (commands, _) = rest.split_once('`').expect("the end of the commands");
    let place = Place::plain();
    let keys = ["ACL", "SETUSER", "app", "on", ">pw", "resetchannels", "&expirer:*"];
    let mut user = [&keys[..], &["~expirer:*", "~{expirer:*"]].concat();
    user.extend(commands.split(' '));
    assert_eq!(place.server.cli(&user), "OK");
    place.block_on(async {
        let url = place.url().replace("redis://", "redis://app:pw@");
        let opened = connect::queue(&url, &options()).await.expect("it opens");
        assert!(opened.backend.capabilities().durable, "{:?}", opened.warnings);
        let queue = opened.backend;
        let due = place.now();
        let timers: Vec<_> = (0..4).map(|n| timer(&format!("o{n}"), due)).collect();
        queue.schedule(&timers).await.expect("it schedules");
        let short = LeaseOptions::new(9).with_duration(Duration::from_millis(1));
        assert_eq!(queue.lease(short).await.expect("it leases").len(), 4);
        let leases = queue.lease(waiting(2)).await.expect("it gives back what ran out");
        let [acked, released] = &leases[..] else { panic!("came {leases:?}") };
        queue.ack(&[acked.receipt]).await.expect("it acks");
        let release = Release { receipt: released.receipt, at: due };
        queue.release(&[release]).await.expect("it releases");
        queue.schedule(&timers).await.expect("it schedules what is held");
        queue.cancel(&[timers[0].id.clone()]).await.expect("it cancels");
        queue.stats().await.expect("it counts");
        let refusals = place.server.cli(&["ACL", "LOG"]);
        assert!(!refusals.contains("lua"), "within a script: {refusals}");
        let error = refused(&format!("{url}?prefix=other")).await;
        assert_eq!(error.kind(), ErrorKind::Denied, "{error}");
    });
}

/// A server that says the same to each who comes, and nothing more.
fn stranger(greeting: &'static [u8]) -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = listener.local_addr().expect("an address").port();
    std::thread::spawn(move || {
        let mut open = Vec::new();
        for mut stream in listener.incoming().map_while(Result::ok) {
            drop(std::io::Write::write_all(&mut stream, greeting));
            open.push(stream);
        }
    });
    port
}

pub(crate) fn a_server_of_another_kind_is_told_in_one_line() {
    const HTTP: &[u8] = b"HTTP/1.1 400 Bad Request\r\n\r\n";
    const SSH: &[u8] = b"SSH-2.0-OpenSSH_9.2p1 Debian-2+deb12u3\r\n";
    const REDIS: &[u8] = b"-ERR unknown command\r\n";
    let (protocol, plain) = ("does not speak the Redis protocol", "without TLS");
    let unsupported = ErrorKind::Unsupported;
    runtime().block_on(async {
        for (scheme, greeting, kind, said) in [
            ("redis", HTTP, unsupported, protocol),
            ("redis", SSH, unsupported, protocol),
            ("redis+cluster", HTTP, unsupported, protocol),
            ("redis+cluster", SSH, unsupported, protocol),
            ("rediss", REDIS, unsupported, plain),
            ("rediss+cluster", REDIS, unsupported, plain),
            ("rediss", b"", ErrorKind::TimedOut, plain),
            ("rediss+cluster", b"", ErrorKind::TimedOut, plain),
        ] {
            let url = format!("{scheme}://127.0.0.1:{}", stranger(greeting));
            let patience = Duration::from_millis(if greeting.is_empty() { 200 } else { 10_000 });
            let opened = connect::queue(&url, &options().with_answer_within(patience)).await;
            let error = opened.map(drop).expect_err(&url);
            assert_eq!(error.kind(), kind, "{url}: {error}");
            assert!(error.to_string().contains(said), "{url}: {error}");
            assert_eq!(error.to_string().lines().count(), 1, "{url}: {error}");
        }
    });
}

pub(crate) fn nobody_and_somebody_else_at_the_address_are_told() {
    let runtime = runtime();
    runtime.block_on(async {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("an address").port();
        let other = std::thread::spawn(move || {
            for stream in listener.incoming().take(1) {
                let mut stream = stream.expect("a connection");
                let hello = b"HTTP/1.1 400 Bad Request\r\n\r\n";
                drop(std::io::Write::write_all(&mut stream, hello));
            }
        });
        let error = refused(&format!("redis://127.0.0.1:{port}")).await;
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
        assert!(error.to_string().contains("does not speak the Redis protocol"), "{error}");
        other.join().expect("the other server ends");
        let error = refused(&format!("redis://127.0.0.1:{port}")).await;
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
        assert!(error.to_string().contains(&format!("127.0.0.1:{port}")), "{error}");
    });
    let place = Place::plain();
    place.block_on(async {
        let error = refused(&place.url().replace("redis:", "redis+cluster:")).await;
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
    });
}

pub(crate) fn settings_that_can_lose_orders_are_warned_of() {
    let args = ["--appendfsync", "everysec", "--maxmemory-policy", "allkeys-lru"];
    let place = Place::on(RedisServer::with(&args));
    place.block_on(async {
        let opened = connect::queue(&place.url(), &options()).await.expect("a queue");
        let warnings = opened.warnings.join("\n");
        assert!(warnings.contains("everysec") && warnings.contains("allkeys-lru"), "{warnings}");
        assert!(opened.backend.capabilities().durable);
        place.server.cli(&["CONFIG", "SET", "no-appendfsync-on-rewrite", "yes"]);
        let warnings = connect::queue(&place.url(), &options()).await.expect("a queue").warnings;
        assert!(warnings.join("\n").contains("no-appendfsync-on-rewrite is yes"), "{warnings:?}");
        place.server.cli(&["CONFIG", "SET", "appendonly", "no"]);
        let opened = connect::queue(&place.url(), &options()).await.expect("a queue");
        assert!(opened.warnings[0].contains("appendonly is no"), "{:?}", opened.warnings);
        assert!(!opened.backend.capabilities().durable);
    });
    let place = Place::plain();
    place.block_on(async {
        let opened = connect::queue(&place.url(), &options()).await.expect("a queue");
        assert_eq!(opened.warnings, [] as [&str; 0], "appendfsync always");
    });
}

/// What `INFO` says of a number.
pub(crate) fn number(server: &RedisServer, name: &str) -> u64 {
    let info = server.cli(&["INFO", "all"]);
    let line = info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.and_then(|value| value.trim().parse().ok()).unwrap_or_else(|| panic!("no {name}"))
}

pub(crate) fn a_pending_timer_costs_its_entry_alone() {
    const COUNT: u32 = 50_000;
    let place = Place::plain();
    place.block_on(async {
        let queue = place.queue().await.expect("a queue");
        let due = place.time().clock().now() + Duration::from_secs(3600);
        let timers: Vec<_> = (0..COUNT)
            .map(|n| timer(&format!("{n:024x}"), due + Duration::from_millis(u64::from(n))))
            .collect();
        let before = number(&place.server, "used_memory_dataset");
        queue.schedule(&timers).await.expect("scheduled");
        let each = (number(&place.server, "used_memory_dataset") - before) / u64::from(COUNT);
        assert!(each <= 150, "{each} bytes");
        assert_eq!(place.server.cli(&["EXISTS", "{expirer:q:0}:held"]), "0");
    });
}

pub(crate) fn what_was_in_flight_leaves_nothing_behind() {
    let place = Place::plain();
    place.block_on(async {
        let queue = place.queue().await.expect("a queue");
        let clock = place.time().clock();
        let due = clock.now();
        let timers: Vec<_> = (0..4).map(|n| timer(&format!("o{n}"), due)).collect();
        queue.schedule(&timers).await.expect("scheduled");
        let leases = queue.lease(waiting(4)).await.expect("leases");
        let receipts: Vec<_> = leases.iter().map(|lease| lease.receipt).collect();
        queue.ack(&receipts[..1]).await.expect("acked");
        queue.cancel(&[leases[1].timer.id.clone()]).await.expect("cancelled");
        let moved = Timer::new(leases[2].timer.id.clone(), due + LONG);
        queue.schedule(&[moved]).await.expect("moved");
        let back = Release { receipt: receipts[3], at: due };
        queue.release(&[back]).await.expect("released");
        let again = queue.lease(waiting(4)).await.expect("leases");
        assert_eq!(again.len(), 1);
        assert_eq!((again[0].timer.due, again[0].attempt), (due, 2));
        queue.ack(&[again[0].receipt]).await.expect("acked");
        for key in ["{expirer:q:0}:held", "{expirer:q:0}:leased"] {
            assert_eq!(place.server.cli(&["EXISTS", key]), "0", "{key}");
        }
    });
}
