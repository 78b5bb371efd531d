//! Loads and commits a second, beside a plain key-value bucket.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_nats::jetstream::kv::{Config, Store};
use async_nats::jetstream::stream::StorageType;
use expirer_backends::connect;
use expirer_bench::queue::options;
use expirer_bench::report::{Outcome, number};
use expirer_core::event::{OpenStatus, Ticket};
use expirer_core::order::{LatePayments, Order, Phase, State};
use expirer_core::{Change, Clock, OrderId, OrderRepo, Outcome as Committed, Revision, TicketId};
use futures_util::future::try_join_all;

use crate::pair::{Pair, turns};
use crate::raw::Raw;
use crate::server::Server;

/// Of each contestant in each round.
const COUNT: u64 = 10_240;
const BATCH: usize = 256;
const HOUR: Duration = Duration::from_secs(3600);

/// Seconds of one round.
#[derive(Default)]
struct Times {
    create: f64,
    load: f64,
    change: f64,
}

pub(crate) async fn measure(program: &Path, rounds: usize) -> Outcome<()> {
    let server = Server::start(program)?;
    let options = options();
    let repo = connect::repo(&server.url, &options).await?.backend;
    let store = store(&Raw::open(&server.url).await?).await?;
    let state = open_order(&*options.clock)?;
    let mut create = Pair::new("commit of a new order (a key made)");
    let mut load = Pair::new("load (a key read)");
    let mut change = Pair::new("commit of its end (a key changed)");
    for round in 0..rounds {
        for is_ours in turns(round) {
            let ids = ids(round, is_ours)?;
            let times = match is_ours {
                true => ours(&repo, &ids, &state).await?,
                false => theirs(&store, &ids, &state).await?,
            };
            create.add(is_ours, number(COUNT) / times.create);
            load.add(is_ours, number(COUNT) / times.load);
            change.add(is_ours, number(COUNT) / times.change);
        }
    }
    Pair::head(rounds)?;
    [create, load, change].iter().try_for_each(Pair::say)
}

async fn store(raw: &Raw) -> Outcome<Store> {
    let config =
        Config { bucket: "raw".to_owned(), storage: StorageType::File, ..Config::default() };
    Ok(raw.context.create_key_value(config).await?)
}

fn open_order(clock: &dyn Clock) -> Outcome<State> {
    Ok(State::Order(Order {
        version: 0,
        phase: Phase::Open(OpenStatus::Created),
        user_id: None,
        expires_at: clock.now() + HOUR,
        ticket: Ticket { id: TicketId::new("f".repeat(24))?, price: None },
        late: LatePayments::default(),
        trace: None,
    }))
}

fn ended(state: &State) -> State {
    match state {
        State::Order(order) => State::Order(Order { phase: Phase::Cancelled, ..order.clone() }),
        State::Ahead(ahead) => State::Ahead(ahead.clone()),
    }
}

fn ids(round: usize, is_ours: bool) -> Outcome<Vec<OrderId>> {
    let id = |n: u64| OrderId::new(format!("{round:02}{}{n:021x}", u8::from(is_ours)));
    Ok((0..COUNT).map(id).collect::<Result<_, _>>()?)
}

/// Each batch is loaded and then changed, as the service does it.
async fn ours(repo: &Arc<dyn OrderRepo>, ids: &[OrderId], state: &State) -> Outcome<Times> {
    let mut times = Times::default();
    for batch in ids.chunks(BATCH) {
        let absent = batch.iter().map(|id| change(id, Revision::ABSENT, state));
        times.create += timed(commit(repo, absent.collect())).await?.1;
    }
    let ended = ended(state);
    for batch in ids.chunks(BATCH) {
        let (records, load) = timed(async { Ok(repo.load(batch).await?) }).await?;
        times.load += load;
        let records = records.into_iter().collect::<Option<Vec<_>>>().ok_or("an order is gone")?;
        let changes = records.iter().map(|record| change(&record.id, record.revision, &ended));
        times.change += timed(commit(repo, changes.collect())).await?.1;
    }
    Ok(times)
}

fn change(id: &OrderId, expected: Revision, state: &State) -> Change {
    Change { id: id.clone(), expected, state: state.clone(), owes: Vec::new() }
}

async fn commit(repo: &Arc<dyn OrderRepo>, changes: Vec<Change>) -> Outcome<()> {
    let outcomes = repo.commit(&changes).await?;
    match outcomes.iter().all(|outcome| matches!(outcome, Committed::Committed(_))) {
        true => Ok(()),
        false => Err("a commit met another".into()),
    }
}

/// The same with one key for each order, and no index.
async fn theirs(store: &Store, ids: &[OrderId], state: &State) -> Outcome<Times> {
    let mut times = Times::default();
    for batch in ids.chunks(BATCH) {
        let create = batch.iter().map(|id| async {
            store.create(id.as_str(), serde_json::to_vec(state)?.into()).await.map_err(Into::into)
        });
        times.create += timed(try_join_all(create)).await?.1;
    }
    let ended = ended(state);
    for batch in ids.chunks(BATCH) {
        let entries = batch.iter().map(|id| async move {
            let entry = store.entry(id.as_str()).await?.ok_or("a key is gone")?;
            serde_json::from_slice::<State>(&entry.value)?;
            Outcome::Ok((id, entry.revision))
        });
        let (entries, load) = timed(try_join_all(entries)).await?;
        times.load += load;
        let update =
            entries.into_iter().map(|(id, revision)| {
                let value = serde_json::to_vec(&ended);
                async move {
                    store.update(id.as_str(), value?.into(), revision).await.map_err(Into::into)
                }
            });
        times.change += timed(try_join_all(update)).await?.1;
    }
    Ok(times)
}

/// What came of it, and the seconds that it took.
async fn timed<T>(work: impl Future<Output = Outcome<T>>) -> Outcome<(T, f64)> {
    let begun = Instant::now();
    let done = work.await?;
    Ok((done, begun.elapsed().as_secs_f64()))
}
