//! A live view: for each subject a consumer without a name or acks, which the server forgets soon
//! after nobody asks it any more.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use expirer_core::{Message, ReceiveOptions, Result, Subject, Tail, TailBatch};
use serde::Deserialize;
use serde_json::json;
use tokio::sync::Mutex;

use super::Shared;
use super::pump::{Came, Next, Pump, Want};
use super::streams::TRIES;
use super::wire::{self, Origin};
use crate::nats::connection::Answered;

/// How long the server keeps a consumer that nobody asks. Who comes back later goes on all the same
/// where it was: it makes another.
const IDLE_MAX: Duration = Duration::from_secs(30);

/// A tail.
#[derive(Debug)]
pub(super) struct NatsTail {
    shared: Arc<Shared>,
    pump: Pump,
    /// Held by the one call that receives.
    places: Mutex<Vec<Place>>,
}

/// How far a tail has come on one subject.
#[derive(Debug)]
struct Place {
    subject: Subject,
    stream: String,
    /// When the stream was made: another one begins again at one.
    created: String,
    /// The last sequence of the stream that was seen.
    seen: u64,
}

#[derive(Debug, Deserialize)]
struct Made {
    name: String,
}

impl Place {
    /// At the end of the stream, with what follows from there.
    async fn begin(op: &'static str, shared: &Shared, subject: &Subject) -> Result<(Self, String)> {
        let mut tries = 0;
        loop {
            tries += 1;
            match Self::try_begin(op, shared, subject).await {
                Err(failure) if failure.is_late() && tries < TRIES => (),
                begun => return Ok(begun?),
            }
        }
    }

    async fn try_begin(
        op: &'static str,
        shared: &Shared,
        subject: &Subject,
    ) -> Answered<(Self, String)> {
        let (stream, described) = shared.described(op, subject).await?;
        let (created, seen) = (described.created, described.state.last_seq);
        let place = Self { subject: subject.clone(), stream, created, seen };
        let target = place.follow(op, shared).await?;
        Ok((place, target))
    }

    /// Where it was before, as far as the stream is the same.
    async fn again(&mut self, op: &'static str, shared: &Shared) -> Result<()> {
        shared.streams.forget(&self.subject);
        let (stream, described) = shared.described(op, &self.subject).await?;
        if described.created != self.created {
            self.seen = 0;
        }
        // A machine that crashed may have lost the end of the stream.
        self.seen = self.seen.min(described.state.last_seq);
        (self.stream, self.created) = (stream, described.created);
        Ok(())
    }

    /// Makes a consumer that goes on from here; gives its stream and name.
    async fn follow(&self, op: &'static str, shared: &Shared) -> Answered<String> {
        let idle = u64::try_from(IDLE_MAX.as_nanos()).unwrap_or(u64::MAX);
        let config = json!({
            "deliver_policy": "by_start_sequence", "opt_start_seq": self.seen + 1,
            "filter_subject": shared.streams.wire(&self.subject), "ack_policy": "none",
            "replay_policy": "instant", "inactive_threshold": idle, "mem_storage": true,
            "num_replicas": 1,
        });
        let body = json!({ "stream_name": self.stream, "config": config });
        let call = format!("CONSUMER.CREATE.{}", self.stream);
        let made: Made = shared.connection.api(op, &call, &body).await?;
        Ok(format!("{}.{}", self.stream, made.name))
    }

    /// Reads a message; `None` for one that was seen before.
    fn read(&mut self, came: &Came) -> Option<Message> {
        let origin = Origin::parse(came.message.reply.as_ref()?)?;
        (origin.sequence > self.seen).then(|| {
            self.seen = origin.sequence;
            wire::read(&self.subject, &origin, &came.message)
        })
    }
}

impl NatsTail {
    /// Begins at the end of each stream.
    pub(super) async fn open(shared: Arc<Shared>, subjects: &[Subject]) -> Result<Self> {
        const OP: &str = "tail";
        let mut subjects = subjects.to_vec();
        subjects.sort_unstable();
        subjects.dedup();
        let (mut places, mut targets) = (Vec::new(), Vec::new());
        for subject in &subjects {
            let (place, target) = Place::begin(OP, &shared, subject).await?;
            targets.push((shared.streams.wire(subject), target));
            places.push(place);
        }
        let pump =
            Pump::open(OP, &shared.connection, None, targets, shared.leaving.enter()).await?;
        Ok(Self { shared, pump, places: Mutex::new(places) })
    }
}

#[async_trait]
impl Tail for NatsTail {
    async fn receive(&self, options: ReceiveOptions) -> Result<TailBatch> {
        const OP: &str = "receive";
        let mut want = Want::new(options.max, options.wait, self.shared.clock().now());
        let mut places = self.places.lock().await;
        loop {
            match self.pump.next(OP, &mut want).await? {
                Next::Came(came) => {
                    let read = |came: &Came| places[came.seat].read(came);
                    let messages: Vec<Message> = came.iter().filter_map(read).collect();
                    if !messages.is_empty() {
                        return Ok(TailBatch::new(messages));
                    }
                }
                Next::Nothing => return Ok(TailBatch::default()),
                Next::Broken(at) => {
                    places[at].again(OP, &self.shared).await?;
                    let target = places[at].follow(OP, &self.shared).await?;
                    self.pump.mended(at, target);
                }
            }
        }
    }
}
