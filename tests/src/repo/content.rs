//! What is put in comes out again, to the byte.

use expirer_core::event::{
    Event, ExpirationComplete, LateReason, OpenStatus, OrderCancelled, OrderCreated,
    PaymentCreated, PaymentLate, Price, Ticket, TicketRef, VERSION_MAX,
};
use expirer_core::order::{Ahead, Draft, Input, LATE_PAYMENTS_MAX, Order, Phase, State, apply};
use expirer_core::{ID_BYTES_MAX, OrderId, TicketId, Timestamp, UserId};

use super::stage::{MINUTE, Stage, id, marked, new, next, open, order, owing, payment};
use crate::harness::RepoHarness;

pub(super) async fn every_state_comes_back(harness: &dyn RepoHarness) {
    let stage = Stage::on(harness).await;
    for (n, state) in states(stage.now()).into_iter().enumerate() {
        let name = format!("o{n}");
        stage.put(new(&name, state.clone())).await;
        assert_eq!(stage.load(&name).await.map(|record| record.state), Some(state));
    }
}

pub(super) async fn every_state_replaces_every_other(harness: &dyn RepoHarness) {
    let stage = Stage::on(harness).await;
    let states = states(stage.now());
    let mut revision = stage.put(new("o1", marked(0))).await;
    for before in &states {
        for after in &states {
            let changed = stage.put(next("o1", revision, before.clone())).await;
            revision = stage.put(next("o1", changed, after.clone())).await;
            let record = stage.load("o1").await;
            assert_eq!(record.map(|record| record.state).as_ref(), Some(after));
        }
    }
}

pub(super) async fn what_is_owed_comes_back_in_order_and_to_the_byte(harness: &dyn RepoHarness) {
    let stage = Stage::on(harness).await;
    let owes = events(stage.now());
    let revision = stage.put(new("o1", open(stage.now()))).await;
    for first in 0..owes.len() {
        let rotated = [&owes[first..], &owes[..first]].concat();
        let name = format!("o1-{first}");
        let change = new(&name, marked(first as u64));
        stage.put(expirer_core::Change { owes: rotated.clone(), ..change }).await;
        let record = stage.load(&name).await.expect("is there");
        let messages = |events: &[Event]| events.iter().map(Event::message).collect::<Vec<_>>();
        assert_eq!(messages(&record.owes), messages(&rotated));
        assert_eq!(record.owes, rotated);
    }
    let record = stage.load("o1").await.expect("is there");
    assert_eq!((record.revision, record.owes), (revision, vec![]));
}

pub(super) async fn clearing_what_is_owed_leaves_the_state(harness: &dyn RepoHarness) {
    let stage = Stage::on(harness).await;
    for (n, state) in states(stage.now()).into_iter().enumerate() {
        let name = format!("o{n}");
        let revision = stage.put(owing(new(&name, state.clone()))).await;
        assert_eq!(stage.load(&name).await.map(|record| record.owes.len()), Some(1));
        stage.put(next(&name, revision, state.clone())).await;
        let record = stage.load(&name).await.expect("is there");
        assert_eq!((record.state, record.owes), (state, vec![]));
    }
}

pub(super) async fn a_price_comes_back_to_the_last_digit(harness: &dyn RepoHarness) {
    let stage = Stage::on(harness).await;
    // Several of these come back as their neighbours from a parser that rounds in a hurry.
    let prices = [
        0.0,
        0.1,
        1e-7,
        5e-324,
        20.0,
        19.99,
        61.803398874989476,
        18.033988749894846,
        12.461179749810725,
        92.29856737469505,
        9007199254740993.0,
        1e21,
        f64::MAX,
    ];
    for (n, number) in prices.into_iter().enumerate() {
        let ticket = Ticket { price: Price::new(number), ..ticket("t1") };
        let order = Order { ticket, ..order(Phase::Cancelled, stage.now()) };
        let (name, state) = (format!("o{n}"), State::Order(order));
        stage.put(new(&name, state.clone())).await;
        assert_eq!(stage.load(&name).await.map(|record| record.state), Some(state));
    }
}

pub(super) async fn odd_ids_do_not_clash(harness: &dyn RepoHarness) {
    let stage = Stage::on(harness).await;
    let names = odd_names();
    let changes: Vec<_> =
        names.iter().zip(0..).map(|(name, version)| new(name, marked(version))).collect();
    stage.put_all(&changes).await;
    for (name, version) in names.iter().zip(0..) {
        let record = stage.load(name).await.expect("is there");
        assert_eq!((record.id.as_str(), record.state), (name.as_str(), marked(version)));
    }
    assert_eq!(stage.load("o").await, None);
}

pub(super) async fn odd_ids_are_overdue_as_any_other(harness: &dyn RepoHarness) {
    let stage = Stage::on(harness).await;
    let due = stage.now() - MINUTE;
    let changes: Vec<_> = odd_names().iter().map(|name| owing(new(name, open(due)))).collect();
    stage.put_all(&changes).await;
    let overdue = stage.peek(stage.now()).await;
    assert_eq!(overdue, super::stage::sorted(odd_names().into_iter()));
}

/// Ids that a careless key, pattern, path, query or case folding would take for one another.
fn odd_names() -> Vec<String> {
    let long = "x".repeat(ID_BYTES_MAX - 1);
    let longest = "ü".repeat(ID_BYTES_MAX / 2);
    let names = [
        "o1",
        "O1",
        "o1 ",
        " o1",
        "o:1",
        "o.1",
        "o_1",
        "o%1",
        "o%3A1",
        "o%253A1",
        "o*",
        "o?",
        "o>",
        "o.>",
        "*",
        ">",
        "{o1}",
        "{}",
        "[o1]",
        "$o1",
        "o/1",
        "../o1",
        "o\\1",
        "o'1",
        "o\"1",
        "o`1",
        "o;1",
        "o,1",
        "o|1",
        "o=1",
        "o&1",
        "o#1",
        "o+1",
        "o-1",
        "-1",
        "1",
        "01",
        "1.0",
        "1e0",
        "null",
        "true",
        "ö",
        "o\u{308}",
        "ß",
        "SS",
        "ss",
        "İ",
        "i",
        "ı",
        "🎫",
        "\u{feff}o1",
        "o\u{200b}1",
        "\u{202e}o1",
    ];
    let long = [format!("{long}a"), format!("{long}b"), long, longest];
    names.into_iter().map(str::to_owned).chain(long).collect()
}

fn ticket(name: &str) -> Ticket {
    Ticket { id: TicketId::new(name).expect("is an id"), price: Price::new(19.99) }
}

fn user(name: &str) -> Option<UserId> {
    Some(UserId::new(name).expect("is an id"))
}

fn trace() -> Option<expirer_core::TraceParent> {
    "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".parse().ok()
}

/// Every kind of state, with everything that it may hold, and with as little as it may.
fn states(now: Timestamp) -> Vec<State> {
    let phases = [
        Phase::Open(OpenStatus::Created),
        Phase::Open(OpenStatus::AwaitingPayment),
        Phase::Complete { payment: None },
        Phase::Complete { payment: Some(payment("p:1 ü")) },
        Phase::Cancelled,
    ];
    let bare = phases.clone().into_iter().map(|phase| order(phase, now));
    let full = phases.into_iter().map(|phase| full_order(phase, now));
    let extreme = [Timestamp::MIN, Timestamp::EPOCH, Timestamp::MAX]
        .map(|at| Order { version: VERSION_MAX, ..order(Phase::Open(OpenStatus::Created), at) });
    let orders = bare.chain(full).chain(extreme).map(State::Order);
    orders.chain(aheads()).chain(late()).collect()
}

fn full_order(phase: Phase, expires_at: Timestamp) -> Order {
    let (user_id, ticket) = (user("u:1 {ü}"), ticket("t.1 🎫"));
    Order { version: 7, user_id, ticket, trace: trace(), ..order(phase, expires_at) }
}

fn aheads() -> impl Iterator<Item = State> {
    let paid = Ahead { payment: Some(payment("p1")), ..Ahead::default() };
    let cancelled = Ahead { cancelled: Some(VERSION_MAX), ..Ahead::default() };
    [Ahead::default(), paid, cancelled].map(State::Ahead).into_iter()
}

/// States that remember late payments: one, and as many as there may be.
fn late() -> impl Iterator<Item = State> {
    let (id, now) = (id("o1"), Timestamp::EPOCH);
    let draft = Draft {
        user_id: user("u1").expect("is an id"),
        ticket: ticket("t1"),
        expires_at: now,
        expires_relative: false,
        trace: trace(),
    };
    let ended = |end| [Input::Create(draft.clone()), end];
    let ended = [ended(Input::Cancel), ended(Input::Paid(payment("p")))].map(Vec::from);
    let ahead = vec![Input::CancelledElsewhere { version: 3 }];
    let histories = ended.into_iter().chain([ahead]);
    histories.flat_map(move |history| [1, LATE_PAYMENTS_MAX].map(|late| after(&id, &history, late)))
}

/// The state after these inputs and so many payments that come too late.
fn after(id: &OrderId, history: &[Input], late: usize) -> State {
    let paid = (0..late).map(|n| Input::Paid(payment(&format!("p{n}"))));
    let inputs = history.iter().cloned().chain(paid);
    let state = inputs.fold(None, |state, input| {
        let decision = apply(id, state.as_ref(), &input, Timestamp::EPOCH);
        decision.expect("the input fits the state").state.or(state)
    });
    state.expect("some input has made a state")
}

/// Every kind of event, with all its fields and with as few as it may have.
fn events(now: Timestamp) -> Vec<Event> {
    let (id, payment) = (id("o:1 ü"), payment("p1"));
    let created = OrderCreated {
        id: id.clone(),
        version: VERSION_MAX,
        status: OpenStatus::AwaitingPayment,
        user_id: user("u1"),
        expires_at: Timestamp::MAX,
        ticket: Some(ticket("t1")),
    };
    let bare = OrderCreated { version: 0, user_id: None, ticket: None, ..created.clone() };
    let released = Some(TicketRef { id: ticket("t1").id });
    let cancelled = OrderCancelled { id: id.clone(), version: 1, ticket: released };
    let late = |reason| PaymentLate { id: payment.clone(), order_id: id.clone(), reason };
    vec![
        Event::OrderCreated(created),
        Event::OrderCreated(bare),
        Event::OrderCancelled(OrderCancelled { ticket: None, ..cancelled.clone() }),
        Event::OrderCancelled(cancelled),
        Event::ExpirationComplete(ExpirationComplete { order_id: id.clone(), expires_at: None }),
        Event::ExpirationComplete(ExpirationComplete {
            order_id: id.clone(),
            expires_at: Some(now),
        }),
        Event::PaymentCreated(PaymentCreated { id: payment.clone(), order_id: id.clone() }),
        Event::PaymentLate(late(LateReason::OrderCancelled)),
        Event::PaymentLate(late(LateReason::AlreadyPaid)),
    ]
}
