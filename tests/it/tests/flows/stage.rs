//! Backends, two replicas of every loop, and somebody who listens.

use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use expirer_backends::memory::{MemoryBus, MemoryQueue, MemoryRepo};
use expirer_core::bus::Tail;
use expirer_core::flow::{Canceller, Env, Expirer, Limits, Reconciler, Recorder, Scheduler};
use expirer_core::{
    Clock, DelayQueue, EventBus, Message, OrderRepo, ReceiveOptions, Silent, Subject, Timestamp,
};
use futures_lite::future::block_on;

use crate::executor::{Executor, Seed, VirtualClock};
use crate::faults::{Faults, Faulty};

pub(crate) const NOW: Timestamp = Timestamp::from_millis(1_795_341_600_000);
pub(crate) const LOOPS: usize = 5;
pub(crate) const REPLICAS: usize = 2;

/// A whole service, on its stage.
#[derive(Debug)]
pub(crate) struct Stage {
    pub(crate) clock: Arc<VirtualClock>,
    pub(crate) seed: Seed,
    pub(crate) faults: Faults,
    /// The backends themselves, for whoever is not part of the service.
    pub(crate) bus: Arc<dyn EventBus>,
    pub(crate) repo: Arc<dyn OrderRepo>,
    queue: Arc<dyn DelayQueue>,
    tail: Box<dyn Tail>,
    executor: Executor,
    /// What was heard, and when.
    pub(crate) heard: Vec<(Timestamp, Message)>,
}

impl Stage {
    pub(crate) fn new(seed: u64, one_fault_in: u64) -> Self {
        let clock = Arc::new(VirtualClock::new(NOW));
        let bus: Arc<dyn EventBus> = Arc::new(MemoryBus::new(clock.clone(), seed));
        let keep_ended = Duration::from_secs(86_400);
        let mut stage = Self {
            tail: block_on(bus.tail(&Subject::EVENTS)).expect("memory has a tail"),
            repo: Arc::new(MemoryRepo::new(clock.clone(), keep_ended, seed)),
            queue: Arc::new(MemoryQueue::new(clock.clone(), seed)),
            bus,
            faults: Faults::new(seed ^ 1, one_fault_in),
            seed: Seed::new(seed),
            executor: Executor::new(clock.clone()),
            heard: Vec::new(),
            clock,
        };
        (0..LOOPS * REPLICAS).for_each(|name| stage.start(name));
        stage
    }

    /// Starts a replica of a loop, or crashes it wherever it is and starts it again.
    pub(crate) fn start(&mut self, name: usize) {
        let faults = || self.faults.clone();
        let bus = Arc::new(Faulty { faults: faults(), inner: Arc::clone(&self.bus) });
        let queue = Arc::new(Faulty { faults: faults(), inner: Arc::clone(&self.queue) });
        let repo = Arc::new(Faulty { faults: faults(), inner: Arc::clone(&self.repo) });
        let mut limits = Limits::default();
        limits.batch_max = 4;
        limits.seed = name as u64;
        let env = Env::new(self.clock.clone(), Arc::new(Silent)).with_limits(limits);
        match name % LOOPS {
            0 => {
                let scheduler = Scheduler::new(bus, queue, env);
                self.executor.spawn(name, async move { scheduler.run(pending()).await });
            }
            1 => {
                let expirer = Expirer::new(bus, queue, env);
                self.executor.spawn(name, async move { expirer.run(pending()).await });
            }
            2 => {
                let recorder = Recorder::new(bus, repo, queue, env);
                self.executor.spawn(name, async move { recorder.run(pending()).await });
            }
            3 => {
                let canceller = Canceller::new(bus, repo, queue, env);
                self.executor.spawn(name, async move { canceller.run(pending()).await });
            }
            _ => {
                let reconciler = Reconciler::new(bus, repo, queue, env);
                self.executor.spawn(name, async move { reconciler.run(pending()).await });
            }
        }
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    pub(crate) fn publish(&self, message: &Message) {
        block_on(self.bus.publish(std::slice::from_ref(message))).expect("memory has room");
    }

    /// One step of one task, or of time; then listens.
    pub(crate) fn turn(&mut self, end: Timestamp) {
        self.executor.turn(&mut self.seed, end);
        let heard = block_on(self.tail.receive(ReceiveOptions::new(1024))).expect("a tail");
        assert_eq!(heard.missed, 0, "whoever listens has to hear all");
        let now = self.now();
        self.heard.extend(heard.messages.into_iter().map(|message| (now, message)));
    }
}
