//! The ruleset and its elements in nft's syntax, for people: dry runs, docs and snapshots.

use std::fmt;

use super::{Action, Chain, Element, Field, Hook, Match, Rule, Ruleset, SetId, TABLE, TableFamily, Value};
use crate::Family;

impl fmt::Display for TableFamily {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Inet => "inet",
            Self::Bridge => "bridge",
        })
    }
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Saddr(family) => write!(f, "{family} saddr"),
            Self::Daddr(family) => write!(f, "{family} daddr"),
            Self::L4Proto => f.write_str("meta l4proto"),
            Self::Dport => f.write_str("th dport"),
            Self::IifName => f.write_str("iifname"),
            Self::OifName => f.write_str("oifname"),
            Self::EtherSaddr => f.write_str("ether saddr"),
        }
    }
}

impl Field {
    fn type_name(self) -> &'static str {
        match self {
            Self::Saddr(Family::V4) | Self::Daddr(Family::V4) => "ipv4_addr",
            Self::Saddr(Family::V6) | Self::Daddr(Family::V6) => "ipv6_addr",
            Self::L4Proto => "inet_proto",
            Self::Dport => "inet_service",
            Self::IifName | Self::OifName => "ifname",
            Self::EtherSaddr => "ether_addr",
        }
    }
}

pub(super) fn joined<T: fmt::Display>(parts: impl IntoIterator<Item = T>) -> String {
    parts.into_iter().map(|part| part.to_string()).collect::<Vec<_>>().join(" . ")
}

fn types(fields: &[Field]) -> String {
    joined(fields.iter().map(|field| field.type_name()))
}

impl fmt::Display for Match {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let family = |prefix: &ipnetwork::IpNetwork| Family::of(prefix.ip());
        match self {
            Self::Family(Family::V4) => f.write_str("meta nfproto ipv4"),
            Self::Family(Family::V6) => f.write_str("meta nfproto ipv6"),
            Self::In(set) => write!(f, "{} @{}", joined(set.key()), set.name()),
            Self::OutIn(set) => {
                let fields = set.key().into_iter().map(Field::counterpart);
                write!(f, "{} @{}", joined(fields), set.name())
            }
            Self::NotFromLo => f.write_str("iifname != \"lo\""),
            Self::SaddrIn(prefix) => write!(f, "{} saddr {prefix}", family(prefix)),
            Self::DaddrIn(prefix) => write!(f, "{} daddr {prefix}", family(prefix)),
            Self::DaddrNotIn(prefix) => write!(f, "{} daddr != {prefix}", family(prefix)),
            Self::Established => f.write_str("ct state established,related"),
            Self::Dnatted => f.write_str("ct status dnat"),
            Self::ToLocal => f.write_str("fib daddr type local"),
            Self::Transport(protocol) => write!(f, "meta l4proto {protocol}"),
            Self::Dport(port) => write!(f, "th dport {port}"),
            Self::Syn => f.write_str("tcp flags syn / syn,rst"),
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Accept => f.write_str("accept"),
            Self::Drop => f.write_str("drop"),
            Self::Return => f.write_str("return"),
            Self::Jump(chain) => write!(f, "jump {chain}"),
            Self::Goto(chain) => write!(f, "goto {chain}"),
            Self::Masquerade => f.write_str("masquerade"),
            Self::DnatTo(to) => write!(f, "dnat ip to {to}"),
            Self::ClampMss => f.write_str("tcp option maxseg size set rt mtu"),
            Self::DnatMap(map) => {
                let family =
                    if map.data().contains(&Field::Daddr(Family::V4)) { Family::V4 } else { Family::V6 };
                write!(f, "dnat {family} to {} map @{}", joined(map.key()), map.name())
            }
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
        write_chain(f, self.name, self.hook, &self.rules)
    }
}

/// A rule of either ruleset.
pub(super) fn write_rule(
    f: &mut fmt::Formatter<'_>,
    matches: &[impl fmt::Display],
    action: &impl fmt::Display,
) -> fmt::Result {
    for condition in matches {
        write!(f, "{condition} ")?;
    }
    action.fmt(f)
}

/// A chain of either ruleset.
pub(super) fn write_chain(
    f: &mut fmt::Formatter<'_>,
    name: &str,
    hook: Option<Hook>,
    rules: &[impl fmt::Display],
) -> fmt::Result {
    writeln!(f, "  chain {name} {{")?;
    if let Some(Hook { kind, name, priority, .. }) = hook {
        writeln!(f, "    type {kind} hook {name} priority {priority}; policy accept;")?;
    }
    for rule in rules {
        writeln!(f, "    {rule}")?;
    }
    writeln!(f, "  }}")
}

fn write_set(f: &mut fmt::Formatter<'_>, set: SetId) -> fmt::Result {
    let (kind, data) = match set.data() {
        data if data.is_empty() => ("set", String::new()),
        data => ("map", format!(" : {}", types(&data))),
    };
    let flags = if set.is_interval() { " flags interval;" } else { "" };
    writeln!(f, "  {kind} {} {{ type {}{data};{flags} }}", set.name(), types(&set.key()))
}

impl fmt::Display for Ruleset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "table {} {} {{", self.family, self.table)?;
        writeln!(f, "  comment \"{}\"", self.stamp)?;
        for set in &self.sets {
            write_set(f, *set)?;
        }
        for chain in &self.chains {
            chain.fmt(f)?;
        }
        writeln!(f, "}}")
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::Prefix(prefix) => write!(f, "{}/{}", prefix.network(), prefix.prefix()),
            Self::Protocol(protocol) => protocol.fmt(f),
            Self::Port(port) => port.fmt(f),
            Self::Interface(name) => write!(f, "\"{name}\""),
            Self::Mac(mac) => mac.fmt(f),
        }
    }
}

/// `inet zeugma published_ip { 192.0.2.1 . tcp . 8080 : 10.1.0.5 . 80 comment "…" }`.
impl fmt::Display for Element {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {TABLE} {} {{ {}", self.set.table(), self.set.name(), joined(&self.key))?;
        write!(f, " comment \"{}\"", self.owner)?;
        if !self.data.is_empty() {
            write!(f, " : {}", joined(&self.data))?;
        }
        f.write_str(" }")
    }
}

#[cfg(test)]
mod tests {
    use super::super::{bridge_skeleton, names_table, skeleton};

    #[test]
    fn the_skeleton_reads_as_nft_prints_it() {
        insta::assert_snapshot!("inet", skeleton());
        insta::assert_snapshot!("bridge", bridge_skeleton());
        insta::assert_snapshot!("names", names_table(20_000));
    }
}
