//! What must hold in the end.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use expirer_core::event::{Event, PaymentCreated};
use expirer_core::observe::Flow;
use expirer_core::order::{Order, Phase};
use expirer_core::{Delivery, OrderId, PaymentId, Record, Subject, Timestamp};

use super::script::{Story, WORLD};
use super::stage::Stage;
use super::watch::{Announcement, Role, Verdict, order_of};
use super::{answers, dead};

/// In a run in which nothing goes wrong, an order is cancelled so soon after its time, although
/// nothing else happens then; and a move is known so soon.
const CALM_LATENESS_MAX: Duration = Duration::from_secs(1);
/// A timer that was moved to an earlier time may fire before the repository has heard of it: then
/// it is the Reconciler's, after its grace of 30 s, every 10 s.
const HEALED_WITHIN: Duration = Duration::from_secs(41);

/// Everything at the end of a run, by order.
#[derive(Debug)]
struct End<'a> {
    stage: &'a Stage,
    /// Payments, with the time at which the bus first stored them.
    payments: BTreeMap<OrderId, BTreeMap<PaymentId, Timestamp>>,
    announced: BTreeMap<OrderId, Vec<Announcement>>,
    /// Orders that another service has cancelled.
    cancelled_elsewhere: BTreeSet<OrderId>,
}

/// Checks a run that has settled.
pub(super) fn check(stage: &Stage) {
    let audit = stage.watch.truth().audit.clone();
    let end = End::new(stage, &audit);
    let judge = |verdict: Verdict| {
        if let Err(text) = verdict {
            stage.log.violation(stage.now(), &text);
        }
    };
    for (story, row) in stage.plan.stories.iter().zip(stage.rows()) {
        judge(end.order(story, row.as_ref()));
    }
    judge(dead::check(stage, &audit));
}

impl<'a> End<'a> {
    fn new(stage: &'a Stage, audit: &[Delivery]) -> Self {
        let mut end = Self {
            stage,
            payments: BTreeMap::new(),
            announced: BTreeMap::new(),
            cancelled_elsewhere: BTreeSet::new(),
        };
        audit.iter().for_each(|delivery| end.heard(delivery));
        for announcement in &stage.watch.truth().orders.announced {
            let id = order_of(&announcement.1).clone();
            end.announced.entry(id).or_default().push(announcement.clone());
        }
        end
    }

    fn heard(&mut self, Delivery { message, published, .. }: &Delivery) {
        let is_foreign = message.id.as_ref().is_some_and(|id| id.as_str().starts_with(WORLD));
        match Event::decode(&message.subject, &message.payload) {
            Some(Ok(Event::PaymentCreated(PaymentCreated { id, order_id }))) => {
                let first = self.payments.entry(order_id).or_default().entry(id);
                let first = first.or_insert(*published);
                *first = (*first).min(*published);
            }
            Some(Ok(Event::OrderCancelled(cancelled))) if is_foreign => {
                self.cancelled_elsewhere.insert(cancelled.id);
            }
            _ => {}
        }
    }

    fn order(&self, story: &Story, row: Option<&Record>) -> Verdict {
        let id = &story.id;
        let order = row.and_then(|row| row.state.order()).ok_or_else(|| format!("{id} is lost"))?;
        self.count(order);
        self.outcome(story, order)?;
        self.cancellation(story, order)?;
        self.late_payments(id, order)?;
        self.calm_move(story, order)?;
        answers::check(self.stage, id, order)
    }

    fn count(&self, order: &Order) {
        let is_cancelled = order.phase == Phase::Cancelled;
        self.stage.log.count(|tally| {
            tally.orders += 1;
            tally.cancelled += u64::from(is_cancelled);
            tally.complete += u64::from(!is_cancelled);
        });
    }

    /// An order that nobody paid is cancelled; one that was paid in time is not, unless somebody
    /// asked for it or waited for its payments long enough; and everything has a cause.
    fn outcome(&self, story: &Story, order: &Order) -> Verdict {
        let id = &story.id;
        let orders = &self.stage.watch.truth().orders;
        let stored = self.payments.get(id);
        let in_time = stored.and_then(|stored| stored.values().find(|at| **at < order.expires_at));
        let expired = orders.cancelled_by(id) == Some(Role::Flow(Flow::Canceller));
        match &order.phase {
            Phase::Open(_) => Err(format!("{id} is open: {order:?}")),
            Phase::Complete { payment: Some(payment) } => {
                let is_known = stored.is_some_and(|stored| stored.contains_key(payment));
                caused(is_known, id, order)
            }
            Phase::Complete { payment: None } => caused(story.is_completed, id, order),
            Phase::Cancelled => match (orders.cancelled_by(id), in_time) {
                (Some(Role::Request), _) => caused(story.is_cancelled, id, order),
                // By news from elsewhere, be it that they came ahead of the order.
                (Some(Role::Flow(Flow::Recorder)), _) => {
                    caused(self.cancelled_elsewhere.contains(id), id, order)
                }
                (_, Some(at)) if expired && !orders.waits_over.contains(id) => {
                    Err(format!("{id} expired, but was paid in time, at {at}: {order:?}"))
                }
                _ => caused(expired, id, order),
            },
        }
    }

    /// A cancellation of ours is announced, in one way; one from elsewhere is not.
    fn cancellation(&self, story: &Story, order: &Order) -> Verdict {
        let id = &story.id;
        let by = self.stage.watch.truth().orders.cancelled_by(id);
        let is_ours = matches!(by, Some(Role::Flow(Flow::Canceller) | Role::Request));
        let cancelled: Vec<_> = self
            .of(id)
            .iter()
            .filter(|(_, event, ..)| matches!(event, Event::OrderCancelled(_)))
            .collect();
        let forms: BTreeSet<_> = cancelled.iter().map(|(.., payload, id)| (payload, id)).collect();
        let count = cancelled.len();
        self.stage.log.count(|tally| tally.repeats += count.saturating_sub(1) as u64);
        match (is_ours, forms.len()) {
            (true, 0) if !self.has_lost_cancellation(id) => {
                Err(format!("{id} was cancelled and not announced: {order:?}"))
            }
            (false, 1..) => Err(format!("{id} was announced, but not cancelled by us: {order:?}")),
            (_, 2..) => Err(format!("{id} was announced in two ways: {cancelled:?}")),
            (true, 1) if self.stage.plan.is_calm => calm(story, order, cancelled[0].0, count),
            _ => Ok(()),
        }
    }

    /// Each payment that does not count is answered, in one way.
    fn late_payments(&self, id: &OrderId, order: &Order) -> Verdict {
        let counts = match &order.phase {
            Phase::Complete { payment } => payment.as_ref(),
            _ => None,
        };
        let stored = self.payments.get(id).into_iter().flatten().map(|(payment, _)| payment);
        let expected: BTreeSet<_> = stored.filter(|payment| counts != Some(payment)).collect();
        let answers = self.answers_to_payments(id);
        let lost = self.lost_answers(id);
        self.stage.log.count(|tally| tally.late_payments += answers.len() as u64);
        let silent = expected.iter().find(|id| !answers.contains_key(*id) && !lost.contains(*id));
        if let Some(payment) = silent {
            return Err(format!("{id}: payment {payment} does not count, unanswered: {order:?}"));
        }
        if let Some(payment) = answers.keys().find(|payment| !expected.contains(*payment)) {
            return Err(format!("{id}: payment {payment} counts and was answered: {order:?}"));
        }
        match answers.iter().find(|(_, forms)| forms.len() > 1) {
            Some((payment, _)) => Err(format!("{id}: payment {payment} answered in two ways")),
            None => Ok(()),
        }
    }

    /// The answers to payments that do not count, each in how many forms.
    fn answers_to_payments(&self, id: &OrderId) -> BTreeMap<&PaymentId, BTreeSet<Form<'_>>> {
        let mut answers: BTreeMap<&PaymentId, BTreeSet<Form<'_>>> = BTreeMap::new();
        for (_, event, payload, message_id) in self.of(id) {
            if let Event::PaymentLate(late) = event {
                let is_repeat = answers.contains_key(&late.id);
                self.stage.log.count(|tally| tally.repeats += u64::from(is_repeat));
                answers.entry(&late.id).or_default().insert((payload, message_id.as_ref()));
            }
        }
        answers
    }

    /// In a calm run, a move counts unless the order ended before it was told of.
    fn calm_move(&self, story: &Story, order: &Order) -> Verdict {
        let ended_at = self.stage.watch.truth().orders.ended_at(&story.id);
        let was_open = ended_at.is_none_or(|at| at > story.told_at + CALM_LATENESS_MAX);
        if self.stage.plan.is_calm && was_open && order.expires_at != story.expires_at {
            let Story { id, expires_at, .. } = story;
            return Err(format!("{id} was moved to {expires_at}, but is {order:?}"));
        }
        Ok(())
    }

    /// What was announced of an order.
    fn of(&self, id: &OrderId) -> &[Announcement] {
        self.announced.get(id).map_or(&[], Vec::as_slice)
    }

    /// What the bus confirmed and lost of an order.
    fn lost(&self, id: &OrderId) -> impl Iterator<Item = Event> {
        let lost = self.stage.faults.lost().into_iter();
        lost.filter_map(|lost| Event::decode(&lost.subject, &lost.payload)?.ok())
            .filter(move |event| order_of(event) == id)
    }

    fn has_lost_cancellation(&self, id: &OrderId) -> bool {
        self.lost(id).any(|event| matches!(event, Event::OrderCancelled(_)))
    }

    fn lost_answers(&self, id: &OrderId) -> BTreeSet<PaymentId> {
        let late = |event| match event {
            Event::PaymentLate(late) => Some(late.id),
            _ => None,
        };
        self.lost(id).filter_map(late).collect()
    }
}

/// What tells one announcement from another.
type Form<'a> = (&'a std::sync::Arc<[u8]>, Option<&'a expirer_core::MessageId>);

fn caused(is_caused: bool, id: &OrderId, order: &Order) -> Verdict {
    match is_caused {
        true => Ok(()),
        false => Err(format!("{id}: nobody caused this: {order:?}")),
    }
}

/// Where nothing goes wrong, everything happens once and in time.
fn calm(story: &Story, order: &Order, at: Timestamp, count: usize) -> Verdict {
    let id = &story.id;
    let due = order.expires_at.max(story.told_at);
    let within = match story.told_at > story.created_at {
        true => HEALED_WITHIN,
        false => CALM_LATENESS_MAX,
    };
    if count > 1 {
        return Err(format!("{id} was announced {count} times although nothing went wrong"));
    }
    match at <= due + within {
        true => Ok(()),
        false => Err(format!("{id} was cancelled only at {at}, due {due}")),
    }
}

/// Whether a subject's messages are read by somebody.
pub(super) const fn is_read(subject: &Subject) -> bool {
    !matches!(subject, Subject::PaymentLate | Subject::Dead(_))
}
