//! A live view: it reads streams as they are, and leaves nothing behind.

use std::sync::Arc;

use async_trait::async_trait;
use expirer_core::{ReceiveOptions, Result, Subject, Tail, TailBatch, Timestamp};
use futures_lite::future;
use redis::Value;
use tokio::sync::Mutex;

use super::Shared;
use super::entry::{Entry, EntryId, entries, id, list};
use super::seat::{explained, stream, tail};
use super::watch::{Known, Seen};
use super::wire;
use crate::redis::error::unreadable;

const OP: &str = "tail";

#[derive(Debug)]
pub(super) struct RedisTail {
    shared: Arc<Shared>,
    streams: Vec<(Subject, String)>,
    place: Mutex<Place>,
}

/// How far a tail has come on each stream, and with which it begins.
#[derive(Debug)]
struct Place {
    seen: Vec<EntryId>,
    turn: usize,
}

/// What one look gave.
#[derive(Default)]
struct Look {
    batch: TailBatch,
    seen: Vec<(Known, EntryId)>,
}

impl RedisTail {
    /// Begins at the end of each stream.
    pub(super) async fn open(shared: Arc<Shared>, subjects: &[Subject]) -> Result<Self> {
        let mut subjects = subjects.to_vec();
        subjects.sort_unstable();
        subjects.dedup();
        let prefix = shared.prefix.as_deref();
        let key = |subject: Subject| (subject.clone(), stream(prefix, &subject));
        let streams: Vec<_> = subjects.into_iter().map(key).collect();
        let place = Mutex::new(Place { seen: Vec::new(), turn: 0 });
        let view = Self { shared, streams, place };
        let ends = vec![None; view.streams.len()];
        let read = view.read(&ends, 1).await.into_iter();
        let seen = read.map(|read| read.map(|(_, last)| last)).collect::<Result<_>>()?;
        view.place.lock().await.seen = seen;
        Ok(view)
    }

    /// Reads each stream after what was seen of it, and where it ends.
    async fn read(
        &self,
        seen: &[Option<EntryId>],
        max: usize,
    ) -> Vec<Result<(Vec<Entry>, EntryId)>> {
        let calls = self.streams.iter().zip(seen);
        let calls = calls.map(|((_, stream), seen)| tail(stream, *seen, max)).collect();
        let answers = self.shared.connection.run(OP, calls).await;
        let streams = self.streams.iter().zip(answers);
        streams
            .map(|((_, stream), answer)| answer.map_err(|error| explained(OP, stream, error)))
            .map(|answer| answer.and_then(read))
            .collect()
    }

    /// What was seen changes only after the last await: a look that is dropped loses nothing.
    async fn look(&self, max: usize) -> Result<Look> {
        let known = |(_, stream): &(_, String)| self.shared.watch.known(stream);
        let known: Vec<Known> = self.streams.iter().map(known).collect();
        let mut place = self.place.lock().await;
        let share = max.div_ceil(self.streams.len().max(1));
        let seen: Vec<_> = place.seen.iter().copied().map(Some).collect();
        let read = self.read(&seen, share).await.into_iter().collect::<Result<Vec<_>>>()?;
        let mut look = Look::default();
        for (known, (_, last)) in known.into_iter().zip(&read) {
            look.seen.push((known, *last));
        }
        let mut all: Vec<_> = read.into_iter().enumerate().collect();
        if !all.is_empty() {
            place.turn = (place.turn + 1) % all.len();
            all.rotate_left(place.turn);
        }
        for (at, (entries, last)) in all {
            if entries.is_empty() {
                // Less than what was seen: the stream was made anew.
                place.seen[at] = last;
            }
            for entry in entries.into_iter().take(max - look.batch.messages.len()) {
                place.seen[at] = entry.id;
                look.batch.messages.push(wire::read(&self.streams[at].0, &entry));
            }
        }
        Ok(look)
    }

    async fn wait(&self, look: &Look, until: Timestamp) {
        let streams = self.streams.iter().zip(&look.seen);
        let seen: Vec<_> = streams
            .map(|((_, stream), (known, last))| Seen { stream, known: *known, last: *last })
            .collect();
        let clock = &self.shared.clock;
        let until = until.min(clock.now() + self.shared.watch.poll(&seen));
        future::or(self.shared.watch.news(&seen), clock.sleep_until(until)).await;
    }
}

fn read(answer: Value) -> Result<(Vec<Entry>, EntryId)> {
    let mut parts = list(answer).unwrap_or_default().into_iter();
    let entries = entries(OP, parts.next())?;
    let last = parts.next().and_then(|last| id(&last));
    Ok((entries, last.ok_or_else(|| unreadable(OP, "no last id"))?))
}

#[async_trait]
impl Tail for RedisTail {
    async fn receive(&self, options: ReceiveOptions) -> Result<TailBatch> {
        let clock = &self.shared.clock;
        let mut deadline = clock.now() + options.wait;
        loop {
            let look = self.look(options.max.max(1)).await?;
            let now = clock.now();
            if !look.batch.messages.is_empty() || now >= deadline {
                return Ok(look.batch);
            }
            deadline = deadline.min(now + options.wait);
            self.wait(&look, deadline).await;
        }
    }
}
