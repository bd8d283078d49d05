//! What can go wrong in `bridge`, and its codes: 110 to 119 are its own, with remedies in docs/plugins/bridge.md.

use ipnetwork::IpNetwork;
use zeugma_model::{IfName, NameError};
use zeugma_protocol::{CniCode, Code};

use super::vlan::VlanError;
use crate::cause::{Cause, from_causes};
use crate::interface;

/// A failure of `bridge`.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Below the plugin.
    #[error(transparent)]
    Cause(#[from] Cause),
    /// What every interface can suffer.
    #[error(transparent)]
    Interface(#[from] interface::Error),
    /// `bridge` is no interface name.
    #[error("invalid \"bridge\": {0}")]
    BridgeName(NameError),
    /// Both ways of reflecting frames.
    #[error(
        "cannot set hairpin mode and promiscuous mode at the same time: remove one of hairpinMode and promiscMode"
    )]
    HairpinAndPromisc,
    /// An interface that stays down has no use for addresses.
    #[error("cannot use IPAM when disableContainerInterface flag is set: remove one of them")]
    DownWithAddresses,
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
            Self::Interface(error) => error.code(),
            Self::BridgeName(_) | Self::HairpinAndPromisc | Self::DownWithAddresses | Self::Vlan(_) => {
                Code::InvalidNetworkConfig
            }
            Self::NoVlans(_) => Code::UnsupportedField,
            Self::NotABridge { .. } => Code::Plugin(111),
            Self::OtherAddress { .. } => Code::Plugin(112),
        }
    }

    fn details(&self) -> String {
        match self {
            Self::Cause(cause) => cause.details(),
            Self::Interface(error) => error.details(),
            Self::BridgeName(_)
            | Self::HairpinAndPromisc
            | Self::DownWithAddresses
            | Self::Vlan(_)
            | Self::NoVlans(_)
            | Self::NotABridge { .. }
            | Self::OtherAddress { .. } => String::new(),
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
