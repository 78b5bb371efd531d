//! The five loops on Redis, end to end: two replicas beside each other, events of strangers, and
//! servers that die or forget.

mod strangers;

use std::collections::BTreeSet;
use std::time::Duration;

use expirer_core::event::{Price, Ticket};
use expirer_core::flow::OrdersError;
use expirer_core::order::{Draft, Input};
use expirer_core::{
    Consumer, Group, OrderId, ReceiveOptions, Subject, SubscribeOptions, TicketId, Timestamp,
    UserId,
};

use self::strangers::{CANCELLED, write};
use crate::place::Place;
use crate::replicas::announced::{Announced, Placed, SOON};
use crate::replicas::ends::{
    LIMIT, assert_ended, assert_ended_in_peace, cancelled, until, until_at_rest,
};
use crate::replicas::{Replica, Urls};
use crate::servers::process::wait_until;

fn placed(place: &Place, name: &str, count: u32) -> Vec<Placed> {
    write(Announced::every_third_paid(name, count, place.now() + SOON), &place.server)
}

pub(crate) fn unpaid_orders_are_cancelled_once_and_paid_ones_complete() {
    let place = Place::plain();
    place.block_on(async {
        let replicas = Replica::two_patient(&Urls::of(&place.url())).await;
        let mut orders = placed(&place, "a", 60);
        // What has run so far has to be sent anew.
        place.server.cli(&["SCRIPT", "FLUSH"]);
        orders.extend(placed(&place, "b", 60));
        assert_ended_in_peace(replicas, &orders).await;
    });
}

pub(crate) fn a_server_killed_in_mid_load_loses_nothing() {
    let place = Place::plain();
    place.block_on(async {
        let replicas = Replica::two(&Urls::of(&place.url())).await;
        let mut orders = placed(&place, "a", 150);
        let count = || place.server.cli(&["XLEN", CANCELLED]).parse().unwrap_or(0);
        assert!(wait_until(|| count() >= 20), "some are cancelled");
        place.server.kill();
        assert!(count() == 0 && place.server.revive(), "it is away, and starts again");
        orders.extend(placed(&place, "b", 30));
        assert_ended(&replicas[1], &orders).await;
        Replica::end_all(replicas).await;
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
async fn hears_of(replica: &Replica, witness: &dyn Consumer, ids: &[OrderId]) {
    let limit = replica.now() + LIMIT;
    let mut missing: BTreeSet<_> = ids.iter().cloned().collect();
    while !missing.is_empty() {
        assert!(replica.now() < limit, "not announced within {LIMIT:?}: {missing:?}");
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
        let replicas = Replica::two(&urls).await;
        let group = Group::new("witness").expect("a name");
        let options = SubscribeOptions::new(group, [Subject::OrderCancelled]);
        let witness = replicas[0].bus.subscribe(options).await.expect("it joins");
        let (mut ids, mut heard) = (Vec::new(), Announced::default());
        let expires_at = lossy.now() + SOON;
        for n in 0..40 {
            ids.push(ask_for(&replicas[n % 2], &format!("asked{n}"), expires_at).await);
            heard.create(&format!("heard{n}"), expires_at);
        }
        ids.extend(write(heard, &lossy.server).into_iter().map(|placed| placed.id));
        let is_known = async || {
            let records = kept_records(&replicas[0], &ids).await;
            let scheduled = replicas[0].queue.stats().await.map_or(0, |stats| stats.pending);
            // On a slow machine, some have expired by now.
            let is_late = lossy.now() >= expires_at;
            records == ids.len() && (scheduled == ids.len() as u64 || is_late)
        };
        until(&replicas[0], "every order recorded and scheduled", is_known).await;
        assert_eq!(lossy.server.cli(&["FLUSHALL"]), "OK");
        // Whoever comes in the middle of it is served as ever.
        let soon = lossy.now() + SOON / 2;
        for n in 0..20 {
            ids.push(ask_for(&replicas[n % 2], &format!("after{n}"), soon).await);
        }
        hears_of(&replicas[0], &*witness, &ids).await;
        until_at_rest(&replicas[1], &ids).await;
        Replica::end_all(replicas).await;
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
        let replicas = Replica::two(&urls).await;
        let begin = lossy.now() + SOON / 2;
        let mut ids = Vec::new();
        for n in 0..200_u32 {
            let expires_at = begin + Duration::from_millis(10) * n;
            ids.push(ask_for(&replicas[0], &format!("o{n}"), expires_at).await);
        }
        let count = || lossy.server.cli(&["XLEN", CANCELLED]).parse().unwrap_or(0);
        assert!(wait_until(|| count() >= 20), "some are cancelled");
        assert_eq!(lossy.server.cli(&["FLUSHALL"]), "OK");
        until_at_rest(&replicas[1], &ids).await;
        Replica::end_all(replicas).await;
    });
}
