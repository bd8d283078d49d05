//! Which virtual address a service gets: the same name tends to the same one, whoever asks.

use std::net::IpAddr;

use ipnetwork::IpNetwork;

/// FNV-1a, with which a name is spread over the range. It never changes: nodes have to agree.
const OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
const PRIME: u64 = 0x0000_0100_0000_01b3;
/// Addresses that are looked at, at most: a range of IPv6 has more than anybody can look at.
const LONGEST_SEARCH: u128 = 1 << 20;

/// A free address of `range` for the service: from where its name falls, the first that is not taken. None when all
/// are. The network's own, the first after it and the last one are never chosen.
pub fn choose(range: IpNetwork, name: &str, mut is_taken: impl FnMut(IpAddr) -> bool) -> Option<IpAddr> {
    let (base, bits) = match range.network() {
        IpAddr::V4(v4) => (u128::from(u32::from(v4)), 32),
        IpAddr::V6(v6) => (u128::from(v6), 128),
    };
    let size = 1_u128.checked_shl(bits - u32::from(range.prefix())).unwrap_or(u128::MAX);
    let usable = size.checked_sub(3).filter(|usable| *usable > 0)?;
    let start = u128::from(spread(name)) % usable;
    let at = |step: u128| address(range, base + 2 + (start + step) % usable);
    (0..usable.min(LONGEST_SEARCH)).map(at).find(|address| !is_taken(*address))
}

fn address(range: IpNetwork, number: u128) -> IpAddr {
    match range {
        IpNetwork::V4(_) => IpAddr::V4((number as u32).into()),
        IpNetwork::V6(_) => IpAddr::V6(number.into()),
    }
}

fn spread(name: &str) -> u64 {
    name.bytes().fold(OFFSET, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(PRIME))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn all(range: &str) -> BTreeSet<IpAddr> {
        let range = range.parse().unwrap();
        let mut taken = BTreeSet::new();
        while let Some(address) = choose(range, "web", |address| taken.contains(&address)) {
            assert!(taken.insert(address) && range.contains(address), "{address}");
        }
        taken
    }

    #[test]
    fn every_address_but_three_is_given_once() {
        let expected = (2..15).map(|last| format!("10.213.0.{last}").parse().unwrap()).collect();
        assert_eq!(all("10.213.0.0/28"), expected);
        assert_eq!(all("fd00::/120").len(), 253);
        assert_eq!(all("10.213.0.0/31").len() + all("10.213.0.0/32").len(), 0);
    }

    #[test]
    fn a_name_falls_on_the_same_address_everywhere() {
        let at = |range: &str, name| choose(range.parse().unwrap(), name, |_| false).unwrap().to_string();
        assert_eq!(at("10.213.0.0/16", "web"), at("10.213.0.0/16", "web"));
        assert_ne!(at("10.213.0.0/16", "web"), at("10.213.0.0/16", "db"));
        assert!(at("fd00::/8", "web").starts_with("fd"));
    }
}
