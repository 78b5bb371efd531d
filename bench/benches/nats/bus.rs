//! Messages a second: published with confirmation, and received and settled with confirmation.

use std::sync::Arc;
use std::time::Instant;

use async_nats::HeaderMap;
use async_nats::jetstream::consumer::PullConsumer;
use async_nats::jetstream::{self, Context, Message as Delivered};
use expirer_backends::TokioClock;
use expirer_backends::connect::{self, ConnectOptions};
use expirer_bench::report::{Outcome, Row, rate, table};
use expirer_core::{
    EventBus, Group, Message, MessageId, ReceiveOptions, Subject, SubscribeOptions,
};
use futures_util::StreamExt;
use futures_util::future::join_all;

use crate::BATCH;
use crate::server::Server;

const MESSAGES: u64 = 50_000;
const GROUP: &str = "bench";
const SUBJECT: Subject = Subject::OrderCreated;
/// Of the size of an order.
const PAYLOAD: &str = r#"{"id":"f00000000000000000000001","version":0,"status":"created","userId":"u1","expiresAt":"2026-11-22T10:00:00.000Z","ticket":{"id":"t1","price":20}}"#;

pub(crate) async fn measure(rounds: usize) -> Outcome<()> {
    let row = || [Row::new("Expirer"), Row::new("raw client")];
    let (mut published, mut received) = (row(), row());
    for _ in 0..rounds {
        let server = Server::newest()?;
        let (publishing, receiving) = ours(&server).await?;
        published[0].figures.push(publishing);
        received[0].figures.push(receiving);
        let server = Server::newest()?;
        let (publishing, receiving) = raw(&server).await?;
        published[1].figures.push(publishing);
        received[1].figures.push(receiving);
    }
    table(&format!("publish {MESSAGES} in batches of {BATCH}, messages/s"), &published)?;
    table(&format!("receive and settle {MESSAGES} in batches of {BATCH}"), &received)
}

async fn ours(server: &Server) -> Outcome<(f64, f64)> {
    let options = ConnectOptions::new(Arc::new(TokioClock::new()), 1);
    let bus: Arc<dyn EventBus> = connect::bus(&server.url(), &options).await?.backend.bus;
    let consumer = bus.subscribe(SubscribeOptions::new(Group::new(GROUP)?, [SUBJECT])).await?;
    let begun = Instant::now();
    for batch in 0..MESSAGES.div_ceil(BATCH as u64) {
        let messages: Vec<_> = numbers(batch).map(message).collect();
        bus.publish(&messages).await?;
    }
    let publishing = rate(MESSAGES, begun);
    let (begun, mut count) = (Instant::now(), 0);
    while count < MESSAGES {
        let came = consumer.receive(ReceiveOptions::new(BATCH)).await?;
        let receipts: Vec<_> = came.iter().map(|delivery| delivery.receipt).collect();
        consumer.ack(&receipts).await?;
        count += came.len() as u64;
    }
    Ok((publishing, rate(MESSAGES, begun)))
}

fn message(number: u64) -> Message {
    Message::new(SUBJECT, PAYLOAD.as_bytes()).with_id(MessageId::new(id(number)))
}

fn id(number: u64) -> String {
    format!("order:created:f{number:023x}:0")
}

fn numbers(batch: u64) -> std::ops::Range<u64> {
    let from = batch * BATCH as u64;
    from..MESSAGES.min(from + BATCH as u64)
}

/// On streams and consumers with the same settings.
async fn raw(server: &Server) -> Outcome<(f64, f64)> {
    let context = jetstream::new(server.client().await?);
    let stream = jetstream::stream::Config {
        name: "ticketing".to_owned(),
        subjects: vec![SUBJECT.to_string()],
        ..Default::default()
    };
    let stream = context.create_stream(stream).await?;
    let config = jetstream::consumer::pull::Config {
        durable_name: Some(GROUP.to_owned()),
        filter_subject: SUBJECT.to_string(),
        max_ack_pending: 65_536,
        ..Default::default()
    };
    let consumer = stream.create_consumer(config).await?;
    let begun = Instant::now();
    for batch in 0..MESSAGES.div_ceil(BATCH as u64) {
        publish(&context, numbers(batch)).await?;
    }
    let publishing = rate(MESSAGES, begun);
    Ok((publishing, receive(&consumer).await?))
}

async fn publish(context: &Context, numbers: std::ops::Range<u64>) -> Outcome<()> {
    let mut acks = Vec::with_capacity(BATCH);
    for number in numbers {
        let mut headers = HeaderMap::new();
        headers.insert("Nats-Msg-Id", id(number));
        let subject = SUBJECT.to_string();
        acks.push(context.publish_with_headers(subject, headers, PAYLOAD.into()).await?);
    }
    for ack in acks {
        ack.await?;
    }
    Ok(())
}

async fn receive(consumer: &PullConsumer) -> Outcome<f64> {
    let (begun, mut count) = (Instant::now(), 0);
    while count < MESSAGES {
        let mut batch = consumer.fetch().max_messages(BATCH).messages().await?;
        let mut came: Vec<Delivered> = Vec::with_capacity(BATCH);
        while let Some(message) = batch.next().await {
            came.push(message?);
        }
        for settled in join_all(came.iter().map(Delivered::double_ack)).await {
            settled?;
        }
        count += came.len() as u64;
    }
    Ok(rate(MESSAGES, begun))
}
