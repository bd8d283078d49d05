//! Networks as runtimes and plugins take them: configuration lists, and subnets for those that name none.
//!
//! Values in, values out: files are written by the agent, leases are `host-local`'s.

mod conflist;
mod numbers;
mod subnets;

pub use conflist::{CNI_VERSION, MARK, Naming, ORIGIN, conflist, declared};
pub use numbers::{NumberError, numbered};
pub use subnets::{PoolError, completed};

use zeugma_model::{Driver, Network, overlap};

/// Why two networks cannot be on one host.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Clash {
    /// Addresses would be given out twice.
    #[error("subnet {subnet} of network {network} overlaps {other_subnet} of network {other}: take another")]
    Subnets {
        /// The new network.
        network: String,
        /// Its subnet.
        subnet: String,
        /// The one that is there.
        other: String,
        /// Its subnet.
        other_subnet: String,
    },
    /// One policy for a bridge, but two networks.
    #[error(
        "network {network} is to be on bridge {bridge}, which network {other} has: name another, or give each a vlan"
    )]
    Bridge {
        /// The new network.
        network: String,
        /// The bridge.
        bridge: String,
        /// Who has it.
        other: String,
    },
}

/// Whether `network` can be beside `other`.
///
/// # Errors
/// What both would have.
pub fn ensure_apart(network: &Network, other: &Network) -> Result<(), Clash> {
    for mine in &network.subnets {
        if let Some(theirs) = other.subnets.iter().find(|theirs| overlap(mine.subnet, theirs.subnet)) {
            return Err(Clash::Subnets {
                network: network.name.to_string(),
                subnet: mine.to_string(),
                other: other.name.to_string(),
                other_subnet: theirs.to_string(),
            });
        }
    }
    let vlan = |network: &Network| match &network.driver {
        Driver::Bridge(options) => options.vlan,
        Driver::Ptp | Driver::Macvlan { .. } | Driver::Ipvlan { .. } | Driver::Overlay(_) => None,
    };
    let are_in_vlans = vlan(network).is_some() && vlan(other).is_some() && vlan(network) != vlan(other);
    match (network.bridge(), other.bridge()) {
        (Some(mine), Some(theirs)) if mine == theirs && !are_in_vlans => Err(Clash::Bridge {
            network: network.name.to_string(),
            bridge: mine.to_string(),
            other: other.name.to_string(),
        }),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn check(one: Value, other: Value, expected: &str) {
        let network = |mut value: Value, name: &str| -> Network {
            value["name"] = json!(name);
            serde_json::from_value(value).unwrap()
        };
        let text = match ensure_apart(&network(one, "new"), &network(other, "old")) {
            Ok(()) => "apart".to_owned(),
            Err(clash) => clash.to_string(),
        };
        assert!(text.contains(expected), "{text}");
    }

    #[test]
    fn addresses_and_bridges_belong_to_one_network() {
        let on = |bridge: &str| json!({"options": {"com.docker.network.bridge.name": bridge}});
        let within = |vlan: &str| json!({"options": {"com.docker.network.bridge.name": "br0", "vlan": vlan}});
        check(json!({}), json!({}), "apart");
        let (one, other) = (json!([{"subnet": "10.1.0.0/24"}]), json!([{"subnet": "10.0.0.0/8"}]));
        check(json!({"subnets": one}), json!({"subnets": other}), "10.1.0.0/24 of network new overlaps");
        check(on("br0"), on("br0"), "which network old has");
        check(on("br0"), on("br1"), "apart");
        check(within("7"), within("8"), "apart");
        check(within("7"), within("7"), "which network old has");
    }
}
