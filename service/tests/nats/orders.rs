//! The service on NATS: as several of one kind, and as what the Node worker was.

use std::time::Duration;

use async_nats::{Client, Subscriber};
use expirer_backends::TokioClock;
use expirer_core::Clock;
use futures_lite::StreamExt;
use futures_lite::future::or;
use serde_json::{Value, json};
use tokio::runtime::{Builder, Runtime};

use crate::http::get;
use crate::process::{Expirer, now_ms, rfc3339};
use crate::servers::nats::{NatsServer, newest, packaged};
use crate::servers::process::wait_until;
use crate::servers::redis::RedisServer;

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

fn is_ready(address: &str) -> bool {
    get(address, "/readyz").0 == 200
}

fn ends_on_sigterm(service: Expirer) {
    service.signal("TERM");
    let (code, _, log) = service.end();
    assert_eq!(code, Some(0), "{log}");
    assert!(log.contains("\"ended\"") && !log.contains("panicked"), "{log}");
}

#[test]
fn two_services_share_the_orders_of_a_plain_client_and_end_on_sigterm() {
    let Some(program) = newest() else { return };
    let server = NatsServer::start(&program);
    let url = server.url_by(server.port());
    let parts = ["serve", "--bus", &url, "--queue", &url, "--repo", &url];
    let services = [(); 2].map(|()| Expirer::serve(&parts));
    assert!(wait_until(|| services.iter().all(|(_, address)| is_ready(address))));
    runtime().block_on(async {
        let (client, mut heard) =
            listen(&server, &["expiration:complete", "order:cancelled"]).await;
        let soon = rfc3339(now_ms() / 1000 + 2);
        for number in 0..ORDERS {
            create(&client, number, &soon).await;
        }
        assert_eq!(ids(&mut heard[0], "orderId").await.len(), ORDERS);
        assert_eq!(ids(&mut heard[1], "id").await.len(), ORDERS, "each is cancelled once");
    });
    for (service, _) in services {
        ends_on_sigterm(service);
    }
}

/// The Node worker's own mix, told by its own environment alone, on both servers.
#[test]
fn it_takes_the_place_of_the_node_worker_by_its_environment() {
    for program in [Some(packaged()), newest()].into_iter().flatten() {
        let (nats, redis) = (NatsServer::start(&program), RedisServer::start());
        let nats_url = format!("http://127.0.0.1:{}", nats.port());
        let redis_host = format!("127.0.0.1:{}", redis.port());
        let environment = [
            ("NATS_URL", nats_url.as_str()),
            ("NATS_CLIENT_ID", "expiration 1"),
            ("NATS_CLUSTER_ID", "shop"),
            ("REDIS_HOST", redis_host.as_str()),
        ];
        let (service, address) = Expirer::serve_in(&["serve"], &environment);
        assert!(wait_until(|| is_ready(&address)));
        let connections = nats.monitor("/connz").unwrap().to_string();
        assert!(connections.contains("expiration 1"), "{connections}");
        let streams = nats.monitor("/jsz?streams=1").unwrap().to_string();
        assert!(streams.contains("\"shop\""), "{streams}");
        runtime().block_on(async {
            let (client, mut heard) = listen(&nats, &["expiration:complete"]).await;
            let soon = rfc3339(now_ms() / 1000 + 1);
            for number in 0..ORDERS {
                create(&client, number, &soon).await;
            }
            assert_eq!(ids(&mut heard[0], "orderId").await.len(), ORDERS);
        });
        ends_on_sigterm(service);
    }
}
