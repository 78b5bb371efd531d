//! Messages a second: published with an ack, and received with a confirmed ack.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_nats::HeaderMap;
use async_nats::header::NATS_MESSAGE_ID;
use async_nats::jetstream::consumer::PullConsumer;
use async_nats::jetstream::consumer::pull::Config;
use expirer_backends::connect;
use expirer_bench::queue::options;
use expirer_bench::report::{Outcome, number};
use expirer_core::{
    Consumer, EventBus, Group, Message, MessageId, ReceiveOptions, Subject, SubscribeOptions,
};
use futures_util::StreamExt;

use crate::pair::{Pair, turns};
use crate::raw::{Post, Raw};
use crate::server::Server;

/// Of each contestant in each round; whole batches of 256.
const COUNT: u64 = 20_480;
const BATCHES: [usize; 2] = [256, 1000];
const RECEIVED: usize = 256;
const STREAM: &str = "ticketing";
const PATIENCE: Duration = Duration::from_secs(5);

pub(crate) async fn measure(program: &Path, rounds: usize) -> Outcome<()> {
    let server = Server::start(program)?;
    let bus = connect::bus(&server.url, &options()).await?.backend.bus;
    let raw = Raw::open(&server.url).await?;
    Pair::head(rounds)?;
    for batch in BATCHES {
        publish(&bus, &raw, batch, rounds).await?;
    }
    receive(&bus, &raw, rounds).await
}

/// As an `order:created` is: about 180 bytes.
fn messages(kind: &str) -> Vec<Message> {
    let message = |n: u64| {
        let payload = format!(
            r#"{{"id":"{n:024x}","version":0,"status":"created","userId":"{n:024x}","#,
        ) + &format!(
            r#""expiresAt":"2026-11-22T10:00:00.000Z","ticket":{{"id":"{n:024x}","price":20}}}}"#
        );
        let id = MessageId::new(format!("{n:024x}:{kind}"));
        Message::new(Subject::OrderCreated, payload.into_bytes()).with_id(id)
    };
    (0..COUNT).map(message).collect()
}

fn post(message: &Message) -> Post {
    let mut headers = HeaderMap::new();
    if let Some(id) = &message.id {
        headers.insert(NATS_MESSAGE_ID, id.as_str());
    }
    (message.subject.to_string(), headers, message.payload.to_vec())
}

async fn publish(bus: &Arc<dyn EventBus>, raw: &Raw, batch: usize, rounds: usize) -> Outcome<()> {
    let mut pair = Pair::new(format!("publish with ack, batches of {batch}"));
    for round in 0..rounds {
        for is_ours in turns(round) {
            let messages = messages(&format!("{batch}-{round}-{is_ours}"));
            let begun = Instant::now();
            if is_ours {
                for batch in messages.chunks(batch) {
                    bus.publish(batch).await?;
                }
            } else {
                raw.store(messages.iter().map(post), batch).await?;
            }
            pair.add(is_ours, number(COUNT) / begun.elapsed().as_secs_f64());
            raw.purge(STREAM).await?;
        }
    }
    pair.say()
}

async fn receive(bus: &Arc<dyn EventBus>, raw: &Raw, rounds: usize) -> Outcome<()> {
    let mut pair = Pair::new(format!("receive with confirmed ack, batches of {RECEIVED}"));
    let ours =
        bus.subscribe(SubscribeOptions::new(Group::new("bench")?, [Subject::OrderCreated])).await?;
    let theirs = theirs(raw).await?;
    for round in 0..rounds {
        raw.store(messages(&format!("r-{round}")).iter().map(post), BATCHES[0]).await?;
        for is_ours in turns(round) {
            let begun = Instant::now();
            let mut count = 0;
            while count < COUNT {
                count += match is_ours {
                    true => take(&*ours).await?,
                    false => take_raw(raw, &theirs).await?,
                };
                if begun.elapsed() > PATIENCE * 10 {
                    return Err(format!("{count} of {COUNT} came").into());
                }
            }
            pair.add(is_ours, number(COUNT) / begun.elapsed().as_secs_f64());
        }
        raw.purge(STREAM).await?;
    }
    pair.say()
}

/// A consumer with the settings of ours.
async fn theirs(raw: &Raw) -> Outcome<PullConsumer> {
    let config = Config {
        durable_name: Some("raw".to_owned()),
        filter_subject: Subject::OrderCreated.to_string(),
        ack_wait: Duration::from_secs(10),
        max_ack_pending: 65_536,
        ..Config::default()
    };
    Ok(raw.context.get_stream(STREAM).await?.create_consumer(config).await?)
}

async fn take(consumer: &dyn Consumer) -> Outcome<u64> {
    let options = ReceiveOptions::new(RECEIVED).with_wait(PATIENCE);
    let deliveries = consumer.receive(options).await?;
    let receipts: Vec<_> = deliveries.iter().map(|delivery| delivery.receipt).collect();
    consumer.ack(&receipts).await?;
    Ok(u64::try_from(receipts.len())?)
}

async fn take_raw(raw: &Raw, consumer: &PullConsumer) -> Outcome<u64> {
    let mut batch = consumer.fetch().max_messages(RECEIVED).messages().await?;
    let mut acks = Vec::with_capacity(RECEIVED);
    while let Some(message) = batch.next().await {
        acks.extend(message?.message.reply.map(|ack| (ack.to_string(), b"+ACK".to_vec())));
    }
    Ok(u64::try_from(raw.call_all(acks.into_iter()).await?.len())?)
}
