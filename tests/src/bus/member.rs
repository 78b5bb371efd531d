//! One member of a group, as the cases use it.

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;

use expirer_core::{
    Consumer, Delivery, Receipt, ReceiveOptions, Rejection, Release, SubscribeOptions, Timestamp,
};

use super::stage::{BREATH, COARSE, LIMIT, Stage, number};

/// How many messages a member asks for at a time, as the loops do.
const BATCH: usize = 256;

#[derive(Debug)]
pub(super) struct Member<'a> {
    pub(super) stage: &'a Stage<'a>,
    pub(super) consumer: Box<dyn Consumer>,
    pub(super) options: SubscribeOptions,
}

impl<'a> Member<'a> {
    pub(super) fn new(
        stage: &'a Stage<'a>,
        consumer: Box<dyn Consumer>,
        options: SubscribeOptions,
    ) -> Self {
        Self { stage, consumer, options }
    }

    /// One call.
    pub(super) async fn receive(&self, max: usize, wait: Duration) -> Vec<Delivery> {
        let options = ReceiveOptions::new(max).with_wait(wait);
        self.stage.done("receive", self.consumer.receive(options)).await
    }

    /// Receives at most so many, with a breath where nothing came: a call that does not wait costs
    /// the case its time, and not its end.
    async fn receive_until(&self, end: Timestamp, max: usize) -> Vec<Delivery> {
        let came = self.receive(max, end.since(self.stage.now())).await;
        if came.is_empty() {
            self.stage.pause(BREATH).await;
        }
        came
    }

    /// Receives one message, within the limit.
    pub(super) async fn next(&self) -> Delivery {
        let end = self.stage.now() + LIMIT;
        loop {
            if let Some(delivery) = self.receive_until(end, 1).await.pop() {
                return delivery;
            }
            assert!(self.stage.now() < end, "expected a message, none came by {end}");
        }
    }

    /// Receives one message that was put off: not before `due`, and not long after.
    pub(super) async fn next_at(&self, due: Timestamp) -> Delivery {
        let delivery = self.next().await;
        self.stage.assert_not_before(due, format_args!("{delivery:?}"));
        self.stage.assert_not_after(due + COARSE, format_args!("{delivery:?}"));
        delivery
    }

    /// Receives all of these, and nothing else; sorted, and the latest delivery of each.
    pub(super) async fn collect(&self, numbers: Range<u32>) -> Vec<Delivery> {
        self.gather(numbers, Handling::Hold).await
    }

    /// Receives all of these, and nothing else, and settles them.
    pub(super) async fn work_off(&self, numbers: Range<u32>) -> Vec<Delivery> {
        self.gather(numbers, Handling::Ack).await
    }

    async fn gather(&self, numbers: Range<u32>, handling: Handling) -> Vec<Delivery> {
        let end = self.stage.now() + LIMIT + self.stage.tolerance().late;
        let mut gathered = BTreeMap::new();
        while gathered.len() < numbers.len() {
            let missing = || numbers.clone().filter(|number| !gathered.contains_key(number));
            let missing = || missing().collect::<Vec<_>>();
            assert!(self.stage.now() < end, "expected {:?}, none came by {end}", missing());
            let batch = self.receive_until(end, BATCH).await;
            if handling == Handling::Ack {
                self.ack(&batch).await;
            }
            gathered
                .extend(batch.into_iter().map(|delivery| (number(&delivery.message), delivery)));
        }
        let surplus = gathered.keys().find(|number| !numbers.contains(number));
        assert_eq!(surplus, None, "expected {numbers:?} alone");
        gathered.into_values().collect()
    }

    /// Fails if something comes.
    pub(super) async fn gets_nothing_for(&self, duration: Duration) {
        let end = self.stage.now() + duration;
        while self.stage.now() < end {
            let came = self.receive_until(end, BATCH).await;
            assert_eq!(came, [], "expected nothing until {end}");
        }
    }

    /// Fails if something comes even after the ack deadline.
    pub(super) async fn gets_nothing_more(&self) {
        self.gets_nothing_for(self.options.ack_deadline * 2).await;
    }

    pub(super) async fn ack(&self, deliveries: &[Delivery]) {
        self.ack_receipts(&receipts(deliveries)).await;
    }

    pub(super) async fn ack_receipts(&self, receipts: &[Receipt]) {
        self.stage.done("ack", self.consumer.ack(receipts)).await;
    }

    pub(super) async fn release(&self, deliveries: &[Delivery], at: Timestamp) {
        self.release_receipts(&receipts(deliveries), at).await;
    }

    pub(super) async fn release_receipts(&self, receipts: &[Receipt], at: Timestamp) {
        let releases: Vec<Release> =
            receipts.iter().map(|receipt| Release { receipt: *receipt, at }).collect();
        self.stage.done("release", self.consumer.release(&releases)).await;
    }

    pub(super) async fn reject(&self, deliveries: &[Delivery], reason: &str) {
        self.reject_receipts(&receipts(deliveries), reason).await;
    }

    pub(super) async fn reject_receipts(&self, receipts: &[Receipt], reason: &str) {
        let rejections: Vec<Rejection> = receipts
            .iter()
            .map(|receipt| Rejection { receipt: *receipt, reason: reason.to_owned() })
            .collect();
        self.stage.done("reject", self.consumer.reject(&rejections)).await;
    }
}

/// What is done with a message that is collected.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Handling {
    Hold,
    Ack,
}

pub(super) fn receipts(deliveries: &[Delivery]) -> Vec<Receipt> {
    deliveries.iter().map(|delivery| delivery.receipt).collect()
}

pub(super) fn numbers(deliveries: &[Delivery]) -> Vec<u32> {
    deliveries.iter().map(|delivery| number(&delivery.message)).collect()
}
