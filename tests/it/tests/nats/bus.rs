//! The bus: the suite, and what servers and strangers do to it.

mod access;
mod deleted;
mod load;
mod members;
mod strangers;

use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream::{self, Context};
use expirer_backends::connect;
use expirer_conformance::Suite;
use expirer_core::{
    Consumer, Delivery, Error, ErrorKind, EventBus, Group, Message, ReceiveOptions, Subject,
    SubscribeOptions,
};

use crate::cluster::ClusterPlace;
use crate::place::Place;
use crate::servers::real::options;
use crate::{on_each, on_newest, programs, with_newest};

const STREAM: &str = "ticketing";
const SUBJECT: Subject = Subject::OrderCreated;
/// Generous: no test measures speed.
const LIMIT: Duration = Duration::from_secs(30);

pub(crate) fn tests(mut suite: Suite) -> Suite {
    macro_rules! on_each {
        ($($module:ident::$test:ident,)+) => {
            $(suite = on_each(suite, "bus", stringify!($test), $module::$test);)+
        };
    }
    macro_rules! on_newest {
        ($($module:ident::$test:ident,)+) => {
            $(suite = on_newest(suite, concat!("bus::", stringify!($test)), $module::$test);)+
        };
    }
    for (name, program) in programs() {
        suite = suite.bus(name, move || Place::plain(&program));
    }
    suite = with_newest(suite, "nats::bus", |suite, program| {
        let (three, secured) = (program.clone(), program);
        suite
            .bus("nats-cluster", move || ClusterPlace::new(&three))
            .bus("nats-tls", move || Place::secured(&secured))
    });
    on_each![
        deleted::a_stream_that_is_deleted_comes_back,
        deleted::a_stream_that_is_deleted_is_missed_where_others_listen,
        deleted::a_consumer_that_is_deleted_goes_on_where_its_group_was,
        deleted::a_tail_outlives_its_consumer,
        members::a_receipt_ends_with_its_deadline,
        members::what_a_dropped_call_took_is_given_back_at_once,
        members::what_a_member_had_not_handed_over_outlives_it,
        load::a_server_killed_in_mid_load_loses_nothing,
        load::a_leader_killed_in_mid_load_loses_nothing,
        load::a_connection_that_stops_answering_is_replaced,
        strangers::a_plain_client_is_a_peer,
        strangers::a_stream_that_covers_our_subjects_is_taken,
        strangers::a_missing_subject_is_added,
        strangers::a_stream_that_will_not_do_is_told,
        strangers::a_prefix_keeps_two_apart,
        access::a_login_that_is_not_taken_is_told,
        access::a_missing_permission_is_told,
        access::the_permissions_in_the_docs_are_enough,
        access::a_server_without_jetstream_is_told,
        access::a_server_of_nats_streaming_is_told,
        access::an_account_without_room_refuses_and_takes_more_once_there_is_some,
    ];
    on_newest![
        load::without_most_servers_it_fails_and_recovers,
        access::who_is_there_instead_is_told,
        access::a_certificate_that_is_not_known_is_told,
    ];
    suite
}

async fn open(url: &str) -> Arc<dyn EventBus> {
    try_open(url).await.unwrap_or_else(|error| panic!("expected the bus, came: {error}"))
}

async fn try_open(url: &str) -> expirer_core::Result<Arc<dyn EventBus>> {
    Ok(connect::bus(url, &options()).await?.backend.bus)
}

fn group() -> Group {
    Group::new("a").expect("a name")
}

async fn join(bus: &Arc<dyn EventBus>, ack_deadline: Duration) -> Box<dyn Consumer> {
    let options = SubscribeOptions::new(group(), [SUBJECT]).with_ack_deadline(ack_deadline);
    bus.subscribe(options).await.expect("it joins")
}

async fn publish(bus: &Arc<dyn EventBus>, count: usize) {
    let messages = vec![Message::new(SUBJECT, *b"{}"); count];
    bus.publish(&messages).await.expect("it is published");
}

/// Receives until there are so many.
async fn receive(consumer: &dyn Consumer, count: usize) -> Vec<Delivery> {
    let mut came = Vec::new();
    while came.len() < count {
        let options = ReceiveOptions::new(count - came.len()).with_wait(LIMIT);
        let more = consumer.receive(options).await.expect("it receives");
        assert!(!more.is_empty(), "expected {count}, came {}", came.len());
        came.extend(more);
    }
    came
}

async fn ack(consumer: &dyn Consumer, came: &[Delivery]) {
    let receipts: Vec<_> = came.iter().map(|delivery| delivery.receipt).collect();
    consumer.ack(&receipts).await.expect("it acks");
}

/// The client by itself, as another service has it.
async fn stranger(place: &Place) -> Context {
    let address = format!("127.0.0.1:{}", place.server.port());
    jetstream::new(async_nats::connect(address).await.expect("it connects"))
}

fn assert_outage(error: &Error) {
    let kinds = [ErrorKind::Unavailable, ErrorKind::TimedOut];
    assert!(kinds.contains(&error.kind()), "expected an outage, came: {error}");
}
