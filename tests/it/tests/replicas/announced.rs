//! What other services announce, which know nothing of us.

use std::time::Duration;

use expirer_core::{OrderId, Timestamp};

/// How long before the first order expires: within this, everything is created and paid.
pub(crate) const SOON: Duration = Duration::from_secs(8);

/// An order that somebody else has created.
#[derive(Clone, Debug)]
pub(crate) struct Placed {
    pub(crate) id: OrderId,
    expires_at: Timestamp,
    /// When its payment was stored, by the server's clock.
    paid_at: Option<Timestamp>,
}

impl Placed {
    /// Whether the bus had its payment before its time.
    pub(crate) fn is_paid(&self) -> bool {
        self.paid_at.is_some_and(|paid_at| paid_at < self.expires_at)
    }

    /// Whether the bus had its payment later than that.
    pub(crate) fn is_paid_late(&self) -> bool {
        self.paid_at.is_some_and(|paid_at| paid_at >= self.expires_at)
    }
}

/// An event on its way.
#[derive(Debug)]
struct Event {
    subject: &'static str,
    data: String,
    /// The place of the order that it pays.
    pays: Option<usize>,
}

/// What somebody else is about to announce, all at once.
#[derive(Debug, Default)]
pub(crate) struct Announced {
    orders: Vec<Placed>,
    events: Vec<Event>,
}

impl Announced {
    /// Orders of which every third is paid. They expire one after the other, from `begin` on.
    pub(crate) fn every_third_paid(name: &str, count: u32, begin: Timestamp) -> Self {
        let mut announced = Self::default();
        for n in 0..count {
            announced.create(&format!("{name}{n}"), begin + Duration::from_millis(10) * n);
            if n.is_multiple_of(3) {
                announced.pay();
            }
        }
        announced
    }

    /// An order that expires then.
    pub(crate) fn create(&mut self, name: &str, expires_at: Timestamp) {
        let data = format!(
            r#"{{"id":"{name}","version":0,"status":"created","userId":"u1","expiresAt":"{expires_at}","ticket":{{"id":"t-{name}","price":20}}}}"#
        );
        let id = OrderId::new(name).expect("an id");
        self.orders.push(Placed { id, expires_at, paid_at: None });
        self.events.push(Event { subject: "order:created", data, pays: None });
    }

    /// The payment of the last order.
    fn pay(&mut self) {
        let place = self.orders.len() - 1;
        let id = self.orders[place].id.as_str();
        let data = format!(r#"{{"id":"p-{id}","orderId":"{id}","stripeId":"s1"}}"#);
        self.events.push(Event { subject: "payment:created", data, pays: Some(place) });
    }

    /// The subject and the JSON of each event, in their order.
    pub(crate) fn events(&self) -> impl ExactSizeIterator<Item = (&'static str, &str)> {
        self.events.iter().map(|event| (event.subject, &*event.data))
    }

    /// The orders, once the server has stored each event, at these times.
    pub(crate) fn stored(mut self, times: &[Timestamp]) -> Vec<Placed> {
        assert_eq!(times.len(), self.events.len(), "a time for each event");
        for (event, stored) in self.events.iter().zip(times) {
            if let Some(place) = event.pays {
                self.orders[place].paid_at = Some(*stored);
            }
        }
        self.orders
    }
}
