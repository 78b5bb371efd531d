//! Applies inputs to orders: load, decide, commit, announce; again where somebody was first.

use super::CONFLICT_ROUNDS_MAX;
use super::announce::{Debt, Outbox, contended};
use crate::event::Event;
use crate::observe::Signal;
use crate::order::{Effect, Input, Refused, State, apply};
use crate::{Change, OrderId, Outcome, Record, Result, Revision, Timestamp};

/// The inputs for one order, in order. Ids are distinct within a batch of cases.
#[derive(Debug)]
pub(crate) struct Case {
    pub(crate) id: OrderId,
    pub(crate) inputs: Vec<Input>,
}

/// What became of a [`Case`]: committed, and all that was owed announced.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Settled {
    /// The state now; `None` for an order that is not known.
    pub(crate) state: Option<State>,
    /// The answer to each input, in order.
    pub(crate) answers: Vec<std::result::Result<Effect, Refused>>,
}

/// A case on its way through one round.
struct Attempt {
    at: usize,
    revision: Revision,
    state: Option<State>,
    owes: Vec<Event>,
    /// How much of that was owed before.
    found: usize,
    changed: bool,
    answers: Vec<std::result::Result<Effect, Refused>>,
}

impl Outbox {
    /// Settles cases: one result per case, in order. After an error, the change may be committed
    /// and its announcement owed; a repeat of the same inputs finds that and announces it.
    pub(crate) async fn settle(&self, cases: &[Case]) -> Vec<Result<Settled>> {
        let mut results: Vec<Result<Settled>> =
            cases.iter().map(|_| Err(contended("commit"))).collect();
        let mut committed = Vec::with_capacity(cases.len());
        let mut open: Vec<usize> = (0..cases.len()).collect();
        for _ in 0..CONFLICT_ROUNDS_MAX {
            if open.is_empty() {
                break;
            }
            let attempts = self.decide(cases, &open, &mut results).await;
            open = self.store(cases, attempts, &mut committed, &mut results).await;
        }
        self.announce_all(cases, committed, &mut results).await;
        results
    }

    /// Loads the open cases and applies their inputs.
    async fn decide(
        &self,
        cases: &[Case],
        open: &[usize],
        results: &mut [Result<Settled>],
    ) -> Vec<Attempt> {
        let ids: Vec<OrderId> = open.iter().map(|at| cases[*at].id.clone()).collect();
        let records = self.load(&ids).await;
        let now = self.env.now();
        let mut attempts = Vec::with_capacity(open.len());
        for (at, record) in open.iter().zip(records) {
            match record {
                Ok(record) => attempts.push(Attempt::new(*at, record).decided(&cases[*at], now)),
                Err(error) => results[*at] = Err(error),
            }
        }
        attempts
    }

    /// Commits what changed; returns the cases for which somebody else was first.
    async fn store(
        &self,
        cases: &[Case],
        attempts: Vec<Attempt>,
        committed: &mut Vec<Attempt>,
        results: &mut [Result<Settled>],
    ) -> Vec<usize> {
        let (mut changed, unchanged): (Vec<_>, Vec<_>) =
            attempts.into_iter().partition(|attempt| attempt.changed);
        committed.extend(unchanged);
        let changes: Vec<Change> =
            changed.iter_mut().filter_map(|attempt| attempt.take_change(cases)).collect();
        let outcomes = self.commit(&changes).await;
        let mut lost = Vec::new();
        for ((mut attempt, change), outcome) in changed.into_iter().zip(changes).zip(outcomes) {
            match outcome {
                Ok(Outcome::Committed(revision)) => {
                    attempt.revision = revision;
                    (attempt.state, attempt.owes) = (Some(change.state), change.owes);
                    self.report(&cases[attempt.at].id, &attempt);
                    committed.push(attempt);
                }
                Ok(Outcome::Conflict) => lost.push(attempt.at),
                Err(error) => results[attempt.at] = Err(error),
            }
        }
        lost
    }

    fn report(&self, id: &OrderId, attempt: &Attempt) {
        for effect in attempt.answers.iter().flatten().filter(|effect| **effect != Effect::Nothing)
        {
            self.env.report(&Signal::Changed { id, effect: *effect });
        }
    }

    /// Announces what the committed records owe, as far as it is for us.
    async fn announce_all(
        &self,
        cases: &[Case],
        committed: Vec<Attempt>,
        results: &mut [Result<Settled>],
    ) {
        let (mut debts, mut owing) = (Vec::new(), Vec::new());
        for attempt in committed {
            let ours = attempt.ours(&cases[attempt.at]);
            let Attempt { at, revision, state, owes, answers, .. } = attempt;
            match state {
                Some(state) if !ours.is_empty() => {
                    let record = Record { id: cases[at].id.clone(), revision, state, owes };
                    debts.push(Debt { record, ours });
                    owing.push((at, answers));
                }
                state => results[at] = Ok(Settled { state, answers }),
            }
        }
        let announced = self.announce(&mut debts).await;
        for (((at, answers), debt), result) in owing.into_iter().zip(debts).zip(announced) {
            results[at] = result.map(|()| Settled { state: Some(debt.record.state), answers });
        }
    }
}

impl Attempt {
    fn new(at: usize, record: Option<Record>) -> Self {
        let (revision, state, owes) = match record {
            Some(Record { revision, state, owes, .. }) => (revision, Some(state), owes),
            None => (Revision::ABSENT, None, Vec::new()),
        };
        let found = owes.len();
        Self { at, revision, state, owes, found, changed: false, answers: Vec::with_capacity(1) }
    }

    /// Applies the inputs one after the other.
    fn decided(mut self, case: &Case, now: Timestamp) -> Self {
        for input in &case.inputs {
            let answer = apply(&case.id, self.state.as_ref(), input, now).map(|decision| {
                if decision.state.is_some() {
                    self.state = decision.state;
                    self.changed = true;
                }
                self.owes.extend(decision.owes);
                decision.effect
            });
            self.answers.push(answer);
        }
        self
    }

    /// What is for us to announce: what these inputs made the record owe; and of what was owed
    /// before, that which an input that now did nothing may have caused, because it may be the
    /// repeat of one whose announcement a crash cut off. The rest is somebody's work in hand.
    fn ours(&self, case: &Case) -> Vec<Event> {
        let repeats: Vec<&Input> = self
            .answers
            .iter()
            .zip(&case.inputs)
            .filter(|(answer, _)| !answer.is_ok_and(|effect| effect != Effect::Nothing))
            .map(|(_, input)| input)
            .collect();
        let (found, added) = self.owes.split_at(self.found);
        let state = self.state.as_ref();
        let is_cut_off = |owed| repeats.iter().any(|input| input.may_owe(state, owed));
        // Nobody may hear of the end of an order before its beginning.
        let ends = added.iter().any(|event| matches!(event, Event::OrderCancelled(_)));
        let begins = |owed: &Event| ends && matches!(owed, Event::OrderCreated(_));
        let found = found.iter().filter(|owed| is_cut_off(owed) || begins(owed));
        found.chain(added).cloned().collect()
    }

    /// What is to be committed; the state is back once it is.
    fn take_change(&mut self, cases: &[Case]) -> Option<Change> {
        let (id, state) = (cases[self.at].id.clone(), self.state.take()?);
        let owes = std::mem::take(&mut self.owes);
        Some(Change { id, expected: self.revision, state, owes })
    }
}
