//! Tables of slots after Maglev (Eisenbud et al., NSDI 2016, section 3.4), with weights: each endpoint has its own
//! order of preference for slots, and they take turns. When an endpoint comes or goes, few slots of the others change.
//!
//! Sizes are powers of two instead of primes: a step that is odd visits every slot all the same.

use std::net::IpAddr;

use zeugma_plan::nft::services::{Backend, EXACT_SLOTS, LARGEST_TABLE};

/// Slots of an endpoint with the smallest weight, unless the table would be too large.
const SLOTS_EACH: u64 = 8;

/// Fills a table. No two backends are the same; weights are 1 or more.
pub(crate) fn table(backends: &[(Backend, u16)]) -> Vec<Backend> {
    let size = size(backends);
    let backends = &backends[..backends.len().min(size)];
    let heaviest = backends.iter().map(|(_, weight)| u32::from(*weight)).max().unwrap_or(1);
    let mut seekers: Vec<Seeker> = backends.iter().map(|(backend, _)| Seeker::new(backend, size)).collect();
    let mut slots: Vec<Option<Backend>> = vec![None; size];
    let mut free = size;
    while free > 0 && !seekers.is_empty() {
        for (seeker, (backend, weight)) in seekers.iter_mut().zip(backends) {
            if free > 0 && seeker.is_due(u32::from(*weight), heaviest) {
                let slot = seeker.next_free(&slots);
                slots[slot] = Some(*backend);
                free -= 1;
            }
        }
    }
    slots.into_iter().flatten().collect()
}

/// The power of two that gives the smallest weight [`SLOTS_EACH`] slots.
fn size(backends: &[(Backend, u16)]) -> usize {
    let total: u64 = backends.iter().map(|(_, weight)| u64::from(*weight)).sum();
    let least = backends.iter().map(|(_, weight)| u64::from(*weight)).min().unwrap_or(1);
    let wanted = (total * SLOTS_EACH).div_ceil(least).next_power_of_two();
    wanted.clamp(u64::from(EXACT_SLOTS) * 2, u64::from(LARGEST_TABLE)) as usize
}

/// An endpoint on the search for its next slot.
struct Seeker {
    place: usize,
    step: usize,
    credit: u32,
}

impl Seeker {
    fn new(backend: &Backend, size: usize) -> Self {
        let hash = hash(backend);
        Self { place: hash as usize % size, step: ((hash >> 32) as usize % size) | 1, credit: 0 }
    }

    /// The heaviest has a turn in every round, others when their weights have added up to the heaviest's.
    fn is_due(&mut self, weight: u32, heaviest: u32) -> bool {
        self.credit += weight;
        let due = self.credit >= heaviest;
        self.credit -= if due { heaviest } else { 0 };
        due
    }

    fn next_free(&mut self, slots: &[Option<Backend>]) -> usize {
        loop {
            let place = self.place;
            self.place = (place + self.step) % slots.len();
            if slots[place].is_none() {
                return place;
            }
        }
    }
}

/// The same on every node and in every version: FNV-1a, then the finalizer of splitmix64.
fn hash(backend: &Backend) -> u64 {
    const OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
    const PRIME: u64 = 0x0100_0000_01b3;
    let add = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(PRIME);
    let hash = match backend.address {
        IpAddr::V4(v4) => v4.octets().into_iter().fold(OFFSET, add),
        IpAddr::V6(v6) => v6.octets().into_iter().fold(OFFSET, add),
    };
    let mut hash = backend.port.to_be_bytes().into_iter().fold(hash, add);
    hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ (hash >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn backends(weights: &[u16]) -> Vec<(Backend, u16)> {
        let backend =
            |number: u32| Backend { address: IpAddr::from((0x0a58_0000 + number).to_be_bytes()), port: 80 };
        (0..).map(backend).zip(weights.iter().copied()).collect()
    }

    fn shares(table: &[Backend]) -> BTreeMap<Backend, usize> {
        table.iter().fold(BTreeMap::new(), |mut shares, backend| {
            *shares.entry(*backend).or_default() += 1;
            shares
        })
    }

    fn differing(one: &[Backend], other: &[Backend]) -> usize {
        one.iter().zip(other).filter(|(a, b)| a != b).count()
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

        #[test]
        fn equals_have_the_same_number_of_slots_but_one(count in 1_usize..400) {
            let table = table(&backends(&vec![1; count]));
            let shares = shares(&table);
            prop_assert_eq!(shares.len(), count);
            let (least, most) = (shares.values().min().unwrap(), shares.values().max().unwrap());
            prop_assert!(most - least <= 1, "{least} {most}");
        }

        #[test]
        fn shares_are_as_weights(weights in prop::collection::vec(1_u16..20, 2..100)) {
            let backends = backends(&weights);
            let table = table(&backends);
            let (shares, total) = (shares(&table), weights.iter().map(|weight| f64::from(*weight)).sum::<f64>());
            for (backend, weight) in &backends {
                let ideal = f64::from(*weight) / total * table.len() as f64;
                let share = *shares.get(backend).unwrap_or(&0) as f64;
                // A turn more or less, in each of which at most one slot is taken.
                prop_assert!((share - ideal).abs() <= 2.0, "{share} of {ideal}");
            }
        }

        #[test]
        fn who_leaves_takes_few_slots_of_others_along(count in 66_usize..250, gone in any::<prop::sample::Index>()) {
            let mut backends = backends(&vec![1; count]);
            let before = table(&backends);
            let gone = backends.remove(gone.index(count)).0;
            let after = table(&backends);
            prop_assume!(before.len() == after.len());
            let own = shares(&before)[&gone];
            // The paper measures a few percent of the table at 100 slots each; with 8 to 16 it is more.
            let others = differing(&before, &after) - own;
            prop_assert!(others * 4 <= before.len(), "{others} of {}", before.len());
        }
    }

    #[test]
    fn the_table_is_the_same_everywhere() {
        let table = table(&backends(&[1; 65]));
        let digest = table.iter().fold(0_u64, |digest, one| digest.rotate_left(7) ^ hash(one));
        assert_eq!((table.len(), digest), (1024, DIGEST));
    }

    /// Nodes of different versions agree only as long as this stays.
    const DIGEST: u64 = 3_329_377_352_983_002_597;
}
