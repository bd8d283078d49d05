//! A subnet of a network: which addresses are given out, and who leads out of it.

use std::fmt;
use std::net::IpAddr;

use ipnetwork::IpNetwork;
use serde::{Deserialize, Serialize};

/// A subnet, without host bits, with at least two addresses for containers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subnet {
    /// All its addresses.
    pub subnet: IpNetwork,
    /// The one that containers send through: the first unless given.
    pub gateway: IpAddr,
    /// The part of it that containers get addresses of; none: all.
    pub range: Option<IpNetwork>,
}

/// Why a subnet was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SubnetError {
    /// An address with a prefix length, but not a network's.
    #[error("subnet {given} has host bits: take {network}")]
    HostBits {
        /// What was given.
        given: IpNetwork,
        /// What was probably meant.
        network: String,
    },
    /// No room for a gateway and a container.
    #[error("subnet {0} has no room for a gateway and a container: take at least two host bits")]
    Small(IpNetwork),
    /// The gateway is elsewhere.
    #[error("gateway {gateway} is no address for a host in subnet {subnet}: take one of that subnet")]
    Gateway {
        /// The gateway.
        gateway: IpAddr,
        /// The subnet.
        subnet: IpNetwork,
    },
    /// The range is elsewhere.
    #[error("range {range} is not within subnet {subnet}: take a part of it")]
    Range {
        /// The range.
        range: IpNetwork,
        /// The subnet.
        subnet: IpNetwork,
    },
}

/// As it is written.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Raw {
    subnet: IpNetwork,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    gateway: Option<IpAddr>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    range: Option<IpNetwork>,
}

impl Subnet {
    /// The subnet with this gateway, or its first address, and a part that containers get addresses of.
    ///
    /// # Errors
    /// When one of them cannot be.
    pub fn new(
        subnet: IpNetwork,
        gateway: Option<IpAddr>,
        range: Option<IpNetwork>,
    ) -> Result<Self, SubnetError> {
        if subnet.ip() != subnet.network() {
            let network = format!("{}/{}", subnet.network(), subnet.prefix());
            return Err(SubnetError::HostBits { given: subnet, network });
        }
        if host_bits(subnet) < 2 {
            return Err(SubnetError::Small(subnet));
        }
        let gateway = gateway.unwrap_or_else(|| first(subnet));
        let is_whole_net = gateway == subnet.network() || (subnet.is_ipv4() && gateway == subnet.broadcast());
        if !subnet.contains(gateway) || is_whole_net {
            return Err(SubnetError::Gateway { gateway, subnet });
        }
        match range {
            Some(range) if range.prefix() < subnet.prefix() || !subnet.contains(range.network()) => {
                Err(SubnetError::Range { range, subnet })
            }
            _ => Ok(Self { subnet, gateway, range }),
        }
    }

    /// Whether it has a gateway that is not the first address, or a range.
    pub(super) fn is_particular(&self) -> bool {
        self.range.is_some() || self.gateway != first(self.subnet)
    }

    /// Whether the two have an address in common.
    pub fn overlaps(&self, other: &Subnet) -> bool {
        overlap(self.subnet, other.subnet)
    }
}

/// Whether one of the two contains the other.
pub fn overlap(one: IpNetwork, other: IpNetwork) -> bool {
    one.is_ipv4() == other.is_ipv4() && (one.contains(other.network()) || other.contains(one.network()))
}

fn host_bits(subnet: IpNetwork) -> u8 {
    let bits = if subnet.is_ipv4() { 32 } else { 128 };
    bits - subnet.prefix()
}

fn first(subnet: IpNetwork) -> IpAddr {
    match subnet.network() {
        IpAddr::V4(network) => IpAddr::V4((u32::from(network) + 1).into()),
        IpAddr::V6(network) => IpAddr::V6((u128::from(network) + 1).into()),
    }
}

impl TryFrom<Raw> for Subnet {
    type Error = SubnetError;
    fn try_from(raw: Raw) -> Result<Self, SubnetError> {
        Self::new(raw.subnet, raw.gateway, raw.range)
    }
}

impl From<Subnet> for Raw {
    fn from(subnet: Subnet) -> Self {
        Self { subnet: subnet.subnet, gateway: Some(subnet.gateway), range: subnet.range }
    }
}

impl fmt::Display for Subnet {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.subnet.fmt(formatter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(subnet: &str, gateway: Option<&str>, range: Option<&str>, expected: &str) {
        let (gateway, range) = (gateway.map(|it| it.parse().unwrap()), range.map(|it| it.parse().unwrap()));
        let text = match Subnet::new(subnet.parse().unwrap(), gateway, range) {
            Ok(subnet) => subnet.gateway.to_string(),
            Err(error) => error.to_string(),
        };
        assert!(text.contains(expected), "{text}");
    }

    #[test]
    fn the_gateway_is_the_first_address_unless_given() {
        check("10.1.0.0/24", None, None, "10.1.0.1");
        check("fd00:1::/64", None, Some("fd00:1::8000/113"), "fd00:1::1");
        check("10.1.0.0/24", Some("10.1.0.254"), Some("10.1.0.128/25"), "10.1.0.254");
    }

    #[test]
    fn what_cannot_be_is_named_with_what_could() {
        check("10.1.0.7/24", None, None, "take 10.1.0.0/24");
        check("10.1.0.0/31", None, None, "no room");
        check("fd00::/127", None, None, "no room");
        check("10.1.0.0/24", Some("10.2.0.1"), None, "10.2.0.1 is no address");
        check("10.1.0.0/24", Some("10.1.0.255"), None, "no address for a host");
        check("10.1.0.0/24", Some("fd00::1"), None, "no address for a host");
        check("10.1.0.0/24", None, Some("10.1.1.0/25"), "not within");
        check("10.1.0.0/24", None, Some("10.0.0.0/8"), "not within");
    }

    #[test]
    fn one_inside_the_other_overlaps() {
        let net = |text: &str| text.parse::<IpNetwork>().unwrap();
        assert!(overlap(net("10.0.0.0/8"), net("10.1.0.0/24")) && overlap(net("::/0"), net("fd00::/64")));
        assert!(!overlap(net("10.1.0.0/24"), net("10.1.1.0/24")) && !overlap(net("0.0.0.0/0"), net("::/0")));
    }
}
