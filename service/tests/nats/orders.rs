//! Orders of a plain client, for several services and for one in the Node worker's place.

use std::path::Path;
use std::time::Duration;

use async_nats::{Client, Subscriber};
use expirer_backends::TokioClock;
use expirer_core::Clock;
use futures_lite::StreamExt;
use futures_lite::future::or;
use serde_json::{Value, json};
use tokio::runtime::{Builder, Runtime};

use crate::probe::is_ready;
use crate::process::{Expirer, now_ms, rfc3339};
use crate::servers::nats::NatsServer;
use crate::servers::process::wait_until;
use crate::servers::redis::RedisServer;
use crate::{Test, in_place_of_the_node_worker, parts};

pub(crate) const TESTS: [(&str, Test); 2] = [
    ("two_services_share_the_orders_of_a_plain_client_and_end_on_sigterm", two_services),
    ("it_takes_the_place_of_the_node_worker_by_its_environment", in_place),
];

const ORDERS: usize = 100;
/// Generous: no test measures speed.
const LIMIT: Duration = Duration::from_secs(60);

fn runtime() -> Runtime {
    Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}

/// A client as another service has it, and what it hears of some subjects.
async fn listen(server: &NatsServer, subjects: &[&str]) -> (Client, Vec<Subscriber>) {
    let client = async_nats::connect(format!("127.0.0.1:{}", server.port())).await.unwrap();
    let mut heard = Vec::new();
    for subject in subjects {
        heard.push(client.subscribe((*subject).to_owned()).await.unwrap());
    }
    client.flush().await.unwrap();
    (client, heard)
}

/// All orders, which expire in so many seconds.
async fn create_all(client: &Client, seconds: u128) {
    let soon = rfc3339(now_ms() / 1000 + seconds);
    for number in 0..ORDERS {
        create(client, number, &soon).await;
    }
}

async fn create(client: &Client, number: usize, expires_at: &str) {
    let order = json!({
        "id": format!("o{number}"), "version": 0, "status": "created", "userId": "u1",
        "expiresAt": expires_at, "ticket": { "id": "t1", "price": 20 },
    });
    let stored = client.request("order:created", order.to_string().into()).await.unwrap();
    let stored: Value = serde_json::from_slice(&stored.payload).unwrap();
    assert!(stored["seq"].is_u64(), "{stored}");
}

/// The ids of as many messages, by this field; none comes twice.
async fn ids(heard: &mut Subscriber, field: &str) -> Vec<String> {
    let mut ids = Vec::new();
    while ids.len() < ORDERS {
        let message = or(heard.next(), async {
            let clock = TokioClock::new();
            clock.sleep_until(clock.now() + LIMIT).await;
            None
        });
        let message = message.await.unwrap_or_else(|| panic!("{ORDERS} of {field}, came {ids:?}"));
        let event: Value = serde_json::from_slice(&message.payload).unwrap();
        ids.push(event[field].as_str().unwrap().to_owned());
    }
    ids.sort_unstable();
    ids.dedup();
    ids
}

fn two_services(program: &Path) {
    let server = NatsServer::start(program);
    let parts = parts(&server, program);
    let parts = parts.each_ref().map(|part| &**part);
    let services = [(); 2].map(|()| Expirer::serve(&parts));
    assert!(wait_until(|| services.iter().all(|(_, address)| is_ready(address))));
    runtime().block_on(async {
        let (client, mut heard) =
            listen(&server, &["expiration:complete", "order:cancelled"]).await;
        create_all(&client, 2).await;
        assert_eq!(ids(&mut heard[0], "orderId").await.len(), ORDERS);
        assert_eq!(ids(&mut heard[1], "id").await.len(), ORDERS, "each is cancelled once");
    });
    for (service, _) in services {
        service.ends_on_sigterm();
    }
}

fn in_place(program: &Path) {
    let (nats, redis) = (NatsServer::start(program), RedisServer::start());
    let (service, address) = in_place_of_the_node_worker(&nats, &redis);
    assert!(wait_until(|| is_ready(&address)));
    let connections = nats.monitor("/connz").unwrap().to_string();
    assert!(connections.contains("expiration 1"), "{connections}");
    let streams = nats.monitor("/jsz?streams=1").unwrap().to_string();
    assert!(streams.contains("\"shop\""), "{streams}");
    runtime().block_on(async {
        let (client, mut heard) = listen(&nats, &["expiration:complete"]).await;
        create_all(&client, 1).await;
        assert_eq!(ids(&mut heard[0], "orderId").await.len(), ORDERS);
    });
    service.ends_on_sigterm();
}
