//! The five loops on NATS, end to end: two replicas beside each other, events of strangers, and
//! servers that die; and beside Redis, as the Node worker was.

mod strangers;

use std::path::Path;

use expirer_conformance::{Server, Suite};

use self::strangers::{STREAM, Stranger};
use crate::cluster::ClusterPlace;
use crate::place::Place;
use crate::replicas::ends::{
    assert_ended_but_timers, assert_ended_in_peace, until_no_timer_is_left,
};
use crate::replicas::{Replica, Urls};
use crate::servers::nats::{NatsServer, newest, packaged};
use crate::servers::redis::RedisServer;
use crate::{on_each, on_newest};

/// How the queue puts off where the server cannot schedule.
const REDELIVERY: &str = "redelivery";

pub(crate) fn tests(mut suite: Suite) -> Suite {
    macro_rules! on_each {
        ($($test:ident,)+) => {
            $(suite = on_each(suite, "loops", stringify!($test), $test);)+
        };
    }
    macro_rules! beside_redis {
        ($($test:ident,)+) => {$(
            let name = concat!("loops::beside_redis::", stringify!($test));
            suite = suite
                .test(&format!("{name}::orders_on_nats"), || $test(&BesideRedis::start(true)))
                .test(&format!("{name}::orders_on_redis"), || $test(&BesideRedis::start(false)));
        )+};
    }
    on_each![
        unpaid_orders_are_cancelled_once_and_paid_ones_complete,
        a_server_killed_in_mid_load_loses_nothing,
    ];
    beside_redis![each_order_ends_once, both_killed_in_mid_load_lose_nothing,];
    on_newest(suite, "loops::a_leader_killed_in_mid_load_loses_nothing", a_leader_killed)
}

fn address(server: &NatsServer) -> String {
    format!("127.0.0.1:{}", server.port())
}

/// All parts on one server, whose age says how the queue puts off.
fn one(place: &Place, program: &Path) -> Urls {
    let via = if program == packaged() { REDELIVERY } else { "schedule" };
    Urls { queue: format!("{}?via={via}", place.url()), ..Urls::of(&place.url()) }
}

async fn in_peace(urls: &Urls, servers: &[String]) {
    let replicas = Replica::two_patient(urls).await;
    let orders = Stranger::join(servers).await.place("a", 120).await;
    assert_ended_in_peace(replicas, &orders).await;
}

/// `fault` comes while orders expire; more are placed after it.
async fn through(urls: &Urls, servers: &[String], fault: impl AsyncFnOnce()) {
    let replicas = Replica::two(urls).await;
    let stranger = Stranger::join(servers).await;
    let cancelled = stranger.listen().await;
    let mut orders = stranger.place("a", 150).await;
    cancelled.hear_of(20).await;
    fault().await;
    orders.extend(stranger.place("b", 30).await);
    assert_ended_but_timers(&replicas[1], &orders).await;
    if urls.queue.ends_with(REDELIVERY) {
        // NATS 2.9 may remember what was acked just before it was killed: it never comes again,
        // and counts until it is cancelled.
        let ids: Vec<_> = orders.into_iter().map(|order| order.id).collect();
        replicas[1].queue.cancel(&ids).await.expect("it cancels");
    }
    until_no_timer_is_left(&replicas[1]).await;
    Replica::end_all(replicas).await;
}

fn unpaid_orders_are_cancelled_once_and_paid_ones_complete(program: &Path) {
    let place = Place::plain(program);
    place.block_on(in_peace(&one(&place, program), &[address(&place.server)]));
}

fn a_server_killed_in_mid_load_loses_nothing(program: &Path) {
    let place = Place::plain(program);
    let restart = async || place.restart().await;
    place.block_on(through(&one(&place, program), &[address(&place.server)], restart));
}

fn a_leader_killed(program: &Path) {
    let place = ClusterPlace::new(program);
    let nodes = place.cluster.nodes();
    let kill = async || {
        let leader = place.cluster.leader_of(STREAM);
        leader.kill();
        // Another one leads while this one is away.
        let next = place.cluster.leader_of(STREAM);
        assert_ne!(next.port(), leader.port());
        leader.spawn();
    };
    let servers: Vec<_> = nodes.iter().map(address).collect();
    place.block_on(through(&Urls::of(&place.url()), &servers, kill));
}

/// The mix of the Node worker: the bus on NATS, the queue on Redis.
#[derive(Debug)]
struct BesideRedis {
    nats: Place,
    redis: RedisServer,
    urls: Urls,
}

impl BesideRedis {
    fn start(is_repo_on_nats: bool) -> Self {
        let nats = Place::plain(&newest().unwrap_or_else(packaged));
        let redis = RedisServer::start();
        let (bus, queue) = (nats.url(), redis.url_by(redis.port()));
        let repo = if is_repo_on_nats { &bus } else { &queue }.clone();
        Self { nats, redis, urls: Urls { bus, queue, repo } }
    }
}

fn each_order_ends_once(mix: &BesideRedis) {
    mix.nats.block_on(in_peace(&mix.urls, &[address(&mix.nats.server)]));
}

fn both_killed_in_mid_load_lose_nothing(mix: &BesideRedis) {
    let kill = async || {
        mix.redis.kill();
        mix.nats.restart().await;
        assert!(mix.redis.revive(), "redis-server starts again");
    };
    mix.nats.block_on(through(&mix.urls, &[address(&mix.nats.server)], kill));
}
