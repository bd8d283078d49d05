//! Links, addresses, routes, sysctls and limits out of records.

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use zeugma_journal::{BridgeMade, Bucket, GatewayMade, Limits, Record, VlanSet};
use zeugma_model::IfName;
use zeugma_plan::{
    AddressFlags, End, Exceptions, Family, PortFlags, PortVlans, RouteSpec, Shaper, Sysctl, TokenBucket,
};

/// The mark on a bridge that zeugma made.
pub const BRIDGE_ALIAS: &str = "zeugma bridge";

/// The mark on ports that lead from a bridge to the gateway of a VLAN.
pub const GATEWAY_ALIAS: &str = "zeugma gateway";

/// A bridge that attachments are on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Bridge {
    /// How it was made, or found; none where only records of older versions name it.
    pub made: Option<BridgeMade>,
    /// The gateways' addresses on it.
    pub addresses: Vec<IpNetwork>,
}

/// The host's veth as a port of a bridge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Port {
    /// Whose it is: the link's mark.
    pub alias: String,
    /// The bridge.
    pub bridge: IfName,
    /// Its settings; where the record tells none, whatever they are is right.
    pub flags: PortFlags,
    /// Its VLANs.
    pub vlans: Option<PortVlans>,
    /// Whether the container is still there: where it is gone its veth is gone, too, and DEL or GC will come.
    pub is_alive: bool,
}

/// The host's gateway of a VLAN.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VlanGateway {
    /// The bridge.
    pub bridge: IfName,
    /// How it was made.
    pub made: GatewayMade,
    /// The gateways' addresses on it.
    pub addresses: Vec<IpNetwork>,
}

/// The host's end of a veth pair that packets are routed to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Routed {
    /// Whose it is: the link's mark.
    pub alias: String,
    /// The gateways' addresses.
    pub addresses: Vec<IpNetwork>,
    /// The containers'.
    pub routes: Vec<IpNetwork>,
    /// As of a port.
    pub is_alive: bool,
}

/// A container's limits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limited {
    /// The mark on the ifb.
    pub alias: String,
    /// What the container receives.
    pub ingress: Option<Shaper>,
    /// What it sends, and the ifb that it passes.
    pub egress: Option<(IfName, Shaper)>,
}

/// How the host's addresses are added: the IPAM gives every address once, so nobody needs to be asked.
pub fn host_veth_flags() -> AddressFlags {
    AddressFlags { nodad: true, no_subnet_route: false }
}

/// The host's route to a container's address.
pub fn host_route(address: IpAddr, veth: &IfName) -> RouteSpec {
    RouteSpec::new(IpNetwork::from(address), veth.clone())
}

/// What a bridge, or a VLAN's gateway, is told before it is up. With its link-local address under probe it asks for
/// no IPv6 neighbour, for seconds.
pub fn quiet_ipv6(link: &IfName) -> [Sysctl; 2] {
    ["accept_dad", "accept_ra"].map(|key| Sysctl {
        path: format!("net/ipv6/conf/{link}/{key}"),
        value: "0".into(),
        optional: true,
    })
}

/// Whether 127.0.0.1 of the host may be left by way of a bridge.
pub fn route_localnet(bridge: &IfName, on: bool) -> Sysctl {
    let value = if on { "1" } else { "0" };
    Sysctl { path: format!("net/ipv4/conf/{bridge}/route_localnet"), value: value.into(), optional: true }
}

/// The switch for forwarding a family, below /proc/sys.
pub fn forwarding_path(family: Family) -> &'static str {
    match family {
        Family::V4 => "net/ipv4/ip_forward",
        Family::V6 => "net/ipv6/conf/all/forwarding",
    }
}

/// A bridge has one IPv4 address of ours, and IPv6 addresses of different subnets.
pub fn excludes(has: IpNetwork, wanted: IpNetwork) -> bool {
    match (has, wanted) {
        (IpNetwork::V4(_), IpNetwork::V4(_)) => true,
        (IpNetwork::V6(one), IpNetwork::V6(other)) => {
            !one.ip().is_unicast_link_local()
                && (one.contains(other.network()) || other.contains(one.network()))
        }
        _ => false,
    }
}

/// A port's VLANs as a step has them.
pub fn port_vlans(set: &VlanSet) -> PortVlans {
    PortVlans { leave: set.leave, tagged: set.tagged.clone(), untagged: set.untagged }
}

/// The limits of a record of `bandwidth`; none where an older version wrote it.
pub fn of_container(record: &Record, alias: String) -> Option<Limited> {
    let limits = record.limits.as_ref()?;
    let egress = limits.egress.map(|bucket| shaper(bucket, limits, End::Destination));
    Some(Limited {
        alias,
        ingress: limits.ingress.map(|bucket| shaper(bucket, limits, End::Source)),
        egress: record.ifb.clone().zip(egress),
    })
}

/// Subnets are the other side's: where packets to the container come from, and where its own go.
fn shaper(bucket: Bucket, limits: &Limits, end: End) -> Shaper {
    let subnets = Some(&limits.subnets).filter(|subnets| !subnets.is_empty());
    let exceptions =
        subnets.map(|subnets| Exceptions { subnets: subnets.clone(), are_limited: limits.only_subnets, end });
    Shaper { bucket: TokenBucket { rate: bucket.rate, burst: bucket.burst }, exceptions }
}
