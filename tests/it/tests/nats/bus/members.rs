//! What a member owes beyond the suite: to the next one, and to its own deadline.

use std::path::Path;
use std::time::Duration;

use expirer_core::{ReceiveOptions, Release};
use futures_lite::future::poll_once;

use super::{LIMIT, SUBJECT, ack, group, join, open, publish, receive};
use crate::place::Place;

const DEADLINE: Duration = Duration::from_secs(1);

/// The server would settle the message for whoever has it by then.
pub(super) fn a_receipt_ends_with_its_deadline(program: &Path) {
    let place = Place::plain(program);
    place.block_on(async {
        let bus = open(&place.url()).await;
        let (late, heir) = (join(&bus, DEADLINE).await, join(&bus, DEADLINE).await);
        publish(&bus, 1).await;
        let held = receive(&*late, 1).await;
        assert_eq!(receive(&*heir, 1).await[0].attempt, 2);
        ack(&*late, &held).await;
        let release = Release { receipt: held[0].receipt, at: place.now() + LIMIT };
        late.release(&[release]).await.expect("it releases");
        let again = receive(&*heir, 1).await;
        assert_eq!(again[0].attempt, 3, "it was neither settled nor put off: {again:?}");
        ack(&*heir, &again).await;
    });
}

pub(super) fn what_a_dropped_call_took_is_given_back_at_once(program: &Path) {
    let place = Place::plain(program);
    place.block_on(async {
        let bus = open(&place.url()).await;
        let (leaves, heir) = (join(&bus, LIMIT * 4).await, join(&bus, LIMIT * 4).await);
        let options = ReceiveOptions::new(5).with_wait(LIMIT);
        assert!(poll_once(leaves.receive(options)).await.is_none(), "nothing is there yet");
        publish(&bus, 1).await;
        let begun = place.now();
        ack(&*heir, &receive(&*heir, 1).await).await;
        let took = place.now().since(begun);
        assert!(took < LIMIT, "expected it long before its deadline, came after {took:?}");
    });
}

pub(super) fn what_a_member_had_not_handed_over_outlives_it(program: &Path) {
    let place = Place::plain(program);
    place.block_on(async {
        let bus = open(&place.url()).await;
        let (ends, heir) = (join(&bus, LIMIT * 4).await, join(&bus, LIMIT * 4).await);
        publish(&bus, 3).await;
        let options = ReceiveOptions::new(5).with_wait(LIMIT);
        while let Some(came) = poll_once(ends.receive(options.clone())).await {
            // They were handed over at once: again.
            ack(&*ends, &came.expect("it receives")).await;
            publish(&bus, 3).await;
        }
        // What is said later on the same connection comes later.
        while bus.progress(&group(), &SUBJECT).await.expect("it tells").unacked < 3 {
            place.pause(Duration::from_millis(5)).await;
        }
        drop(ends);
        ack(&*heir, &receive(&*heir, 3).await).await;
    });
}
