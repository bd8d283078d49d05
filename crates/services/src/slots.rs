//! Which endpoint has which slot.

use std::collections::BTreeSet;

use zeugma_plan::nft::services::{Backend, EXACT_SLOTS};

use crate::maglev;

/// Slots for endpoints with weights, given the slots before: few change.
///
/// Up to 64 endpoints of the same weight have one slot each, others share a table.
pub(crate) fn placed(previous: &[Backend], wanted: &[(Backend, u16)]) -> Vec<Backend> {
    let equal = wanted.windows(2).all(|pair| pair[0].1 == pair[1].1);
    if equal && wanted.len() <= EXACT_SLOTS as usize {
        return kept(previous, wanted.iter().map(|(backend, _)| *backend).collect());
    }
    maglev::table(wanted)
}

/// Who had a slot that there still is keeps it; the others take those that are free.
fn kept(previous: &[Backend], mut homeless: BTreeSet<Backend>) -> Vec<Backend> {
    let mut slots: Vec<Option<Backend>> = vec![None; homeless.len()];
    for (slot, backend) in slots.iter_mut().zip(previous) {
        *slot = homeless.take(backend);
    }
    let mut homeless = homeless.into_iter();
    slots.into_iter().filter_map(|slot| slot.or_else(|| homeless.next())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::net::IpAddr;

    fn backend(number: u8) -> Backend {
        Backend { address: IpAddr::from([10, 88, 0, number]), port: 80 }
    }

    fn equal(numbers: &BTreeSet<u8>) -> Vec<(Backend, u16)> {
        numbers.iter().map(|number| (backend(*number), 1)).collect()
    }

    fn written(before: &[Backend], after: &[Backend]) -> usize {
        (0..before.len().max(after.len())).filter(|at| before.get(*at) != after.get(*at)).count()
    }

    proptest! {
        #[test]
        fn one_more_is_one_slot_and_one_less_at_most_two(mut numbers in prop::collection::btree_set(any::<u8>(), 1..64), order in any::<u64>()) {
            let number = *numbers.iter().nth(order as usize % numbers.len()).unwrap();
            let full = placed(&[], &equal(&numbers));
            prop_assert_eq!(full.iter().copied().collect::<BTreeSet<_>>().len(), numbers.len());
            numbers.remove(&number);
            let less = placed(&full, &equal(&numbers));
            prop_assert!(written(&full, &less) <= 2);
            numbers.insert(number);
            let again = placed(&less, &equal(&numbers));
            prop_assert_eq!(written(&less, &again), 1);
        }

        #[test]
        fn nothing_moves_when_nothing_changes(numbers in prop::collection::btree_set(any::<u8>(), 0..100)) {
            let wanted = equal(&numbers);
            let slots = placed(&[], &wanted);
            prop_assert_eq!(placed(&slots, &wanted), slots);
        }
    }

    #[test]
    fn weights_make_a_table() {
        let slots = placed(&[], &[(backend(1), 1), (backend(2), 3)]);
        assert_eq!(slots.len(), 128);
        assert_eq!(slots.iter().filter(|slot| **slot == backend(1)).count(), 32);
    }
}
