//! Orders a second: created, and loaded.

use std::sync::Arc;
use std::time::Instant;

use async_nats::jetstream;
use async_nats::jetstream::kv::{Config, Store};
use expirer_backends::TokioClock;
use expirer_backends::connect::{self, ConnectOptions};
use expirer_bench::report::{Outcome, Row, rate, table};
use expirer_core::event::{OpenStatus, Ticket};
use expirer_core::order::{LatePayments, Order, Phase, State};
use expirer_core::{Change, OrderId, OrderRepo, Revision, TicketId, Timestamp};
use futures_util::future::join_all;

use crate::BATCH;
use crate::server::Server;

const ORDERS: u64 = 20_000;
/// Of the size of an order's row.
const VALUE: usize = 200;

pub(crate) async fn measure(rounds: usize) -> Outcome<()> {
    let row = || [Row::new("Expirer"), Row::new("raw client")];
    let (mut created, mut loaded, mut again) = (row(), row(), row());
    for _ in 0..rounds {
        let figures = [ours().await?, raw().await?];
        for (place, [creating, loading, updating]) in figures.into_iter().enumerate() {
            created[place].figures.push(creating);
            loaded[place].figures.push(loading);
            again[place].figures.push(updating);
        }
    }
    table(&format!("create {ORDERS} in batches of {BATCH}, orders/s"), &created)?;
    table("load them, orders/s", &loaded)?;
    table("end them (compare-and-set), orders/s", &again)
}

/// Each loads by a handle that has not committed them: nothing is remembered.
async fn ours() -> Outcome<[f64; 3]> {
    let server = Server::newest()?;
    let (first, second) = (open(&server).await?, open(&server).await?);
    let mut changes: Vec<Change> = (0..ORDERS).map(order).collect::<Outcome<_>>()?;
    let begun = Instant::now();
    for batch in changes.chunks(BATCH) {
        first.commit(batch).await?;
    }
    let creating = rate(ORDERS, begun);
    let ids: Vec<OrderId> = changes.iter().map(|change| change.id.clone()).collect();
    let mut records = Vec::new();
    let begun = Instant::now();
    for batch in ids.chunks(BATCH) {
        records.extend(second.load(batch).await?);
    }
    let loading = rate(ORDERS, begun);
    for (change, record) in changes.iter_mut().zip(records) {
        change.expected = record.ok_or("an order is missing")?.revision;
        if let State::Order(order) = &mut change.state {
            order.phase = Phase::Cancelled;
        }
    }
    let begun = Instant::now();
    for batch in changes.chunks(BATCH) {
        second.commit(batch).await?;
    }
    Ok([creating, loading, rate(ORDERS, begun)])
}

async fn open(server: &Server) -> Outcome<Arc<dyn OrderRepo>> {
    let options = ConnectOptions::new(Arc::new(TokioClock::new()), 1);
    Ok(connect::repo(&server.url(), &options).await?.backend)
}

fn order(number: u64) -> Outcome<Change> {
    let order = Order {
        version: 0,
        phase: Phase::Open(OpenStatus::Created),
        user_id: None,
        expires_at: Timestamp::MAX,
        ticket: Ticket { id: TicketId::new("t1")?, price: None },
        late: LatePayments::default(),
        trace: None,
    };
    let (id, state) = (OrderId::new(key(number))?, State::Order(order));
    Ok(Change { id, expected: Revision::ABSENT, state, owes: Vec::new() })
}

fn key(number: u64) -> String {
    format!("f{number:023x}")
}

/// A bucket without an index.
async fn raw() -> Outcome<[f64; 3]> {
    let server = Server::newest()?;
    let context = jetstream::new(server.client().await?);
    let config = Config { bucket: "orders".to_owned(), history: 1, ..Default::default() };
    let store = context.create_key_value(config).await?;
    let keys: Vec<String> = (0..ORDERS).map(key).collect();
    let begun = Instant::now();
    for batch in keys.chunks(BATCH) {
        let created = batch.iter().map(|key| store.create(key, vec![b'v'; VALUE].into()));
        join_all(created).await.into_iter().collect::<Result<Vec<_>, _>>()?;
    }
    let creating = rate(ORDERS, begun);
    let mut revisions = Vec::new();
    let begun = Instant::now();
    for batch in keys.chunks(BATCH) {
        let entries = join_all(batch.iter().map(|key| store.entry(key.as_str()))).await;
        for entry in entries {
            revisions.push(entry?.ok_or("a key is missing")?.revision);
        }
    }
    let loading = rate(ORDERS, begun);
    let begun = Instant::now();
    for (keys, revisions) in keys.chunks(BATCH).zip(revisions.chunks(BATCH)) {
        update(&store, keys, revisions).await?;
    }
    Ok([creating, loading, rate(ORDERS, begun)])
}

async fn update(store: &Store, keys: &[String], revisions: &[u64]) -> Outcome<()> {
    let update = |(key, revision): (&String, &u64)| {
        let (key, revision) = (key.clone(), *revision);
        async move { store.update(key, vec![b'v'; VALUE].into(), revision).await }
    };
    let updated = join_all(keys.iter().zip(revisions).map(update)).await;
    updated.into_iter().collect::<Result<Vec<_>, _>>()?;
    Ok(())
}
