//! Routes, and the rules that say which packets a table of them is for. The steps that make them: step.rs.

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use zeugma_model::IfName;

/// A route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteSpec {
    /// The destination.
    pub dst: IpNetwork,
    /// The next hop; none: on link.
    pub gw: Option<IpAddr>,
    /// The interface.
    pub dev: IfName,
    /// The address that packets are sent from; none leaves it to the kernel.
    pub source: Option<IpAddr>,
    /// Bytes along the route.
    pub mtu: Option<u32>,
    /// MSS to advertise.
    pub advmss: Option<u32>,
    /// Metric.
    pub priority: Option<u32>,
    /// Routing table; none is main.
    pub table: Option<u32>,
    /// Scope as in rtnetlink(7).
    pub scope: Option<u8>,
    /// Who made it, as in rtnetlink(7); none: us.
    pub protocol: Option<u8>,
    /// The next hop is on the link whatever other routes say.
    pub onlink: bool,
}

impl RouteSpec {
    /// A route to `dst` by `dev`, and no more said.
    pub fn new(dst: IpNetwork, dev: IfName) -> Self {
        Self {
            dst,
            gw: None,
            dev,
            source: None,
            mtu: None,
            advmss: None,
            priority: None,
            table: None,
            scope: None,
            protocol: None,
            onlink: false,
        }
    }
}

/// A routing rule: packets from some addresses are routed by a table of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RuleSpec {
    /// The source addresses.
    pub from: IpNetwork,
    /// The table.
    pub table: u32,
}
