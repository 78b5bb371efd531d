//! What is not settled yet.

use expirer_core::{Group, OrderId, Record, Subject};

use super::stage::Stage;
use crate::at_once;

impl Stage {
    /// Everything that somebody still has to do, in words.
    pub(super) fn unsettled(&self) -> Vec<String> {
        let mut left = self.open_orders();
        left.extend(self.backlog());
        let truth = self.watch.truth();
        if truth.timers.len() > 0 {
            left.push(format!("{} timers", truth.timers.len()));
        }
        if !truth.payments.are_settled() {
            left.push("payments".to_owned());
        }
        let unanswered = self.requests.len() - self.told().len();
        if unanswered > 0 || self.agenda_len() > 0 {
            left.push(format!("{unanswered} requests, {} acts", self.agenda_len()));
        }
        left
    }

    /// The orders' records as they are.
    pub(super) fn rows(&self) -> Vec<Option<Record>> {
        let ids: Vec<OrderId> = self.plan.stories.iter().map(|story| story.id.clone()).collect();
        at_once(self.backends.repo.load(&ids)).expect("the repository answers")
    }

    fn open_orders(&self) -> Vec<String> {
        let mut left = Vec::new();
        for (story, row) in self.plan.stories.iter().zip(self.rows()) {
            let has_ended = row.as_ref().is_some_and(|row| {
                row.owes.is_empty() && row.state.order().is_some_and(|order| !order.phase.is_open())
            });
            if !has_ended {
                left.push(format!("{} is {row:?}", story.id));
            }
        }
        left
    }

    fn backlog(&self) -> Vec<String> {
        let groups = [
            (Group::EXPIRATION_SERVICE, &Subject::EVENTS[..2]),
            (Group::ORDERS_SERVICE, &Subject::EVENTS[..4]),
        ];
        let mut left = Vec::new();
        for (group, subjects) in groups {
            for subject in subjects {
                let progress = at_once(self.backends.bus.progress(&group, subject));
                let progress = progress.expect("the bus answers");
                if progress.waiting + progress.unacked > 0 {
                    left.push(format!("{group} on {subject}: {progress:?}"));
                }
            }
        }
        left
    }
}
