//! Which peer an address is of: the longest of the prefixes that it is in.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;

use ipnetwork::IpNetwork;

/// Prefixes of both families, each of one peer.
#[derive(Debug, Default)]
pub(crate) struct Allowed {
    v4: Prefixes,
    v6: Prefixes,
}

/// By length, longest first when read backwards; addresses are at the upper end of 128 bits.
type Prefixes = BTreeMap<u8, HashMap<u128, u32>>;

impl Allowed {
    /// Gives the prefix to `peer`; whoever had it has it no more.
    pub(crate) fn insert(&mut self, network: IpNetwork, peer: u32) {
        let (prefixes, address) = self.place(network);
        prefixes.entry(network.prefix()).or_default().insert(address, peer);
    }

    /// Takes the prefix from `peer`, if it is its own.
    pub(crate) fn remove(&mut self, network: IpNetwork, peer: u32) {
        let (prefixes, address) = self.place(network);
        if let Some(of_length) = prefixes.get_mut(&network.prefix())
            && of_length.get(&address) == Some(&peer)
        {
            of_length.remove(&address);
        }
        prefixes.retain(|_, of_length| !of_length.is_empty());
    }

    /// Takes all prefixes from `peer`.
    pub(crate) fn remove_all(&mut self, peer: u32) {
        for prefixes in [&mut self.v4, &mut self.v6] {
            prefixes.values_mut().for_each(|of_length| of_length.retain(|_, owner| *owner != peer));
            prefixes.retain(|_, of_length| !of_length.is_empty());
        }
    }

    /// Whose the address is.
    pub(crate) fn find(&self, address: IpAddr) -> Option<u32> {
        let (prefixes, address) = match address {
            IpAddr::V4(address) => (&self.v4, high(address.to_bits())),
            IpAddr::V6(address) => (&self.v6, address.to_bits()),
        };
        let mut longest_first = prefixes.iter().rev();
        longest_first.find_map(|(length, of_length)| of_length.get(&masked(address, *length)).copied())
    }

    /// Every peer's prefixes, in order.
    pub(crate) fn by_peer(&self) -> HashMap<u32, Vec<IpNetwork>> {
        let name_v4 = |address: u128| IpAddr::V4(((address >> 96) as u32).into());
        let v4 = networks(&self.v4, name_v4);
        let mut all: HashMap<u32, Vec<IpNetwork>> = HashMap::new();
        for (peer, network) in v4.chain(networks(&self.v6, |address| IpAddr::V6(address.into()))) {
            all.entry(peer).or_default().push(network);
        }
        all.values_mut().for_each(|networks| networks.sort_unstable());
        all
    }

    fn place(&mut self, network: IpNetwork) -> (&mut Prefixes, u128) {
        match network.ip() {
            IpAddr::V4(address) => (&mut self.v4, masked(high(address.to_bits()), network.prefix())),
            IpAddr::V6(address) => (&mut self.v6, masked(address.to_bits(), network.prefix())),
        }
    }
}

fn networks(prefixes: &Prefixes, name: fn(u128) -> IpAddr) -> impl Iterator<Item = (u32, IpNetwork)> {
    let all = prefixes.iter().flat_map(|(length, of_length)| of_length.iter().map(move |at| (*length, at)));
    all.filter_map(move |(length, (address, peer))| {
        Some((*peer, IpNetwork::new(name(*address), length).ok()?))
    })
}

fn high(address: u32) -> u128 {
    u128::from(address) << 96
}

fn masked(address: u128, length: u8) -> u128 {
    address & u128::MAX.checked_shl(128 - u32::from(length)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn network() -> impl Strategy<Value = IpNetwork> {
        // Few addresses, so that prefixes overlap.
        let v4 = (0_u32..4, 0_u8..=32)
            .prop_map(|(n, length)| IpNetwork::new(IpAddr::V4((n << 30 | n).into()), length));
        let v6 = (0_u128..4, 0_u8..=128)
            .prop_map(|(n, length)| IpNetwork::new(IpAddr::V6((n << 126 | n).into()), length));
        prop_oneof![v4, v6].prop_map(Result::unwrap)
    }

    proptest! {
        #[test]
        fn the_longest_prefix_wins_and_has_one_owner(given in proptest::collection::vec((network(), 0_u32..4, any::<bool>()), 0..40)) {
            let (mut allowed, mut model) = (Allowed::default(), BTreeMap::<IpNetwork, u32>::new());
            for (network, peer, is_given) in given {
                let plain = IpNetwork::new(network.network(), network.prefix()).unwrap();
                if is_given {
                    allowed.insert(network, peer);
                    model.insert(plain, peer);
                } else {
                    allowed.remove(network, peer);
                    if model.get(&plain) == Some(&peer) { model.remove(&plain); }
                }
            }
            for n in 0..4_u32 {
                let addresses = [IpAddr::V4((n << 30 | n).into()), IpAddr::V6((u128::from(n) << 126 | u128::from(n)).into())];
                for address in addresses {
                    let holding = model.iter().filter(|(network, _)| network.contains(address));
                    let expected = holding.max_by_key(|(network, _)| network.prefix()).map(|(_, peer)| *peer);
                    prop_assert_eq!(allowed.find(address), expected);
                }
                let mine: Vec<IpNetwork> = model.iter().filter(|(_, peer)| **peer == n).map(|(network, _)| *network).collect();
                prop_assert_eq!(allowed.by_peer().remove(&n).unwrap_or_default(), mine);
            }
        }
    }
}
