//! The watermark, and clocks that are set back.

use std::sync::Arc;
use std::time::Duration;

use expirer_backends::connect;
use expirer_core::event::{Price, Ticket};
use expirer_core::flow::{Canceller, Env, Orders, Recorder};
use expirer_core::observe::Silent;
use expirer_core::order::{Draft, Input, Phase};
use expirer_core::{Group, OrderId, TicketId, Timestamp, UserId};
use futures_lite::future;

use super::{KEY, LIMIT, SUBJECT, ack, join, open, progress, receive};
use crate::place::{Place, options};

/// What an operator, or a clock that was set back since, has left: the end of a stream is far ahead.
const AHEAD: &str = "9999999999999-0";
/// Within this, an order is created and paid.
const SOON: Duration = Duration::from_secs(1);

pub(super) fn no_entry_is_stored_before_the_watermark() {
    let place = Place::plain();
    place.block_on(async {
        let bus = open(&place, "").await;
        for group in ["a", "nobody"] {
            let progress = bus.progress(&Group::new(group).expect("a name"), &SUBJECT).await;
            let mark = progress.expect("it tells").worked_off.expect("a watermark").as_millis();
            let early = format!("{}-5", mark - 1);
            let refused = place.server.cli(&["XADD", KEY, &early, "data", "{}"]);
            assert!(refused.contains("equal or smaller"), "expected a refusal, came {refused}");
        }
    });
}

pub(super) fn it_is_never_past_a_message_on_a_stream_that_is_ahead() {
    let place = Place::plain();
    place.block_on(async {
        let bus = open(&place, "").await;
        let consumer = join(&bus, LIMIT).await;
        let worked_off = async || progress(&bus, "a").await.worked_off.expect("a watermark");
        for id in [AHEAD, "*", "*"] {
            let stored = place.now();
            place.server.cli(&["XADD", KEY, id, "data", "{}"]);
            assert!(worked_off().await <= stored, "{id} waits");
            let came = receive(&*consumer, LIMIT).await;
            assert!(worked_off().await <= stored, "{id} is held");
            assert!(came[0].published.as_millis() >= 9_999_999_999_999, "{came:?}");
            ack(&*consumer, &came).await;
            let (settled, now) = (worked_off().await, place.now());
            assert!(stored <= settled && settled <= now, "settled: {settled}, not by {now}");
        }
    });
}

pub(super) fn a_payment_in_time_counts_on_a_stream_that_is_ahead() {
    const PAYMENT: &str = r#"{"id":"p1","orderId":"o1","stripeId":"s1"}"#;
    const TOLD: &str = "bus:{expiration:complete}";
    let place = Place::plain();
    place.block_on(async {
        let bus = open(&place, "").await;
        let queue = connect::queue(&place.url(), &options()).await.expect("a queue").backend;
        let repo = connect::repo(&place.url(), &options()).await.expect("a repository").backend;
        let env = Env::new(options().clock, Arc::new(Silent));
        let orders = Orders::new(bus.clone(), repo.clone(), queue.clone(), env.clone());
        let (id, expires_at) = (OrderId::new("o1").expect("an id"), place.now() + SOON);
        orders.apply(&id, Input::Create(draft(expires_at))).await.expect("it is created");
        place.server.cli(&["XADD", "bus:{payment:created}", AHEAD, "data", PAYMENT]);
        assert!(place.now() < expires_at, "the machine is too slow for what this shows");
        place.pause(SOON).await;
        place.server.cli(&["XADD", TOLD, "*", "data", r#"{"orderId":"o1"}"#]);
        let phase = async || {
            let record =
                repo.load(std::slice::from_ref(&id)).await.expect("it loads").swap_remove(0);
            record.expect("it is there").state.order().expect("an order").phase.clone()
        };
        let canceller = Canceller::new(bus.clone(), repo.clone(), queue.clone(), env.clone());
        let recorder = Recorder::new(bus.clone(), repo.clone(), queue, env);
        let has_waited = async || {
            place.server.cli(&["XPENDING", TOLD, "orders-service"]).contains("released")
                || !phase().await.is_open()
        };
        future::or(canceller.run(future::pending()), until(&place, has_waited)).await;
        assert!(phase().await.is_open(), "its payment is there and unread: {:?}", phase().await);
        let loops = future::zip(canceller.run(future::pending()), recorder.run(future::pending()));
        let has_ended = async || !phase().await.is_open();
        future::or(async { _ = loops.await }, until(&place, has_ended)).await;
        let phase = phase().await;
        assert!(matches!(phase, Phase::Complete { .. }), "{phase:?}");
    });
}

fn draft(expires_at: Timestamp) -> Draft {
    let ticket = Ticket { id: TicketId::new("t1").expect("an id"), price: Price::new(20.0) };
    let user_id = UserId::new("u1").expect("an id");
    Draft { user_id, ticket, expires_at, expires_relative: false, trace: None }
}

/// Looks once a moment until something is true.
async fn until(place: &Place, is_true: impl AsyncFn() -> bool) {
    let end = place.now() + LIMIT;
    while !is_true().await {
        assert!(place.now() < end, "not within {LIMIT:?}");
        place.pause(Duration::from_millis(20)).await;
    }
}
