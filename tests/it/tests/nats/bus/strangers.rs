//! Other services on the same streams, and streams of others.

use std::path::Path;

use async_nats::HeaderMap;
use async_nats::jetstream::stream::{Config, RetentionPolicy};
use expirer_core::{ErrorKind, Headers, Message, Rejection, Subject};
use futures_lite::StreamExt;

use super::{LIMIT, STREAM, SUBJECT, ack, group, join, open, publish, receive, stranger, try_open};
use crate::place::Place;

fn stream(name: &str, subjects: &[&str]) -> Config {
    let subjects = subjects.iter().map(ToString::to_string).collect();
    Config { name: name.to_owned(), subjects, ..Config::default() }
}

pub(super) fn a_plain_client_is_a_peer(program: &Path) {
    let place = Place::plain(program);
    place.block_on(async {
        let bus = open(&place.url()).await;
        let consumer = join(&bus, LIMIT).await;
        let context = stranger(&place).await;
        let mut heard = context.client().subscribe("dead:a").await.expect("it subscribes");
        let mut headers = HeaderMap::new();
        headers.insert("traceparent", "t");
        headers.insert("Nats-Expected-Stream", STREAM);
        let (subject, payload) = ("order:created", r#"{"id":"o1"}"#);
        let sent = context.publish_with_headers(subject, headers, payload.into()).await;
        sent.expect("it is sent").await.expect("it is stored");
        let came = receive(&*consumer, 1).await.remove(0);
        assert_eq!(*came.message.payload, *payload.as_bytes());
        let headers: Vec<_> = came.message.headers.iter().collect();
        assert_eq!(headers, [("traceparent", "t")], "what speaks to the server stays with it");
        let rejection = Rejection { receipt: came.receipt, reason: "poison".to_owned() };
        consumer.reject(&[rejection]).await.expect("it rejects");
        let letter = heard.next().await.expect("a dead letter");
        assert_eq!(&*letter.payload, payload.as_bytes());
        let headers = letter.headers.expect("headers");
        assert_eq!(headers.get(Headers::REASON).map(|value| value.as_str()), Some("poison"));
        assert_eq!(headers.get("traceparent").map(|value| value.as_str()), Some("t"));
        context.get_stream("ticketing-dead").await.expect("keeps dead letters");
    });
}

pub(super) fn a_stream_that_covers_our_subjects_is_taken(program: &Path) {
    let place = Place::plain(program);
    place.block_on(async {
        let context = stranger(&place).await;
        context.create_stream(stream("shop", &["shop.>"])).await.expect("is made");
        let bus = open(&format!("{}?prefix=shop", place.url())).await;
        let consumer = join(&bus, LIMIT).await;
        publish(&bus, 3).await;
        ack(&*consumer, &receive(&*consumer, 3).await).await;
        let progress = bus.progress(&group(), &SUBJECT).await.expect("it tells");
        assert_eq!((progress.waiting, progress.unacked), (0, 0));
        context.get_stream("shop-ticketing").await.expect_err("no stream of ours is needed");
    });
}

pub(super) fn a_missing_subject_is_added(program: &Path) {
    let place = Place::plain(program);
    place.block_on(async {
        let context = stranger(&place).await;
        let there = Config { max_message_size: 4096, ..stream(STREAM, &["order:created", "mine"]) };
        context.create_stream(there).await.expect("is made");
        context.create_stream(stream("pay", &["payment:created"])).await.expect("is made");
        let bus = open(&place.url()).await;
        for subject in Subject::EVENTS {
            bus.publish(&[Message::new(subject, *b"{}")]).await.expect("it is published");
        }
        let ours = context.get_stream(STREAM).await.expect("is there");
        let info = ours.get_info().await.expect("is there");
        assert_eq!(info.config.max_message_size, 4096, "what was set stays");
        assert!(info.config.subjects.contains(&"mine".to_owned()), "{:?}", info.config.subjects);
        assert_eq!(info.state.messages, 4);
        let large = Message::new(SUBJECT, vec![b'x'; 5000]);
        let error = bus.publish(&[large]).await.expect_err("it is too large");
        assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
    });
}

pub(super) fn a_stream_that_will_not_do_is_told(program: &Path) {
    let place = Place::plain(program);
    place.block_on(async {
        let context = stranger(&place).await;
        let ours = ["order:created"];
        let queue = Config { retention: RetentionPolicy::WorkQueue, ..stream("q", &ours) };
        let interest = Config { retention: RetentionPolicy::Interest, ..stream("i", &ours) };
        let silent = Config { no_ack: true, ..stream("n", &ours) };
        for (config, kind, text) in [
            (queue, ErrorKind::Unsupported, "its retention is not limits"),
            (interest, ErrorKind::Unsupported, "name one by ?stream="),
            (silent, ErrorKind::Unsupported, "confirms nothing"),
            (stream(STREAM, &["else"]), ErrorKind::Corrupt, "with other subjects (else)"),
        ] {
            let name = config.name.clone();
            context.create_stream(config).await.expect("is made");
            let error = try_open(&place.url()).await.expect_err(text);
            assert_eq!(error.kind(), kind, "{error}");
            assert!(
                error.to_string().contains(text) && error.to_string().contains(&name),
                "{error}"
            );
            context.delete_stream(name).await.expect("is deleted");
        }
        let forgets = Config { max_messages: 5, ..stream("few", &ours) };
        context.create_stream(forgets).await.expect("is made");
        let opened = expirer_backends::connect::bus(&place.url(), &super::options()).await;
        let warnings = opened.expect("it opens").warnings;
        assert!(warnings.len() == 1 && warnings[0].contains("few has max_msgs"), "{warnings:?}");
    });
}

pub(super) fn a_prefix_keeps_two_apart(program: &Path) {
    let place = Place::plain(program);
    place.block_on(async {
        let plain = open(&place.url()).await;
        let shop = open(&format!("{}?prefix=shop&stream=events", place.url())).await;
        let consumers = [join(&plain, LIMIT).await, join(&shop, LIMIT).await];
        publish(&plain, 1).await;
        publish(&shop, 2).await;
        assert_eq!(receive(&*consumers[0], 1).await.len(), 1);
        let of_shop = receive(&*consumers[1], 2).await;
        assert!(of_shop.iter().all(|came| came.message.subject == SUBJECT), "{of_shop:?}");
        let context = stranger(&place).await;
        for stream in [STREAM, "shop-events"] {
            context.get_stream(stream).await.expect("is there");
        }
    });
}
