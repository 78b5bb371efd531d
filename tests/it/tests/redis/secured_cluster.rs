//! The three parts on a cluster with TLS between all, a password and a client's certificate.

use std::time::Duration;

use expirer_backends::connect;
use expirer_core::event::{OpenStatus, Ticket};
use expirer_core::order::{LatePayments, Order, Phase, State};
use expirer_core::{
    Change, ErrorKind, Group, LeaseOptions, Message, OrderId, Outcome, ReceiveOptions, Revision,
    Subject, SubscribeOptions, TicketId, Timer, Timestamp,
};

use crate::place::{options, runtime};
use crate::servers::redis_cluster::RedisCluster;

const LONG: Duration = Duration::from_secs(60);

fn ids() -> Vec<OrderId> {
    // Enough for every shard, and so every master.
    (0..100).map(|n| OrderId::new(format!("o{n}")).expect("an id")).collect()
}

pub(crate) fn queue_bus_and_repository_work_over_tls() {
    let cluster = RedisCluster::secured();
    cluster.hold_steady();
    runtime().block_on(async {
        let url = cluster.url();
        use_queue(&url).await;
        use_bus(&url).await;
        use_repo(&url).await;
        let stranger = url.replace("pass%2Fw:rd", "guess");
        let error = connect::queue(&stranger, &options()).await.expect_err("it is refused");
        assert_eq!(error.kind(), ErrorKind::Denied, "{error}");
        let text = error.to_string();
        assert!(text.contains("authentication failed") && !text.contains("guess"), "{text}");
    });
}

async fn use_queue(url: &str) {
    let queue = connect::queue(url, &options()).await.expect("a queue").backend;
    let due = options().clock.now() + Duration::from_secs(1);
    let timers: Vec<_> = ids().into_iter().map(|id| Timer::new(id, due)).collect();
    queue.schedule(&timers).await.expect("scheduled");
    let mut came = Vec::new();
    while came.len() < timers.len() {
        let asked = LeaseOptions::new(256).with_wait(LONG).with_duration(LONG);
        let leases = queue.lease(asked).await.expect("leased");
        assert!(!leases.is_empty(), "{} came", came.len());
        let receipts: Vec<_> = leases.iter().map(|lease| lease.receipt).collect();
        queue.ack(&receipts).await.expect("acked");
        came.extend(leases.into_iter().map(|lease| lease.timer));
    }
    came.sort_by_key(|timer| ids().iter().position(|id| *id == timer.id));
    assert_eq!(came, timers);
}

async fn use_bus(url: &str) {
    let bus = connect::bus(url, &options()).await.expect("a bus").backend.bus;
    let subjects = [Subject::OrderCreated, Subject::PaymentCreated, Subject::OrderCancelled];
    let joining = SubscribeOptions::new(Group::ORDERS_SERVICE, subjects.clone());
    let consumer = bus.subscribe(joining).await.expect("it joins");
    bus.publish(&subjects.map(|subject| Message::new(subject, *b"{}"))).await.expect("published");
    let mut came = 0;
    while came < 3 {
        let some = consumer.receive(ReceiveOptions::new(8).with_wait(LONG)).await.expect("some");
        assert!(!some.is_empty(), "{came} came");
        let receipts: Vec<_> = some.iter().map(|delivery| delivery.receipt).collect();
        consumer.ack(&receipts).await.expect("acked");
        came += some.len();
    }
}

async fn use_repo(url: &str) {
    let repo = connect::repo(url, &options()).await.expect("a repository").backend;
    let changes: Vec<_> = ids().into_iter().map(change).collect();
    for outcome in repo.commit(&changes).await.expect("an answer") {
        assert!(matches!(outcome, Outcome::Committed(_)), "{outcome:?}");
    }
    let records = repo.load(&ids()).await.expect("loaded");
    assert!(records.iter().all(Option::is_some), "{records:?}");
}

fn change(id: OrderId) -> Change {
    let order = Order {
        version: 0,
        phase: Phase::Open(OpenStatus::Created),
        user_id: None,
        expires_at: Timestamp::MAX,
        ticket: Ticket { id: TicketId::new("t1").expect("an id"), price: None },
        late: LatePayments::default(),
        trace: None,
    };
    Change { id, expected: Revision::ABSENT, state: State::Order(order), owes: Vec::new() }
}
