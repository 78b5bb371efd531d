//! Who asked us was told the truth.

use expirer_core::OrderId;
use expirer_core::order::{Input, Order, Phase, Refused};

use super::requests::Told;
use super::stage::Stage;
use super::watch::Verdict;

pub(super) fn check(stage: &Stage, id: &OrderId, order: &Order) -> Verdict {
    for told in stage.told().iter().filter(|told| told.request.id == *id) {
        if !is_true(stage, told, order) {
            return Err(format!("{id}: {told:?}, but it is {order:?}"));
        }
    }
    Ok(())
}

fn is_true(stage: &Stage, told: &Told, order: &Order) -> bool {
    let is_complete = matches!(order.phase, Phase::Complete { .. });
    let is_cancelled = order.phase == Phase::Cancelled;
    match (&told.answer, &told.request.input) {
        (Ok(Some(Phase::Complete { .. })), Input::Complete { .. } | Input::Create(_)) => {
            is_complete
        }
        (Ok(Some(Phase::Cancelled)), Input::Cancel | Input::Create(_)) => is_cancelled,
        (Ok(Some(Phase::Open(_))), Input::Create(_)) => true,
        (Err(Refused::Complete), Input::Cancel) => is_complete,
        (Err(Refused::Cancelled), Input::Create(_) | Input::Complete { .. }) => is_cancelled,
        (Err(Refused::Unknown), Input::Complete { .. } | Input::Cancel) => {
            let known_at = stage.watch.truth().orders.known_at(&told.request.id);
            known_at.is_none_or(|at| at >= told.asked_at)
        }
        _ => false,
    }
}
