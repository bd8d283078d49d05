//! The nftables ruleset as a value: sets, chains, rules and elements.
//!
//! One value serves both ways out: `kernel` encodes it for netlink, `render` writes it in nft's syntax.
//! The vocabulary is what the skeleton needs, not all of nftables.

mod element;
mod names;
mod overlap;
mod render;
pub mod services;
mod skeleton;

pub use element::{Element, Value};
pub use names::{NAMES_TABLE, names_table};
use overlap::prefix;
pub use overlap::{Room, covers, make_room, of_bytes, of_range};
pub use skeleton::{ADMIN, TABLE, VERSION, VERSION_STAMP, bridge_skeleton, skeleton, skeleton_of, stamped};

use std::net::SocketAddrV4;

use ipnetwork::IpNetwork;
use zeugma_model::Protocol;

use crate::Family;

/// A packet field or its metadata, as part of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Field {
    /// `ip saddr`.
    Saddr(Family),
    /// `ip daddr`.
    Daddr(Family),
    /// `meta l4proto`.
    L4Proto,
    /// `th dport`.
    Dport,
    /// `iifname`.
    IifName,
    /// `oifname`.
    OifName,
    /// `ether saddr` (bridge tables).
    EtherSaddr,
}

impl Field {
    /// Bytes of the value, without padding to registers.
    pub fn width(self) -> usize {
        match self {
            Self::Saddr(family) | Self::Daddr(family) => family.address_len(),
            Self::L4Proto => 1,
            Self::Dport => 2,
            Self::IifName | Self::OifName => 16,
            Self::EtherSaddr => 6,
        }
    }

    /// Bytes in a concatenation: every field begins at a 32-bit register.
    pub fn padded_width(self) -> usize {
        self.width().next_multiple_of(4)
    }

    /// The number nft gives the type, so that listings print it (`enum datatypes` of nftables).
    pub fn nft_type(self) -> u32 {
        match self {
            Self::Saddr(Family::V4) | Self::Daddr(Family::V4) => 7,
            Self::Saddr(Family::V6) | Self::Daddr(Family::V6) => 8,
            Self::EtherSaddr => 9,
            Self::L4Proto => 12,
            Self::Dport => 13,
            Self::IifName | Self::OifName => 41,
        }
    }

    /// The same of a packet's other end.
    #[must_use]
    pub fn counterpart(self) -> Self {
        match self {
            Self::Saddr(family) => Self::Daddr(family),
            Self::Daddr(family) => Self::Saddr(family),
            Self::IifName => Self::OifName,
            Self::OifName => Self::IifName,
            Self::L4Proto | Self::Dport | Self::EtherSaddr => self,
        }
    }
}

/// A family of tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TableFamily {
    /// `inet`: IPv4 and IPv6 together.
    Inet,
    /// `bridge`: frames.
    Bridge,
}

/// The sets and maps of the skeleton.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SetId {
    /// Subnets whose containers reach the outside by masquerade.
    Masquerade(Family),
    /// Pairs (subnet . subnet) within which nothing is masqueraded.
    Network(Family),
    /// Host address . protocol . port → container address . port.
    Published(Family),
    /// Protocol . port on any host address → container address . port.
    PublishedAny(Family),
    /// Pairs (subnet . subnet) whose members reach one another's published ports by way of the host.
    Hairpin(Family),
    /// Containers whose published ports are masqueraded whoever asks.
    MasqueradeAll(Family),
    /// Bridges under an ingress policy.
    Isolated,
    /// Pairs (bridge . bridge) that may talk in spite of [`SetId::Isolated`].
    SameBridge,
    /// Host veths that may send from one MAC address only (bridge table).
    Guarded,
    /// Host veth . the MAC address it may send from (bridge table).
    Allowed,
    /// Subnets of overlays, which only members and whom they let in reach.
    Overlay(Family),
    /// Pairs (subnet . subnet of an overlay) of others that may open connections to an overlay's containers.
    Reachable(Family),
    /// Subnets of overlays that packets come from by the ways in [`SetId::Ways`] alone.
    Claimed(Family),
    /// Subnets of overlays that packets leave for by the ways in [`SetId::Ways`] alone.
    Sealed(Family),
    /// Interface . subnet: the bridge and the tunnel of an overlay, and the loopback device.
    Ways(Family),
    /// Tunnels of overlays.
    Tunnels,
}

impl SetId {
    /// The sets whose elements belong to networks, not to attachments.
    pub fn shared() -> Vec<Self> {
        let per_family = [
            Self::Masquerade,
            Self::Network,
            Self::Hairpin,
            Self::Overlay,
            Self::Reachable,
            Self::Claimed,
            Self::Sealed,
            Self::Ways,
        ];
        let mut sets: Vec<Self> = per_family.iter().flat_map(|set| Family::ALL.map(set)).collect();
        sets.extend([Self::Isolated, Self::SameBridge, Self::Tunnels]);
        sets
    }

    /// The table it is in.
    pub fn table(self) -> TableFamily {
        match self {
            Self::Guarded | Self::Allowed => TableFamily::Bridge,
            _ => TableFamily::Inet,
        }
    }

    /// The address family whose packets it is for; none for sets that serve both.
    pub fn address_family(self) -> Option<Family> {
        match self {
            Self::Masquerade(family)
            | Self::Network(family)
            | Self::Published(family)
            | Self::PublishedAny(family)
            | Self::Hairpin(family)
            | Self::MasqueradeAll(family)
            | Self::Overlay(family)
            | Self::Reachable(family)
            | Self::Claimed(family)
            | Self::Sealed(family)
            | Self::Ways(family) => Some(family),
            Self::Isolated | Self::SameBridge | Self::Guarded | Self::Allowed | Self::Tunnels => None,
        }
    }

    /// Its name in the table.
    pub fn name(self) -> String {
        match self {
            Self::Masquerade(family) => format!("masquerade_{family}"),
            Self::Network(family) => format!("network_{family}"),
            Self::Published(family) => format!("published_{family}"),
            Self::PublishedAny(family) => format!("published_any_{family}"),
            Self::Hairpin(family) => format!("hairpin_{family}"),
            Self::MasqueradeAll(family) => format!("masquerade_all_{family}"),
            Self::Isolated => "isolated".into(),
            Self::SameBridge => "same_bridge".into(),
            Self::Guarded => "guarded".into(),
            Self::Allowed => "allowed".into(),
            Self::Overlay(family) => format!("overlay_{family}"),
            Self::Reachable(family) => format!("reachable_{family}"),
            Self::Claimed(family) => format!("claimed_{family}"),
            Self::Sealed(family) => format!("sealed_{family}"),
            Self::Ways(family) => format!("ways_{family}"),
            Self::Tunnels => "tunnels".into(),
        }
    }

    /// The fields of its key.
    pub fn key(self) -> Vec<Field> {
        match self {
            Self::Masquerade(family) | Self::Claimed(family) => vec![Field::Saddr(family)],
            Self::Network(family) | Self::Hairpin(family) | Self::Reachable(family) => {
                vec![Field::Saddr(family), Field::Daddr(family)]
            }
            Self::Published(family) => vec![Field::Daddr(family), Field::L4Proto, Field::Dport],
            Self::PublishedAny(_) => vec![Field::L4Proto, Field::Dport],
            Self::MasqueradeAll(family) | Self::Overlay(family) | Self::Sealed(family) => {
                vec![Field::Daddr(family)]
            }
            Self::Ways(family) => vec![Field::IifName, Field::Saddr(family)],
            Self::Isolated | Self::Guarded | Self::Tunnels => vec![Field::IifName],
            Self::SameBridge => vec![Field::IifName, Field::OifName],
            Self::Allowed => vec![Field::IifName, Field::EtherSaddr],
        }
    }

    /// The fields of its data; empty for a set.
    pub fn data(self) -> Vec<Field> {
        match self {
            Self::Published(family) | Self::PublishedAny(family) => vec![Field::Daddr(family), Field::Dport],
            _ => Vec::new(),
        }
    }

    /// Whether its keys have prefixes in them.
    pub fn is_interval(self) -> bool {
        match self {
            Self::Masquerade(_)
            | Self::Network(_)
            | Self::Hairpin(_)
            | Self::Overlay(_)
            | Self::Reachable(_)
            | Self::Claimed(_)
            | Self::Sealed(_)
            | Self::Ways(_) => true,
            Self::Published(_)
            | Self::PublishedAny(_)
            | Self::MasqueradeAll(_)
            | Self::Isolated
            | Self::SameBridge
            | Self::Guarded
            | Self::Allowed
            | Self::Tunnels => false,
        }
    }
}

/// A condition of a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Match {
    /// `meta nfproto`.
    Family(Family),
    /// The set's key fields are (or are not) in the set.
    In(SetId),
    /// The counterparts of the key's fields are in the set: `oifname` in the place of `iifname`, `ip daddr` of `ip saddr`.
    OutIn(SetId),
    /// `iifname != "lo"`.
    NotFromLo,
    /// A source prefix.
    SaddrIn(IpNetwork),
    /// A destination prefix.
    DaddrIn(IpNetwork),
    /// A destination other than this prefix.
    DaddrNotIn(IpNetwork),
    /// `ct state established,related`.
    Established,
    /// `ct status dnat`.
    Dnatted,
    /// `fib daddr type local`.
    ToLocal,
    /// `meta l4proto`.
    Transport(Protocol),
    /// `th dport`.
    Dport(u16),
    /// `tcp flags syn / syn,rst`: a connection begins.
    Syn,
}

/// What a rule does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// `accept`.
    Accept,
    /// `drop`.
    Drop,
    /// `return`.
    Return,
    /// `jump`.
    Jump(&'static str),
    /// `goto`.
    Goto(&'static str),
    /// `masquerade`.
    Masquerade,
    /// `dnat … to … map`: the map's key looked up, its data the new destination.
    DnatMap(SetId),
    /// `dnat ip to`: another port of an IPv4 address.
    DnatTo(SocketAddrV4),
    /// `tcp option maxseg size set rt mtu`: no segment that the route has no room for.
    ClampMss,
}

/// A rule: conditions and what follows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// All must hold.
    pub matches: Vec<Match>,
    /// Then this.
    pub action: Action,
}

/// Where a base chain hangs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hook {
    /// `filter` or `nat`.
    pub kind: &'static str,
    /// nft's word for the hook.
    pub name: &'static str,
    /// The hook's number (`enum nf_inet_hooks`; the bridge family has the same).
    pub number: u32,
    /// The priority.
    pub priority: i32,
}

/// A chain with its rules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chain {
    /// Its name.
    pub name: &'static str,
    /// None for a chain that others jump to.
    pub hook: Option<Hook>,
    /// In order.
    pub rules: Vec<Rule>,
}

/// A table: the whole of what zeugma has under that name and family.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ruleset {
    /// The family.
    pub family: TableFamily,
    /// The table's name.
    pub table: &'static str,
    /// Its comment: which version it is.
    pub stamp: &'static str,
    /// Sets and maps.
    pub sets: Vec<SetId>,
    /// Chains; a chain stands before those that jump to it.
    pub chains: Vec<Chain>,
}
