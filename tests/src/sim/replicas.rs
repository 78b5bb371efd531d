//! The replicas of the loops, and requests: what each is given, and how it starts and ends.

use std::future::{Future, poll_fn};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Poll, Waker};

use expirer_core::flow::{
    Canceller, Env, Expirer, Limits, Orders, Reconciler, Recorder, Scheduler,
};
use expirer_core::observe::Flow;

use super::Backends;
use super::executor::Name;
use super::stage::{FIRST_REPLICA, REPLICAS, Stage, WORLD};
use super::watch::{Actor, BATCH_MAX, Role};
use crate::lock;

/// Ends a loop.
#[derive(Debug, Default)]
pub(super) struct Switch {
    is_off: AtomicBool,
    waiter: Mutex<Option<Waker>>,
}

impl Switch {
    fn is_off(&self) -> bool {
        self.is_off.load(Ordering::SeqCst)
    }

    pub(super) fn turn_off(&self) {
        self.is_off.store(true, Ordering::SeqCst);
        let waiter = lock(&self.waiter).take();
        waiter.into_iter().for_each(Waker::wake);
    }

    /// Ends once it is turned off.
    fn off(self: Arc<Self>) -> impl Future<Output = ()> + Send + 'static {
        poll_fn(move |context| {
            *lock(&self.waiter) = Some(context.waker().clone());
            if self.is_off() { Poll::Ready(()) } else { Poll::Pending }
        })
    }
}

const fn flow_of(name: Name) -> Flow {
    Flow::ALL[name % Flow::ALL.len()]
}

impl Stage {
    /// Starts a replica of a loop or a request, or crashes it wherever it is and starts it again.
    pub(super) fn start(&mut self, name: Name) {
        match name {
            name if name >= REPLICAS => self.start_request(name),
            name if self.is_left_out(name) => {}
            name => self.start_loop(name),
        }
    }

    /// Whether a mistake leaves out this replica.
    pub(super) fn is_left_out(&self, name: Name) -> bool {
        self.mistake.is_some_and(|mistake| mistake.leaves_out(flow_of(name)))
    }

    fn start_loop(&mut self, name: Name) {
        let flow = flow_of(name);
        let clock = self.clocks[FIRST_REPLICA + name].clone();
        let actor = Actor { name, role: Role::Flow(flow), clock };
        let mut env = self.env(&actor);
        let mut backends = self.seen_by(&actor);
        let switch = Arc::new(Switch::default());
        if let Some(mistake) = self.mistake {
            backends = mistake.in_replica(flow, &actor.clock, backends);
            env.observer = mistake.in_observer(env.observer, {
                let switch = Arc::clone(&switch);
                move || switch.turn_off()
            });
        }
        self.spawn(name, flow, env, backends, Arc::clone(&switch).off());
        self.switches.insert(name, switch);
    }

    fn spawn(
        &mut self,
        name: Name,
        flow: Flow,
        env: Env,
        Backends { queue, bus, repo }: Backends,
        stop: impl Future<Output = ()> + Send + 'static,
    ) {
        match flow {
            Flow::Scheduler => {
                let scheduler = Scheduler::new(bus, queue, env);
                self.executor.spawn(name, async move { scheduler.run(stop).await });
            }
            Flow::Expirer => {
                let expirer = Expirer::new(bus, queue, env);
                self.executor.spawn(name, async move { expirer.run(stop).await });
            }
            Flow::Recorder => {
                let recorder = Recorder::new(bus, repo, queue, env);
                self.executor.spawn(name, async move { recorder.run(stop).await });
            }
            Flow::Canceller => {
                let canceller = Canceller::new(bus, repo, queue, env);
                self.executor.spawn(name, async move { canceller.run(stop).await });
            }
            Flow::Reconciler => {
                let reconciler = Reconciler::new(bus, repo, queue, env);
                self.executor.spawn(name, async move { reconciler.run(stop).await });
            }
        }
    }

    fn start_request(&mut self, name: Name) {
        let clock = self.clocks[WORLD].clone();
        let actor = Actor { name, role: Role::Request, clock };
        let Backends { queue, bus, repo } = self.seen_by(&actor);
        let orders = Orders::new(bus, repo, queue, self.env(&actor));
        let request = self.requests[name - REPLICAS].clone();
        let (time, told) = (self.time.clone(), Arc::clone(&self.told));
        self.executor.spawn(name, request.made(orders, time, told));
    }

    /// The backends as an actor sees them: watched, behind faults.
    fn seen_by(&self, actor: &Actor) -> Backends {
        let Self { watch, backends, .. } = self;
        let faults = self.faults.with_clock(actor.clock.clone());
        let bus = faults.bus(watch.bus(actor, &backends.bus));
        Backends {
            queue: faults.queue(watch.queue(actor, &backends.queue)),
            bus: watch.ears(actor, bus),
            repo: faults.repo(watch.repo(actor, &backends.repo)),
        }
    }

    fn env(&self, actor: &Actor) -> Env {
        let mut limits = Limits::default();
        limits.batch_max = BATCH_MAX;
        limits.seed = actor.name as u64;
        Env::new(actor.clock.clone(), self.watch.observer(actor))
            .with_limits(limits)
            .expect("they hold")
    }
}
