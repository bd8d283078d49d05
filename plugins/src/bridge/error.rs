//! What can go wrong in `bridge`, and its codes: 110 to 119 are its own, with remedies in docs/plugins/bridge.md.

use ipnetwork::IpNetwork;
use zeugma_model::{IfName, MacError, NameError};
use zeugma_protocol::{CniCode, Code};

use super::vlan::VlanError;
use crate::cause::{Cause, from_causes};

/// A failure of `bridge`.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Below the plugin.
    #[error(transparent)]
    Cause(#[from] Cause),
    /// `bridge` is no interface name.
    #[error("invalid \"bridge\": {0}")]
    BridgeName(NameError),
    /// The MAC address asked for is none.
    #[error("invalid MAC address asked for: {0}")]
    Mac(MacError),
    /// Both ways of reflecting frames.
    #[error(
        "cannot set hairpin mode and promiscuous mode at the same time: remove one of hairpinMode and promiscMode"
    )]
    HairpinAndPromisc,
    /// An interface that stays down has no use for addresses.
    #[error("cannot use IPAM when disableContainerInterface flag is set: remove one of them")]
    DownWithAddresses,
    /// No such backend.
    #[error(
        "unknown ipMasqBackend {0:?}: use \"nftables\" or \"iptables\" (zeugma does both without either program)"
    )]
    Backend(String),
    /// The VLAN keys make no sense.
    #[error(transparent)]
    Vlan(#[from] VlanError),
    /// The kernel's bridges know no VLANs.
    #[error(
        "this kernel has no VLANs on bridges, and {0} cannot have \"vlan\" or \"vlanTrunk\": remove them, or use a kernel with CONFIG_BRIDGE_VLAN_FILTERING"
    )]
    NoVlans(IfName),
    /// The name belongs to another kind of link.
    #[error(
        "{name} already exists but is not a bridge (it is {}): choose another \"bridge\"",
        described(kind)
    )]
    NotABridge {
        /// The link.
        name: IfName,
        /// Its kind.
        kind: String,
    },
    /// The bridge has another address.
    #[error(
        "{bridge} already has the address {has}, not {wanted}: set forceAddress to replace it, or use another bridge"
    )]
    OtherAddress {
        /// The bridge.
        bridge: IfName,
        /// What it has.
        has: IpNetwork,
        /// What this network wants.
        wanted: IpNetwork,
    },
    /// No packet of that size, or none of IPv6.
    #[error("mtu {mtu} is out of range: use {least} to 65535")]
    Mtu {
        /// What was asked for.
        mtu: u32,
        /// The least that the network's addresses allow.
        least: u32,
    },
    /// The container's own address as its gateway.
    #[error("address {0} is its own gateway: give the container another address, or another gateway")]
    OwnGateway(IpNetwork),
    /// A route without a next hop, and no gateway to take its place.
    #[error("route to {0} has no next hop and no address has a gateway: give \"gw\" or a gateway")]
    NoGateway(IpNetwork),
    /// The interface is there already.
    #[error("the container already has an interface {0}: DEL first, or choose another name")]
    InterfaceExists(IfName),
    /// CHECK found something missing or changed.
    #[error("{what}: it is not as ADD left it; add the container again")]
    Changed {
        /// What, in words.
        what: String,
    },
    /// STATUS: ADD would fail.
    #[error("not available: {0}")]
    NotAvailable(String),
}
from_causes!(Error);

/// The kernel names a kind only for links that it makes on request.
fn described(kind: &str) -> String {
    match kind {
        "" => "a network card or the loopback device".into(),
        kind => format!("a {kind}"),
    }
}

impl CniCode for Error {
    fn code(&self) -> Code {
        match self {
            Self::Cause(cause) => cause.code(),
            Self::BridgeName(_)
            | Self::Mac(_)
            | Self::HairpinAndPromisc
            | Self::DownWithAddresses
            | Self::Backend(_)
            | Self::Vlan(_)
            | Self::Mtu { .. }
            | Self::OwnGateway(_)
            | Self::NoGateway(_) => Code::InvalidNetworkConfig,
            Self::NoVlans(_) => Code::UnsupportedField,
            Self::NotABridge { .. } => Code::Plugin(111),
            Self::OtherAddress { .. } => Code::Plugin(112),
            Self::InterfaceExists(_) => Code::Plugin(113),
            Self::Changed { .. } => Code::Plugin(110),
            Self::NotAvailable(_) => Code::NotAvailable,
        }
    }

    fn details(&self) -> String {
        match self {
            Self::Cause(cause) => cause.details(),
            Self::BridgeName(_)
            | Self::Mac(_)
            | Self::HairpinAndPromisc
            | Self::DownWithAddresses
            | Self::Backend(_)
            | Self::Mtu { .. }
            | Self::OwnGateway(_)
            | Self::NoGateway(_)
            | Self::Vlan(_)
            | Self::NoVlans(_)
            | Self::NotABridge { .. }
            | Self::OtherAddress { .. }
            | Self::InterfaceExists(_)
            | Self::Changed { .. }
            | Self::NotAvailable(_) => String::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_bridge_is_called_by_its_kind() {
        let text =
            |kind: &str| Error::NotABridge { name: "lo".parse().unwrap(), kind: kind.into() }.to_string();
        assert!(text("veth").contains("(it is a veth)"));
        assert!(text("").contains("(it is a network card or the loopback device)"));
    }
}
