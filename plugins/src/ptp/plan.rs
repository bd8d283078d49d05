//! From a configuration and addresses to the steps of an ADD, and CHECK of what they leave on the host.
//!
//! The container reaches its subnet by way of the host: the gateway is on link, the subnet behind it. The host has
//! the gateway's address on every veth, and a route to each container.

use ipnetwork::IpNetwork;
use zeugma_journal::Record;
use zeugma_kernel::Kernel;
use zeugma_model::{IfName, Mac};
use zeugma_plan::{Family, Link, LinkKind, Plan, RouteSpec, Side, Step};
use zeugma_protocol::{CniResult, Ip};
use zeugma_skel::Request;
use zeugma_upkeep::{host_route, host_veth_flags, masquerade};

use super::{Config, Facts, Ptp, families};
use crate::interface::addressing::{self, Setup, first_host, whole};
use crate::interface::{Attached, Error, Kind as _, Place, check as checks};
use crate::predecessor::Part;
use crate::previous;

/// Ethernet's, for a host without a way out.
const ETHERNET_MTU: u32 = 1500;

pub(super) fn attached(
    config: &Config,
    place: &Place,
    given: CniResult,
    facts: &Facts,
) -> Result<Attached, Error> {
    let addressed = with_gateways(given)?;
    addressing::check_mtu(config.mtu, &addressed)?;
    let mtu = config.mtu.or(facts.underlay_mtu).unwrap_or(ETHERNET_MTU);
    let mut addresses = Plan::new();
    host_steps(&mut addresses, &place.attachment.host_veth(), &addressed);
    let setup = Setup {
        duplicate_detection: config.duplicate_detection,
        no_subnet_route: true,
        routes: addressed.ips.iter().flat_map(|ip| container_routes(place.ifname(), ip)).collect(),
        ..Setup::default()
    };
    addressing::steps(&mut addresses, place.ifname(), &addressed, &setup)?;
    addresses.push_lasting(Step::AwaitCarrier(Side::Container, place.ifname().clone()));
    addresses.push_lasting(Step::AwaitCarrier(Side::Host, place.attachment.host_veth()));
    if config.masquerade && !addressed.ips.is_empty() {
        let networks: Vec<IpNetwork> = addressed.ips.iter().map(|ip| ip.address).collect();
        let elements = masquerade(&place.attachment.network, &networks);
        addresses.push_lasting(Step::ShareElements(elements));
    }
    let interfaces = vec![
        addressing::on_host(&place.attachment.host_veth(), Some(facts.host_mac), Some(mtu)),
        addressing::in_container(place, Some(facts.container_mac), Some(mtu)),
    ];
    Ok(Attached {
        links: Plan::from_iter([Step::CreateLink(pair(place, mtu, facts.host_mac, facts.container_mac))]),
        addresses,
        record: record(config, place, facts, &addressed),
        result: addressing::result(addressed, interfaces, 1),
    })
}

/// Every address has a gateway, or ptp would have no way to route by.
fn with_gateways(mut given: CniResult) -> Result<CniResult, Error> {
    for ip in &mut given.ips {
        let gateway = ip.gateway.or_else(|| first_host(ip.address));
        match gateway.filter(|gateway| *gateway != ip.address.ip()) {
            Some(gateway) => ip.gateway = Some(gateway),
            None => return Err(Error::OwnGateway(ip.address)),
        }
    }
    Ok(given)
}

fn pair(place: &Place, mtu: u32, host_mac: Mac, container_mac: Mac) -> Link {
    Link {
        side: Side::Host,
        name: place.attachment.host_veth(),
        mtu: Some(mtu),
        mac: Some(host_mac),
        alias: Some(place.attachment.alias()),
        kind: LinkKind::Veth { peer: place.ifname().clone(), peer_mac: container_mac, port: None },
    }
}

/// All of it goes with the veth.
fn host_steps(plan: &mut Plan, veth: &IfName, addressed: &CniResult) {
    for ip in &addressed.ips {
        if let Some(gateway) = ip.gateway {
            let flags = host_veth_flags();
            plan.push_lasting(Step::AddAddress(Side::Host, veth.clone(), whole(gateway), flags));
        }
        plan.push_lasting(Step::AddRoute(Side::Host, host_route(ip.address.ip(), veth)));
    }
    addressing::forwarding(plan, addressed);
}

/// The gateway on link, the subnet behind it.
fn container_routes(ifname: &IfName, ip: &Ip) -> Vec<RouteSpec> {
    let Some(gateway) = ip.gateway else { return Vec::new() };
    let source = Some(ip.address.ip());
    let subnet = IpNetwork::new(ip.address.network(), ip.address.prefix()).unwrap_or(ip.address);
    let near = RouteSpec { source, ..RouteSpec::new(whole(gateway), ifname.clone()) };
    let far = RouteSpec { source, gw: Some(gateway), ..RouteSpec::new(subnet, ifname.clone()) };
    if subnet == whole(ip.address.ip()) { vec![near] } else { vec![near, far] }
}

fn record(config: &Config, place: &Place, facts: &Facts, addressed: &CniResult) -> Record {
    Record {
        netns: place.netns.clone(),
        host_veth: Some(place.attachment.host_veth()),
        mac: Some(facts.container_mac),
        addresses: addressed.ips.iter().map(|ip| ip.address).collect(),
        gateways: addressed.ips.iter().filter_map(|ip| ip.gateway).collect(),
        masquerade: config.masquerade,
        ..Record::default()
    }
}

/// The host's end with its route to the container, forwarding and masquerading.
pub(super) fn check(
    kernel: &mut Kernel,
    config: &Config,
    request: &Request,
    result: &CniResult,
) -> Result<(), Error> {
    // Attachments of the reference have another name for it: then it is the one in the result.
    let veth = previous::host_interfaces(result).next().unwrap_or_else(|| request.attachment().host_veth());
    checks::link(kernel, Side::Host, &veth)?;
    let routes = kernel.routes(Side::Host, &veth)?;
    for address in result.ips.iter().map(|ip| ip.address.ip()) {
        if !routes.iter().any(|route| route.dst == Some(whole(address))) {
            return Err(Error::changed(format!("the host has no route to {address} by {veth}")));
        }
    }
    families(result).try_for_each(|family: Family| checks::forwards(kernel, family))?;
    if config.masquerade {
        let networks: Vec<IpNetwork> = result.ips.iter().map(|ip| ip.address).collect();
        let wanted = masquerade(&request.conf.name, &networks);
        checks::elements(kernel, request, Ptp::NAME, wanted, &[Part::Masquerade])?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::Ptp;
    use super::*;
    use crate::interface::testing::{self, planned, refused};

    #[test]
    fn the_gateway_is_on_link_and_the_subnet_behind_it() {
        let facts = Facts {
            underlay_mtu: Some(1400),
            host_mac: Mac([2, 0, 0, 0, 0, 1]),
            container_mac: Mac([2, 0, 0, 0, 0, 2]),
        };
        insta::assert_snapshot!(planned::<Ptp>(r#"{"ipMasq": true, "ipam": {"type": "x"}}"#, |config| {
            attached(config, &testing::place(), testing::given(), &facts)
        }));
    }

    #[test]
    fn addresses_it_must_have() {
        refused::<Ptp>("{}", "\"ipam\" is missing: a routed interface needs addresses");
    }
}
