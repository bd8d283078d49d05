//! Steps: everything that zeugma does to a host is one of these. Their order, and what undoes them: plan.rs.

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use zeugma_model::{IfName, IpvlanMode, Mac, MacvlanMode, Protocol};

use crate::nft::{Element, TableFamily};
use crate::shape::Shaper;
use crate::{Family, PortVlans, RouteSpec, RuleSpec};

/// Which of an attachment's two namespaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Side {
    /// The host's: where the plugin runs.
    Host,
    /// The container's: `CNI_NETNS`.
    Container,
}

/// Settings of a bridge port; none leaves the kernel's default.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PortFlags {
    /// Frames may leave by the port that they came in by.
    pub hairpin: Option<bool>,
    /// Isolated ports do not talk to one another.
    pub isolated: Option<bool>,
}

/// A new link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Where it comes to live.
    pub side: Side,
    /// Its name there.
    pub name: IfName,
    /// Bytes; none leaves the kernel's default.
    pub mtu: Option<u32>,
    /// Its Ethernet address; none leaves it to the kernel.
    pub mac: Option<Mac>,
    /// Its owner mark; none for a link that is marked later, when it is set up inside the container.
    pub alias: Option<String>,
    /// What it is.
    pub kind: LinkKind,
}

impl Link {
    /// Where it is made from: a child's request names its parent, and a veth pair's the bridge on the host.
    pub fn made_from(&self) -> Side {
        match &self.kind {
            LinkKind::Child { parent: (side, _), .. } => *side,
            _ => self.side,
        }
    }
}

/// What a new link is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LinkKind {
    /// A bridge.
    Bridge {
        /// Whether it filters by VLAN.
        vlan_filtering: bool,
    },
    /// A veth pair, the link itself up on the host and its peer inside the container.
    Veth {
        /// The peer's name in the container.
        peer: IfName,
        /// The peer's Ethernet address.
        peer_mac: Mac,
        /// The bridge that the link is a port of.
        port: Option<(IfName, PortFlags)>,
    },
    /// A veth pair of the host alone, the link itself a port of a bridge and its peer for the host's addresses.
    Uplink {
        /// The peer's name.
        peer: IfName,
        /// The peer's Ethernet address.
        peer_mac: Mac,
        /// The bridge.
        master: IfName,
    },
    /// A link that shares another one's wire.
    Child {
        /// The other one, and where it is.
        parent: (Side, IfName),
        /// How it shares.
        sharing: Sharing,
    },
    /// A link that leads nowhere.
    Dummy,
    /// An intermediate functional block: what is redirected to it passes its queue.
    Ifb,
    /// A domain of routing of its own.
    Vrf {
        /// Its routing table.
        table: u32,
    },
}

/// How a link shares its parent's wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sharing {
    /// By Ethernet addresses of its own.
    Macvlan {
        /// Who hears whom.
        mode: MacvlanMode,
        /// Packets in the queue of broadcasts; none leaves the kernel's default.
        broadcast_queue: Option<u32>,
    },
    /// By IP addresses of its own.
    Ipvlan {
        /// Up to which layer the parent does the work.
        mode: IpvlanMode,
    },
    /// By an 802.1Q tag.
    Vlan {
        /// The tag; 0 is only a priority.
        id: u16,
    },
}

/// Changes to a link that exists; none leaves as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LinkChange {
    /// Its owner mark; empty removes it.
    pub alias: Option<String>,
    /// The bridge or VRF that it becomes a port of.
    pub master: Option<Master>,
    /// Up or down.
    pub up: Option<bool>,
    /// Bytes.
    pub mtu: Option<u32>,
    /// Ethernet address.
    pub mac: Option<Mac>,
    /// Receive everything.
    pub promisc: Option<bool>,
    /// Receive all multicast.
    pub allmulti: Option<bool>,
    /// A bridge filters by VLAN.
    pub vlan_filtering: Option<bool>,
    /// Packets in the transmit queue.
    pub tx_queue_len: Option<u32>,
    /// Settings as a bridge port.
    pub port: Option<PortFlags>,
}

/// What a link is a port of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Master {
    /// Nothing any more.
    Nobody,
    /// This bridge or VRF.
    Link(IfName),
}

/// A link that changes sides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Move {
    /// Where it is.
    pub from: Side,
    /// Its name there.
    pub name: IfName,
    /// Where it goes.
    pub to: Side,
    /// Its name there.
    pub new_name: IfName,
}

/// A TAP device in the container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tap {
    /// Its name.
    pub name: IfName,
    /// Whether it can be opened more than once, a queue each.
    pub multi_queue: bool,
    /// The user who may open it besides root; none: any.
    pub owner: Option<u32>,
    /// The group whose members may open it; none: any. With a user, both must fit.
    pub group: Option<u32>,
    /// The SELinux label that it is made with.
    pub selinux_context: Option<String>,
}

/// How an address is added.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct AddressFlags {
    /// IPv6: without duplicate address detection, usable at once.
    pub nodad: bool,
    /// Without the route to its subnet.
    pub no_subnet_route: bool,
}

/// A sysctl to be set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sysctl {
    /// The file below `/proc/sys`, such as `net/ipv4/ip_forward`.
    pub path: String,
    /// What to write; nothing is written where it is there already.
    pub value: String,
    /// Whether a kernel without this file is fine (IPv6 compiled out, say).
    pub optional: bool,
}

/// Which tracked flows are to be forgotten.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FlowFilter {
    /// Flows to a published port that are not yet translated: sent to `port` of a local address
    /// (or of this one), and answered by the host itself.
    Untranslated {
        /// The transport protocol.
        protocol: Protocol,
        /// The host's port.
        port: u16,
        /// The family and, unless any, the host's address.
        address: IpAddr,
    },
    /// Flows that a container answers: reply source `address`:`port`.
    Answered {
        /// The transport protocol.
        protocol: Protocol,
        /// The container's port.
        port: u16,
        /// The container's address.
        address: IpAddr,
    },
    /// All flows that a container answers.
    AnsweredBy {
        /// The container's address.
        address: IpAddr,
    },
}

impl FlowFilter {
    /// The family of the flows.
    pub fn family(&self) -> Family {
        match self {
            Self::Untranslated { address, .. }
            | Self::Answered { address, .. }
            | Self::AnsweredBy { address } => Family::of(*address),
        }
    }
}

/// How a table of ours becomes whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mending {
    /// Made where it is missing; else what it lacks is added, and the rules of our chains are written anew. Foreign sets
    /// and chains in it stay.
    Complete,
    /// Deleted and made anew: one of an older version. The administrator's rules move.
    Replace,
}

/// One change to the host or the container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// `ip link add`.
    CreateLink(Link),
    /// `ip tuntap add mode tap`.
    CreateTap(Tap),
    /// `ip link set`.
    SetLink(Side, IfName, LinkChange),
    /// `ip link set netns`.
    MoveLink(Move),
    /// Gives a link that is down another name.
    RenameLink(Side, IfName, IfName),
    /// `ip link del`; already gone is done.
    DeleteLink(Side, IfName),
    /// `bridge vlan` for a port on the host.
    SetPortVlans(IfName, PortVlans),
    /// Waits until a link carries packets; goes on without after half a second.
    AwaitCarrier(Side, IfName),
    /// Deletes a bridge that has no ports any more.
    DeleteUnusedBridge(IfName),
    /// `ip addr replace`: the address with its prefix.
    AddAddress(Side, IfName, IpNetwork, AddressFlags),
    /// `ip addr del`; already gone is done.
    DeleteAddress(Side, IfName, IpNetwork),
    /// `ip route add`, beside what has the same destination.
    AddRoute(Side, RouteSpec),
    /// `ip route del`; already gone is done.
    DeleteRoute(Side, RouteSpec),
    /// Limits what a link of the host sends, which nothing did before: `tc qdisc add … root`.
    Shape(IfName, Shaper),
    /// Takes the limit off; already gone, or not ours, is done.
    Unshape(IfName),
    /// Lets all that comes in by the first link of the host pass the queue of the second: `tc qdisc add … ingress`.
    Redirect(IfName, IfName),
    /// Ends that; already gone is done.
    EndRedirect(IfName),
    /// `ip rule add`, before the rules that are there.
    AddRule(Side, RuleSpec),
    /// `ip rule del`; already gone is done.
    DeleteRule(Side, RuleSpec),
    /// `sysctl -w`.
    SetSysctl(Side, Sysctl),
    /// Elements that may be there already (shared by attachments): `nft add element`.
    ShareElements(Vec<Element>),
    /// Elements that must not be there: `nft create element`.
    CreateElements(Vec<Element>),
    /// Elements to delete; already gone is done.
    DeleteElements(Vec<Element>),
    /// Shared elements to delete whoever put them in; already gone is done.
    UnshareElements(Vec<Element>),
    /// Brings our table of a family to what this version has, with these elements, in one transaction.
    MendTable(TableFamily, Mending, Vec<Element>),
    /// Our tables in every family, with all that is in them; already gone is done.
    DeleteTables,
    /// Questions to 127.0.0.11 port 53 in the container arrive at this port of the same address, by a table of its own
    /// that takes the place of an earlier one: `nft -f -`.
    RedirectDns(u16),
    /// Ends that; already gone is done.
    EndRedirectDns,
    /// `conntrack -D`.
    FlushFlows(Vec<FlowFilter>),
}

impl Step {
    /// Where it changes something; what goes from one side to the other changes the side where it is.
    pub fn side(&self) -> Side {
        match self {
            Self::CreateLink(Link { side, .. })
            | Self::SetLink(side, ..)
            | Self::DeleteLink(side, _)
            | Self::MoveLink(Move { from: side, .. })
            | Self::RenameLink(side, ..)
            | Self::AwaitCarrier(side, _)
            | Self::AddAddress(side, ..)
            | Self::DeleteAddress(side, ..)
            | Self::AddRoute(side, _)
            | Self::DeleteRoute(side, _)
            | Self::AddRule(side, _)
            | Self::DeleteRule(side, _)
            | Self::SetSysctl(side, _) => *side,
            Self::CreateTap(_) | Self::RedirectDns(_) | Self::EndRedirectDns => Side::Container,
            Self::SetPortVlans(..)
            | Self::DeleteUnusedBridge(_)
            | Self::Shape(..)
            | Self::Unshape(_)
            | Self::Redirect(..)
            | Self::EndRedirect(_)
            | Self::ShareElements(_)
            | Self::CreateElements(_)
            | Self::DeleteElements(_)
            | Self::UnshareElements(_)
            | Self::MendTable(..)
            | Self::DeleteTables
            | Self::FlushFlows(_) => Side::Host,
        }
    }
}
