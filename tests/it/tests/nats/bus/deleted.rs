//! Streams and consumers that somebody deletes under us.

use std::path::Path;
use std::time::Duration;

use expirer_core::{Message, ReceiveOptions};

use super::{
    LIMIT, STREAM, SUBJECT, ack, assert_outage, group, join, open, publish, receive, stranger,
};
use crate::place::Place;

const CONSUMER: &str = "a:order:created";

pub(super) fn a_stream_that_is_deleted_comes_back(program: &Path) {
    let place = Place::plain(program);
    place.block_on(async {
        let bus = open(&place.url()).await;
        let (consumer, tail) = (join(&bus, LIMIT).await, bus.tail(&[SUBJECT]).await.expect("it"));
        let context = stranger(&place).await;
        for _ in 0..2 {
            publish(&bus, 3).await;
            let held = receive(&*consumer, 2).await;
            context.delete_stream(STREAM).await.expect("is deleted");
            ack(&*consumer, &held).await;
            publish(&bus, 4).await;
            let came = receive(&*consumer, 4).await;
            assert!(came.iter().all(|came| came.attempt == 1), "{came:?}");
            ack(&*consumer, &came).await;
            let progress = bus.progress(&group(), &SUBJECT).await.expect("it tells");
            assert_eq!((progress.waiting, progress.unacked), (0, 0));
        }
        let options = ReceiveOptions::new(256).with_wait(LIMIT);
        assert!(!tail.receive(options).await.expect("it sees").messages.is_empty());
        for subject in expirer_core::Subject::EVENTS {
            context.stream_by_subject(subject.as_str().into_owned()).await.expect("is stored");
        }
    });
}

/// A server says that nobody listens; where somebody does, it says nothing.
pub(super) fn a_stream_that_is_deleted_is_missed_where_others_listen(program: &Path) {
    let place = Place::plain(program);
    place.block_on(async {
        let bus = open(&place.url()).await;
        let context = stranger(&place).await;
        let listener = context.client().subscribe("order:created").await.expect("it listens");
        context.delete_stream(STREAM).await.expect("is deleted");
        let error = bus.publish(&[Message::new(SUBJECT, *b"{}")]).await.expect_err("not stored");
        assert_outage(&error);
        publish(&bus, 1).await;
        drop(listener);
    });
}

pub(super) fn a_consumer_that_is_deleted_goes_on_where_its_group_was(program: &Path) {
    let place = Place::plain(program);
    place.block_on(async {
        let bus = open(&place.url()).await;
        let consumer = join(&bus, LIMIT).await;
        let stream = stranger(&place).await.get_stream(STREAM).await.expect("is there");
        publish(&bus, 20).await;
        let came = receive(&*consumer, 10).await;
        ack(&*consumer, &came).await;
        // How far the group has come is known from here on.
        bus.progress(&group(), &SUBJECT).await.expect("it tells");
        for _ in 0..2 {
            stream.delete_consumer(CONSUMER).await.expect("is deleted");
            ack(&*consumer, &came).await;
            let rest = receive(&*consumer, 10).await;
            let first = rest[0].message.id.as_ref().expect("an id").to_string();
            assert!(first.starts_with("order:created@11-"), "expected the eleventh, came {first}");
        }
        let options = ReceiveOptions::new(1).with_wait(Duration::from_millis(300));
        assert_eq!(consumer.receive(options).await.expect("it receives"), []);
    });
}

pub(super) fn a_tail_outlives_its_consumer(program: &Path) {
    let place = Place::plain(program);
    place.block_on(async {
        let bus = open(&place.url()).await;
        let tail = bus.tail(&[SUBJECT]).await.expect("it begins");
        let stream = stranger(&place).await.get_stream(STREAM).await.expect("is there");
        for _ in 0..2 {
            let info = stream.get_info().await.expect("is there");
            assert_eq!(info.state.consumer_count, 1, "the tail has one consumer");
            let names = consumers(&place);
            stream.delete_consumer(&names[0]).await.expect("is deleted");
            publish(&bus, 1).await;
            let options = ReceiveOptions::new(256).with_wait(LIMIT);
            let came = tail.receive(options).await.expect("it sees");
            assert_eq!((came.messages.len(), came.missed), (1, 0));
        }
    });
}

/// As the server's monitor names them.
fn consumers(place: &Place) -> Vec<String> {
    let jsz = place.server.monitor("/jsz?consumers=1").expect("the monitor answers");
    let streams = jsz["account_details"][0]["stream_detail"].as_array().expect("streams");
    let found = streams.iter().flat_map(|stream| stream["consumer_detail"].as_array()).flatten();
    found.map(|consumer| consumer["name"].as_str().expect("a name").to_owned()).collect()
}
