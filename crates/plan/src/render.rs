//! Plans as text that someone who knows `ip` and `nft` can read: what `--dry-run` prints.

use std::fmt;

use zeugma_model::IfName;

use crate::nft::{Element, NAMES_TABLE, TABLE, names_table};
use crate::{
    FlowFilter, Link, LinkChange, LinkKind, Master, Mending, Move, Plan, PortFlags, PortVlans, RouteSpec,
    RuleSpec, Sharing, Side, Step, Tap,
};

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Host => "host",
            Self::Container => "container",
        })
    }
}

impl fmt::Display for PortFlags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (word, flag) in [("hairpin", self.hairpin), ("isolated", self.isolated)] {
            if let Some(on) = flag {
                write!(f, " {word} {}", on_off(on))?;
            }
        }
        Ok(())
    }
}

fn on_off(on: bool) -> &'static str {
    if on { "on" } else { "off" }
}

fn optional<T: fmt::Display>(f: &mut fmt::Formatter<'_>, word: &str, value: Option<T>) -> fmt::Result {
    value.map_or(Ok(()), |value| write!(f, " {word} {value}"))
}

impl fmt::Display for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ip link add {}", self.name)?;
        optional(f, "address", self.mac)?;
        optional(f, "mtu", self.mtu)?;
        self.kind.fmt(f)?;
        if let LinkKind::Child { parent: (from, _), .. } = &self.kind
            && *from != self.side
        {
            write!(f, " netns {}", self.side)?;
        }
        self.alias.as_ref().map_or(Ok(()), |alias| write!(f, " alias \"{alias}\""))
    }
}

impl fmt::Display for LinkKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bridge { vlan_filtering } => {
                f.write_str(if *vlan_filtering { " type bridge vlan_filtering 1" } else { " type bridge" })
            }
            Self::Veth { peer, peer_mac, port } => {
                optional(f, "master", port.as_ref().map(|(bridge, _)| bridge))?;
                write!(f, " type veth peer {peer} address {peer_mac} netns container;")?;
                port.as_ref().map_or(Ok(()), |(_, flags)| flags.fmt(f))
            }
            Self::Uplink { peer, peer_mac, master } => {
                write!(f, " master {master} type veth peer {peer} address {peer_mac};")
            }
            Self::Child { parent: (_, name), sharing } => write!(f, " link {name} type {sharing}"),
            Self::Dummy => f.write_str(" type dummy"),
            Self::Ifb => f.write_str(" type ifb"),
            Self::Vrf { table } => write!(f, " type vrf table {table}"),
        }
    }
}

impl fmt::Display for Sharing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Macvlan { mode, broadcast_queue } => {
                write!(f, "macvlan mode {mode}")?;
                optional(f, "bcqueuelen", *broadcast_queue)
            }
            Self::Ipvlan { mode } => write!(f, "ipvlan mode {mode}"),
            Self::Vlan { id } => write!(f, "vlan id {id}"),
        }
    }
}

impl fmt::Display for Master {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nobody => f.write_str("nomaster"),
            Self::Link(name) => write!(f, "master {name}"),
        }
    }
}

impl fmt::Display for Tap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ip tuntap add {} mode tap", self.name)?;
        optional(f, "user", self.owner)?;
        optional(f, "group", self.group)?;
        f.write_str(if self.multi_queue { " multi_queue" } else { "" })?;
        optional(f, "#", self.selinux_context.as_ref())
    }
}

impl fmt::Display for LinkChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        optional(f, "mtu", self.mtu)?;
        optional(f, "address", self.mac)?;
        self.alias.as_ref().map_or(Ok(()), |alias| write!(f, " alias \"{alias}\""))?;
        self.master.as_ref().map_or(Ok(()), |master| write!(f, " {master}"))?;
        optional(f, "promisc", self.promisc.map(on_off))?;
        optional(f, "allmulticast", self.allmulti.map(on_off))?;
        optional(f, "txqueuelen", self.tx_queue_len)?;
        optional(f, "type bridge vlan_filtering", self.vlan_filtering.map(u8::from))?;
        if let Some(port) = &self.port {
            write!(f, " type bridge_slave{port}")?;
        }
        self.up.map_or(Ok(()), |up| f.write_str(if up { " up" } else { " down" }))
    }
}

impl fmt::Display for RouteSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.dst)?;
        optional(f, "via", self.gw)?;
        write!(f, " dev {}", self.dev)?;
        optional(f, "src", self.source)?;
        optional(f, "mtu", self.mtu)?;
        optional(f, "advmss", self.advmss)?;
        optional(f, "metric", self.priority)?;
        optional(f, "table", self.table)?;
        optional(f, "scope", self.scope)?;
        optional(f, "proto", self.protocol)?;
        if self.onlink { f.write_str(" onlink") } else { Ok(()) }
    }
}

impl fmt::Display for RuleSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "from {} lookup {}", self.from, self.table)
    }
}

impl fmt::Display for FlowFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Untranslated { protocol, port, address } => {
                write!(
                    f,
                    "conntrack -D -p {protocol} --orig-dst {address} --orig-port-dst {port} (untranslated)"
                )
            }
            Self::Answered { protocol, port, address } => {
                write!(f, "conntrack -D -p {protocol} --reply-src {address} --reply-port-src {port}")
            }
            Self::AnsweredBy { address } => write!(f, "conntrack -D --reply-src {address}"),
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CreateLink(link) => write!(f, "{}: {link}", link.made_from()),
            Self::CreateTap(tap) => write!(f, "container: {tap}"),
            Self::MoveLink(Move { from, name, to, new_name }) => {
                write!(f, "{from}: ip link set {name} netns {to} name {new_name}")
            }
            Self::RenameLink(side, from, to) => write!(f, "{side}: ip link set {from} name {to}"),
            Self::SetLink(side, name, change) => write!(f, "{side}: ip link set {name}{change}"),
            Self::DeleteLink(side, name) => write!(f, "{side}: ip link del {name}"),
            Self::SetPortVlans(name, vlans) => port_vlans(f, name, vlans),
            Self::AwaitCarrier(side, name) => write!(f, "{side}: wait until {name} carries packets"),
            Self::DeleteUnusedBridge(name) => write!(f, "host: ip link del {name} (when it has no ports)"),
            Self::AddAddress(side, name, address, flags) => {
                let nodad = if flags.nodad && address.is_ipv6() { " nodad" } else { "" };
                let alone = if flags.no_subnet_route { " noprefixroute" } else { "" };
                write!(f, "{side}: ip addr replace {address} dev {name}{nodad}{alone}")
            }
            Self::DeleteAddress(side, name, address) => write!(f, "{side}: ip addr del {address} dev {name}"),
            Self::AddRoute(side, route) => write!(f, "{side}: ip route append {route}"),
            Self::DeleteRoute(side, route) => write!(f, "{side}: ip route del {route}"),
            Self::Shape(name, shaper) => f.write_str(&on_host(shaper.lines(name))),
            Self::Unshape(name) => write!(f, "host: tc qdisc del dev {name} root handle 1:"),
            Self::Redirect(from, to) => f.write_str(&on_host([
                format!("tc qdisc add dev {from} ingress"),
                format!("tc filter add dev {from} ingress protocol all u32 match u32 0 0 action mirred egress redirect dev {to}"),
            ])),
            Self::EndRedirect(from) => write!(f, "host: tc qdisc del dev {from} ingress"),
            Self::AddRule(side, rule) => write!(f, "{side}: ip rule add {rule}"),
            Self::DeleteRule(side, rule) => write!(f, "{side}: ip rule del {rule}"),
            Self::SetSysctl(side, sysctl) => {
                write!(f, "{side}: sysctl -w {}={}", dotted(&sysctl.path), sysctl.value)
            }
            Self::ShareElements(elements) => lines(f, "nft add element", elements),
            Self::CreateElements(elements) => lines(f, "nft create element", elements),
            Self::DeleteElements(elements) | Self::UnshareElements(elements) => {
                lines(f, "nft delete element", elements)
            }
            Self::MendTable(family, mending, elements) => {
                let before = match mending {
                    Mending::Complete => String::new(),
                    Mending::Replace => format!("nft delete table {family} {TABLE}; "),
                };
                write!(f, "host: {before}nft -f - (table {family} {TABLE}, with {} elements)", elements.len())
            }
            Self::DeleteTables => {
                f.write_str("host: nft delete table inet zeugma; nft delete table bridge zeugma")
            }
            Self::RedirectDns(port) => write!(f, "container: nft -f -\n{}", names_table(*port)),
            Self::EndRedirectDns => write!(f, "container: nft delete table inet {NAMES_TABLE}"),
            Self::FlushFlows(filters) => {
                let filters: Vec<String> = filters.iter().map(|filter| format!("host: {filter}")).collect();
                f.write_str(&filters.join("\n"))
            }
        }
    }
}

fn on_host(lines: impl IntoIterator<Item = String>) -> String {
    lines.into_iter().map(|line| format!("host: {line}")).collect::<Vec<_>>().join("\n")
}

/// As sysctl(8) has it: dots for slashes, and slashes for the dots of an interface's name.
fn dotted(path: &str) -> String {
    path.chars()
        .map(|c| {
            if c == '/' {
                '.'
            } else if c == '.' {
                '/'
            } else {
                c
            }
        })
        .collect()
}

fn port_vlans(f: &mut fmt::Formatter<'_>, port: &IfName, vlans: &PortVlans) -> fmt::Result {
    let leave = vlans.leave.iter().map(|id| format!("host: bridge vlan del dev {port} vid {id}"));
    let tagged = vlans.tagged.iter().map(|range| format!("host: bridge vlan add dev {port} vid {range}"));
    let untagged =
        vlans.untagged.iter().map(|id| format!("host: bridge vlan add dev {port} vid {id} pvid untagged"));
    f.write_str(&leave.chain(tagged).chain(untagged).collect::<Vec<_>>().join("\n"))
}

fn lines(f: &mut fmt::Formatter<'_>, verb: &str, elements: &[Element]) -> fmt::Result {
    let lines: Vec<String> = elements.iter().map(|element| format!("host: {verb} {element}")).collect();
    f.write_str(&lines.join("\n"))
}

/// A line per change.
impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.steps().try_for_each(|step| writeln!(f, "{step}"))
    }
}
