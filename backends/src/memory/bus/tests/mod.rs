//! One test per promise of the bus.

mod groups;
mod model;
mod retention;
mod tails;
mod waiting;

use std::sync::Arc;
use std::time::Duration;

use expirer_core::{
    Consumer, Delivery, EventBus, Group, Message, Progress, Receipt, ReceiveOptions, Release,
    Subject, SubscribeOptions, Timestamp,
};

use super::MemoryBus;
use crate::memory::testing::{VirtualClock, now_or_never};

const SECOND: Duration = Duration::from_secs(1);
const ACK_DEADLINE: Duration = Duration::from_secs(10);
const ORDERS: Group = Group::ORDERS_SERVICE;
const EXPIRATION: Group = Group::EXPIRATION_SERVICE;
const CREATED: Subject = Subject::OrderCreated;
const PAID: Subject = Subject::PaymentCreated;

fn bus() -> (Arc<VirtualClock>, MemoryBus) {
    let clock = Arc::new(VirtualClock::new());
    (Arc::clone(&clock), MemoryBus::new(clock, 0x1_2345_6789))
}

fn messages(subject: &Subject, texts: impl IntoIterator<Item = usize>) -> Vec<Message> {
    let message = |text: usize| Message::new(subject.clone(), text.to_string().into_bytes());
    texts.into_iter().map(message).collect()
}

fn publish(bus: &MemoryBus, subject: &Subject, texts: impl IntoIterator<Item = usize>) {
    now_or_never(bus.publish(&messages(subject, texts))).expect("there is room");
}

fn join(bus: &MemoryBus, group: Group, subjects: &[Subject]) -> Box<dyn Consumer> {
    now_or_never(bus.subscribe(SubscribeOptions::new(group, subjects))).expect("joins")
}

fn receive(consumer: &dyn Consumer, max: usize) -> Vec<Delivery> {
    now_or_never(consumer.receive(ReceiveOptions::new(max))).expect("receives")
}

fn ack(consumer: &dyn Consumer, deliveries: &[Delivery]) {
    now_or_never(consumer.ack(&receipts(deliveries))).expect("acks");
}

fn release(consumer: &dyn Consumer, delivery: &Delivery, at: Timestamp) {
    let release = Release { receipt: delivery.receipt, at };
    now_or_never(consumer.release(&[release])).expect("releases");
}

fn progress(bus: &MemoryBus, group: &Group, subject: &Subject) -> Progress {
    now_or_never(bus.progress(group, subject)).expect("knows")
}

fn counts(progress: Progress) -> (u64, u64) {
    (progress.waiting, progress.unacked)
}

fn receipts(deliveries: &[Delivery]) -> Vec<Receipt> {
    deliveries.iter().map(|delivery| delivery.receipt).collect()
}

fn number(message: &Message) -> usize {
    let text = std::str::from_utf8(&message.payload).expect("digits");
    text.parse().expect("a number")
}

fn numbers(deliveries: &[Delivery]) -> Vec<usize> {
    deliveries.iter().map(|delivery| number(&delivery.message)).collect()
}

fn attempts(deliveries: &[Delivery]) -> Vec<u32> {
    deliveries.iter().map(|delivery| delivery.attempt).collect()
}
