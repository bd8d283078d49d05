//! The table in nft's manner, for people: docs and snapshots. A lookup of what was looked up
//! (`… map @a (second) vmap @b`, a number of the first map's data) has no syntax in nft 1.0, so not all of it can be loaded.

use std::fmt;

use super::{Action, Chain, Element, Load, Match, Place, Rule, STAMP, STICKY, Set, Skeleton, TABLE, Type};
use crate::Family;
use crate::nft::render::{joined, write_chain, write_rule};

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Address(Family::V4) => "ipv4_addr",
            Self::Address(Family::V6) => "ipv6_addr",
            Self::Protocol => "inet_proto",
            Self::Port => "inet_service",
            Self::Number => "mark",
            Self::Verdict => "verdict",
        })
    }
}

impl fmt::Display for Load {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Saddr(family) => write!(f, "{family} saddr"),
            Self::Daddr(family) => write!(f, "{family} daddr"),
            Self::AnyAddress(family) => family.unspecified().fmt(f),
            Self::Protocol => f.write_str("meta l4proto"),
            Self::Dport => f.write_str("th dport"),
            Self::OriginalDaddr(family) => write!(f, "ct original {family} daddr"),
            Self::OriginalDport => f.write_str("ct original proto-dst"),
            Self::Random(modulus) => write!(f, "numgen random mod {modulus}"),
        }
    }
}

impl fmt::Display for Match {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Family(Family::V4) => f.write_str("meta nfproto ipv4"),
            Self::Family(Family::V6) => f.write_str("meta nfproto ipv6"),
            Self::Tcp => f.write_str("meta l4proto tcp"),
            Self::Echo(Family::V4) => f.write_str("icmp type echo-request"),
            Self::Echo(Family::V6) => f.write_str("icmpv6 type echo-request"),
            Self::In(loads, set) => write!(f, "{} @{}", joined(loads), set.name()),
            Self::NotToLoopback(Family::V4) => f.write_str("ip daddr != 127.0.0.0/8"),
            Self::NotToLoopback(Family::V6) => f.write_str("ip6 daddr != ::1"),
            Self::ToLocal => f.write_str("fib daddr type local"),
            Self::ToHeld(Family::V4) => f.write_str("fib daddr type unicast"),
            Self::ToHeld(Family::V6) => f.write_str("fib daddr type unreachable"),
            Self::WayByLo => f.write_str("fib daddr oif lo"),
            Self::LeavesByLo => f.write_str("oif lo"),
            Self::FromLocal => f.write_str("fib saddr type local"),
            Self::Dnatted => f.write_str("ct status dnat"),
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Return => f.write_str("return"),
            Self::Jump(chain) => write!(f, "jump {chain}"),
            Self::Goto(chain) => write!(f, "goto {chain}"),
            Self::Dispatch(loads, map, place, ways) => {
                let place = match place {
                    Place::Second => "second",
                    Place::Third => "third",
                };
                write!(f, "{} map @{} ({place}) vmap @{}", joined(loads), map.name(), ways.name())
            }
            Self::Dnat(loads, map) => {
                write!(f, "dnat {} to {} map @{}", map.family(), joined(loads), map.name())
            }
            Self::Remember(loads, map, seconds) => {
                let daddr = Load::Daddr(map.family());
                write!(
                    f,
                    "update @{} {{ {} timeout {seconds}s : {daddr} . th dport }}",
                    map.name(),
                    joined(loads)
                )
            }
            Self::Redirect => f.write_str("redirect"),
            Self::Masquerade => f.write_str("masquerade"),
            Self::KeepSource(family) => write!(f, "snat {family} to {family} saddr"),
            Self::Reset => f.write_str("reject with tcp reset"),
            Self::Unreachable => f.write_str("reject with icmpx port-unreachable"),
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_rule(f, &self.matches, &self.action)
    }
}

impl fmt::Display for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_chain(f, &self.name, self.hook, &self.rules)
    }
}

fn write_set(f: &mut fmt::Formatter<'_>, set: Set, size: Option<u32>) -> fmt::Result {
    let (kind, data) = match set.data() {
        data if data.is_empty() => ("set", String::new()),
        data => ("map", format!(" : {}", joined(&data))),
    };
    let flags = match () {
        () if set.is_interval() => " flags interval;",
        () if set.is_dynamic() => " flags dynamic,timeout;",
        () => "",
    };
    let size = size.map(|size| format!(" size {size};")).unwrap_or_default();
    writeln!(f, "  {kind} {} {{ type {}{data};{flags}{size} }}", set.name(), joined(set.key()))
}

impl fmt::Display for Skeleton {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "table inet {TABLE} {{")?;
        writeln!(f, "  comment \"{STAMP}\"")?;
        for set in &self.sets {
            write_set(f, *set, self.size(*set))?;
        }
        for chain in &self.chains {
            chain.fmt(f)?;
        }
        writeln!(f, "}}")?;
        for way in &self.ways {
            writeln!(f, "{} {{ {} : goto {} }}", way.set.name(), way.number, way.chain)?;
        }
        Ok(())
    }
}

/// `services_ip { 10.96.0.1 . tcp . 80 comment "web" : 0 . 3 . 3 }`.
impl fmt::Display for Element {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {{ ", self.set().name())?;
        match self {
            Self::Vip(address) => address.fmt(f)?,
            Self::Port(_, protocol, port) => write!(f, "{protocol} . {port}")?,
            Self::Service(at, slots, is_sticky, name) => {
                let first = if *is_sticky { STICKY } else { *slots };
                write!(f, "{at} comment \"{name}\" : 0 . {first} . {slots}")?;
            }
            Self::Affine(at, seconds) => write!(f, "{at} : 0 . {seconds}")?,
            Self::Endpoint(at, slot, to) => write!(f, "{at} . {slot} : {to}")?,
            Self::Hairpin(address) => write!(f, "{address} . {address}")?,
            Self::Direct(subnet) => write!(f, "{subnet} . {subnet}")?,
            Self::Within(one, other) => write!(f, "{one} . {other}")?,
            Self::Local(subnet) | Self::Inside(subnet) | Self::Overlay(subnet) | Self::Range(subnet) => {
                subnet.fmt(f)?;
            }
        }
        f.write_str(" }")
    }
}

impl fmt::Display for super::Frontend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} . {} . {}", self.address, self.protocol, self.port)
    }
}

impl fmt::Display for super::Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} . {}", self.address, self.port)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{AFFINITY_SECONDS, skeleton};

    /// All but the chains that differ in a number only.
    #[test]
    fn the_table_of_services_reads_as_nft_has_it() {
        let mut skeleton = skeleton();
        let first = AFFINITY_SECONDS[0];
        let one_of_many = |name: &str| {
            let number = name.split('-').nth(1).and_then(|word| word.parse::<u32>().ok());
            number.is_none_or(|number| [1, 3].contains(&number) || number == first)
        };
        skeleton.chains.retain(|chain| one_of_many(&chain.name));
        skeleton.ways.retain(|way| one_of_many(&way.chain));
        insta::assert_snapshot!("services", skeleton);
    }
}
