//! The watermark, and clocks that are set back.

use std::sync::Arc;
use std::time::Duration;

use expirer_backends::connect;
use expirer_core::event::{Price, Ticket};
use expirer_core::flow::{Canceller, Env, Orders, Recorder};
use expirer_core::observe::Silent;
use expirer_core::order::{Draft, Input, Phase};
use expirer_core::{EventBus, Group, OrderId, TicketId, Timestamp, UserId};
use futures_lite::future;

use super::{KEY, LIMIT, SUBJECT, ack, join, open, progress, publish, receive};
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

pub(super) fn what_was_stored_ahead_is_remembered_until_it_is_settled() {
    let place = Place::plain();
    place.block_on(async {
        let bus = open(&place, "?retain=1s").await;
        let consumer = join(&bus, LIMIT).await;
        let worked_off = async || progress(&bus, "a").await.worked_off.expect("a watermark");
        for by_progress in [false, true] {
            let (stored, end) = stored_ahead(&place, &bus, by_progress).await;
            until(&place, async || server_millis(&place) > end).await;
            assert!(worked_off().await <= stored, "unread");
            let came = receive(&*consumer, LIMIT).await;
            let last = came.last().expect("the payment");
            assert_eq!(last.published.as_millis(), end, "it counts as stored when it was not");
            assert!(worked_off().await <= stored, "held");
            ack(&*consumer, &came).await;
            assert!(worked_off().await.as_millis() > end, "settled");
            publish(&bus, 1).await;
            let came = receive(&*consumer, LIMIT).await;
            assert_eq!(worked_off().await, came[0].published, "beyond what was ahead");
            ack(&*consumer, &came).await;
            let is_forgotten = async || {
                assert_eq!(receive(&*consumer, SOON).await, []);
                place.server.cli(&["EXISTS", "bus:{order:created}:ahead"]) == "0"
            };
            until(&place, is_forgotten).await;
        }
    });
}

/// Sets the end of the stream ahead, lets us look at it, and adds an entry as a stranger does: when
/// that was, and when it says it was.
async fn stored_ahead(
    place: &Place,
    bus: &Arc<dyn EventBus>,
    by_progress: bool,
) -> (Timestamp, i64) {
    let limit = place.now() + LIMIT;
    loop {
        let end = server_millis(place) + 2000;
        place.server.cli(&["XADD", KEY, &format!("{end}-0"), "data", "{}"]);
        if by_progress {
            let read = ["XREADGROUP", "GROUP", "a", "cli", "NOACK", "STREAMS", KEY, ">"];
            place.server.cli(&read);
            progress(bus, "a").await;
        } else {
            let consumer = join(bus, LIMIT).await;
            ack(&*consumer, &receive(&*consumer, LIMIT).await).await;
        }
        let stored = place.now();
        let id = place.server.cli(&["XADD", KEY, "*", "data", "{}"]);
        if id.starts_with(&format!("{end}-")) {
            return (stored, end);
        }
        assert!(stored < limit, "the machine is too slow for what this shows");
    }
}

/// The server's clock.
fn server_millis(place: &Place) -> i64 {
    let time = place.server.cli(&["TIME"]);
    let mut parts = time.lines().map(|part| part.parse::<i64>().expect("a number"));
    let (seconds, micros) = (parts.next().expect("seconds"), parts.next().expect("micros"));
    seconds * 1000 + micros / 1000
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
