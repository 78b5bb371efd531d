//! How orders end, and what is said of it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use expirer_core::event::Event;
use expirer_core::order::Phase;
use expirer_core::{
    EventBus, Group, Message, OrderId, ReceiveOptions, Record, Result, Subject, SubscribeOptions,
};

use super::Replica;
use super::announced::Placed;

/// How long anything may take before a test fails: far more than it does.
pub(crate) const LIMIT: Duration = Duration::from_secs(180);
/// Between two looks.
const MOMENT: Duration = Duration::from_millis(50);

/// Waits until something has become true.
pub(crate) async fn until(replica: &Replica, what: &str, is_true: impl AsyncFn() -> bool) {
    let limit = replica.now() + LIMIT;
    while !is_true().await {
        assert!(replica.now() < limit, "not within {LIMIT:?}: {what}");
        replica.pause(MOMENT).await;
    }
}

/// Calls until it succeeds: servers may still be coming back.
async fn eventually<T>(replica: &Replica, call: impl AsyncFn() -> Result<T>) -> T {
    let limit = replica.now() + LIMIT;
    loop {
        match call().await {
            Ok(done) => return done,
            Err(error) => assert!(replica.now() < limit, "{error}"),
        }
        replica.pause(MOMENT).await;
    }
}

/// Waits until no order is on its way: none open, nothing owed, no message and no timer left.
pub(crate) async fn until_at_rest(replica: &Replica, ids: &[OrderId]) {
    until_gone(replica, async || messages_left(replica, ids).await).await;
    until_no_timer_is_left(replica).await;
}

pub(crate) async fn until_no_timer_is_left(replica: &Replica) {
    let left = async || {
        let stats = replica.queue.stats().await?;
        Ok((stats.pending + stats.leased > 0).then(|| format!("{stats:?}")))
    };
    until_gone(replica, left).await;
}

/// Waits until nothing is left, and else tells what is.
async fn until_gone(replica: &Replica, left: impl AsyncFn() -> Result<Option<String>>) {
    let limit = replica.now() + LIMIT;
    while let Some(left) = left().await.unwrap_or_else(|error| Some(error.to_string())) {
        assert!(replica.now() < limit, "after {LIMIT:?}, there is still: {left}");
        replica.pause(MOMENT).await;
    }
}

/// What orders still wait for, their timers aside.
async fn messages_left(replica: &Replica, ids: &[OrderId]) -> Result<Option<String>> {
    let records = replica.repo.load(ids).await?;
    if let Some(place) = records.iter().position(|record| !has_ended(record.as_ref())) {
        return Ok(Some(format!("{}: {:?}", ids[place], records[place])));
    }
    let taken = [
        (Group::EXPIRATION_SERVICE, Subject::OrderCreated),
        (Group::ORDERS_SERVICE, Subject::OrderCreated),
        (Group::ORDERS_SERVICE, Subject::PaymentCreated),
        (Group::ORDERS_SERVICE, Subject::ExpirationComplete),
        (Group::ORDERS_SERVICE, Subject::OrderCancelled),
    ];
    for (group, subject) in taken {
        if !has_worked_off(&*replica.bus, &group, &subject).await? {
            return Ok(Some(format!("{subject} for {group}")));
        }
    }
    Ok(None)
}

async fn has_worked_off(bus: &dyn EventBus, group: &Group, subject: &Subject) -> Result<bool> {
    let progress = bus.progress(group, subject).await?;
    Ok(progress.waiting + progress.unacked == 0)
}

/// Whether an order is at its end, and has said so.
fn has_ended(record: Option<&Record>) -> bool {
    let Some(record) = record else { return false };
    let is_final = record.state.order().is_some_and(|order| !order.phase.is_open());
    is_final && record.owes.is_empty()
}

/// The same without a fault: each cancellation is announced once.
pub(crate) async fn assert_ended_in_peace(replicas: [Replica; 2], placed: &[Placed]) {
    let repeats = assert_ended(&replicas[0], placed).await;
    // A call that took too long may have been repeated.
    let faults: usize = replicas.iter().map(Replica::faults).sum();
    assert!(repeats == 0 || faults > 0, "in peace, each is announced once; {repeats} more");
    Replica::end_all(replicas).await;
}

/// Every order has ended as it should, its announcements are one and the same, and no timer is
/// left. Returns how often an announcement was repeated.
pub(crate) async fn assert_ended(replica: &Replica, placed: &[Placed]) -> usize {
    let repeats = assert_ended_but_timers(replica, placed).await;
    until_no_timer_is_left(replica).await;
    repeats
}

/// The same, whatever the queue still holds.
pub(crate) async fn assert_ended_but_timers(replica: &Replica, placed: &[Placed]) -> usize {
    let ids: Vec<_> = placed.iter().map(|placed| placed.id.clone()).collect();
    until_gone(replica, async || messages_left(replica, &ids).await).await;
    let records = eventually(replica, async || replica.repo.load(&ids).await).await;
    let announced = eventually(replica, async || cancellations(&*replica.bus).await).await;
    let mut repeats = 0;
    for (placed, record) in placed.iter().zip(records) {
        let phase = record.expect("it is there").state.order().expect("an order").phase.clone();
        let said = announced.get(&placed.id).map_or(&[][..], Vec::as_slice);
        repeats += assert_one_ended(placed, &phase, said);
    }
    repeats
}

fn assert_one_ended(placed: &Placed, phase: &Phase, said: &[Message]) -> usize {
    let name = placed.id.as_str();
    let is_complete = matches!(phase, Phase::Complete { .. });
    assert!(is_complete || !placed.is_paid(), "{name} is paid, and {phase:?}");
    // A slow machine may place a payment late, and it still counts where the order is open.
    if placed.is_paid() || is_complete && placed.is_paid_late() {
        assert_eq!(said.len(), 0, "{name} is paid, and its cancellation announced");
        return 0;
    }
    assert_eq!(*phase, Phase::Cancelled, "{name} is unpaid");
    let [first, others @ ..] = said else { panic!("{name}: no announcement") };
    assert!(others.iter().all(|other| other == first), "{name}: {said:?}");
    others.len()
}

/// What the bus holds of cancellations, in its order: all messages of each order.
async fn cancellations(bus: &dyn EventBus) -> Result<BTreeMap<OrderId, Vec<Message>>> {
    // A group of its own each time, which sees everything that is there.
    static READERS: AtomicU32 = AtomicU32::new(0);
    let number = READERS.fetch_add(1, Ordering::Relaxed);
    let group = Group::new(&format!("reader{number}")).expect("a name");
    let options = SubscribeOptions::new(group.clone(), [Subject::OrderCancelled]);
    let reader = bus.subscribe(options).await?;
    let mut all = BTreeMap::<_, Vec<_>>::new();
    let is_done = async || has_worked_off(bus, &group, &Subject::OrderCancelled).await;
    while !is_done().await? {
        let came = reader.receive(ReceiveOptions::new(256).with_wait(MOMENT)).await?;
        let receipts: Vec<_> = came.iter().map(|delivery| delivery.receipt).collect();
        reader.ack(&receipts).await?;
        for delivery in came {
            all.entry(cancelled(&delivery.message)).or_default().push(delivery.message);
        }
    }
    Ok(all)
}

/// The order that a message says is cancelled.
pub(crate) fn cancelled(message: &Message) -> OrderId {
    match Event::decode(&message.subject, &message.payload) {
        Some(Ok(Event::OrderCancelled(event))) => event.id,
        other => panic!("expected order:cancelled, came {other:?}"),
    }
}
