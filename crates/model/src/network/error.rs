//! Why a network is refused; what to do about it is in the words. Not how subnets are: subnet.rs.

use super::SubnetError;
use crate::NetworkName;

/// Why a network was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NetworkError {
    /// A subnet makes no sense.
    #[error("network {network}: {source}")]
    Subnet {
        /// Of which network.
        network: NetworkName,
        /// Why.
        source: SubnetError,
    },
    /// Two of its subnets have addresses in common.
    #[error("network {network}: subnets {one} and {other} overlap: remove one")]
    Overlap {
        /// Which network.
        network: NetworkName,
        /// The one.
        one: String,
        /// The other.
        other: String,
    },
    /// No such driver.
    #[error("network {network}: there is no driver {driver:?}: take bridge, overlay, macvlan, ipvlan or ptp")]
    Driver {
        /// Which network.
        network: NetworkName,
        /// What was asked for.
        driver: String,
    },
    /// No such option.
    #[error("network {network}: driver {driver} has no option {option:?}: it has {known}")]
    Option {
        /// Which network.
        network: NetworkName,
        /// Its driver.
        driver: &'static str,
        /// What was given.
        option: String,
        /// What there is.
        known: String,
    },
    /// A value that means nothing.
    #[error("network {network}: option {option}={value}: {why}")]
    Value {
        /// Which network.
        network: NetworkName,
        /// The option.
        option: String,
        /// Its value.
        value: String,
        /// What it may be.
        why: String,
    },
    /// Said twice, differently.
    #[error("network {network}: its MTU is said to be {one} and, by an option, {other}: leave one")]
    MtuTwice {
        /// Which network.
        network: NetworkName,
        /// The one.
        one: u32,
        /// The other.
        other: u32,
    },
    /// Smaller or larger than packets are.
    #[error("network {network}: an MTU of {mtu} bytes cannot be: take {least} to 65535")]
    Mtu {
        /// Which network.
        network: NetworkName,
        /// What was given.
        mtu: u32,
        /// The least for its families.
        least: u32,
    },
    /// The containers of an ipvlan are one machine to a DHCP server.
    #[error("network {0}: driver ipvlan needs a subnet: name that of its parent's wire")]
    NeedsSubnet(NetworkName),
    /// The driver has no such thing.
    #[error("network {network}: driver {driver} cannot {what}: use driver bridge")]
    DriverCannot {
        /// Which network.
        network: NetworkName,
        /// Its driver.
        driver: &'static str,
        /// What it was to do.
        what: &'static str,
    },
}
