//! Other services, which know nothing of us: they write events with `redis-cli`.

use std::collections::BTreeMap;

use expirer_core::event::Event;
use expirer_core::{
    EventBus, Group, Message, OrderId, ReceiveOptions, Subject, SubscribeOptions, Timestamp,
};

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
    /// Whether the bus had its payment before its time.
    pub(super) fn is_paid(&self) -> bool {
        self.paid_at.is_some_and(|paid_at| paid_at < self.expires_at)
    }
}

/// What somebody else is about to announce, all at once: a machine that is busy takes a while to
/// start a program for each.
#[derive(Debug, Default)]
pub(super) struct Announced {
    orders: Vec<Placed>,
    commands: Vec<String>,
    /// The place of the order that each of them pays.
    pays: Vec<Option<usize>>,
}

impl Announced {
    /// An order that expires then.
    pub(super) fn create(&mut self, name: &str, expires_at: Timestamp) {
        let data = format!(
            r#"{{"id":"{name}","version":0,"status":"created","userId":"u1","expiresAt":"{expires_at}","ticket":{{"id":"t-{name}","price":20}}}}"#
        );
        let id = OrderId::new(name).expect("an id");
        self.orders.push(Placed { id, expires_at, paid_at: None });
        self.add("order:created", &data, None);
    }

    /// The payment of the last order.
    pub(super) fn pay(&mut self) {
        let place = self.orders.len() - 1;
        let id = self.orders[place].id.as_str();
        let data = format!(r#"{{"id":"p-{id}","orderId":"{id}","stripeId":"s1"}}"#);
        self.add("payment:created", &data, Some(place));
    }

    fn add(&mut self, subject: &str, data: &str, pays: Option<usize>) {
        self.commands.push(format!("XADD bus:{{{subject}}} * data '{data}'"));
        self.pays.push(pays);
    }

    /// Writes it in this order.
    ///
    /// # Panics
    /// If the server does not take all of it.
    pub(super) fn write(mut self, server: &RedisServer) -> Vec<Placed> {
        let entries = server.cli_lines(&self.commands);
        assert_eq!(entries.len(), self.commands.len(), "{entries:?}");
        for (entry, pays) in entries.iter().zip(self.pays) {
            let stored = entry.split_once('-').and_then(|(millis, _)| millis.parse().ok());
            let stored = stored.unwrap_or_else(|| panic!("expected an entry, came {entry}"));
            if let Some(place) = pays {
                self.orders[place].paid_at = Some(Timestamp::from_millis(stored));
            }
        }
        self.orders
    }
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
