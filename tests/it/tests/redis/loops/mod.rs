//! The five loops on Redis, end to end: two replicas beside each other, events of strangers, and
//! servers that die or forget.

mod replica;
mod strangers;

use std::collections::BTreeSet;
use std::time::Duration;

use expirer_core::event::{Price, Ticket};
use expirer_core::flow::OrdersError;
use expirer_core::order::{Draft, Input, Phase};
use expirer_core::{
    Consumer, Group, OrderId, ReceiveOptions, Record, Subject, SubscribeOptions, TicketId,
    Timestamp, UserId,
};

use self::replica::{Replica, Urls};
use self::strangers::{Announced, CANCELLED, Placed, cancellations, cancelled};
use crate::place::Place;
use crate::servers::process::wait_until;

/// How long anything may take before a test fails: far more than it does.
const LIMIT: Duration = Duration::from_secs(180);
/// Within this, everything is created and paid.
const SOON: Duration = Duration::from_secs(8);

async fn two(urls: &Urls) -> [Replica; 2] {
    [Replica::start(urls, false).await, Replica::start(urls, false).await]
}

async fn end(replicas: [Replica; 2]) {
    for replica in replicas {
        replica.end().await;
    }
}

/// Orders of strangers, of which every third is paid. They expire one after the other.
fn placed(place: &Place, name: &str, count: u32) -> Vec<Placed> {
    let begin = place.now() + SOON;
    let mut announced = Announced::default();
    for n in 0..count {
        announced.create(&format!("{name}{n}"), begin + Duration::from_millis(10) * n);
        if n.is_multiple_of(3) {
            announced.pay();
        }
    }
    announced.write(&place.server)
}

/// Waits until something has become true, and looks once a moment.
async fn until(place: &Place, what: &str, is_true: impl AsyncFn() -> bool) {
    let limit = place.now() + LIMIT;
    while !is_true().await {
        assert!(place.now() < limit, "not within {LIMIT:?}: {what}");
        place.pause(Duration::from_millis(50)).await;
    }
}

/// Whether an order is at its end, and has said so.
fn has_ended(record: Option<&Record>) -> bool {
    let Some(record) = record else { return false };
    let is_final = record.state.order().is_some_and(|order| !order.phase.is_open());
    is_final && record.owes.is_empty()
}

/// Whether no order is on its way: none open, nothing owed, no message and no timer left.
async fn is_at_rest(replica: &Replica, ids: &[OrderId]) -> bool {
    let Ok(records) = replica.repo.load(ids).await else { return false };
    if !records.iter().all(|record| has_ended(record.as_ref())) {
        return false;
    }
    let taken = [
        (Group::EXPIRATION_SERVICE, Subject::OrderCreated),
        (Group::ORDERS_SERVICE, Subject::OrderCreated),
        (Group::ORDERS_SERVICE, Subject::PaymentCreated),
        (Group::ORDERS_SERVICE, Subject::ExpirationComplete),
        (Group::ORDERS_SERVICE, Subject::OrderCancelled),
    ];
    for (group, subject) in taken {
        let Ok(progress) = replica.bus.progress(&group, &subject).await else { return false };
        if progress.waiting + progress.unacked > 0 {
            return false;
        }
    }
    replica.queue.stats().await.is_ok_and(|stats| stats.pending + stats.leased == 0)
}

/// Every order has ended as it should, and its announcements are one and the same. Returns how
/// often one was repeated.
async fn assert_ended(place: &Place, replica: &Replica, placed: &[Placed]) -> usize {
    let ids: Vec<_> = placed.iter().map(|placed| placed.id.clone()).collect();
    until(place, "every order at its end", async || is_at_rest(replica, &ids).await).await;
    let records = replica.repo.load(&ids).await.expect("it loads");
    let announced = cancellations(&*replica.bus).await;
    let mut repeats = 0;
    for (placed, record) in placed.iter().zip(records) {
        let name = placed.id.as_str();
        let record = record.expect("it is there");
        let phase = &record.state.order().expect("an order").phase;
        let said = announced.get(&placed.id).map_or(&[][..], Vec::as_slice);
        if placed.is_paid() {
            assert!(matches!(phase, Phase::Complete { .. }), "{name} is paid, and {phase:?}");
            assert_eq!(said.len(), 0, "{name} is paid, and its cancellation announced");
        } else {
            assert_eq!(*phase, Phase::Cancelled, "{name} is unpaid");
            let [first, others @ ..] = said else { panic!("{name}: no announcement") };
            assert!(others.iter().all(|other| other == first), "{name}: {said:?}");
            repeats += others.len();
        }
    }
    repeats
}

pub(crate) fn unpaid_orders_are_cancelled_once_and_paid_ones_complete() {
    let place = Place::plain();
    place.block_on(async {
        let urls = Urls::of(&place.url());
        let replicas = [Replica::start(&urls, true).await, Replica::start(&urls, true).await];
        let mut orders = placed(&place, "a", 60);
        // What has run so far has to be sent anew.
        place.server.cli(&["SCRIPT", "FLUSH"]);
        orders.extend(placed(&place, "b", 60));
        let repeats = assert_ended(&place, &replicas[0], &orders).await;
        // A call that took too long may have been repeated.
        let faults: usize = replicas.iter().map(Replica::faults).sum();
        assert!(repeats == 0 || faults > 0, "in peace, each is announced once; {repeats} more");
        end(replicas).await;
    });
}

pub(crate) fn a_server_killed_in_mid_load_loses_nothing() {
    let place = Place::plain();
    place.block_on(async {
        let replicas = two(&Urls::of(&place.url())).await;
        let mut orders = placed(&place, "a", 150);
        let count = || place.server.cli(&["XLEN", CANCELLED]).parse().unwrap_or(0);
        assert!(wait_until(|| count() >= 20), "some are cancelled");
        place.server.kill();
        assert!(count() == 0 && place.server.revive(), "it is away, and starts again");
        orders.extend(placed(&place, "b", 30));
        assert_ended(&place, &replicas[1], &orders).await;
        end(replicas).await;
    });
}

/// Asks a replica for an order, as its HTTP interface would; again if it could not be done.
async fn ask_for(replica: &Replica, name: &str, expires_at: Timestamp) -> OrderId {
    let id = OrderId::new(name).expect("an id");
    let ticket = Ticket { id: TicketId::new("t1").expect("an id"), price: Price::new(20.0) };
    let user_id = UserId::new("u1").expect("an id");
    let draft = Draft { user_id, ticket, expires_at, expires_relative: false, trace: None };
    let orders = replica.orders();
    let limit = replica.now() + LIMIT;
    let create = || orders.apply(&id, Input::Create(draft.clone()));
    // Refused the second time, where only the answer was lost.
    while let Err(OrdersError::Failed(error)) = create().await {
        assert!(replica.now() < limit, "{error}");
    }
    id
}

/// Receives until it has heard that each of these is cancelled.
async fn hears_of(place: &Place, witness: &dyn Consumer, ids: &[OrderId]) {
    let limit = place.now() + LIMIT;
    let mut missing: BTreeSet<_> = ids.iter().cloned().collect();
    while !missing.is_empty() {
        assert!(place.now() < limit, "not announced within {LIMIT:?}: {missing:?}");
        let options = ReceiveOptions::new(256).with_wait(Duration::from_secs(1));
        let Ok(came) = witness.receive(options).await else { continue };
        let receipts: Vec<_> = came.iter().map(|delivery| delivery.receipt).collect();
        // What is not acked comes again, and says the same.
        drop(witness.ack(&receipts).await);
        for delivery in came {
            missing.remove(&cancelled(&delivery.message));
        }
    }
}

/// The repository on a node of its own that syncs always; queue and bus on another, which loses
/// everything.
pub(crate) fn what_queue_and_bus_lose_is_healed_from_the_repository() {
    let (lossy, kept) = (Place::plain(), Place::plain());
    lossy.block_on(async {
        let urls = Urls { repo: kept.url(), ..Urls::of(&lossy.url()) };
        let replicas = two(&urls).await;
        let group = Group::new("witness").expect("a name");
        let options = SubscribeOptions::new(group, [Subject::OrderCancelled]);
        let witness = replicas[0].bus.subscribe(options).await.expect("it joins");
        let (mut ids, mut heard) = (Vec::new(), Announced::default());
        let expires_at = lossy.now() + SOON;
        for n in 0..40 {
            ids.push(ask_for(&replicas[n % 2], &format!("asked{n}"), expires_at).await);
            heard.create(&format!("heard{n}"), expires_at);
        }
        ids.extend(heard.write(&lossy.server).into_iter().map(|placed| placed.id));
        let is_known = async || {
            let records = kept_records(&replicas[0], &ids).await;
            let scheduled = replicas[0].queue.stats().await.map_or(0, |stats| stats.pending);
            // On a slow machine, some have expired by now.
            let is_late = lossy.now() >= expires_at;
            records == ids.len() && (scheduled == ids.len() as u64 || is_late)
        };
        until(&lossy, "every order recorded and scheduled", is_known).await;
        assert_eq!(lossy.server.cli(&["FLUSHALL"]), "OK");
        // Whoever comes in the middle of it is served as ever.
        let soon = lossy.now() + SOON / 2;
        for n in 0..20 {
            ids.push(ask_for(&replicas[n % 2], &format!("after{n}"), soon).await);
        }
        hears_of(&lossy, &*witness, &ids).await;
        until(&lossy, "every order at its end", async || is_at_rest(&replicas[1], &ids).await)
            .await;
        end(replicas).await;
    });
}

async fn kept_records(replica: &Replica, ids: &[OrderId]) -> usize {
    replica.repo.load(ids).await.map_or(0, |records| records.iter().flatten().count())
}

/// The flush comes between a timer that fired and the commit that it leads to, for some.
pub(crate) fn a_flush_while_orders_expire_leaves_none_open() {
    let (lossy, kept) = (Place::plain(), Place::plain());
    lossy.block_on(async {
        let urls = Urls { repo: kept.url(), ..Urls::of(&lossy.url()) };
        let replicas = two(&urls).await;
        let begin = lossy.now() + SOON / 2;
        let mut ids = Vec::new();
        for n in 0..200_u32 {
            let expires_at = begin + Duration::from_millis(10) * n;
            ids.push(ask_for(&replicas[0], &format!("o{n}"), expires_at).await);
        }
        let count = || lossy.server.cli(&["XLEN", CANCELLED]).parse().unwrap_or(0);
        assert!(wait_until(|| count() >= 20), "some are cancelled");
        assert_eq!(lossy.server.cli(&["FLUSHALL"]), "OK");
        until(&lossy, "every order at its end", async || is_at_rest(&replicas[1], &ids).await)
            .await;
        end(replicas).await;
    });
}
