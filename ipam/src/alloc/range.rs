//! One contiguous run of addresses inside a subnet.

use std::fmt;
use std::net::IpAddr;

use ipnetwork::IpNetwork;
use serde::Deserialize;

use crate::wire::{ValueError, parse_address, parse_cidr};

/// A range as it stands in the configuration.
#[derive(Debug, Clone, Default, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub(crate) struct RangeRaw {
    /// Network address and length, at least two host bits: short form of one range set with one range,
    /// before those of `ranges`. Default: none.
    pub(crate) subnet: Option<String>,
    /// First address to give, included. Default: the subnet's first address (.1).
    pub(crate) range_start: Option<String>,
    /// Last address to give, included. Default: the subnet's last (IPv4: before the broadcast address).
    pub(crate) range_end: Option<String>,
    /// Stands in the result and is never given to a container. Default: the subnet's first address (.1).
    pub(crate) gateway: Option<String>,
}

/// Why a range or a set of ranges was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RangeError {
    /// A value is no address or prefix.
    #[error(transparent)]
    Value(#[from] ValueError),
    /// There is no `subnet`.
    #[error("a range has no subnet: set \"subnet\"")]
    NoSubnet,
    /// A /31, /32, /127 or /128.
    #[error("Network {subnet} too small to allocate from: it needs at least two host bits")]
    TooSmall {
        /// The subnet.
        subnet: IpNetwork,
    },
    /// The subnet is written with an address inside of it.
    #[error("Network {subnet} has host bits set: the network address is {network}")]
    HostBits {
        /// As written.
        subnet: IpNetwork,
        /// The right one.
        network: IpAddr,
    },
    /// `rangeStart` or `rangeEnd` is elsewhere, or the end comes before the start.
    #[error("{key} {address} not in network {subnet}, or the end comes before the start")]
    Outside {
        /// Which end.
        key: &'static str,
        /// Its value.
        address: IpAddr,
        /// The subnet.
        subnet: IpNetwork,
    },
    /// A range set without ranges.
    #[error("empty range set: give it a range or remove it")]
    EmptySet,
    /// The ranges of a set are alternatives for one address, so they have one family.
    #[error("mixed address families in one range set: make a range set for each family")]
    MixedFamilies,
    /// Two ranges of a set share addresses.
    #[error("subnets {one} and {other} overlap")]
    Overlap {
        /// The first.
        one: String,
        /// The second.
        other: String,
    },
}

/// Addresses `first` to `last`, both included, of a subnet with a gateway.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Range {
    pub(crate) subnet: IpNetwork,
    pub(crate) first: IpAddr,
    pub(crate) last: IpAddr,
    /// Never handed out.
    pub(crate) gateway: IpAddr,
}

impl Range {
    /// Whether the address can come out of this range; its gateway counts as inside.
    pub(crate) fn contains(&self, address: IpAddr) -> bool {
        address.is_ipv4() == self.first.is_ipv4() && (self.first..=self.last).contains(&address)
    }

    pub(crate) fn overlaps(&self, other: &Self) -> bool {
        self.contains(other.first) || other.contains(self.first)
    }

    /// How many addresses it spans, the gateway included.
    pub(crate) fn span(&self) -> u128 {
        (number(self.last) - number(self.first)).saturating_add(1)
    }
}

impl fmt::Display for Range {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}-{}", self.first, self.last)
    }
}

impl TryFrom<RangeRaw> for Range {
    type Error = RangeError;
    /// Fills in what is left out: the gateway and the start are the first address of the subnet, the end is the
    /// last one (for IPv4 the one before the broadcast address).
    fn try_from(raw: RangeRaw) -> Result<Self, RangeError> {
        let subnet = parse_subnet(raw.subnet.as_deref().ok_or(RangeError::NoSubnet)?)?;
        let (lowest, highest) = bounds(subnet);
        let end = |key, text: Option<String>, default: u128| -> Result<IpAddr, RangeError> {
            let address = parse_address(key, &text.unwrap_or_default())?;
            Ok(address.unwrap_or_else(|| numbered_like(lowest, default)))
        };
        let broadcast = u128::from(subnet.is_ipv4());
        let range = Self {
            subnet,
            first: end("rangeStart", raw.range_start, number(lowest) + 1)?,
            last: end("rangeEnd", raw.range_end, number(highest) - broadcast)?,
            gateway: end("gateway", raw.gateway, number(lowest) + 1)?,
        };
        range.checked()
    }
}

impl Range {
    fn checked(self) -> Result<Self, RangeError> {
        let outside = |key, address| Err(RangeError::Outside { key, address, subnet: self.subnet });
        match () {
            () if !self.subnet.contains(self.first) => outside("RangeStart", self.first),
            () if !self.subnet.contains(self.last) || self.last < self.first => {
                outside("RangeEnd", self.last)
            }
            () => Ok(self),
        }
    }
}

fn parse_subnet(text: &str) -> Result<IpNetwork, RangeError> {
    let subnet = parse_cidr("subnet", text)?;
    let bits = if subnet.is_ipv4() { 32 } else { 128 };
    match subnet.network() {
        _ if subnet.prefix() > bits - 2 => Err(RangeError::TooSmall { subnet }),
        network if network != subnet.ip() => Err(RangeError::HostBits { subnet, network }),
        _ => Ok(subnet),
    }
}

/// The network address and the address with all host bits set.
fn bounds(subnet: IpNetwork) -> (IpAddr, IpAddr) {
    (subnet.network(), subnet.broadcast())
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => v4.to_bits().into(),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

/// The address with this number in the family of `family`; numbers stay inside a subnet, so none is cut off.
fn numbered_like(family: IpAddr, number: u128) -> IpAddr {
    match family {
        IpAddr::V4(_) => std::net::Ipv4Addr::from_bits(number as u32).into(),
        IpAddr::V6(_) => std::net::Ipv6Addr::from_bits(number).into(),
    }
}

/// The next address; the caller stops at the end of a range, before it could wrap.
pub(crate) fn successor(address: IpAddr) -> IpAddr {
    numbered_like(address, number(address).wrapping_add(1))
}
