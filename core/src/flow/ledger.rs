//! Applies inputs to orders: load, decide, commit, announce; again where somebody was first.

use super::CONFLICT_ROUNDS_MAX;
use super::announce::{Outbox, contended};
use crate::observe::Signal;
use crate::order::{Effect, Input, Refused, State, apply};
use crate::{Change, Error, OrderId, Outcome, Record, Result, Revision};

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
    owes: Vec<crate::event::Event>,
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
            match self.decide(cases, &open).await {
                Ok(attempts) => {
                    open = self.store(cases, attempts, &mut committed, &mut results).await;
                }
                Err(error) => {
                    fail(&mut results, &open, &error);
                    break;
                }
            }
        }
        self.announce_all(cases, committed, &mut results).await;
        results
    }

    /// Loads the open cases and applies their inputs.
    async fn decide(&self, cases: &[Case], open: &[usize]) -> Result<Vec<Attempt>> {
        let ids: Vec<OrderId> = open.iter().map(|at| cases[*at].id.clone()).collect();
        let records = self.env.step(self.repo.load(&ids)).await?;
        let now = self.env.now();
        let decide = |(at, record): (&usize, Option<Record>)| {
            let mut attempt = Attempt::new(*at, record);
            cases[*at].inputs.iter().for_each(|input| attempt.apply(&cases[*at].id, input, now));
            attempt
        };
        Ok(open.iter().zip(records).map(decide).collect())
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

    /// Announces what the committed records owe, whoever made them owe it.
    async fn announce_all(
        &self,
        cases: &[Case],
        committed: Vec<Attempt>,
        results: &mut [Result<Settled>],
    ) {
        let (mut records, mut owing) = (Vec::new(), Vec::new());
        for attempt in committed {
            let Attempt { at, revision, state, owes, answers, .. } = attempt;
            match state {
                Some(state) if !owes.is_empty() => {
                    records.push(Record { id: cases[at].id.clone(), revision, state, owes });
                    owing.push((at, answers));
                }
                state => results[at] = Ok(Settled { state, answers }),
            }
        }
        let announced = self.announce(&mut records).await;
        for (((at, answers), record), result) in owing.into_iter().zip(records).zip(announced) {
            results[at] = result.map(|()| Settled { state: Some(record.state), answers });
        }
    }
}

impl Attempt {
    fn new(at: usize, record: Option<Record>) -> Self {
        let (revision, state, owes) = match record {
            Some(Record { revision, state, owes, .. }) => (revision, Some(state), owes),
            None => (Revision::ABSENT, None, Vec::new()),
        };
        Self { at, revision, state, owes, changed: false, answers: Vec::with_capacity(1) }
    }

    fn apply(&mut self, id: &OrderId, input: &Input, now: crate::Timestamp) {
        let owed = self.owes.len();
        self.owes.retain(|event| !input.shows_published(event));
        self.changed |= self.owes.len() < owed;
        self.answers.push(apply(id, self.state.as_ref(), input, now).map(|decision| {
            if decision.state.is_some() {
                self.state = decision.state;
                self.changed = true;
            }
            self.owes.extend(decision.owes);
            decision.effect
        }));
    }

    /// What is to be committed; the state is back once it is.
    fn take_change(&mut self, cases: &[Case]) -> Option<Change> {
        let (id, state) = (cases[self.at].id.clone(), self.state.take()?);
        let owes = std::mem::take(&mut self.owes);
        Some(Change { id, expected: self.revision, state, owes })
    }
}

fn fail(results: &mut [Result<Settled>], places: &[usize], error: &Error) {
    for at in places {
        results[*at] = Err(error.clone());
    }
}
