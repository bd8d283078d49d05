//! What can go wrong in every plugin that makes an interface. Codes 110 to 119 mean the same in all of them, with
//! remedies in their pages.

use ipnetwork::IpNetwork;
use zeugma_model::{IfName, MacError, NameError};
use zeugma_protocol::{CniCode, Code};

use crate::cause::{Cause, from_causes};

/// A failure of a plugin that makes an interface.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Below the plugin.
    #[error(transparent)]
    Cause(#[from] Cause),
    /// The MAC address asked for is none.
    #[error("invalid MAC address asked for: {0}")]
    Mac(MacError),
    /// `master` is no interface name.
    #[error("invalid \"master\": {0}")]
    MasterName(NameError),
    /// A key that the plugin cannot do without.
    #[error("\"{0}\" is missing: {1}")]
    Missing(&'static str, &'static str),
    /// A key has a value that means nothing.
    #[error("invalid {key} {value:?}: use {allowed}")]
    Value {
        /// The key.
        key: &'static str,
        /// What it says.
        value: String,
        /// What it may say.
        allowed: &'static str,
    },
    /// No such backend.
    #[error(
        "unknown ipMasqBackend {0:?}: use \"nftables\" or \"iptables\" (zeugma does both without either program)"
    )]
    Backend(String),
    /// No packet of that size, none of IPv6, or more than the parent carries.
    #[error("mtu {mtu} is out of range: use {least} to {most}")]
    Mtu {
        /// What was asked for.
        mtu: u32,
        /// The least that the network's addresses allow.
        least: u32,
        /// The most that the link below allows.
        most: u32,
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
    /// There is no parent of that name.
    #[error("there is no interface {name} in the {side}'s namespace: give another \"master\"")]
    NoParent {
        /// The name.
        name: IfName,
        /// Where.
        side: zeugma_plan::Side,
    },
    /// There is no bridge of that name for the interface to become a port of.
    #[error(
        "there is no bridge {0} in the container's namespace: let an earlier plugin make it, or correct \"bridge\""
    )]
    NoBridge(IfName),
    /// The host has no such device.
    #[error(
        "no interface of the host's namespace has the {key} {value:?}: is it in another container, or bound to another driver?"
    )]
    NoDevice {
        /// The key that says which.
        key: &'static str,
        /// What it says.
        value: String,
    },
    /// No parent was named, and none can be found.
    #[error("the {0} has no default route: name the interface below in \"master\"")]
    NoDefaultRoute(zeugma_plan::Side),
    /// The parent is to come from the plugin before, and it names none or several.
    #[error("prevResult has {0} interfaces, not one: name the interface below in \"master\"")]
    AmbiguousParent(usize),
    /// The parent refuses another child of this kind.
    #[error(
        "{master} is in use in a way that excludes this {kind} (by a macvlan in passthru mode, an ipvlan of another mode, or a bridge): use another \"master\" or \"mode\""
    )]
    ParentBusy {
        /// The parent's name, or what is known of it.
        master: String,
        /// The kind of link.
        kind: &'static str,
    },
    /// A VLAN of a parent can have one interface.
    #[error(
        "VLAN {id} of {master} has an interface already, and can have only one: use another \"vlanId\" or \"master\", or bridge with \"vlan\" for several containers"
    )]
    VlanTaken {
        /// The parent.
        master: String,
        /// The VLAN.
        id: u16,
    },
    /// Other containers have ipvlans of another mode on the parent.
    #[error(
        "ipvlans of {master} have mode {has}, and all of one master have the same: use that \"mode\", or another \"master\""
    )]
    OtherMode {
        /// The parent.
        master: IfName,
        /// The mode of those that are there.
        has: String,
    },
    /// The kernel has no such links.
    #[error("this kernel has no links of type {kind}: use one with {option}")]
    NoSuchLinks {
        /// The kind.
        kind: &'static str,
        /// The kernel's build option.
        option: &'static str,
    },
    /// STATUS: ADD would fail.
    #[error("not available: {0}")]
    NotAvailable(String),
}
from_causes!(Error);

impl Error {
    /// The kernel has no links of a kind.
    pub(crate) fn no_links(kind: &'static str) -> Self {
        Self::NoSuchLinks { kind, option: build_option(kind) }
    }

    /// CHECK's word.
    pub(crate) fn changed(what: String) -> Self {
        Self::Changed { what }
    }

    /// STATUS's word.
    pub(crate) fn not_available(error: &impl ToString) -> Self {
        Self::NotAvailable(error.to_string())
    }

    /// What the kernel's refusal of a new link of `kind` for `ifname` means, where users meet it.
    pub(crate) fn refused(error: zeugma_kernel::Error, kind: &'static str, ifname: &IfName) -> Self {
        let zeugma_kernel::Error::Refused { step, refusal } = &error else { return error.into() };
        let names_it = [": ip link add ".into(), " netns container name ".into(), format!(" name {ifname}")];
        if !names_it.iter().any(|words: &String| step.contains(words.as_str())) {
            return error.into();
        }
        match refusal.errno {
            libc::EEXIST => Self::InterfaceExists(ifname.clone()),
            libc::EOPNOTSUPP => Self::no_links(kind),
            libc::EBUSY => Self::ParentBusy { master: parent_in(step).into(), kind },
            _ => error.into(),
        }
    }
}

/// The parent's name in a step as it is printed.
fn parent_in(step: &str) -> &str {
    let behind = step.split(" link ").nth(2).or_else(|| step.split(" link ").last());
    behind.and_then(|rest| rest.split(' ').next()).unwrap_or("the parent")
}

/// The kernel's build option for a kind of link.
pub(crate) fn build_option(kind: &str) -> &'static str {
    match kind {
        "macvlan" => "CONFIG_MACVLAN",
        "ipvlan" => "CONFIG_IPVLAN",
        "vlan" => "CONFIG_VLAN_8021Q (module 8021q)",
        "dummy" => "CONFIG_DUMMY",
        "vrf" => "CONFIG_NET_VRF",
        "ifb" => "CONFIG_IFB",
        "tun" => "CONFIG_TUN",
        _ => "CONFIG_VETH",
    }
}

impl CniCode for Error {
    fn code(&self) -> Code {
        match self {
            Self::Cause(cause) => cause.code(),
            Self::Mac(_)
            | Self::MasterName(_)
            | Self::Missing(..)
            | Self::Value { .. }
            | Self::Backend(_)
            | Self::Mtu { .. }
            | Self::OwnGateway(_)
            | Self::NoGateway(_)
            | Self::AmbiguousParent(_) => Code::InvalidNetworkConfig,
            Self::Changed { .. } => Code::Plugin(110),
            Self::InterfaceExists(_) => Code::Plugin(113),
            Self::NoParent { .. } | Self::NoDefaultRoute(_) | Self::NoBridge(_) | Self::NoDevice { .. } => {
                Code::Plugin(114)
            }
            Self::NoSuchLinks { .. } => Code::Plugin(115),
            Self::ParentBusy { .. } | Self::VlanTaken { .. } | Self::OtherMode { .. } => Code::Plugin(116),
            Self::NotAvailable(_) => Code::NotAvailable,
        }
    }

    fn details(&self) -> String {
        match self {
            Self::Cause(cause) => cause.details(),
            Self::Mac(_)
            | Self::MasterName(_)
            | Self::Missing(..)
            | Self::Value { .. }
            | Self::Backend(_)
            | Self::Mtu { .. }
            | Self::OwnGateway(_)
            | Self::NoGateway(_)
            | Self::AmbiguousParent(_)
            | Self::Changed { .. }
            | Self::InterfaceExists(_)
            | Self::NoParent { .. }
            | Self::NoDefaultRoute(_)
            | Self::NoBridge(_)
            | Self::NoDevice { .. }
            | Self::NoSuchLinks { .. }
            | Self::ParentBusy { .. }
            | Self::OtherMode { .. }
            | Self::VlanTaken { .. }
            | Self::NotAvailable(_) => String::new(),
        }
    }
}
