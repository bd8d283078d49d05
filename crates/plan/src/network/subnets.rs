//! Subnets for networks that name none: the first free one of a pool. Who else has addresses is an argument.

use std::net::{Ipv4Addr, Ipv6Addr};

use ipnetwork::{IpNetwork, Ipv4Network, Ipv6Network};
use sha2::{Digest, Sha256};
use zeugma_model::{Driver, Network, NetworkName, Subnet, SubnetError, overlap};

/// Second octets of the IPv4 pool of overlays, each a network of 65,536 addresses: 10.112.0.0 to 10.127.255.255, then
/// 10.64.0.0 to 10.87.255.255. Away from the pool of single hosts, and from what Docker, Kubernetes and clouds take.
const OVERLAYS: [std::ops::RangeInclusive<u8>; 2] = [112..=127, 64..=87];
/// The first of the IPv4 pool's addresses, 10.89.0.0: Podman's pool begins there, too, and Docker's is elsewhere.
const FIRST: Ipv4Addr = Ipv4Addr::new(10, 89, 0, 0);
/// Networks of 256 addresses in the pool: up to 10.95.255.0.
const SIZE: u32 = 7 * 256;
/// Drawings from 2^56 IPv6 subnets, of which one is free but for a miracle.
const DRAWINGS: u32 = 64;

/// Why no subnet was found.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PoolError {
    /// All are in use, or routed elsewhere.
    #[error("network {0}: no free subnet is left in 10.89.0.0 to 10.95.255.255: name one (--subnet)")]
    Empty(NetworkName),
    /// The same of the pool of overlays.
    #[error(
        "network {0}: no free subnet is left in 10.112.0.0 to 10.127.255.255 and 10.64.0.0 to 10.87.255.255: name \
         one (--subnet)"
    )]
    NoOverlay(NetworkName),
    /// What was found cannot be used.
    #[error("network {network}: {source}")]
    Subnet {
        /// Which network.
        network: NetworkName,
        /// Why.
        source: SubnetError,
    },
}

/// The network with a subnet of each family that it wants and does not name. `taken` are the subnets of others: networks,
/// routes, service ranges. The same `seed` draws the same IPv6 subnet for a network: something of the host's own.
///
/// # Errors
/// When the pool is empty.
pub fn completed(mut network: Network, taken: &[IpNetwork], seed: &str) -> Result<Network, PoolError> {
    // Without one, a machine on somebody's wire asks who gives addresses there.
    if matches!(network.driver, Driver::Macvlan { .. } | Driver::Ipvlan { .. }) {
        return Ok(network);
    }
    let own: Vec<IpNetwork> = network.subnets.iter().map(|subnet| subnet.subnet).collect();
    let is_free = |one: &IpNetwork| !taken.iter().chain(&own).any(|other| overlap(*one, *other));
    let has = |v4: bool| own.iter().any(|subnet| subnet.is_ipv4() == v4);
    let empty = if network.is_shared() { PoolError::NoOverlay } else { PoolError::Empty };
    let mut found = Vec::new();
    if !has(true) {
        let free = if network.is_shared() { overlays_v4().find(is_free) } else { v4().find(is_free) };
        found.push(free.ok_or_else(|| empty(network.name.clone()))?);
    }
    if network.ipv6 && !has(false) {
        let (seed, prefix) = (format!("{seed}/{}", network.name), if network.is_shared() { 56 } else { 64 });
        found.push(v6(&seed, prefix).find(is_free).ok_or_else(|| empty(network.name.clone()))?);
    }
    for subnet in found {
        let subnet = Subnet::new(subnet, None, None)
            .map_err(|source| PoolError::Subnet { network: network.name.clone(), source })?;
        network.subnets.push(subnet);
    }
    Ok(network)
}

fn v4() -> impl Iterator<Item = IpNetwork> {
    let address = |number: u32| Ipv4Addr::from(u32::from(FIRST) + number * 256);
    (0..SIZE).filter_map(move |number| Ipv4Network::new(address(number), 24).ok()).map(IpNetwork::V4)
}

fn overlays_v4() -> impl Iterator<Item = IpNetwork> {
    let network = |second| Ipv4Network::new(Ipv4Addr::new(10, second, 0, 0), 16).ok().map(IpNetwork::V4);
    OVERLAYS.into_iter().flatten().filter_map(network)
}

/// Unique local subnets (RFC 4193, 3.2): `fd`, and bits at random.
fn v6(seed: &str, prefix: u8) -> impl Iterator<Item = IpNetwork> {
    (0..DRAWINGS).filter_map(move |number| {
        let digest: [u8; 32] = Sha256::digest(format!("{seed}/{number}").as_bytes()).into();
        let mut octets = [0; 16];
        octets[0] = 0xfd;
        let random = usize::from(prefix / 8) - 1;
        octets[1..=random].copy_from_slice(&digest[..random]);
        Ipv6Network::new(Ipv6Addr::from(octets), prefix).ok().map(IpNetwork::V6)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn found(network: Value, taken: &[&str]) -> Result<Vec<String>, PoolError> {
        let taken: Vec<IpNetwork> = taken.iter().map(|text| text.parse().unwrap()).collect();
        let network = completed(serde_json::from_value(network).unwrap(), &taken, "node")?;
        Ok(network.subnets.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn the_first_that_nobody_has_is_taken() {
        let net = || json!({"name": "front"});
        assert_eq!(found(net(), &[]).unwrap(), ["10.89.0.0/24"]);
        assert_eq!(found(net(), &["10.89.0.128/25", "10.89.1.0/24"]).unwrap(), ["10.89.2.0/24"]);
        assert_eq!(found(net(), &["10.88.0.0/15"]).unwrap(), ["10.90.0.0/24"]);
        let error = found(net(), &["10.0.0.0/8"]).unwrap_err();
        assert!(error.to_string().contains("--subnet"), "{error}");
    }

    #[test]
    fn what_is_named_is_kept_and_the_other_family_found() {
        let subnets = json!([{"subnet": "10.1.0.0/24"}]);
        let both = found(json!({"name": "front", "ipv6": true, "subnets": subnets}), &[]).unwrap();
        assert_eq!((both.len(), both[0].as_str()), (2, "10.1.0.0/24"));
        assert!(both[1].starts_with("fd") && both[1].ends_with("::/64"), "{both:?}");
        let alone = found(json!({"name": "six", "subnets": [{"subnet": "fd00::/64"}]}), &[]).unwrap();
        assert_eq!(alone, ["fd00::/64", "10.89.0.0/24"]);
    }

    #[test]
    fn ipv6_subnets_are_the_host_s_own_and_avoid_others() {
        let net = || json!({"name": "front", "ipv6": true});
        let one = found(net(), &[]).unwrap()[1].clone();
        assert_eq!(found(net(), &[]).unwrap()[1], one);
        assert_ne!(found(net(), &[&one]).unwrap()[1], one);
        assert_ne!(found(json!({"name": "back", "ipv6": true}), &[]).unwrap()[1], one);
    }

    #[test]
    fn an_overlay_has_room_for_the_parts_of_many_hosts() {
        let net = || json!({"name": "front", "driver": "overlay", "ipv6": true});
        let both = found(net(), &["10.112.7.0/24"]).unwrap();
        assert_eq!(both[0], "10.113.0.0/16");
        assert!(both[1].starts_with("fd") && both[1].ends_with("/56"), "{both:?}");
        let error = found(net(), &["10.0.0.0/8"]).unwrap_err();
        assert!(error.to_string().contains("10.127.255.255"), "{error}");
    }

    #[test]
    fn on_somebody_s_wire_nothing_is_invented() {
        assert!(found(json!({"name": "lan", "driver": "macvlan"}), &[]).unwrap().is_empty());
    }
}
