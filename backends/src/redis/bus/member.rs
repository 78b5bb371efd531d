//! What one member of a group takes, and what it does with it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use expirer_core::{
    Delivery, Group, Message, Receipt, Rejection, Release, Result, SubscribeOptions, Timestamp,
};
use redis::Value;
use tokio::runtime::Handle;

use super::Shared;
use super::chores::Chores;
use super::entry::{EntryId, Taken, entries};
use super::receipts::{Held, Receipts};
use super::seat::{Proof, RECEIPTS_MAX, Seat, TAKE_MAX, explained};
use super::watch::{Known, Seen};
use super::wire;
use crate::redis::script::Call;

/// A deadline of less would make what is delivered visible again at once.
const ACK_DEADLINE_MIN: Duration = Duration::from_millis(1);
/// A longer deadline is taken for this.
const ACK_DEADLINE_MAX: Duration = Duration::from_secs(366 * 86_400);

/// A member; its own tasks share it.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) shared: Arc<Shared>,
    pub(super) seats: Vec<Seat>,
    pub(super) ack_deadline: Duration,
    group: Group,
    receipts: Mutex<Receipts>,
    chores: Mutex<Chores>,
    turn: AtomicUsize,
}

/// What is rejected: its receipt and the reason.
type Condemned<'a> = (u64, Proof, (Receipt, &'a str));

/// What one look at the streams gave. What is not [accepted](Self::accept) is given back.
#[derive(Debug)]
pub(super) struct Look {
    member: Arc<Member>,
    deliveries: Vec<Delivery>,
    /// What was known of each seat's stream before, and its last entry by this look.
    seen: Vec<(Known, EntryId)>,
    /// How long until the next delivery becomes visible.
    pub(super) next: Option<Duration>,
}

impl Look {
    fn begin(member: Arc<Member>) -> Self {
        let known = |seat: &Seat| (member.shared.watch.known(&seat.stream), EntryId::default());
        let seen = member.seats.iter().map(known).collect();
        Self { member, deliveries: Vec::new(), seen, next: None }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.deliveries.is_empty()
    }

    /// The streams that were looked at.
    pub(super) fn seen(&self) -> Vec<Seen<'_>> {
        let seen = self.member.seats.iter().zip(&self.seen);
        seen.map(|(seat, (known, last))| Seen { stream: &seat.stream, known: *known, last: *last })
            .collect()
    }

    /// Hands over what was taken.
    pub(super) fn accept(mut self) -> Vec<Delivery> {
        std::mem::take(&mut self.deliveries)
    }

    /// Takes in what one stream gave, and says how much.
    fn add(&mut self, seat: usize, taken: Taken) -> usize {
        let count = taken.entries.len();
        self.seen[seat].1 = taken.last;
        let next = taken.next_ms.map(Duration::from_millis);
        self.next = [self.next, next].into_iter().flatten().min();
        self.deliveries.extend(self.member.deliveries(seat, taken));
        count
    }
}

impl Drop for Look {
    fn drop(&mut self) {
        let (false, Ok(runtime)) = (self.deliveries.is_empty(), Handle::try_current()) else {
            return;
        };
        let (member, taken) = (Arc::clone(&self.member), std::mem::take(&mut self.deliveries));
        // Where it fails, they come again after their deadline.
        runtime.spawn(async move { drop(member.give_back(&taken).await) });
    }
}

impl Member {
    pub(super) fn new(shared: Arc<Shared>, options: &SubscribeOptions) -> Self {
        let (name, token) = shared.next_member();
        let mut subjects = options.subjects.clone();
        subjects.sort_unstable();
        subjects.dedup();
        let prefix = shared.prefix.as_deref();
        let seat = |subject| Seat::new(prefix, subject, &options.group, &name);
        let seats: Vec<Seat> = subjects.iter().map(seat).collect();
        Self {
            ack_deadline: options.ack_deadline.clamp(ACK_DEADLINE_MIN, ACK_DEADLINE_MAX),
            group: options.group.clone(),
            receipts: Mutex::new(Receipts::new(token)),
            chores: Mutex::new(Chores::new(seats.len(), shared.clock.now())),
            turn: AtomicUsize::new(0),
            shared,
            seats,
        }
    }

    pub(super) async fn join(&self) -> Result<()> {
        let calls = self.seats.iter().map(|seat| (seat, seat.join())).collect();
        self.run("subscribe", calls).await.into_iter().try_for_each(|answer| answer.map(drop))
    }

    /// Looks at the streams, beginning with another one each time. Each gives its share; one that
    /// has more is asked again if there is room.
    pub(super) async fn look(self: Arc<Self>, max: usize) -> Result<Look> {
        let mut look = Look::begin(Arc::clone(&self));
        let (count, mut room, mut failure) = (self.seats.len(), max, None);
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        // Changes with each round of turns, and so for each seat.
        let again_first = (turn / count.max(1)).is_multiple_of(2);
        let mut open: Vec<usize> = (0..count).map(|at| turn.wrapping_add(at) % count).collect();
        while room > 0 && !open.is_empty() {
            let round: Vec<usize> = open.drain(..room.min(open.len())).collect();
            let share = (room / round.len()).min(TAKE_MAX);
            let take = |seat: &Seat| seat.take(share, self.ack_deadline, again_first);
            let calls = round.iter().map(|at| &self.seats[*at]).map(|seat| (seat, take(seat)));
            let answers = self.run("receive", calls.collect()).await;
            for (seat, answer) in round.into_iter().zip(answers) {
                match answer.and_then(Taken::read) {
                    Ok(taken) => {
                        let came = look.add(seat, taken);
                        room -= came.min(room);
                        if came == share && share < TAKE_MAX {
                            open.push(seat);
                        }
                    }
                    Err(error) => failure = Some(error),
                }
            }
        }
        if !look.is_empty() {
            return Ok(look);
        }
        failure.or_else(|| self.chores().unreported()).map_or(Ok(look), Err)
    }

    fn deliveries(&self, seat: usize, taken: Taken) -> Vec<Delivery> {
        let now = self.shared.clock.now();
        let mut receipts = self.receipts();
        receipts.forget_ended(now);
        let subject = &self.seats[seat].subject;
        let deliver = |entry: super::entry::Entry| {
            let proof = Proof { id: entry.id, count: entry.count };
            let receipt = receipts.mint(seat, proof, now + self.ack_deadline);
            let message = wire::read(subject, &entry);
            Delivery::new(message, entry.id.time(), receipt).with_attempt(entry.count)
        };
        taken.entries.into_iter().map(deliver).collect()
    }

    pub(super) async fn ack(&self, receipts: &[Receipt]) -> Result<()> {
        let held = self.held(receipts.iter().map(|receipt| (*receipt, ())));
        let call = |seat: &Seat, piece: &[_]| seat.ack(piece.iter().map(|(_, proof, ())| *proof));
        self.settle("ack", held, call).await
    }

    /// The bus has a clock of its own: what counts is how far off a time is by ours.
    pub(super) async fn release(&self, releases: &[Release]) -> Result<()> {
        let now = self.shared.clock.now();
        let held = self.held(releases.iter().map(|release| (release.receipt, release.at)));
        let released = self
            .settle("release", held, |seat, piece: &[(u64, Proof, Timestamp)]| {
                seat.release(piece.iter().map(|(_, proof, at)| (*proof, at.since(now))))
            })
            .await;
        self.seats.iter().for_each(|seat| self.shared.watch.nudge(&seat.stream));
        released
    }

    async fn give_back(&self, deliveries: &[Delivery]) -> Result<()> {
        let release =
            |delivery: &Delivery| Release { receipt: delivery.receipt, at: Timestamp::MIN };
        self.release(&deliveries.iter().map(release).collect::<Vec<_>>()).await
    }

    pub(super) async fn reject(&self, rejections: &[Rejection]) -> Result<()> {
        let held = self.held(rejections.iter().map(|r| (r.receipt, (r.receipt, &*r.reason))));
        let mut result = Ok(());
        for (seat, held) in self.seats.iter().zip(held) {
            for piece in held.chunks(RECEIPTS_MAX) {
                result = self.bury(seat, piece).await.and(result);
            }
        }
        result
    }

    /// Publishes dead letters, and settles those whose letter is confirmed.
    async fn bury(&self, seat: &Seat, held: &[Condemned<'_>]) -> Result<()> {
        let call = seat.held(held.iter().map(|(_, proof, _)| *proof));
        let answer =
            self.run("reject", vec![(seat, call)]).await.pop().unwrap_or(Ok(Value::Nil))?;
        let by_id: BTreeMap<EntryId, &Condemned<'_>> =
            held.iter().map(|held| (held.1.id, held)).collect();
        let now = self.shared.clock.now();
        let (mut known, mut letters) = (Vec::new(), Vec::new());
        for entry in entries("reject", Some(answer))? {
            let Some((_, _, (receipt, reason))) = by_id.get(&entry.id) else { continue };
            let message = wire::read(&seat.subject, &entry);
            known.push(*receipt);
            letters.push(message.into_dead_letter(self.group.clone(), reason, now));
        }
        let (confirmed, result) = self.publish_letters(known, &letters).await;
        let settled = self.ack(&confirmed).await;
        result.and(settled)
    }

    async fn publish_letters(
        &self,
        receipts: Vec<Receipt>,
        letters: &[Message],
    ) -> (Vec<Receipt>, Result<()>) {
        let (mut confirmed, mut result) = (Vec::new(), Ok(()));
        for (receipt, answer) in
            receipts.into_iter().zip(self.shared.add_all("reject", letters).await)
        {
            match answer {
                Ok(_) => confirmed.push(receipt),
                Err(error) => result = Err(error),
            }
        }
        (confirmed, result)
    }

    fn held<T>(&self, receipts: impl IntoIterator<Item = (Receipt, T)>) -> Vec<Held<T>> {
        self.receipts().find(self.seats.len(), receipts)
    }

    /// Runs one call for each piece of what is held, and forgets what succeeded.
    async fn settle<T>(
        &self,
        op: &'static str,
        held: Vec<Held<T>>,
        call: impl Fn(&Seat, &[(u64, Proof, T)]) -> Call,
    ) -> Result<()> {
        let pieces = self.seats.iter().zip(&held);
        let pieces: Vec<_> = pieces
            .flat_map(|(seat, held)| held.chunks(RECEIPTS_MAX).map(move |piece| (seat, piece)))
            .collect();
        let calls = pieces.iter().map(|(seat, piece)| (*seat, call(seat, piece))).collect();
        let answers = self.run(op, calls).await;
        let mut receipts = self.receipts();
        let mut result = Ok(());
        for ((_, piece), answer) in pieces.into_iter().zip(answers) {
            match answer {
                Ok(_) => receipts.forget(piece.iter().map(|(key, ..)| *key)),
                Err(error) => result = Err(error),
            }
        }
        result
    }

    pub(super) async fn run(
        &self,
        op: &'static str,
        calls: Vec<(&Seat, Call)>,
    ) -> Vec<Result<Value>> {
        let (seats, calls): (Vec<_>, Vec<_>) = calls.into_iter().unzip();
        let answers = self.shared.connection.run(op, calls).await;
        let explain = |(seat, answer): (&Seat, Result<Value>)| {
            answer.map_err(|error| explained(op, &seat.stream, error))
        };
        seats.into_iter().zip(answers).map(explain).collect()
    }

    fn receipts(&self) -> MutexGuard<'_, Receipts> {
        self.receipts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn chores(&self) -> MutexGuard<'_, Chores> {
        self.chores.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
