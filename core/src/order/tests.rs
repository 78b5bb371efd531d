//! The machine's promises, by example and by property.

use proptest::prelude::*;
use proptest::sample::Index;

use super::*;
use crate::event::{Payload, Price};
use crate::{TicketId, UserId};

fn id() -> OrderId {
    OrderId::new("o1").unwrap()
}

fn payment(name: u8) -> PaymentId {
    PaymentId::new(format!("p{name}")).unwrap()
}

fn at(millis: i64) -> Timestamp {
    Timestamp::from_millis(millis)
}

fn ticket() -> Ticket {
    Ticket { id: TicketId::new("t1").unwrap(), price: Price::new(20.0) }
}

fn created(version: u64, expires_at: i64) -> Input {
    let event = OrderCreated {
        id: id(),
        version,
        status: OpenStatus::Created,
        user_id: None,
        expires_at: at(expires_at),
        ticket: Some(ticket()),
    };
    Input::Created(event, ticket(), None)
}

fn create(expires_at: i64, expires_relative: bool) -> Input {
    let user_id = UserId::new("u1").unwrap();
    let expires_at = at(expires_at);
    Input::Create(Draft { user_id, ticket: ticket(), expires_at, expires_relative, trace: None })
}

const EXPIRE: Input = Input::Expire { payments_applied_until: Timestamp::MAX };

/// What a sequence of inputs, all at one time, leads to.
#[derive(Debug, Default)]
struct Run {
    state: Option<State>,
    owes: Vec<Event>,
    effects: Vec<Result<Effect, Refused>>,
}

impl Run {
    fn of<'a>(inputs: impl IntoIterator<Item = &'a Input>, now: i64) -> Self {
        let mut run = Self::default();
        inputs.into_iter().for_each(|input| run.apply(input, now));
        run
    }

    fn apply(&mut self, input: &Input, now: i64) {
        let decision = apply(&id(), self.state.as_ref(), input, at(now));
        self.effects.push(decision.as_ref().map(|d| d.effect).map_err(|refused| *refused));
        if let Ok(decision) = decision {
            self.state = decision.state.or_else(|| self.state.take());
            self.owes.extend(decision.owes);
        }
    }

    fn order(&self) -> &Order {
        self.state.as_ref().and_then(State::order).expect("an order")
    }

    fn phase(&self) -> &'static str {
        self.state.as_ref().and_then(State::order).map_or("none", |order| order.phase.as_str())
    }

    fn announced(&self, subject: &crate::Subject) -> usize {
        self.owes.iter().filter(|event| event.subject() == *subject).count()
    }
}

#[test]
fn an_order_expires_at_its_time_and_not_a_millisecond_before() {
    let mut run = Run::of([&created(0, 100)], 0);
    run.apply(&EXPIRE, 99);
    assert_eq!(run.effects[1], Err(Refused::NotYet { expires_at: at(100) }));
    run.apply(&EXPIRE, 100);
    assert_eq!((run.phase(), run.order().version), ("cancelled", 1));
    let Some(Event::OrderCancelled(event)) = run.owes.first() else { panic!("{:?}", run.owes) };
    assert_eq!((event.version, event.ticket.as_ref().map(|t| t.id.as_str())), (1, Some("t1")));
    run.apply(&EXPIRE, 101);
    assert_eq!((run.effects[3], run.owes.len()), (Ok(Effect::Nothing), 1), "once");
}

#[test]
fn payments_that_are_not_read_yet_hold_an_expiry_up() {
    let mut run = Run::of([&created(0, 100)], 0);
    run.apply(&Input::Expire { payments_applied_until: at(99) }, 200);
    assert_eq!((run.effects[1], run.phase()), (Err(Refused::PaymentsUnread), "created"));
    run.apply(&Input::Expire { payments_applied_until: at(100) }, 200);
    assert_eq!(run.phase(), "cancelled");
}

#[test]
fn a_payment_or_a_cancellation_ahead_of_its_order_counts() {
    let paid = Run::of([&Input::Paid(payment(1)), &EXPIRE, &created(3, 0)], 9);
    assert_eq!((paid.phase(), paid.order().version), ("complete", 4));
    assert_eq!(paid.effects[1], Err(Refused::Unknown));
    let cancelled = Run::of([&Input::CancelledElsewhere { version: 7 }, &created(3, 0)], 9);
    assert_eq!((cancelled.phase(), cancelled.order().version), ("cancelled", 7));
    assert!(cancelled.owes.is_empty(), "elsewhere has announced it");
}

#[test]
fn a_payment_that_does_not_count_is_answered_once() {
    let late = &crate::Subject::PaymentLate;
    let two =
        [created(0, 0), Input::Paid(payment(1)), Input::Paid(payment(2)), Input::Paid(payment(2))];
    assert_eq!(Run::of(&two, 0).announced(late), 1);
    let after = [created(0, 0), EXPIRE, Input::Paid(payment(1)), Input::Paid(payment(1))];
    assert_eq!(Run::of(&after, 0).announced(late), 1);
    let cancelled = Input::CancelledElsewhere { version: 1 };
    for ahead in [
        [Input::Paid(payment(1)), cancelled.clone(), created(0, 0), Input::Paid(payment(1))],
        [cancelled, Input::Paid(payment(1)), Input::Paid(payment(1)), created(0, 0)],
    ] {
        let run = Run::of(&ahead, 0);
        assert_eq!((run.phase(), run.announced(late)), ("cancelled", 1));
    }
    let ahead = [Input::Paid(payment(1)), Input::Paid(payment(2)), created(0, 0)];
    assert_eq!(Run::of(&ahead, 0).announced(late), 1);
}

#[test]
fn only_so_many_late_payments_are_remembered() {
    let mut run = Run::of([&created(0, 0), &EXPIRE], 0);
    (0..=u8::try_from(LATE_PAYMENTS_MAX).unwrap())
        .for_each(|n| run.apply(&Input::Paid(payment(n)), 0));
    assert_eq!(run.order().late.0.len(), LATE_PAYMENTS_MAX);
    assert_eq!(run.announced(&crate::Subject::PaymentLate), LATE_PAYMENTS_MAX + 1);
}

#[test]
fn a_higher_version_moves_an_open_order_and_nothing_else() {
    let mut run =
        Run::of([&created(1, 100), &created(0, 50), &created(1, 70), &created(2, 200)], 0);
    assert_eq!(run.effects[1..], [Ok(Effect::Nothing), Ok(Effect::Nothing), Ok(Effect::Moved)]);
    assert_eq!((run.order().version, run.order().expires_at), (2, at(200)));
    run.apply(&Input::Cancel, 0);
    run.apply(&created(9, 300), 0);
    assert_eq!((run.phase(), run.order().version), ("cancelled", 3));
}

#[test]
fn a_version_at_the_limit_stays_readable() {
    for version in [VERSION_MAX, u64::MAX] {
        let run = Run::of([&created(version, 0), &EXPIRE], 9);
        assert_eq!((run.phase(), run.order().version), ("cancelled", VERSION_MAX));
        let Some(Event::OrderCancelled(event)) = run.owes.first() else { panic!("{:?}", run.owes) };
        assert_eq!(OrderCancelled::decode(&event.encode()).as_ref(), Ok(event));
    }
}

#[test]
fn a_higher_version_that_leaves_out_what_is_known_erases_nothing() {
    let mut run = Run::of([&create(50, false), &created(1, 90)], 0);
    assert_eq!((run.order().version, run.order().expires_at), (1, at(90)));
    assert_eq!(run.order().user_id, UserId::new("u1").ok());
    run.apply(&create(90, false), 0);
    assert_eq!(run.effects[2], Ok(Effect::Nothing), "still the same order");
}

#[test]
fn a_higher_version_or_an_echo_owes_nothing_that_it_could_repeat() {
    let owed = Run::of([&create(0, false), &EXPIRE, &Input::Paid(payment(1))], 9).owes;
    let [created_event, cancelled_event, late_event] = &owed[..] else { panic!("{owed:?}") };
    for (input, may_owe) in [
        (create(0, false), [true, false, false]),
        (created(0, 0), [false; 3]),
        (EXPIRE, [false, true, false]),
        (Input::Cancel, [false, true, false]),
        (Input::Paid(payment(1)), [false, false, true]),
        (Input::Paid(payment(2)), [false; 3]),
        (Input::CancelledElsewhere { version: 1 }, [false; 3]),
        (Input::Complete { payment: None }, [false; 3]),
    ] {
        let events = [created_event, cancelled_event, late_event];
        let run = Run::of([&created(0, 0), &EXPIRE], 9);
        let found = events.map(|event| input.may_owe(run.state.as_ref(), event));
        assert_eq!(found, may_owe, "{input:?}");
    }
    let ahead = Run::of([&Input::Paid(payment(1)), &Input::CancelledElsewhere { version: 1 }], 0);
    let repeat = Input::CancelledElsewhere { version: 1 };
    assert!(repeat.may_owe(ahead.state.as_ref(), &ahead.owes[0]));
}

#[test]
fn what_we_are_asked_for_is_done_once_or_refused() {
    let done = |inputs: &[Input]| Run::of(inputs, 0).effects.pop().expect("one");
    let complete = |payment| Input::Complete { payment };
    let (first, second) = (Some(payment(1)), Some(payment(2)));
    assert_eq!(done(&[create(9, false)]), Ok(Effect::Opened));
    assert_eq!(done(&[create(9, false), create(9, false)]), Ok(Effect::Nothing));
    assert_eq!(done(&[create(9, false), create(8, false)]), Err(Refused::Differs));
    assert_eq!(done(&[create(9, false), create(8, true)]), Ok(Effect::Nothing));
    assert_eq!(done(&[create(9, false), Input::Cancel, create(9, false)]), Ok(Effect::Nothing));
    assert_eq!(
        done(&[Input::CancelledElsewhere { version: 1 }, create(9, false)]),
        Err(Refused::Cancelled)
    );
    assert_eq!(done(&[Input::Cancel]), Err(Refused::Unknown));
    assert_eq!(done(&[complete(None)]), Err(Refused::Unknown));
    assert_eq!(done(&[Input::Paid(payment(1)), Input::Cancel]), Err(Refused::Unknown));
    assert_eq!(done(&[create(9, false), complete(first.clone())]), Ok(Effect::Completed));
    assert_eq!(
        done(&[create(9, false), complete(first.clone()), complete(first.clone())]),
        Ok(Effect::Nothing)
    );
    assert_eq!(
        done(&[create(9, false), complete(first.clone()), complete(None)]),
        Ok(Effect::Nothing)
    );
    assert_eq!(
        done(&[create(9, false), complete(first.clone()), complete(second)]),
        Err(Refused::Complete)
    );
    assert_eq!(
        done(&[create(9, false), complete(None), complete(first)]),
        Ok(Effect::PaymentNamed)
    );
    assert_eq!(done(&[create(9, false), complete(None), Input::Cancel]), Err(Refused::Complete));
    assert_eq!(done(&[create(9, false), Input::Cancel, Input::Cancel]), Ok(Effect::Nothing));
    assert_eq!(done(&[create(9, false), Input::Cancel, complete(None)]), Err(Refused::Cancelled));
}

#[test]
fn an_order_of_ours_is_announced_and_a_cancellation_elsewhere_of_a_paid_one_reported() {
    let run = Run::of([&Input::Paid(payment(1)), &create(9, false)], 0);
    assert_eq!((run.phase(), run.announced(&crate::Subject::OrderCreated)), ("complete", 1));
    let mut run = Run::of([&created(0, 9), &Input::Paid(payment(1))], 0);
    run.apply(&Input::CancelledElsewhere { version: 2 }, 0);
    assert_eq!((run.phase(), run.effects[2]), ("complete", Ok(Effect::Contradicted)));
}

fn input() -> impl Strategy<Value = Input> {
    prop_oneof![
        (0..3_u64, 0..40_i64).prop_map(|(version, due)| created(version, due)),
        (0..40_i64, any::<bool>()).prop_map(|(due, relative)| create(due, relative)),
        (0..3_u8).prop_map(|n| Input::Paid(payment(n))),
        prop::option::of(0..3_u8).prop_map(|n| Input::Complete { payment: n.map(payment) }),
        (0..5_u64).prop_map(|version| Input::CancelledElsewhere { version }),
        Just(Input::Cancel),
        (0..40_i64).prop_map(|until| Input::Expire { payments_applied_until: at(until) }),
    ]
}

/// A permutation of the inputs in which each may come more than once, and comes at least once.
fn shuffled(inputs: &[Input], picks: &[Index]) -> Vec<Input> {
    let mut rest = inputs.to_vec();
    let mut shuffled: Vec<Input> = Vec::new();
    for pick in picks {
        let repeat = shuffled.len() > rest.len() && !shuffled.is_empty();
        let from = if repeat || rest.is_empty() { &shuffled } else { &rest };
        let input = pick.get(from).clone();
        rest.retain(|other| *other != input);
        shuffled.push(input);
    }
    shuffled.extend(rest);
    shuffled
}

proptest! {
    #[test]
    fn exactly_one_of_pay_cancel_and_expire_wins_and_the_losers_are_told(
        order in Just([Input::Paid(payment(1)), Input::Cancel, EXPIRE]).prop_shuffle(),
        repeats in prop::collection::vec(0..3_usize, 0..6),
    ) {
        let mut run = Run::of([&created(0, 0)], 9);
        let inputs = order.iter().chain(repeats.iter().map(|at| &order[*at]));
        inputs.for_each(|input| run.apply(input, 9));
        let won = |effect| matches!(effect,
            &Ok(Effect::Completed | Effect::Cancelled | Effect::Expired));
        prop_assert_eq!(run.effects.iter().filter(|effect| won(effect)).count(), 1);
        prop_assert_eq!(run.order().version, 1);
        let paid = run.phase() == "complete";
        prop_assert_eq!(run.announced(&crate::Subject::OrderCancelled), usize::from(!paid));
        prop_assert_eq!(run.announced(&crate::Subject::PaymentLate), usize::from(!paid));
        if paid {
            prop_assert!(run.effects.contains(&Err(Refused::Complete))
                || order[0] != Input::Paid(payment(1)));
        }
    }

    #[test]
    fn any_order_and_repetition_of_the_same_inputs_ends_the_same(
        end in prop_oneof![
            Just(None),
            Just(Some(Input::Paid(payment(1)))),
            (0..9_u64).prop_map(|version| Some(Input::CancelledElsewhere { version })),
        ],
        picks in prop::collection::vec(any::<Index>(), 0..8),
    ) {
        let inputs: Vec<Input> = [created(1, 50)].into_iter().chain(end).collect();
        let plain = Run::of(&inputs, 0);
        let shuffled = Run::of(&shuffled(&inputs, &picks), 0);
        prop_assert_eq!(&plain.state, &shuffled.state);
        prop_assert_eq!(&plain.owes, &shuffled.owes);
    }

    #[test]
    fn versions_of_an_open_order_may_come_in_any_order(
        picks in prop::collection::vec(any::<Index>(), 0..9),
    ) {
        let inputs = [created(0, 10), created(1, 30), created(2, 20)];
        let run = Run::of(&shuffled(&inputs, &picks), 0);
        prop_assert_eq!((run.order().version, run.order().expires_at), (2, at(20)));
    }

    #[test]
    fn of_two_payments_one_counts_and_the_other_is_answered(
        picks in prop::collection::vec(any::<Index>(), 0..9),
    ) {
        let inputs = [created(0, 10), Input::Paid(payment(1)), Input::Paid(payment(2))];
        let run = Run::of(&shuffled(&inputs, &picks), 0);
        prop_assert_eq!(run.phase(), "complete");
        prop_assert_eq!(run.announced(&crate::Subject::PaymentLate), 1);
        let Phase::Complete { payment: Some(counts) } = &run.order().phase else {
            return Err(TestCaseError::fail("a payment counts"));
        };
        prop_assert!(!run.order().late.0.contains(counts));
    }

    #[test]
    fn every_step_keeps_the_promises(
        steps in prop::collection::vec((input(), 0..40_i64), 0..24),
    ) {
        let mut run = Run::default();
        for (input, now) in &steps {
            let (before, owed) = (run.state.clone(), run.owes.len());
            run.apply(input, *now);
            let effect = run.effects.last().copied().expect("one per step");
            let owes = &run.owes[owed..];
            let may_owe = owes.iter().all(|event| input.may_owe(run.state.as_ref(), event));
            prop_assert!(may_owe, "a repeat would not find it");
            prop_assert_eq!(effect.is_err() && run.state != before, false, "refused, yet changed");
            if let (Some(State::Order(old)), Some(State::Order(new))) = (&before, &run.state) {
                check_step(old, new, input, *now, owes)?;
            }
            if !matches!(effect, Ok(Effect::Nothing | Effect::Contradicted) | Err(_)) {
                prop_assert_ne!(&run.state, &before, "an effect is a change");
            } else {
                prop_assert!(owes.is_empty(), "owed without a change");
            }
        }
    }

    #[test]
    fn a_record_is_read_back_from_json(
        steps in prop::collection::vec((input(), 0..40_i64), 0..12),
    ) {
        let mut run = Run::default();
        steps.iter().for_each(|(input, now)| run.apply(input, *now));
        let json = serde_json::to_vec(&(&run.state, &run.owes)).expect("serialises");
        let read: (Option<State>, Vec<Event>) = serde_json::from_slice(&json).expect("reads back");
        prop_assert_eq!(read, (run.state, run.owes));
    }
}

/// What may become of a known order in one step.
fn check_step(
    old: &Order,
    new: &Order,
    input: &Input,
    now: i64,
    owes: &[Event],
) -> Result<(), TestCaseError> {
    let moved = old.phase.is_open() && new.phase.is_open() && old != new;
    let ended = old.phase.is_open() && !new.phase.is_open();
    if moved {
        prop_assert!(matches!(input, Input::Created(..)) && new.version > old.version);
    } else if ended {
        let elsewhere = matches!(input, Input::CancelledElsewhere { .. });
        prop_assert!(new.version == old.version + 1 || (elsewhere && new.version > old.version));
        prop_assert_eq!(&new.ticket, &old.ticket, "a cancelled order keeps its ticket");
    } else {
        prop_assert_eq!(new.version, old.version);
    }
    if !old.phase.is_open() {
        prop_assert_eq!(new.phase.as_str(), old.phase.as_str(), "an end is final");
    }
    if let Input::Expire { payments_applied_until } = input {
        let time = at(now) >= old.expires_at && *payments_applied_until >= old.expires_at;
        prop_assert_eq!(ended, old.phase.is_open() && time, "never early, never late");
    }
    let cancelled_here = ended
        && new.phase == Phase::Cancelled
        && !matches!(input, Input::CancelledElsewhere { .. });
    let announced = |subject| owes.iter().filter(|event| event.subject() == subject).count();
    prop_assert_eq!(announced(crate::Subject::OrderCancelled), usize::from(cancelled_here));
    let late = new.late != old.late;
    prop_assert_eq!(announced(crate::Subject::PaymentLate), usize::from(late));
    Ok(())
}

proptest! {
    #[test]
    fn arbitrary_bytes_are_no_record_or_one(bytes: Vec<u8>) {
        let _ = serde_json::from_slice::<State>(&bytes);
        let _ = serde_json::from_slice::<Event>(&bytes);
    }
}
