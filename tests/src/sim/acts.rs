//! What happens at its time.

use expirer_core::order::Input;
use expirer_core::{Group, Message, OrderId, Subject};

use super::executor::Name;
use super::requests::Request;
use super::stage::{REPLICAS, Stage, WORLD};
use super::watch::{Actor, Role};
use crate::at_once;
use crate::faults::Service;

/// Something that happens at some time.
#[derive(Clone, Debug)]
pub(super) enum Act {
    /// Another service publishes.
    Publish(Message),
    /// Somebody asks us for something.
    Request(OrderId, Input),
    /// A replica or a request that was gone comes back.
    Start(Name),
    /// What stood still goes on.
    Thaw(Name),
    /// An outage begins or ends.
    Out(Service, bool),
    SetClock {
        clock: usize,
        ahead_millis: i64,
    },
    /// A backlog of a subject begins or ends, for one group.
    Hold(Group, Subject, bool),
    /// The queue loses timers that it had confirmed.
    LoseTimers(Vec<OrderId>),
}

impl Stage {
    pub(super) fn perform(&mut self, act: Act) {
        self.log.trace(self.now(), format_args!("{act:?}"));
        match act {
            Act::Publish(message) => self.publish(&message),
            Act::Request(id, input) => {
                self.requests.push(Request { id, input });
                self.start(REPLICAS + self.requests.len() - 1);
            }
            Act::Start(name) => self.start(name),
            Act::Thaw(name) => self.executor.thaw(name),
            Act::Out(service, is_out) => {
                self.log.count(|tally| tally.outages += u64::from(is_out));
                self.faults.set_out(service, is_out && !self.is_peace);
            }
            Act::SetClock { clock, ahead_millis } => {
                self.log.count(|tally| tally.clock_steps += 1);
                self.clocks[clock].set_ahead(ahead_millis);
            }
            Act::Hold(group, subject, is_held) => {
                self.log.count(|tally| tally.backlogs += u64::from(is_held));
                self.faults.set_held(&group, &subject, is_held && !self.is_peace);
            }
            Act::LoseTimers(ids) => self.lose_timers(&ids),
        }
    }

    fn publish(&self, message: &Message) {
        let world = Actor { name: 0, role: Role::World, clock: self.clocks[WORLD].clone() };
        let bus = self.watch.bus(&world, &self.backends.bus);
        at_once(bus.publish(std::slice::from_ref(message))).expect("the bus has room");
    }

    fn lose_timers(&self, ids: &[OrderId]) {
        self.log.count(|tally| tally.losses += ids.len() as u64);
        at_once(self.backends.queue.cancel(ids)).expect("the queue answers");
        self.watch.lost_timers(ids);
    }
}
