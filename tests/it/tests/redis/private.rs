//! What the other tests rely on: the private servers and the proxy in front of them.

use expirer_conformance::{Harness, QueueHarness};
use expirer_core::{OrderId, Timer};

use crate::place::Place;
use crate::servers::redis::RedisServer;

pub(crate) fn a_connection_moves_to_another_server() {
    let (place, other) = (Place::plain(), RedisServer::start());
    place.block_on(async {
        let queue = place.queue().await.expect("a queue");
        let timer = Timer::new(OrderId::new("o1").expect("an id"), place.time().clock().now());
        queue.schedule(&[timer]).await.expect("scheduled");
        for (port, pending) in [(other.port(), 0), (place.server.port(), 1)] {
            place.proxy.retarget(port);
            assert_eq!(queue.stats().await.expect("stats").pending, pending);
        }
    });
}
