//! Expirer inside a service of your own: `cargo run -p expirer-backends --example embed`.
//!
//! The five loops run as tasks beside whatever else the service does; orders are created and paid
//! by calls. Swap the three backends for others and nothing else changes.

use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use expirer_backends::TokioClock;
use expirer_backends::memory::{MemoryBus, MemoryQueue, MemoryRepo};
use expirer_core::event::{Price, Ticket};
use expirer_core::flow::{Canceller, Env, Expirer, Orders, Reconciler, Recorder, Scheduler};
use expirer_core::order::{Draft, Input};
use expirer_core::{
    Clock, DelayQueue, EventBus, OrderId, OrderRepo, PaymentId, ReceiveOptions, Silent, Subject,
    TicketId, UserId,
};

type Failure = Box<dyn std::error::Error>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Failure> {
    let clock: Arc<dyn Clock> = Arc::new(TokioClock::new());
    let seed = 42; // a random one, in a service of your own
    let bus: Arc<dyn EventBus> = Arc::new(MemoryBus::new(clock.clone(), seed));
    let queue: Arc<dyn DelayQueue> = Arc::new(MemoryQueue::new(clock.clone(), seed));
    let keep_ended = Duration::from_secs(3600);
    let repo: Arc<dyn OrderRepo> = Arc::new(MemoryRepo::new(clock.clone(), keep_ended, seed));
    let env = Env::new(clock.clone(), Arc::new(Silent));

    // Anything that ends is a stop: here, the closing of a channel.
    let (stop, stopped) = tokio::sync::watch::channel(());
    let stopped = || {
        let mut stopped = stopped.clone();
        async move { while stopped.changed().await.is_ok() {} }
    };
    let scheduler = Scheduler::new(bus.clone(), queue.clone(), env.clone());
    let expirer = Expirer::new(bus.clone(), queue.clone(), env.clone());
    let recorder = Recorder::new(bus.clone(), repo.clone(), queue.clone(), env.clone());
    let canceller = Canceller::new(bus.clone(), repo.clone(), queue.clone(), env.clone());
    let reconciler = Reconciler::new(bus.clone(), repo.clone(), queue.clone(), env.clone());
    let (one, two, three) = (stopped(), stopped(), stopped());
    let (four, five) = (stopped(), stopped());
    let loops = [
        tokio::spawn(async move { scheduler.run(one).await }),
        tokio::spawn(async move { expirer.run(two).await }),
        tokio::spawn(async move { recorder.run(three).await }),
        tokio::spawn(async move { canceller.run(four).await }),
        tokio::spawn(async move { reconciler.run(five).await }),
    ];

    // One order is paid, the other is not.
    let tail = bus.tail(&Subject::EVENTS).await?;
    let orders = Orders::new(bus, repo, queue, env);
    let (paid, unpaid) = (OrderId::new("paid")?, OrderId::new("unpaid")?);
    for id in [&paid, &unpaid] {
        let draft = Draft {
            user_id: UserId::new("user-1")?,
            ticket: Ticket { id: TicketId::new("seat-7")?, price: Price::new(20.0) },
            expires_at: clock.now() + Duration::from_millis(300),
            expires_relative: true,
            trace: None,
        };
        orders.apply(id, Input::Create(draft)).await?;
    }
    let payment = Some(PaymentId::new("payment-1")?);
    orders.apply(&paid, Input::Complete { payment }).await?;

    let mut out = std::io::stdout();
    let mut heard = 0;
    while heard < 4 {
        let options = ReceiveOptions::new(16).with_wait(Duration::from_secs(5));
        let batch = tail.receive(options).await?;
        for message in &batch.messages {
            let payload = String::from_utf8_lossy(&message.payload);
            writeln!(out, "{} {payload}", message.subject)?;
        }
        heard += batch.messages.len();
    }
    for id in [&paid, &unpaid] {
        let record = orders.load(id).await?.ok_or("the order is there")?;
        let status = record.state.order().map_or("unknown", |order| order.phase.as_str());
        writeln!(out, "{id} is {status}")?;
    }

    drop(stop);
    for each in loops {
        each.await?;
    }
    Ok(())
}
