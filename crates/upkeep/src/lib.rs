//! What the records of the journal stand for on the host: elements, bridges, their ports, routes, limits; and the least
//! that makes a host so again.
//!
//! Pure: plugins and repairs derive the same from a record by the same function, and a repair is a plan. Nothing is
//! looked at or changed here.

mod desired;
mod diff;
mod elements;
mod gathered;
mod links;
mod observed;
#[cfg(test)]
mod tests;

pub use desired::{Attached, Desired, Publication};
pub use diff::{Diff, Problem, diff};
pub use elements::{
    first_of, guards, hairpin, ingress, masquerade, network_owner, overlay, permission, published,
    published_port, shared, stale_flows,
};
pub use gathered::{Gathered, PLUGINS};
pub use links::{
    BRIDGE_ALIAS, Bridge, GATEWAY_ALIAS, Limited, Port, Routed, VlanGateway, excludes, forwarding_path,
    host_route, host_veth_flags, of_container, port_vlans, quiet_ipv6, route_localnet,
};
pub use observed::{LinkSeen, Observed, RulesetSeen, TableSeen};
