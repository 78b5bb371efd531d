//! What the bus owes beyond the suite.

mod faults;
mod strangers;
mod watermark;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use expirer_backends::connect::{self, ConnectOptions};
use expirer_conformance::Suite;
use expirer_core::{
    Clock, Consumer, Delivery, EventBus, Group, Message, Progress, ReceiveOptions, Release,
    Subject, SubscribeOptions, Timestamp,
};
use futures_lite::future::poll_once;

use crate::place::{Place, options};

const KEY: &str = "bus:{order:created}";
const SUBJECT: Subject = Subject::OrderCreated;
/// Generous: no test measures speed.
const LIMIT: Duration = Duration::from_secs(20);

pub(crate) fn tests(suite: Suite) -> Suite {
    macro_rules! tests {
        ($($part:ident$(::$test:ident)?,)+) => {suite$(
            .test(concat!("bus::", stringify!($part)$(, "::", stringify!($test))?), $part$(::$test)?)
        )+};
    }
    tests![
        a_release_is_by_the_distance_to_the_callers_time,
        what_a_dropped_call_took_is_given_back_at_once,
        what_comes_again_and_what_is_new_take_turns,
        who_waits_costs_a_few_commands_a_second,
        faults::scripts_that_are_gone_come_back,
        faults::a_full_server_refuses_and_takes_more_once_there_is_room,
        faults::a_full_server_is_drained,
        faults::a_replica_is_waited_for_until_it_is_a_master,
        faults::a_wrong_password_is_told,
        faults::what_is_forbidden_is_told_and_not_taken_for_done,
        faults::a_chore_that_is_forbidden_is_told,
        faults::the_permissions_in_the_docs_are_enough,
        faults::a_cluster_goes_on_without_the_master_of_a_stream,
        strangers::a_message_of_redis_cli_wakes_and_is_taken,
        strangers::a_stream_is_trimmed_behind_every_group,
        strangers::a_stream_that_nobody_of_ours_reads_is_trimmed_by_hand,
        strangers::a_stream_and_its_groups_that_are_gone_come_back,
        strangers::a_group_that_is_made_anew_keeps_nothing_of_the_old_one,
        strangers::what_others_settle_while_it_is_held_comes_again,
        strangers::what_is_deleted_from_the_stream_leaves_nothing,
        strangers::a_value_of_another_type_is_named,
        strangers::what_a_stranger_read_for_our_group_is_taken_over,
        strangers::however_much_a_stranger_left_is_taken_over,
        watermark::no_entry_is_stored_before_the_watermark,
        watermark::it_is_never_past_a_message_on_a_stream_that_is_ahead,
        watermark::what_was_stored_ahead_is_remembered_until_it_is_settled,
        watermark::a_payment_in_time_counts_on_a_stream_that_is_ahead,
    ]
}

async fn open(place: &Place, query: &str) -> Arc<dyn EventBus> {
    let url = format!("{}{query}", place.url());
    connect::bus(&url, &options()).await.expect("the bus opens").backend.bus
}

async fn join(bus: &Arc<dyn EventBus>, ack_deadline: Duration) -> Box<dyn Consumer> {
    let group = Group::new("a").expect("a name");
    let options = SubscribeOptions::new(group, [SUBJECT]).with_ack_deadline(ack_deadline);
    bus.subscribe(options).await.expect("it joins")
}

async fn publish(bus: &Arc<dyn EventBus>, count: usize) {
    let messages = vec![Message::new(SUBJECT, *b"{}"); count];
    bus.publish(&messages).await.expect("it is published");
}

async fn receive(consumer: &dyn Consumer, wait: Duration) -> Vec<Delivery> {
    let options = ReceiveOptions::new(256).with_wait(wait);
    consumer.receive(options).await.expect("it receives")
}

async fn ack(consumer: &dyn Consumer, came: &[Delivery]) {
    let receipts: Vec<_> = came.iter().map(|delivery| delivery.receipt).collect();
    consumer.ack(&receipts).await.expect("it acks");
}

async fn progress(bus: &Arc<dyn EventBus>, group: &str) -> Progress {
    let group = Group::new(group).expect("a name");
    bus.progress(&group, &SUBJECT).await.expect("it tells")
}

/// A clock that is wrong by so much.
#[derive(Debug)]
struct Wrong(Arc<dyn Clock>, Duration);

#[async_trait]
impl Clock for Wrong {
    fn now(&self) -> Timestamp {
        self.0.now() + self.1
    }

    async fn sleep_until(&self, at: Timestamp) {
        self.0.sleep_until(at - self.1).await;
    }
}

fn a_release_is_by_the_distance_to_the_callers_time() {
    let place = Place::plain();
    place.block_on(async {
        let given = options();
        let clock: Arc<dyn Clock> = Arc::new(Wrong(given.clock, Duration::from_secs(3600)));
        let options = ConnectOptions::new(Arc::clone(&clock), given.seed);
        let opened = connect::bus(&place.url(), &options).await;
        let bus = opened.expect("it opens").backend.bus;
        let consumer = join(&bus, LIMIT).await;
        publish(&bus, 1).await;
        let held = receive(&*consumer, LIMIT).await;
        let at = clock.now() + Duration::from_millis(400);
        consumer.release(&[Release { receipt: held[0].receipt, at }]).await.expect("it releases");
        let again = receive(&*consumer, LIMIT).await;
        let now = clock.now();
        assert_eq!(again.len(), 1, "expected within {LIMIT:?}");
        assert!(now >= at, "expected at {at} or later, came at {now}");
        ack(&*consumer, &again).await;
    });
}

fn what_a_dropped_call_took_is_given_back_at_once() {
    let place = Place::plain();
    place.block_on(async {
        let bus = open(&place, "").await;
        let (one, other) = (join(&bus, LIMIT * 6).await, join(&bus, LIMIT * 6).await);
        publish(&bus, 1).await;
        assert!(poll_once(one.receive(ReceiveOptions::new(1))).await.is_none());
        let end = place.now() + LIMIT;
        while place.server.cli(&["XPENDING", KEY, "a"]).starts_with('0') {
            assert!(place.now() < end, "expected the dropped call to take the message");
        }
        assert_eq!(receive(&*other, LIMIT).await.len(), 1);
    });
}

fn what_comes_again_and_what_is_new_take_turns() {
    const PUT_OFF: usize = 300;
    let place = Place::plain();
    place.block_on(async {
        let bus = open(&place, "").await;
        let consumer = join(&bus, LIMIT * 6).await;
        publish(&bus, PUT_OFF).await;
        let mut held = Vec::new();
        while held.len() < PUT_OFF {
            held.extend(receive(&*consumer, LIMIT).await);
        }
        put_off(&place, &*consumer, &held).await;
        publish(&bus, PUT_OFF).await;
        for max in [256, 3, 2, 1] {
            let mut attempts = Vec::new();
            for _ in 0..2 {
                let came = consumer.receive(ReceiveOptions::new(max)).await.expect("it receives");
                assert_eq!(came.len(), max, "there is more of both");
                attempts.extend(came.iter().map(|came| came.attempt));
                put_off(&place, &*consumer, &came).await;
            }
            let new = attempts.iter().filter(|attempt| **attempt == 1).count();
            assert_eq!(new, max, "half of two calls for {max}");
        }
    });
}

/// Gives back, to come again at once.
async fn put_off(place: &Place, consumer: &dyn Consumer, held: &[Delivery]) {
    let at = place.now();
    let releases: Vec<_> = held.iter().map(|d| Release { receipt: d.receipt, at }).collect();
    consumer.release(&releases).await.expect("it releases");
}

fn who_waits_costs_a_few_commands_a_second() {
    let place = Place::plain();
    place.block_on(async {
        let bus = open(&place, "").await;
        let consumer = join(&bus, LIMIT).await;
        assert_eq!(receive(&*consumer, Duration::from_secs(1)).await, []);
        let commands = || {
            let stats = place.server.cli(&["INFO", "stats"]);
            let line = stats.lines().find_map(|l| l.strip_prefix("total_commands_processed:"));
            line.and_then(|count| count.trim().parse::<u64>().ok()).expect("a number")
        };
        let before = commands();
        assert_eq!(receive(&*consumer, Duration::from_secs(4)).await, []);
        let spent = commands() - before;
        // A look is one script with seven commands in it, which the server counts, too.
        assert!(spent <= 60, "expected a look a second, came {spent} commands in 4 s");
    });
}
