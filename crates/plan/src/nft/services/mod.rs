//! The second constant ruleset, `table inet zeugma_services`: virtual addresses of services. It is installed with the
//! first service and not before, so that hosts without services, and every ADD, pay nothing for it.
//!
//! A table of its own, because nothing in it depends on the order within a chain of `inet zeugma`: the kernel runs
//! NAT chains of all tables by priority until one of them translates, and ours stand before those of `inet zeugma`.
//! So either table can be replaced by a newer version of itself without the other's flows noticing.
//!
//! Nothing here is a rule or chain per service, nor a verdict per service: a verdict that is put into a map makes the
//! kernel walk the whole map again, at each transaction (7 ms with 25,000 services). A service's element is the number
//! of its slots, and a constant map leads from that number to the chain.

mod element;
mod render;
mod skeleton;

pub use element::{Backend, Changes, Element, Forget, Frontend, Leave, read_affinity};
pub use skeleton::{
    AFFINITY_SECONDS, EXACT_SLOTS, LARGEST_TABLE, STAMP, STICKY, TABLE, affinity_class, skeleton,
};

use super::Hook;
use crate::Family;

/// A field of a key or of data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Type {
    /// An address.
    Address(Family),
    /// A transport protocol's number.
    Protocol,
    /// A port.
    Port,
    /// A number in the host's byte order. nft calls numbers of that kind marks; it has no type for just numbers.
    Number,
    /// Where to go on.
    Verdict,
}

impl Type {
    /// Bytes in a concatenation, where every field begins at a 32-bit register.
    pub fn padded_width(self) -> usize {
        match self {
            Self::Address(family) => family.address_len(),
            Self::Protocol | Self::Port | Self::Number => 4,
            Self::Verdict => 16,
        }
    }

    /// Bytes of the value.
    pub fn width(self) -> usize {
        match self {
            Self::Protocol => 1,
            Self::Port => 2,
            other => other.padded_width(),
        }
    }

    /// The number nft gives the type, so that listings print it (`enum datatypes` of nftables).
    pub fn nft_type(self) -> u32 {
        match self {
            Self::Verdict => 1,
            Self::Address(Family::V4) => 7,
            Self::Address(Family::V6) => 8,
            Self::Protocol => 12,
            Self::Port => 13,
            Self::Number => 19,
        }
    }
}

/// What a frontend is: an address of its own, or a port of the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Front {
    /// A virtual address.
    Vip,
    /// A published port, on any address of the host: the address in its keys is the unspecified one.
    Port,
}

/// The table's sets and maps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Set {
    /// Virtual addresses.
    Vips(Family),
    /// Published ports: protocol . port.
    Ports(Family),
    /// Frontend → 0, how many slots it has or [`STICKY`], how many slots it has.
    Services(Family),
    /// Frontend → 0, for how many seconds a client stays; who stays with whom is in [`Set::Affinity`].
    Affine(Family),
    /// Frontend . slot → endpoint. Two maps, because the kernel goes through all rules with a map for each element
    /// that is put in.
    Endpoints(Front, Family),
    /// Client . frontend → endpoint. The kernel fills it by itself.
    Affinity(Family),
    /// Endpoint . the same endpoint: a client that is its own backend.
    Hairpin(Family),
    /// Subnet . the same subnet, whose members answer one another past the host.
    Direct(Family),
    /// Subnets of this host's containers.
    Local(Family),
    /// Subnets of containers anywhere: they answer to each other's addresses.
    Inside(Family),
    /// Those of them that are overlays', which take no addresses but their own.
    Overlays(Family),
    /// Pairs of subnets of one overlay.
    Within(Family),
    /// Ranges of virtual addresses: those that are no service's are refused.
    Ranges(Family),
    /// Number of slots, or [`STICKY`], → its chain. Constant.
    Enter(Front, Family),
    /// Number of slots → its chain. Constant.
    Spread(Front, Family),
    /// Seconds → the chain that remembers for so long. Constant.
    Remember(Front, Family),
}

impl Set {
    /// Those whose elements are programmed, in the order in which elements are put in.
    pub fn programmed() -> impl Iterator<Item = Self> {
        let of: [fn(Family) -> Self; 13] = [
            Self::Direct,
            Self::Local,
            Self::Inside,
            Self::Overlays,
            Self::Within,
            Self::Ranges,
            Self::Hairpin,
            Self::Vips,
            Self::Ports,
            Self::Services,
            Self::Affine,
            |family| Self::Endpoints(Front::Vip, family),
            |family| Self::Endpoints(Front::Port, family),
        ];
        of.into_iter().flat_map(|set| Family::ALL.map(set))
    }

    /// The address family whose packets it is for.
    pub fn family(self) -> Family {
        match self {
            Self::Vips(family)
            | Self::Ports(family)
            | Self::Services(family)
            | Self::Affine(family)
            | Self::Endpoints(_, family)
            | Self::Affinity(family)
            | Self::Hairpin(family)
            | Self::Direct(family)
            | Self::Local(family)
            | Self::Inside(family)
            | Self::Overlays(family)
            | Self::Within(family)
            | Self::Ranges(family)
            | Self::Enter(_, family)
            | Self::Spread(_, family)
            | Self::Remember(_, family) => family,
        }
    }

    /// Its name in the table.
    pub fn name(self) -> String {
        let name = match self {
            Self::Vips(_) => "vips",
            Self::Ports(_) => "ports",
            Self::Services(_) => "services",
            Self::Affine(_) => "affine",
            Self::Endpoints(Front::Vip, _) => "endpoints",
            Self::Endpoints(Front::Port, _) => "endpoints_port",
            Self::Affinity(_) => "affinity",
            Self::Hairpin(_) => "hairpin",
            Self::Direct(_) => "direct",
            Self::Local(_) => "local",
            Self::Inside(_) => "inside",
            Self::Overlays(_) => "overlays",
            Self::Within(_) => "within",
            Self::Ranges(_) => "ranges",
            Self::Enter(Front::Vip, _) => "enter",
            Self::Enter(Front::Port, _) => "enter_port",
            Self::Spread(Front::Vip, _) => "spread",
            Self::Spread(Front::Port, _) => "spread_port",
            Self::Remember(Front::Vip, _) => "remember",
            Self::Remember(Front::Port, _) => "remember_port",
        };
        format!("{name}_{}", self.family())
    }

    /// The fields of its key.
    pub fn key(self) -> Vec<Type> {
        let address = Type::Address(self.family());
        let frontend = [address, Type::Protocol, Type::Port];
        match self {
            Self::Vips(_) | Self::Local(_) | Self::Inside(_) | Self::Overlays(_) | Self::Ranges(_) => {
                vec![address]
            }
            Self::Ports(_) => vec![Type::Protocol, Type::Port],
            Self::Services(_) | Self::Affine(_) => frontend.into(),
            Self::Endpoints(..) => [&frontend[..], &[Type::Number]].concat(),
            Self::Affinity(_) => [&[address], &frontend[..]].concat(),
            Self::Hairpin(_) | Self::Direct(_) | Self::Within(_) => vec![address, address],
            Self::Enter(..) | Self::Spread(..) | Self::Remember(..) => vec![Type::Number],
        }
    }

    /// The fields of its data; empty for a set.
    pub fn data(self) -> Vec<Type> {
        match self {
            Self::Services(_) => vec![Type::Number; 3],
            Self::Affine(_) => vec![Type::Number; 2],
            Self::Endpoints(_, family) | Self::Affinity(family) => vec![Type::Address(family), Type::Port],
            Self::Enter(..) | Self::Spread(..) | Self::Remember(..) => vec![Type::Verdict],
            _ => Vec::new(),
        }
    }

    /// Whether its keys are prefixes.
    pub fn is_interval(self) -> bool {
        matches!(
            self,
            Self::Direct(_)
                | Self::Local(_)
                | Self::Inside(_)
                | Self::Overlays(_)
                | Self::Within(_)
                | Self::Ranges(_)
        )
    }

    /// Whether packets fill it.
    pub fn is_dynamic(self) -> bool {
        matches!(self, Self::Affinity(_))
    }
}

/// A value that a rule loads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Load {
    /// `ip saddr`.
    Saddr(Family),
    /// `ip daddr`.
    Daddr(Family),
    /// The unspecified address.
    AnyAddress(Family),
    /// `meta l4proto`.
    Protocol,
    /// `th dport`.
    Dport,
    /// `ct original ip daddr`.
    OriginalDaddr(Family),
    /// `ct original proto-dst`.
    OriginalDport,
    /// `numgen random mod N`; the modulus 1 stands for 0, which nft lists as a number of unknown type.
    Random(u32),
}

impl Load {
    /// Its type.
    pub fn of_type(self) -> Type {
        match self {
            Self::Saddr(family)
            | Self::Daddr(family)
            | Self::AnyAddress(family)
            | Self::OriginalDaddr(family) => Type::Address(family),
            Self::Protocol => Type::Protocol,
            Self::Dport | Self::OriginalDport => Type::Port,
            Self::Random(_) => Type::Number,
        }
    }
}

/// A condition of a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Match {
    /// `meta nfproto`.
    Family(Family),
    /// `meta l4proto tcp`.
    Tcp,
    /// An echo request.
    Echo(Family),
    /// The values are in the set.
    In(Vec<Load>, Set),
    /// Not to the host's loopback addresses.
    NotToLoopback(Family),
    /// `fib daddr type local`.
    ToLocal,
    /// `fib daddr oif lo`: of an address in [`Set::Ranges`], the only way there is the agent's route to the range.
    /// Forwarded, the packet would go round until it has no more time to live; IPv6 would say that there is no route,
    /// which a client takes for a passing state.
    WayByLo,
    /// `oif lo`; together with the next the same of what the host itself sends.
    LeavesByLo,
    /// `fib daddr type unicast`; in IPv6 `unreachable`, which is what it makes of such a route.
    ToHeld(Family),
    /// `fib saddr type local`.
    FromLocal,
    /// `ct status dnat`.
    Dnatted,
}

/// Where in a map's data a number is; before it is one that means nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// The second.
    Second,
    /// The third.
    Third,
}

/// What a rule does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// `return`.
    Return,
    /// `jump`.
    Jump(String),
    /// `goto`.
    Goto(String),
    /// Looks a frontend up in the first map, and a number that is found there, the first or second but one, in the
    /// second map, which has verdicts.
    ///
    /// nft 1.0.6 aborts where a rule looks up what it looked up, and with it every `nft list ruleset`: it does not
    /// know how long a map's data is. It knows the length of what was loaded, though. So the data goes over the
    /// registers of the key, shifted such that its second and third number lie where protocol and port were, and nft
    /// takes them for these.
    Dispatch(Vec<Load>, Set, Place, Set),
    /// `dnat` to what the map has for the values.
    Dnat(Vec<Load>, Set),
    /// Notes in the map that the client is with the packet's destination, for so many seconds.
    Remember(Vec<Load>, Set, u32),
    /// `redirect`.
    Redirect,
    /// `masquerade`.
    Masquerade,
    /// `snat` to the source that it has: no later chain gives it another.
    KeepSource(Family),
    /// `reject with tcp reset`.
    Reset,
    /// `reject with icmpx port-unreachable`.
    Unreachable,
}

/// A rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// All must hold.
    pub matches: Vec<Match>,
    /// Then this.
    pub action: Action,
}

/// A chain with its rules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chain {
    /// Its name.
    pub name: String,
    /// None for a chain that others lead to.
    pub hook: Option<Hook>,
    /// In order.
    pub rules: Vec<Rule>,
}

/// An element of a constant map of verdicts: a number and the chain to go to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Way {
    /// The map.
    pub set: Set,
    /// The number.
    pub number: u32,
    /// The chain.
    pub chain: String,
}

/// The constant part of the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Skeleton {
    /// Sets and maps.
    pub sets: Vec<Set>,
    /// Chains.
    pub chains: Vec<Chain>,
    /// The elements of the constant maps.
    pub ways: Vec<Way>,
}

impl Skeleton {
    /// How many elements a constant map has, for good: the kernel then takes a table of fixed size, whose lookup is
    /// cheaper. None of a set that is programmed.
    pub fn size(&self, set: Set) -> Option<u32> {
        let size = self.ways.iter().filter(|way| way.set == set).count() as u32;
        (size > 0).then_some(size)
    }
}
