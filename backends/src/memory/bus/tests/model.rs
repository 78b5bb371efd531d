//! The bus against a naive model of it.

use expirer_core::Clock;
use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug)]
enum Step {
    Publish { subject: usize, count: usize },
    Receive { group: usize, max: usize },
    Ack { group: usize, index: usize },
    Release { group: usize, index: usize, millis: u64 },
    Advance { millis: u64 },
    JoinLate,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (0_usize..2, 1_usize..6).prop_map(|(subject, count)| Step::Publish { subject, count }),
        4 => (0_usize..2, 0_usize..5).prop_map(|(group, max)| Step::Receive { group, max }),
        4 => (0_usize..2, 0_usize..100).prop_map(|(group, index)| Step::Ack { group, index }),
        2 => (0_usize..2, 0_usize..100, 0_u64..15_000)
            .prop_map(|(group, index, millis)| Step::Release { group, index, millis }),
        3 => (0_u64..12_000).prop_map(|millis| Step::Advance { millis }),
        1 => Just(Step::JoinLate),
    ]
}

/// A message as one group sees it.
#[derive(Clone, Debug)]
struct Seen {
    number: usize,
    subject: usize,
    published: Timestamp,
    attempt: u32,
    visible_at: Timestamp,
    /// Its delivery, while that is neither settled nor released.
    receipt: Option<Receipt>,
    settled: bool,
}

const SUBJECTS: [Subject; 2] = [CREATED, PAID];

struct Reader {
    group: Group,
    consumer: Box<dyn Consumer>,
    messages: Vec<Seen>,
    receipts: Vec<Receipt>,
}

impl Reader {
    fn join(bus: &MemoryBus, group: Group, messages: &[Seen]) -> Self {
        let consumer = join(bus, group.clone(), &SUBJECTS);
        Self { group, consumer, messages: messages.to_vec(), receipts: Vec::new() }
    }

    /// The numbers and attempts that the next call brings.
    fn expect(&mut self, max: usize, now: Timestamp) -> Vec<(usize, u32)> {
        let visible =
            |seen: &&mut Seen| !seen.settled && (seen.attempt == 0 || seen.visible_at <= now);
        let mut next: Vec<_> = self.messages.iter_mut().filter(visible).collect();
        next.sort_by_key(|seen| {
            (seen.attempt == 0, (seen.attempt > 0).then_some(seen.visible_at), seen.number)
        });
        next.truncate(max.max(1));
        for seen in &mut next {
            seen.attempt += 1;
            seen.visible_at = now + ACK_DEADLINE;
            seen.receipt = None;
        }
        next.iter().map(|seen| (seen.number, seen.attempt)).collect()
    }

    fn receive(&mut self, max: usize, now: Timestamp) -> Result<(), TestCaseError> {
        let expected = self.expect(max, now);
        let delivered = receive(&*self.consumer, max);
        for delivery in &delivered {
            let seen = &mut self.messages[number(&delivery.message)];
            prop_assert_eq!(delivery.published, seen.published);
            seen.receipt = Some(delivery.receipt);
        }
        self.receipts.extend(receipts(&delivered));
        let pairs = numbers(&delivered).into_iter().zip(attempts(&delivered));
        prop_assert_eq!(pairs.collect::<Vec<_>>(), expected);
        Ok(())
    }

    /// Any receipt there ever was, and the message that it holds, if it does.
    fn pick(&mut self, index: usize, now: Timestamp) -> Option<(Receipt, Option<&mut Seen>)> {
        let receipt = *self.receipts.get(index % self.receipts.len().max(1))?;
        let is_held = |seen: &&mut Seen| seen.receipt == Some(receipt) && now < seen.visible_at;
        Some((receipt, self.messages.iter_mut().find(is_held)))
    }

    fn ack(&mut self, index: usize, now: Timestamp) {
        let Some((receipt, held)) = self.pick(index, now) else { return };
        if let Some(seen) = held {
            seen.settled = true;
            seen.receipt = None;
        }
        now_or_never(self.consumer.ack(&[receipt])).expect("acks");
    }

    fn release(&mut self, index: usize, at: Timestamp, now: Timestamp) {
        let Some((receipt, held)) = self.pick(index, now) else { return };
        if let Some(seen) = held {
            seen.visible_at = at;
            seen.receipt = None;
        }
        now_or_never(self.consumer.release(&[Release { receipt, at }])).expect("releases");
    }

    fn check(&self, bus: &MemoryBus, now: Timestamp) -> Result<(), TestCaseError> {
        for (index, subject) in SUBJECTS.iter().enumerate() {
            let open =
                || self.messages.iter().filter(|seen| seen.subject == index && !seen.settled);
            let waiting = open().filter(|seen| seen.attempt == 0).count() as u64;
            let unacked = open().count() as u64 - waiting;
            let worked_off = open().next().map_or(now, |seen| seen.published);
            let expected = Progress::new(waiting, unacked).with_worked_off(worked_off);
            prop_assert_eq!(progress(bus, &self.group, subject), expected);
        }
        Ok(())
    }
}

struct World {
    clock: Arc<VirtualClock>,
    bus: MemoryBus,
    readers: Vec<Reader>,
    published: Vec<Seen>,
}

impl World {
    fn new() -> Self {
        let (clock, bus) = bus();
        let readers = vec![Reader::join(&bus, ORDERS, &[])];
        Self { clock, bus, readers, published: Vec::new() }
    }

    fn publish(&mut self, subject: usize, count: usize) {
        let (first, published) = (self.published.len(), self.clock.now());
        publish(&self.bus, &SUBJECTS[subject], first..first + count);
        let seen = |number| Seen {
            number,
            subject,
            published,
            attempt: 0,
            visible_at: published,
            receipt: None,
            settled: false,
        };
        self.published.extend((first..first + count).map(seen));
        let new = &self.published[first..];
        self.readers.iter_mut().for_each(|reader| reader.messages.extend_from_slice(new));
    }

    fn take(&mut self, step: &Step) -> Result<(), TestCaseError> {
        let now = self.clock.now();
        match *step {
            Step::Publish { subject, count } => self.publish(subject, count),
            Step::Advance { millis } => self.clock.advance(Duration::from_millis(millis)),
            Step::JoinLate if self.readers.len() == 1 => {
                self.readers.push(Reader::join(&self.bus, EXPIRATION, &self.published));
            }
            Step::JoinLate => {}
            Step::Receive { group, max } => {
                return self
                    .readers
                    .get_mut(group)
                    .map_or(Ok(()), |reader| reader.receive(max, now));
            }
            Step::Ack { group, index } => {
                self.readers.get_mut(group).into_iter().for_each(|reader| reader.ack(index, now));
            }
            Step::Release { group, index, millis } => {
                let at = now + Duration::from_millis(millis);
                let reader = self.readers.get_mut(group);
                reader.into_iter().for_each(|reader| reader.release(index, at, now));
            }
        }
        Ok(())
    }

    fn check(&self) -> Result<(), TestCaseError> {
        let now = self.clock.now();
        let is_outstanding =
            |number: usize| self.readers.iter().any(|r| !r.messages[number].settled);
        let outstanding = (0..self.published.len()).filter(|number| is_outstanding(*number));
        prop_assert_eq!(self.bus.outstanding(), outstanding.count() as u64);
        prop_assert_eq!(self.bus.stored(), self.published.len() as u64);
        self.readers.iter().try_for_each(|reader| reader.check(&self.bus, now))
    }

    /// Whatever happened, every group can come to the end of everything.
    fn finish(&mut self) -> Result<(), TestCaseError> {
        self.clock.advance(Duration::from_secs(60));
        let now = self.clock.now();
        for reader in &mut self.readers {
            reader.receive(1000, now)?;
            (0..reader.receipts.len()).for_each(|index| reader.ack(index, now));
            prop_assert!(reader.messages.iter().all(|seen| seen.settled && seen.attempt > 0));
            reader.receive(1000, now)?;
        }
        prop_assert_eq!(self.bus.outstanding(), 0);
        self.check()
    }
}

proptest! {
    #[test]
    fn behaves_as_the_model(steps in prop::collection::vec(step(), 0..120)) {
        let mut world = World::new();
        for step in &steps {
            world.take(step)?;
            world.check()?;
        }
        world.finish()?;
    }
}
