//! Plans as the commands that a person would give.

use std::fmt;
use std::net::IpAddr;

use ipnetwork::IpNetwork;
use zeugma_model::{IfName, Mac};

use crate::{Change, Device, DeviceKind, Forward, PROTOCOL, Plan, Route, RouteKey};

/// A line each, in order.
impl fmt::Display for Plan {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.failures()
            .iter()
            .map(|line| format!("# {line}"))
            .chain(self.lines())
            .try_for_each(|line| writeln!(formatter, "{line}"))
    }
}

impl Plan {
    /// What is done, a command each.
    pub fn lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        lines.extend(self.guard.iter().map(|key| route_line("add", *key, Some(&Route::Unreachable))));
        lines.extend(self.unlink.iter().map(unlink_line));
        lines.extend(self.link.iter().map(|(name, device)| link_line(name, device)));
        lines.extend(self.set.iter().map(|(name, change)| change_line(name, change)));
        lines.extend(self.unroute.iter().map(|key| route_line("del", *key, None)));
        lines.extend(
            self.unneighbour.iter().map(|(link, address)| neighbour_line("del", link, *address, None)),
        );
        lines.extend(self.unforward.iter().map(|entry| forward_line("del", entry)));
        lines.extend(self.forward.iter().map(|entry| forward_line("replace", entry)));
        let neighbours = self.neighbour.iter();
        lines.extend(neighbours.map(|((link, to), mac)| neighbour_line("replace", link, *to, Some(*mac))));
        lines.extend(self.address.iter().map(|(link, address)| address_line("add", link, *address)));
        lines.extend(self.route.iter().map(|(key, route)| route_line("add", *key, Some(route))));
        lines.extend(self.reroute.iter().map(|(key, route)| route_line("replace", *key, Some(route))));
        lines.extend(self.unaddress.iter().map(|(link, address)| address_line("del", link, *address)));
        lines.extend(self.unguard.iter().map(|key| route_line("del", *key, None)));
        lines
    }

    /// What cannot be done, a line each, with what to do.
    pub fn failures(&self) -> Vec<String> {
        let foreign = self.foreign.iter().map(|link| {
            format!(
                "link {link} is somebody else's and is left alone: rename or remove it, `ip link del {link}`"
            )
        });
        let missing = self.missing.iter().map(|link| {
            format!("WireGuard device {link} is not there yet: see what the agent says of `zeugma wg`")
        });
        foreign.chain(missing).collect()
    }
}

/// As `ip link del`.
pub fn unlink_line(name: &IfName) -> String {
    format!("ip link del {name}")
}

/// As `ip link add`.
pub fn link_line(name: &IfName, device: &Device) -> String {
    let Device { alias, mtu, kind } = device;
    match kind {
        DeviceKind::Vxlan { vni, port, local, mac } => format!(
            "ip link add {name} address {mac} mtu {mtu} alias \"{alias}\" up type vxlan id {vni} dstport {port} local \
             {local} nolearning"
        ),
        DeviceKind::Wireguard => format!("ip link add {name} mtu {mtu} alias \"{alias}\" up type wireguard"),
    }
}

/// As `ip link set`.
pub fn change_line(name: &IfName, change: &Change) -> String {
    let Change { alias, mac, mtu, up } = change;
    let alias = alias.as_ref().map(|alias| format!(" alias \"{alias}\""));
    let mac = mac.map(|mac| format!(" address {mac}"));
    let mtu = mtu.map(|mtu| format!(" mtu {mtu}"));
    let up = up.then(|| " up".to_owned());
    format!("ip link set {name}{}", [alias, mac, mtu, up].into_iter().flatten().collect::<String>())
}

/// As `ip addr`.
pub fn address_line(verb: &str, link: &IfName, address: IpNetwork) -> String {
    format!("ip addr {verb} {address} dev {link}")
}

/// As `ip neigh`.
pub fn neighbour_line(verb: &str, link: &IfName, address: IpAddr, mac: Option<Mac>) -> String {
    let mac = mac.map(|mac| format!(" lladdr {mac} nud permanent")).unwrap_or_default();
    format!("ip neigh {verb} {address} dev {link}{mac}")
}

/// As `bridge fdb`.
pub fn forward_line(verb: &str, entry: &Forward) -> String {
    let Forward { link, mac, remote } = entry;
    let permanent = if verb == "del" { "" } else { " permanent" };
    format!("bridge fdb {verb} {mac} dev {link} dst {remote} self{permanent}")
}

/// As `ip route`.
pub fn route_line(verb: &str, key: RouteKey, route: Option<&Route>) -> String {
    let RouteKey { destination, metric } = key;
    let (kind, way) = match route {
        Some(Route::Unreachable) => ("unreachable ", String::new()),
        Some(Route::By { link, via, onlink, source }) => ("", way(link, *via, *onlink, *source, destination)),
        Some(Route::Other) | None => ("", String::new()),
    };
    let ip = if destination.is_ipv6() { "ip -6" } else { "ip" };
    format!("{ip} route {verb} {kind}{destination}{way} proto {PROTOCOL} metric {metric}")
}

fn way(link: &IfName, via: Option<IpAddr>, onlink: bool, source: Option<IpAddr>, to: IpNetwork) -> String {
    let via = via.map(|via| match via.is_ipv6() == to.is_ipv6() {
        true => format!(" via {via}"),
        false => format!(" via inet6 {via}"),
    });
    let onlink = onlink.then(|| " onlink".to_owned());
    let source = source.map(|source| format!(" src {source}"));
    [via, Some(format!(" dev {link}")), onlink, source].into_iter().flatten().collect()
}
