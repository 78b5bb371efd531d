//! Other services, which know nothing of us: they write events with `redis-cli`.

use std::collections::BTreeMap;

use expirer_core::event::Event;
use expirer_core::{
    EventBus, Group, Message, OrderId, ReceiveOptions, Subject, SubscribeOptions, Timestamp,
};

use crate::servers::process::wait_until;
use crate::servers::redis::RedisServer;

/// The stream on which cancellations are announced.
pub(super) const CANCELLED: &str = "bus:{order:cancelled}";

/// An order that somebody else has created.
#[derive(Clone, Debug)]
pub(super) struct Placed {
    pub(super) id: OrderId,
    expires_at: Timestamp,
    /// When its payment was stored, by the server's clock.
    paid_at: Option<Timestamp>,
}

impl Placed {
    /// Announces an order that expires then.
    pub(super) fn create(server: &RedisServer, name: &str, expires_at: Timestamp) -> Self {
        let data = format!(
            r#"{{"id":"{name}","version":0,"status":"created","userId":"u1","expiresAt":"{expires_at}","ticket":{{"id":"t-{name}","price":20}}}}"#
        );
        add(server, "bus:{order:created}", &data);
        Self { id: OrderId::new(name).expect("an id"), expires_at, paid_at: None }
    }

    /// Announces its payment.
    pub(super) fn pay(mut self, server: &RedisServer) -> Self {
        let data = format!(r#"{{"id":"p-{0}","orderId":"{0}","stripeId":"s1"}}"#, self.id.as_str());
        self.paid_at = Some(add(server, "bus:{payment:created}", &data));
        self
    }

    /// Whether the bus had its payment before its time.
    ///
    /// # Panics
    /// If the payment came later: the machine is too slow for what the test wants to show.
    pub(super) fn is_paid(&self) -> bool {
        let (paid_at, expires_at) = (self.paid_at, self.expires_at);
        let is_late = paid_at.is_some_and(|paid_at| paid_at >= expires_at);
        assert!(!is_late, "{}: paid at {paid_at:?}, to be paid by {expires_at}", self.id.as_str());
        paid_at.is_some()
    }
}

/// Adds an entry, again and again while the server is away; when it was stored.
fn add(server: &RedisServer, stream: &str, data: &str) -> Timestamp {
    let mut stored = None;
    let is_stored = wait_until(|| {
        let id = server.cli(&["XADD", stream, "*", "data", data]);
        stored = id.split_once('-').and_then(|(millis, _)| millis.parse().ok());
        stored.is_some()
    });
    assert!(is_stored, "{stream} takes an entry");
    Timestamp::from_millis(stored.unwrap_or_default())
}

/// What is on the stream of cancellations, in its order: all messages of each order.
pub(super) async fn cancellations(bus: &dyn EventBus) -> BTreeMap<OrderId, Vec<Message>> {
    // A group of its own each time, which sees everything that is there.
    static READERS: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    let number = READERS.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let group = Group::new(&format!("reader{number}")).expect("a name");
    let options = SubscribeOptions::new(group, [Subject::OrderCancelled]);
    let reader = bus.subscribe(options).await.expect("it joins");
    let mut all = BTreeMap::<_, Vec<_>>::new();
    loop {
        let came = reader.receive(ReceiveOptions::new(256)).await.expect("it reads");
        if came.is_empty() {
            return all;
        }
        let receipts: Vec<_> = came.iter().map(|delivery| delivery.receipt).collect();
        reader.ack(&receipts).await.expect("it acks");
        for delivery in came {
            all.entry(cancelled(&delivery.message)).or_default().push(delivery.message);
        }
    }
}

/// The order that a message says is cancelled.
pub(super) fn cancelled(message: &Message) -> OrderId {
    match Event::decode(&message.subject, &message.payload) {
        Some(Ok(Event::OrderCancelled(event))) => event.id,
        other => panic!("expected order:cancelled, came {other:?}"),
    }
}
