//! Servers that die, come back, or stop answering while messages flow.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use expirer_core::{Clock, Consumer, EventBus, Message, MessageId, ReceiveOptions, Timestamp};
use futures_lite::future::zip;

use super::{LIMIT, STREAM, SUBJECT, assert_outage, join, open, publish, receive};
use crate::cluster::ClusterPlace;
use crate::place::Place;
use crate::servers::proxy::Mode;

const COUNT: u32 = 3000;
const BATCH: u32 = 50;
const ACK_DEADLINE: Duration = Duration::from_secs(2);

fn clock() -> expirer_backends::TokioClock {
    expirer_backends::TokioClock::new()
}

fn now() -> Timestamp {
    clock().now()
}

async fn pause(duration: Duration) {
    clock().sleep_until(now() + duration).await;
}

fn numbered(number: u32) -> Message {
    let message = Message::new(SUBJECT, number.to_string().into_bytes());
    message.with_id(MessageId::new(format!("load-{number}")))
}

/// Publishes all, in batches, each again until it is confirmed.
async fn publish_all(bus: &Arc<dyn EventBus>) {
    for start in (0..COUNT).step_by(BATCH as usize) {
        let batch: Vec<Message> = (start..start + BATCH).map(numbered).collect();
        let end = now() + LIMIT * 2;
        while let Err(error) = bus.publish(&batch).await {
            assert_outage(&error);
            assert!(now() < end, "expected to publish by {end}, came: {error}");
            pause(Duration::from_millis(50)).await;
        }
    }
}

/// Works off all, whatever fails in between.
async fn work_off_all(consumer: &dyn Consumer) {
    let (mut seen, mut end) = (BTreeSet::new(), now() + LIMIT * 2);
    while seen.len() < COUNT as usize {
        assert!(now() < end, "expected {COUNT} by {end}, came {}", seen.len());
        let options = ReceiveOptions::new(64).with_wait(Duration::from_millis(500));
        let came = match consumer.receive(options).await {
            Ok(came) => came,
            Err(error) => {
                assert_outage(&error);
                pause(Duration::from_millis(50)).await;
                continue;
            }
        };
        for delivery in &came {
            let number = String::from_utf8_lossy(&delivery.message.payload).into_owned();
            if seen.insert(number) {
                end = now() + LIMIT * 2;
            }
        }
        let receipts: Vec<_> = came.iter().map(|delivery| delivery.receipt).collect();
        if let Err(error) = consumer.ack(&receipts).await {
            assert_outage(&error);
        }
    }
}

async fn through(bus: &Arc<dyn EventBus>, fault: impl Future<Output = ()>) {
    let consumer = join(bus, ACK_DEADLINE).await;
    let load = zip(publish_all(bus), work_off_all(&*consumer));
    zip(load, fault).await;
}

pub(super) fn a_server_killed_in_mid_load_loses_nothing(program: &Path) {
    let place = Place::plain(program);
    place.block_on(async {
        let bus = open(&place.url()).await;
        let faults = async {
            for _ in 0..2 {
                pause(Duration::from_millis(300)).await;
                place.server.kill();
                pause(Duration::from_millis(300)).await;
                assert!(place.server.revive(), "nats-server starts again");
            }
        };
        through(&bus, faults).await;
    });
}

pub(super) fn a_leader_killed_in_mid_load_loses_nothing(program: &Path) {
    let place = ClusterPlace::new(program);
    place.block_on(async {
        let bus = open(&place.url()).await;
        let faults = async {
            pause(Duration::from_millis(300)).await;
            let leader = place.cluster.leader_of(STREAM);
            leader.kill();
            pause(Duration::from_secs(3)).await;
            leader.spawn();
        };
        through(&bus, faults).await;
    });
}

pub(super) fn without_most_servers_it_fails_and_recovers(program: &Path) {
    let place = ClusterPlace::new(program);
    place.block_on(async {
        let bus = open(&place.url()).await;
        let consumer = join(&bus, ACK_DEADLINE).await;
        publish(&bus, 1).await;
        let gone = &place.cluster.nodes()[..2];
        gone.iter().for_each(|node| node.kill());
        let error = bus.publish(&[numbered(0)]).await.expect_err("nobody confirms it");
        assert_outage(&error);
        let progress = bus.progress(&super::group(), &SUBJECT).await;
        let ahead = progress.ok().and_then(|progress| progress.worked_off);
        gone.iter().for_each(|node| node.spawn());
        zip(publish_all(&bus), work_off_some(&*consumer)).await;
        if let Some(ahead) = ahead {
            let first = receive(&*consumer, 1).await;
            assert!(first[0].published >= ahead, "{ahead} was told, came {first:?}");
        }
    });
}

/// Until something comes.
async fn work_off_some(consumer: &dyn Consumer) {
    let end = now() + LIMIT * 2;
    while now() < end {
        let options = ReceiveOptions::new(1).with_wait(Duration::from_secs(1));
        match consumer.receive(options).await {
            Ok(came) if !came.is_empty() => return super::ack(consumer, &came).await,
            Ok(_) => (),
            Err(error) => assert_outage(&error),
        }
        pause(Duration::from_millis(50)).await;
    }
    panic!("expected something by {end}");
}

pub(super) fn a_connection_that_stops_answering_is_replaced(program: &Path) {
    let place = Place::plain(program);
    place.block_on(async {
        let bus = open(&place.url()).await;
        let consumer = join(&bus, ACK_DEADLINE).await;
        publish(&bus, 1).await;
        place.proxy.set(Mode::Stalled);
        let (mut asked, end) = (now(), now() + LIMIT);
        let mut published = bus.publish(&[numbered(0)]).await;
        while published.is_ok() && now() < end {
            asked = now();
            published = bus.publish(&[numbered(0)]).await;
        }
        assert_outage(&published.expect_err("no answer comes"));
        let took = now().since(asked);
        assert!(took < Duration::from_secs(5), "expected an error in time, came after {took:?}");
        // What is stalled stays so: only a new connection passes.
        place.proxy.set(Mode::Open);
        publish_all(&bus).await;
        work_off_some(&*consumer).await;
    });
}
