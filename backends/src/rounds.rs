//! Batches in which no order is twice.

use expirer_core::Change;
use foldhash::fast::FixedState;
use hashbrown::HashMap;

/// The places of the changes, so that no round has an order twice, and the changes of one order
/// are in successive rounds: a call may be repeated, and would then come after the next.
pub(crate) fn rounds(changes: &[Change]) -> Vec<Vec<usize>> {
    let mut seen = HashMap::with_capacity_and_hasher(changes.len(), FixedState::default());
    let mut rounds: Vec<Vec<usize>> = Vec::new();
    for (place, change) in changes.iter().enumerate() {
        let times = seen.entry(&change.id).or_insert(0);
        if *times == rounds.len() {
            rounds.push(Vec::new());
        }
        rounds[*times].push(place);
        *times += 1;
    }
    rounds
}

#[cfg(test)]
mod tests {
    use expirer_core::order::{Ahead, State};
    use expirer_core::{OrderId, Revision};

    use super::*;

    #[test]
    fn changes_of_one_order_are_in_successive_rounds() {
        let change = |name: &str| Change {
            id: OrderId::new(name).unwrap(),
            expected: Revision::ABSENT,
            state: State::Ahead(Ahead::default()),
            owes: Vec::new(),
        };
        let changes = ["a", "b", "a", "c", "a", "b"].map(change);
        assert_eq!(rounds(&changes), [vec![0, 1, 3], vec![2, 5], vec![4]]);
        assert!(rounds(&[]).is_empty());
    }
}
