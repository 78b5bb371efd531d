//! The turn that the Scheduler, the Recorder and the Canceller share: receive, handle, settle.

use std::future::Future;
use std::time::Duration;

use async_trait::async_trait;
use futures_lite::future::yield_now;

use super::backoff::Backoff;
use super::bisect::bisect;
use super::env::{Env, Stop};
use crate::observe::{Flow, Signal};
use crate::{
    Consumer, Delivery, Error, ErrorKind, EventBus, Receipt, ReceiveOptions, Rejection, Release,
    Result, SubscribeOptions,
};

/// What a loop does with the deliveries of one batch.
#[async_trait]
pub(crate) trait Handler: Sync {
    /// Which loop it is.
    fn flow(&self) -> Flow;

    /// Whether the backends that it needs besides the bus answer.
    async fn probe(&self) -> Result<()>;

    /// What there is to do between two batches; says when to come back if no message comes.
    async fn rest(&self) -> Option<Duration> {
        None
    }

    /// Handles a batch: one verdict per delivery, in order.
    async fn handle(&self, deliveries: &[Delivery]) -> Vec<Verdict>;
}

/// What is to become of a delivery.
#[derive(Clone, Debug)]
pub(crate) enum Verdict {
    /// It is done.
    Ack,
    /// It comes again.
    Again { after: Duration, why: &'static str },
    /// It is poison.
    Reject(String),
    /// A backend failed: it comes again when the loop has backed off.
    Failed(Error),
}

impl Verdict {
    /// The verdict on an item by the call that it was part of.
    pub(crate) fn by(result: Result<()>) -> Self {
        match result {
            Ok(()) => Self::Ack,
            Err(error) if error.kind() == ErrorKind::Invalid => Self::Reject(error.to_string()),
            Err(error) => Self::Failed(error),
        }
    }
}

/// Subscribes and works until `stop` ends, whatever fails in between.
pub(crate) async fn consume(
    handler: &dyn Handler,
    bus: &dyn EventBus,
    options: &SubscribeOptions,
    env: &Env,
    stop: impl Future<Output = ()> + Send,
) {
    let mut stop = Stop::new(stop);
    let mut backoff = env.backoff(handler.flow());
    while !stop.is_stopped() {
        let subscribed = stop.or(env.step(bus.subscribe(options.clone()))).await;
        let error = match subscribed {
            None => return,
            Some(Err(error)) => error,
            Some(Ok(consumer)) => {
                let session = Session { handler, consumer: &*consumer, env };
                match session.run(&mut backoff, &mut stop).await {
                    Ok(()) => return,
                    Err(error) => error,
                }
            }
        };
        env.back_off(handler.flow(), &error, &mut backoff, &mut stop).await;
    }
}

/// One subscription.
struct Session<'a> {
    handler: &'a dyn Handler,
    consumer: &'a dyn Consumer,
    env: &'a Env,
}

impl Session<'_> {
    /// Works until stop (`Ok`) or until the consumer itself fails.
    async fn run(&self, backoff: &mut Backoff, stop: &mut Stop<'_>) -> Result<()> {
        let flow = self.handler.flow();
        let limits = &self.env.limits;
        let mut is_ready = false;
        loop {
            if !is_ready {
                self.handler.probe().await?;
                self.env.report(&Signal::Ready { flow });
                is_ready = true;
            }
            let wait = self.handler.rest().await.map_or(limits.wait, |rest| rest.min(limits.wait));
            let options = ReceiveOptions::new(limits.batch_max).with_wait(wait);
            let receive = self.consumer.receive(options);
            let Some(batch) = stop.or(self.env.within(wait + limits.step, receive)).await else {
                return Ok(());
            };
            let batch = batch?;
            if !batch.is_empty() {
                self.env.report(&Signal::Batch { flow, items: batch.len() });
                if let Some(error) = self.turn(&batch, backoff).await? {
                    self.env.back_off(flow, &error, backoff, stop).await;
                    is_ready = false;
                } else {
                    backoff.reset();
                }
            }
            // A backend in memory never pends: without this, one loop starves the others.
            yield_now().await;
        }
    }

    /// Handles and settles one batch; a fault of a backend is the loop's to wait out.
    async fn turn(&self, batch: &[Delivery], backoff: &Backoff) -> Result<Option<Error>> {
        let deadline = self.env.limits.turn();
        let handled = async { Ok(self.handler.handle(batch).await) };
        let verdicts = match self.env.within(deadline, handled).await {
            Ok(verdicts) => verdicts,
            Err(error) => vec![Verdict::Failed(error); batch.len()],
        };
        let mut settlement = Settlement::default();
        for (delivery, verdict) in batch.iter().zip(verdicts) {
            settlement.add(delivery.receipt, verdict, self, backoff.upper_bound());
        }
        self.settle(&settlement).await?;
        Ok(settlement.fault)
    }

    /// Tries all three, then reports the first failure: what was not settled comes again.
    async fn settle(&self, settlement: &Settlement) -> Result<()> {
        let Settlement { acks, releases, rejections, .. } = settlement;
        let acked = match acks.is_empty() {
            true => Ok(()),
            false => self.env.step(self.consumer.ack(acks)).await,
        };
        let released = match releases.is_empty() {
            true => Ok(()),
            false => self.env.step(self.consumer.release(releases)).await,
        };
        let rejected = self.reject(rejections).await;
        acked.and(released).and(rejected)
    }

    /// A dead letter that the bus can never take is given back for a while: the message is neither
    /// lost, nor does it hold the others up.
    async fn reject(&self, rejections: &[Rejection]) -> Result<()> {
        let results =
            bisect(rejections, |part| Box::pin(self.env.step(self.consumer.reject(part)))).await;
        let (flow, retry_in) = (self.handler.flow(), self.env.limits.backoff_max);
        let (mut refused, mut fault) = (Vec::new(), Ok(()));
        for (Rejection { receipt, reason }, result) in rejections.iter().zip(results) {
            match result {
                Ok(()) => self.env.report(&Signal::Rejected { flow, reason }),
                Err(error) if error.kind() == ErrorKind::Invalid => {
                    let whole_loop = false;
                    self.env.report(&Signal::Failed { flow, error: &error, retry_in, whole_loop });
                    refused.push(Release { receipt: *receipt, at: self.env.now() + retry_in });
                }
                Err(error) => fault = Err(error),
            }
        }
        if !refused.is_empty() {
            self.env.step(self.consumer.release(&refused)).await?;
        }
        fault
    }
}

/// The verdicts on a batch, by what has to be called.
#[derive(Default)]
struct Settlement {
    acks: Vec<Receipt>,
    releases: Vec<Release>,
    rejections: Vec<Rejection>,
    fault: Option<Error>,
}

impl Settlement {
    fn add(&mut self, receipt: Receipt, verdict: Verdict, session: &Session<'_>, pause: Duration) {
        match verdict {
            Verdict::Ack => self.acks.push(receipt),
            Verdict::Again { after, why } => {
                let flow = session.handler.flow();
                session.env.report(&Signal::Released { flow, why, after });
                self.releases.push(Release { receipt, at: session.env.now() + after });
            }
            Verdict::Reject(reason) => self.rejections.push(Rejection { receipt, reason }),
            Verdict::Failed(error) => {
                self.releases.push(Release { receipt, at: session.env.now() + pause });
                self.fault.get_or_insert(error);
            }
        }
    }
}
