//! All poison is among the dead letters of every group that read it, and nothing else is. That each
//! has its reason, and that an expiry there is of an order that was not known, is judged when it
//! is rejected.

use std::collections::BTreeSet;

use expirer_core::{Delivery, Group, Message, Subject};

use super::check::is_read;
use super::script::{NOBODY, NONSENSE};
use super::stage::Stage;
use super::watch::Verdict;

pub(super) fn check(stage: &Stage, audit: &[Delivery]) -> Verdict {
    let mut dead: BTreeSet<(Group, &[u8])> = BTreeSet::new();
    for Delivery { message, .. } in audit {
        if let Subject::Dead(group) = &message.subject {
            stage.log.count(|tally| tally.dead_letters += 1);
            dead.insert((group.clone(), &message.payload));
        }
    }
    let poison =
        audit.iter().map(|delivery| &delivery.message).filter(|message| is_poison(message));
    for message in poison {
        // What a group never got it cannot reject.
        let is_kept = |group: &Group| dead.contains(&(group.clone(), &message.payload));
        let lacks = readers(&message.subject).into_iter().find(|group| !is_kept(group));
        if let Some(group) = lacks.filter(|_| !stage.faults.has_swallowed(message)) {
            return Err(format!("poison that is no dead letter of {group}: {message:?}"));
        }
    }
    Ok(())
}

/// The groups that read a subject.
fn readers(subject: &Subject) -> Vec<Group> {
    match subject {
        Subject::OrderCreated | Subject::OrderCancelled => {
            vec![Group::EXPIRATION_SERVICE, Group::ORDERS_SERVICE]
        }
        _ => vec![Group::ORDERS_SERVICE],
    }
}

fn is_poison(Message { subject, payload, .. }: &Message) -> bool {
    let text = String::from_utf8_lossy(payload);
    is_read(subject) && (text.contains(NONSENSE) || text.contains(NOBODY))
}
