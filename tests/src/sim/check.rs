//! What must hold in the end.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use expirer_core::event::{Event, Payload, PaymentCreated};
use expirer_core::observe::Flow;
use expirer_core::order::{Input, Order, Phase, Refused};
use expirer_core::{Delivery, Message, OrderId, PaymentId, Record, Subject, Timestamp};

use super::script::{NOBODY, NONSENSE, Story};
use super::stage::Stage;
use super::watch::{Announcement, Role, Verdict, order_of};

/// In a run in which nothing goes wrong, an order is cancelled so soon after its time, although
/// nothing else happens then.
const CALM_LATENESS_MAX: Duration = Duration::from_secs(1);

/// A timer that was moved to an earlier time may fire before the repository has heard of it: then
/// it is the Reconciler's, after its grace of 30 s, every 10 s.
const HEALED_WITHIN: Duration = Duration::from_secs(41);

/// Everything at the end of a run, by order.
#[derive(Debug)]
struct End<'a> {
    stage: &'a Stage,
    /// Payments by order, with the time at which the bus first stored them.
    payments: BTreeMap<OrderId, BTreeMap<PaymentId, Timestamp>>,
    announced: BTreeMap<OrderId, Vec<Announcement>>,
}

/// Checks a run that has settled.
pub(super) fn check(stage: &Stage) {
    let audit = stage.watch.truth().audit.clone();
    let end = End { stage, payments: payments(&audit), announced: announced(stage) };
    let now = audit.last().map_or(Timestamp::EPOCH, |delivery| delivery.published);
    let judge = |verdict: Verdict| {
        if let Err(text) = verdict {
            stage.log.violation(now, &text);
        }
    };
    for (story, row) in stage.plan.stories.iter().zip(stage.rows()) {
        judge(end.order(story, row.as_ref()));
    }
    dead_letters(stage, &audit).into_iter().for_each(judge);
}

fn payments(audit: &[Delivery]) -> BTreeMap<OrderId, BTreeMap<PaymentId, Timestamp>> {
    let mut payments: BTreeMap<OrderId, BTreeMap<PaymentId, Timestamp>> = BTreeMap::new();
    for Delivery { message, published, .. } in audit {
        if message.subject != Subject::PaymentCreated {
            continue;
        }
        if let Ok(paid) = PaymentCreated::decode(&message.payload) {
            let of_order = payments.entry(paid.order_id).or_default();
            let first = of_order.entry(paid.id).or_insert(*published);
            *first = (*first).min(*published);
        }
    }
    payments
}

fn announced(stage: &Stage) -> BTreeMap<OrderId, Vec<Announcement>> {
    let mut by_order: BTreeMap<OrderId, Vec<Announcement>> = BTreeMap::new();
    for announcement in &stage.watch.truth().orders.announced {
        by_order.entry(order_of(&announcement.1).clone()).or_default().push(announcement.clone());
    }
    by_order
}

impl End<'_> {
    fn order(&self, story: &Story, row: Option<&Record>) -> Verdict {
        let id = &story.id;
        let order = row.and_then(|row| row.state.order()).ok_or_else(|| format!("{id} is lost"))?;
        self.count(order);
        self.outcome(story, order)?;
        self.cancellation(story, order)?;
        self.late_payments(id, order)?;
        self.answers(id, order)
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
    /// asked for it or waited for its payments long enough.
    fn outcome(&self, story: &Story, order: &Order) -> Verdict {
        let id = &story.id;
        let orders = &self.stage.watch.truth().orders;
        let stored = self.payments.get(id);
        let in_time = stored.and_then(|stored| stored.values().find(|at| **at < order.expires_at));
        let is_paid = stored.is_some() || story.is_completed;
        let expired = orders.cancelled_by(id) == Some(Role::Flow(Flow::Canceller));
        match (&order.phase, in_time) {
            (Phase::Complete { .. }, _) if !is_paid => Err(format!("{id} is complete, unpaid")),
            (Phase::Cancelled, Some(at)) if expired && !orders.waits_over.contains(id) => {
                Err(format!("{id} expired, but was paid in time, at {at}: {order:?}"))
            }
            (Phase::Open(_), _) => Err(format!("{id} is open: {order:?}")),
            _ => Ok(()),
        }
    }

    /// A cancellation of ours is announced, in one way; one from elsewhere is not.
    fn cancellation(&self, story: &Story, order: &Order) -> Verdict {
        let id = &story.id;
        let truth = self.stage.watch.truth();
        let by = truth.orders.cancelled_by(id);
        let is_ours = matches!(by, Some(Role::Flow(Flow::Canceller) | Role::Request));
        let all = self.announced.get(id).map_or(&[][..], Vec::as_slice);
        let cancelled: Vec<_> =
            all.iter().filter(|(_, event, ..)| matches!(event, Event::OrderCancelled(_))).collect();
        let forms: BTreeSet<_> = cancelled.iter().map(|(.., payload, id)| (payload, id)).collect();
        let was_lost = self.stage.faults.lost().iter().any(|message| {
            message.subject == Subject::OrderCancelled
                && matches!(Event::decode(&message.subject, &message.payload),
                    Some(Ok(event)) if order_of(&event) == id)
        });
        drop(truth);
        let count = cancelled.len();
        self.stage.log.count(|tally| tally.repeats += count.saturating_sub(1) as u64);
        match (is_ours, forms.len()) {
            (true, 0) if !was_lost => {
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
            Phase::Complete { payment } => payment.clone(),
            _ => None,
        };
        let stored = self.payments.get(id).into_iter().flatten().map(|(payment, _)| payment);
        let expected: BTreeSet<&PaymentId> =
            stored.filter(|payment| counts.as_ref() != Some(payment)).collect();
        let all = self.announced.get(id).map_or(&[][..], Vec::as_slice);
        let mut answers: BTreeMap<&PaymentId, BTreeSet<_>> = BTreeMap::new();
        for (_, event, payload, message_id) in all {
            if let Event::PaymentLate(late) = event {
                let is_first = !answers.contains_key(&late.id);
                self.stage.log.count(|tally| tally.repeats += u64::from(!is_first));
                answers.entry(&late.id).or_default().insert((payload, message_id));
            }
        }
        self.stage.log.count(|tally| tally.late_payments += answers.len() as u64);
        let lost = self.lost_answers(id);
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

    fn lost_answers(&self, id: &OrderId) -> BTreeSet<PaymentId> {
        let lost = self.stage.faults.lost();
        let decoded = lost.iter().filter_map(|lost| Event::decode(&lost.subject, &lost.payload));
        decoded
            .filter_map(|event| match event {
                Ok(Event::PaymentLate(late)) if late.order_id == *id => Some(late.id),
                _ => None,
            })
            .collect()
    }

    /// Who was answered was told the truth.
    fn answers(&self, id: &OrderId, order: &Order) -> Verdict {
        for told in self.stage.told().iter().filter(|told| told.request.id == *id) {
            let is_true = match (&told.answer, &told.request.input) {
                (Ok(_), Input::Complete { .. }) => matches!(order.phase, Phase::Complete { .. }),
                (Ok(_), Input::Cancel) => order.phase == Phase::Cancelled,
                (Err(Refused::Complete), _) => matches!(order.phase, Phase::Complete { .. }),
                (Err(Refused::Cancelled), Input::Create(_) | Input::Complete { .. }) => {
                    order.phase == Phase::Cancelled
                }
                (Err(Refused::Unknown), Input::Complete { .. } | Input::Cancel)
                | (Ok(_), Input::Create(_)) => true,
                _ => false,
            };
            if !is_true {
                return Err(format!("{id}: {told:?}, but it is {order:?}"));
            }
        }
        Ok(())
    }
}

/// Where nothing goes wrong, everything happens once and in time.
fn calm(story: &Story, order: &Order, at: Timestamp, count: usize) -> Verdict {
    let id = &story.id;
    let due = order.expires_at.max(story.told_at);
    let within = if story.told_at > story.created_at { HEALED_WITHIN } else { CALM_LATENESS_MAX };
    if count > 1 {
        return Err(format!("{id} was announced {count} times although nothing went wrong"));
    }
    match at <= due + within {
        true => Ok(()),
        false => Err(format!("{id} was cancelled only at {at}, due {due}")),
    }
}

/// Only poison ends there, all of it, each with its reason.
fn dead_letters(stage: &Stage, audit: &[Delivery]) -> Vec<Verdict> {
    let mut verdicts = Vec::new();
    let mut dead: BTreeSet<Vec<u8>> = BTreeSet::new();
    for Delivery { message, .. } in audit {
        if matches!(message.subject, Subject::Dead(_)) {
            stage.log.count(|tally| tally.dead_letters += 1);
            let text = String::from_utf8_lossy(&message.payload);
            if !is_poison(&text) && !is_expiry(message) {
                verdicts.push(Err(format!("a dead letter that is no poison: {message:?}")));
            }
            dead.insert(message.payload.to_vec());
        }
    }
    for Delivery { message, .. } in audit {
        let text = String::from_utf8_lossy(&message.payload);
        let is_read = message.subject != Subject::PaymentLate;
        let is_lost = stage.faults.has_lost(message);
        if is_read && is_poison(&text) && !is_lost && !dead.contains(&*message.payload) {
            verdicts.push(Err(format!("poison that is no dead letter: {message:?}")));
        }
    }
    verdicts
}

/// One that came ten times before the repository knew its order: the order's own time comes again.
fn is_expiry(message: &Message) -> bool {
    let subject = Subject::ExpirationComplete;
    matches!(Event::decode(&subject, &message.payload), Some(Ok(Event::ExpirationComplete(_))))
}

fn is_poison(text: &str) -> bool {
    text.contains(NONSENSE) || text.contains(NOBODY)
}
