//! Servers that are demoted, that hang, and nodes of a cluster.

use std::time::Duration;

use expirer_backends::connect;
use expirer_conformance::{BusHarness, Harness, QueueHarness};
use expirer_core::{
    ErrorKind, Group, LeaseOptions, ReceiveOptions, Subject, SubscribeOptions, Timer,
};
use futures_lite::future;

use crate::cluster::ClusterPlace;
use crate::faults::{LONG, ids, timer, waiting};
use crate::place::{Place, options, production_options};
use crate::servers::redis::RedisServer;

pub(crate) fn a_demoted_server_is_left_for_who_has_its_name_now() {
    let place = Place::plain();
    place.block_on(async {
        let queue = place.queue().await.expect("a queue");
        let other = RedisServer::start();
        let port = other.port().to_string();
        assert_eq!(place.server.cli(&["REPLICAOF", "127.0.0.1", &port]), "OK");
        place.proxy.point_at(other.port());
        let due = place.now();
        let error = queue.schedule(&[timer("o1", due)]).await.expect_err("read-only");
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
        queue.schedule(&[timer("o1", due)]).await.expect("its name is another's now");
        assert_eq!(ids(&queue.lease(waiting(1)).await.expect("leases")), ["o1"]);
    });
}

/// Else one that has expired or moved meanwhile would cost the wake-ups.
pub(crate) fn a_bus_reads_its_certificates_once() {
    let place = Place::secured();
    place.block_on(async {
        let bus = place.bus().await.expect("a bus");
        std::fs::remove_file(place.server.dir().join("ca.pem")).expect("it was there");
        let joining = SubscribeOptions::new(Group::STDIO, [Subject::OrderCreated]);
        let consumer = bus.subscribe(joining).await.expect("it joins");
        let receiving = consumer.receive(ReceiveOptions::new(1).with_wait(LONG));
        let is_read = || place.server.cli(&["INFO", "clients"]).contains("blocked_clients:1");
        let reading = async {
            while !is_read() {
                place.pause(Duration::from_millis(20)).await;
            }
            true
        };
        let waited = async {
            drop(receiving.await);
            false
        };
        assert!(future::or(reading, waited).await, "expected a blocking read within {LONG:?}");
    });
}

pub(crate) fn a_node_of_a_cluster_is_told_how_to_write_its_url() {
    let place = ClusterPlace::alone();
    place.block_on(async {
        let cluster = place.cluster();
        // One of them serves the layout's slot.
        let (mut warned, mut refused) = (0, 0);
        for node in cluster.nodes() {
            let url = format!("redis://127.0.0.1:{}?shards=64&prefix=alone", node.port());
            let error = match connect::queue(&url, &options()).await {
                Ok(opened) => {
                    assert!(opened.warnings.join("\n").contains("redis+cluster://"));
                    warned += 1;
                    let due = place.time().clock().now();
                    let timers: Vec<_> = (0..500).map(|n| timer(&format!("o{n}"), due)).collect();
                    opened.backend.schedule(&timers).await.expect_err("other nodes' shards")
                }
                Err(error) => error,
            };
            assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
            refused += usize::from(error.to_string().contains("redis+cluster://"));
        }
        assert_eq!((warned, refused), (1, cluster.nodes().len()));
        let url = format!("{}?prefix=alone", cluster.url());
        connect::queue(&url, &options()).await.expect("as a cluster it opens");
    });
}

pub(crate) fn every_master_is_looked_at() {
    let place = ClusterPlace::alone();
    place.block_on(async {
        let cluster = place.cluster();
        let is_master = |node: &&RedisServer| node.cli(&["ROLE"]).starts_with("master");
        let masters: Vec<_> = cluster.nodes().iter().filter(is_master).collect();
        for weak in &masters {
            weak.cli(&["CONFIG", "SET", "appendonly", "no"]);
            let opened = connect::queue(&cluster.url(), &options()).await.expect("a queue");
            weak.cli(&["CONFIG", "SET", "appendonly", "yes"]);
            assert!(!opened.backend.capabilities().durable);
            let warned = format!("redis 127.0.0.1:{}: appendonly is no", weak.port());
            assert!(opened.warnings[0].starts_with(&warned), "{:?}", opened.warnings);
        }
        let opened = connect::queue(&cluster.url(), &options()).await.expect("a queue");
        assert!(opened.backend.capabilities().durable);
    });
}

/// A node that hangs is none that broke: the client does not leave it by itself.
pub(crate) fn a_master_that_hangs_is_left_for_its_successor() {
    let place = ClusterPlace::alone();
    place.block_on(async {
        let (cluster, clock) = (place.cluster(), place.time().clock());
        let queue =
            connect::queue(&cluster.url(), &production_options()).await.expect("a queue").backend;
        let timers: Vec<Timer> = (0..100).map(|n| timer(&format!("o{n}"), clock.now())).collect();
        queue.schedule(&timers).await.expect("scheduled");
        let hung = cluster.master_of("{expirer:q:0}:due");
        let follows = |node: &&RedisServer| {
            let role = node.cli(&["ROLE"]);
            role.starts_with("slave") && role.contains(&hung.port().to_string())
        };
        let replica = cluster.nodes().iter().find(follows).expect("a master has a replica");
        assert_eq!(hung.cli(&["CLIENT", "PAUSE", "120000", "ALL"]), "OK");
        let error = queue.schedule(&timers).await.expect_err("one of them does not answer");
        assert_eq!(error.kind(), ErrorKind::TimedOut, "{error}");
        let open = LeaseOptions::new(1).with_duration(Duration::from_millis(1));
        let limit = clock.now() + LONG * 2;
        while !queue.lease(open.clone()).await.is_ok_and(|leases| leases.len() == 1) {
            assert!(clock.now() < limit, "the others go on");
        }
        assert_eq!(replica.cli(&["CLUSTER", "FAILOVER", "TAKEOVER"]), "OK");
        while let Err(error) = queue.schedule(&timers).await {
            assert!(clock.now() < limit, "{error}");
        }
    });
}
