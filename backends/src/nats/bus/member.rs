//! One member of a group, as its owner calls it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use expirer_core::{
    Consumer, Delivery, Error, ErrorKind, Group, Message, Receipt, ReceiveOptions, Rejection,
    Release, Result, SubscribeOptions, Timestamp,
};

use super::Shared;
use super::pump::{Came, Next, Pump, Want};
use super::receipts::{Held, Receipts};
use super::seat::Seat;
use super::wire::{self, Origin};
use crate::nats::BACKEND;
use crate::nats::connection::Outgoing;

/// A deadline of less would make what is delivered visible again at once.
const ACK_DEADLINE_MIN: Duration = Duration::from_millis(1);
/// A longer deadline is taken for this.
const ACK_DEADLINE_MAX: Duration = Duration::from_secs(366 * 86_400);
/// What came and was not fetched within this is given back: whoever gets it shall have most of its
/// deadline before them.
const FRESH_MAX: Duration = Duration::from_secs(1);
/// The longest that something is put off; then it comes, and may be put off again.
const DELAY_MAX: Duration = Duration::from_secs(10 * 366 * 86_400);
/// How often a member notes how far its group has come.
const NOTE: Duration = Duration::from_secs(5);

/// A member of a group.
#[derive(Debug)]
pub(super) struct NatsConsumer {
    shared: Arc<Shared>,
    group: Group,
    ack_deadline: Duration,
    pump: Pump,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    seats: Vec<Seat>,
    receipts: Receipts,
    noted: Timestamp,
}

/// What is held, and the word that settles it.
type Settled = (Receipt, Held, Vec<u8>);

impl NatsConsumer {
    /// Joins a group, and makes its consumers where they are new.
    pub(super) async fn join(shared: Arc<Shared>, options: &SubscribeOptions) -> Result<Self> {
        const OP: &str = "subscribe";
        let ack_deadline = options.ack_deadline.clamp(ACK_DEADLINE_MIN, ACK_DEADLINE_MAX);
        let mut subjects = options.subjects.clone();
        subjects.sort_unstable();
        subjects.dedup();
        let mut seats = Vec::with_capacity(subjects.len());
        for subject in &subjects {
            seats.push(shared.join(OP, &options.group, subject, ack_deadline).await?);
        }
        let targets = seats.iter().map(|seat| (seat.wire.clone(), seat.target())).collect();
        let fresh = FRESH_MAX.min(ack_deadline / 4);
        let pump = Pump::open(OP, &shared.connection, Some(fresh), targets, shared.leaving.enter())
            .await?;
        let (receipts, noted) = (Receipts::new(shared.next_token()), shared.clock().now());
        let state = Mutex::new(State { seats, receipts, noted });
        Ok(Self { shared, group: options.group.clone(), ack_deadline, pump, state })
    }

    /// A consumer that may be gone is made again.
    async fn mend(&self, op: &'static str, at: usize) -> Result<()> {
        let subject = self.state().seats[at].subject.clone();
        self.shared.streams.forget(&subject);
        let seat = self.shared.join(op, &self.group, &subject, self.ack_deadline).await?;
        self.pump.mended(at, seat.target());
        self.state().seats[at] = seat;
        Ok(())
    }

    fn deliveries(&self, came: Vec<Came>) -> Vec<Delivery> {
        let mut state = self.state();
        state.receipts.forget_ended(self.shared.clock().now());
        came.into_iter().filter_map(|came| self.deliver(&mut state, &came)).collect()
    }

    fn deliver(&self, state: &mut State, came: &Came) -> Option<Delivery> {
        let ack = came.message.reply.as_ref()?.to_string();
        let origin = Origin::parse(&ack)?;
        let message = wire::read(&state.seats[came.seat].subject, &origin, &came.message);
        let held = Held { seat: came.seat, ack, message: message.clone() };
        let receipt = state.receipts.mint(held, came.at + self.ack_deadline);
        let delivery = Delivery::new(message, origin.published(), receipt);
        Some(delivery.with_attempt(origin.attempt))
    }

    /// Sends what settles each, and waits until the server has confirmed it.
    async fn settle(&self, op: &'static str, settled: Vec<Settled>) -> Result<()> {
        let calls = settled.iter().map(|(_, held, word)| Outgoing {
            subject: held.ack.clone(),
            headers: None,
            payload: word.clone(),
        });
        let answers = self.shared.connection.call_all(op, calls.collect()).await;
        let (mut done, mut result) = (Vec::new(), Ok(()));
        let mut orphans = BTreeMap::<usize, Vec<Receipt>>::new();
        for ((receipt, held, _), answer) in settled.into_iter().zip(answers) {
            match answer {
                Ok(_) => done.push(receipt),
                Err(failure) if failure.is_nobody_there() => {
                    orphans.entry(held.seat).or_default().push(receipt);
                }
                Err(failure) => result = Err(failure.into()),
            }
        }
        self.state().receipts.forget(done);
        for (seat, receipts) in orphans {
            result = self.check_gone(op, seat, receipts).await.and(result);
        }
        result
    }

    /// Nobody takes the acks of a consumer: it is gone, and its receipts with it, or nobody leads it.
    async fn check_gone(&self, op: &'static str, at: usize, receipts: Vec<Receipt>) -> Result<()> {
        let seat = self.state().seats[at].clone();
        if seat.describe(op, &self.shared.connection).await?.is_some() {
            let text = format!("the consumer {} has no leader now", seat.consumer);
            return Err(Error::new(ErrorKind::Unavailable, BACKEND, op, text));
        }
        self.state().receipts.forget(receipts);
        Ok(())
    }

    /// Publishes a dead letter for each; gives those whose letter is confirmed.
    async fn bury(
        &self,
        op: &'static str,
        condemned: Vec<(Receipt, Held, &str)>,
    ) -> (Vec<Settled>, Result<()>) {
        let now = self.shared.clock().now();
        let letter = |(_, held, reason): &(Receipt, Held, &str)| -> Message {
            held.message.clone().into_dead_letter(self.group.clone(), reason, now)
        };
        let letters: Vec<Message> = condemned.iter().map(letter).collect();
        let stored = self.shared.store(op, &letters).await;
        let (mut buried, mut result) = (Vec::new(), Ok(()));
        for ((receipt, held, _), stored) in condemned.into_iter().zip(stored) {
            match stored {
                Ok(()) => buried.push((receipt, held, ACK.to_vec())),
                Err(error) => result = Err(error),
            }
        }
        (buried, result)
    }

    /// Notes now and then how far the group has come, for the case that its consumers are deleted.
    fn note(&self) {
        let now = self.shared.clock().now();
        let mut state = self.state();
        if now.since(state.noted) < NOTE && now >= state.noted {
            return;
        }
        state.noted = now;
        let (seats, shared) = (state.seats.clone(), Arc::clone(&self.shared));
        drop(state);
        tokio::spawn(async move {
            for seat in seats {
                if let Ok(Some(described)) = seat.describe("note", &shared.connection).await {
                    shared.note(&seat, described.floor());
                }
            }
        });
    }

    fn found<T>(
        &self,
        receipts: impl IntoIterator<Item = (Receipt, T)>,
    ) -> Vec<(Receipt, Held, T)> {
        self.state().receipts.find(self.shared.clock().now(), receipts)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

const ACK: &[u8] = b"+ACK";

/// Gives back, to come again after this long.
fn nak(delay: Duration) -> Vec<u8> {
    match delay.min(DELAY_MAX).as_nanos() {
        0 => b"-NAK".to_vec(),
        nanos => format!("-NAK {{\"delay\":{nanos}}}").into_bytes(),
    }
}

#[async_trait]
impl Consumer for NatsConsumer {
    async fn receive(&self, options: ReceiveOptions) -> Result<Vec<Delivery>> {
        const OP: &str = "receive";
        let mut want = Want::new(options.max, options.wait, self.shared.clock().now());
        loop {
            match self.pump.next(OP, &mut want).await? {
                Next::Came(came) => {
                    let deliveries = self.deliveries(came);
                    if !deliveries.is_empty() {
                        return Ok(deliveries);
                    }
                }
                Next::Nothing => return Ok(Vec::new()),
                Next::Broken(seat) => self.mend(OP, seat).await?,
            }
        }
    }

    async fn ack(&self, receipts: &[Receipt]) -> Result<()> {
        let found = self.found(receipts.iter().map(|receipt| (*receipt, ())));
        let settled = found.into_iter().map(|(receipt, held, ())| (receipt, held, ACK.to_vec()));
        self.settle("ack", settled.collect()).await?;
        self.note();
        Ok(())
    }

    async fn release(&self, releases: &[Release]) -> Result<()> {
        // The bus has a clock of its own: what counts is how far off a time is by ours.
        let now = self.shared.clock().now();
        let found = self.found(releases.iter().map(|r| (r.receipt, r.at.since(now))));
        let settled = found.into_iter().map(|(receipt, held, off)| (receipt, held, nak(off)));
        self.settle("release", settled.collect()).await
    }

    async fn reject(&self, rejections: &[Rejection]) -> Result<()> {
        const OP: &str = "reject";
        let condemned = self.found(rejections.iter().map(|r| (r.receipt, &*r.reason)));
        let (buried, result) = self.bury(OP, condemned).await;
        let settled = self.settle(OP, buried).await;
        result.and(settled)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_delay_is_in_nanoseconds_and_has_an_end() {
        assert_eq!(nak(Duration::ZERO), b"-NAK");
        assert_eq!(nak(Duration::from_millis(5)), b"-NAK {\"delay\":5000000}");
        let longest = String::from_utf8(nak(Duration::MAX)).unwrap();
        assert_eq!(longest, format!("-NAK {{\"delay\":{}}}", DELAY_MAX.as_nanos()));
        assert!(i64::try_from(DELAY_MAX.as_nanos()).is_ok());
    }
}
