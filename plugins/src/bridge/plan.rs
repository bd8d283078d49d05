//! From a configuration, addresses and what is there to the steps of an ADD. Pure.

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use zeugma_journal::{NetnsRef, Record};
use zeugma_kernel::LinkState;
use zeugma_model::{AttachmentId, IfName, Mac};
use zeugma_plan::nft::{Element, SetId, Value};
use zeugma_plan::{
    AddressFlags, Family, Link, LinkChange, LinkKind, Plan, PortFlags, RouteSpec, Side, Step, Sysctl,
};
use zeugma_protocol::{CniResult, Interface, Ip, Route};

use super::Error;
use super::config::{Config, DuplicateDetection, Gateway, Reflection};
use super::vlan;
use crate::shared::{self, BRIDGE_ALIAS};

/// What the plan rests on: what is there, and fresh randomness.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Facts {
    /// The bridge, if it exists.
    pub(super) bridge: Option<LinkState>,
    /// The addresses of the interface that is to have the gateways'.
    pub(super) gateway_addresses: Vec<IpNetwork>,
    /// The VLAN's gateway, if the network has such and it exists.
    pub(super) gateway: Option<LinkState>,
    /// The MTU of the way out.
    pub(super) underlay_mtu: Option<u32>,
    /// For a new bridge.
    pub(super) bridge_mac: Mac,
    /// For a VLAN's new gateway.
    pub(super) gateway_mac: Mac,
    /// For its port.
    pub(super) gateway_port_mac: Mac,
    /// For the host's end.
    pub(super) host_mac: Mac,
    /// For the container's end, unless the runtime asks for one.
    pub(super) container_mac: Mac,
}

/// An ADD, decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Attached {
    pub(super) plan: Plan,
    pub(super) result: CniResult,
    pub(super) record: Record,
}

/// The container's end and what it gets.
struct Container<'a> {
    attachment: &'a AttachmentId,
    mac: Mac,
    mtu: u32,
}

/// Ethernet's, for a host without a way out.
const ETHERNET_MTU: u32 = 1500;

/// Plans an ADD. `ipam` is what the IPAM gave, nothing for a plain layer 2 network.
pub(super) fn attached(
    config: &Config,
    attachment: &AttachmentId,
    netns: Option<NetnsRef>,
    ipam: CniResult,
    facts: &Facts,
) -> Result<Attached, Error> {
    let addressed = with_gateways(config, ipam);
    check_addresses(config, &addressed)?;
    let container =
        Container { attachment, mac: config.mac.unwrap_or(facts.container_mac), mtu: mtu(config, facts) };
    let mut plan = Plan::new();
    bridge_steps(&mut plan, config, &container, &addressed, facts)?;
    link_steps(&mut plan, config, &container, facts);
    if !config.container_down {
        container_steps(&mut plan, config, &container, &addressed)?;
        waiting_steps(&mut plan, config, &container, facts);
    }
    element_steps(&mut plan, config, &container, &addressed);
    Ok(Attached {
        plan,
        record: record(config, &container, netns.clone(), &addressed),
        result: result(config, &container, netns, addressed, facts),
    })
}

fn mtu(config: &Config, facts: &Facts) -> u32 {
    let bridge = facts.bridge.as_ref().map(|bridge| bridge.mtu);
    config.mtu.or(bridge).or(facts.underlay_mtu).unwrap_or(ETHERNET_MTU)
}

/// What the kernel would refuse with a bare number, or take and not carry.
fn check_addresses(config: &Config, addressed: &CniResult) -> Result<(), Error> {
    const LEAST_V4: u32 = 68;
    const LEAST_V6: u32 = 1280;
    let has_v6 = addressed.ips.iter().any(|ip| ip.address.is_ipv6());
    let least = if has_v6 { LEAST_V6 } else { LEAST_V4 };
    if let Some(mtu) = config.mtu.filter(|mtu| !(least..=65535).contains(mtu)) {
        return Err(Error::Mtu { mtu, least });
    }
    let own = addressed.ips.iter().find(|ip| ip.gateway == Some(ip.address.ip()));
    match own.filter(|_| config.gateway != Gateway::No) {
        Some(ip) => Err(Error::OwnGateway(ip.address)),
        None => Ok(()),
    }
}

/// Fills in gateways, and the default route of a default gateway.
fn with_gateways(config: &Config, mut result: CniResult) -> CniResult {
    if config.gateway == Gateway::No {
        return result;
    }
    for ip in &mut result.ips {
        ip.gateway = ip.gateway.or_else(|| first_host(ip.address));
    }
    if config.gateway == Gateway::Default {
        for family in Family::ALL {
            let default = IpNetwork::new(family.unspecified(), 0).expect("a prefix length of 0 is valid");
            let is_given = result.routes.iter().any(|route| route.dst == default && route.gw.is_some());
            let gateway = result
                .ips
                .iter()
                .filter(|ip| Family::of(ip.address.ip()) == family)
                .find_map(|ip| ip.gateway);
            if let Some(gateway) = gateway.filter(|_| !is_given) {
                result.routes.push(plain_route(default, gateway));
            }
        }
    }
    result
}

fn plain_route(dst: IpNetwork, gw: IpAddr) -> Route {
    Route { dst, gw: Some(gw), mtu: None, advmss: None, priority: None, table: None, scope: None }
}

/// The first address of a subnet behind the network's own.
fn first_host(address: IpNetwork) -> Option<IpAddr> {
    match address {
        IpNetwork::V4(v4) if v4.prefix() < 32 => {
            Some(IpAddr::from((u32::from(v4.network()) + 1).to_be_bytes()))
        }
        IpNetwork::V6(v6) if v6.prefix() < 128 => {
            Some(IpAddr::from((u128::from(v6.network()) + 1).to_be_bytes()))
        }
        IpNetwork::V4(_) | IpNetwork::V6(_) => None,
    }
}

/// The bridge exists, is up, has the gateways' addresses, and the host forwards.
fn bridge_steps(
    plan: &mut Plan,
    config: &Config,
    container: &Container<'_>,
    addressed: &CniResult,
    facts: &Facts,
) -> Result<(), Error> {
    let name = &config.bridge;
    match &facts.bridge {
        None => plan.push_lasting(Step::CreateLink(Link {
            side: Side::Host,
            name: name.clone(),
            mtu: Some(container.mtu),
            mac: Some(facts.bridge_mac),
            alias: Some(BRIDGE_ALIAS.into()),
            kind: LinkKind::Bridge { vlan_filtering: config.vlans.is_some() },
        })),
        Some(state) if state.kind != "bridge" => {
            return Err(Error::NotABridge { name: name.clone(), kind: state.kind.clone() });
        }
        Some(state) if config.vlans.is_some() && state.vlans.is_none() => {
            return Err(Error::NoVlans(name.clone()));
        }
        Some(_) => {}
    }
    fix_address(plan, config, facts);
    // Before it is up: with its link-local address under probe it asks for no IPv6 neighbour, for seconds.
    if facts.bridge.as_ref().is_none_or(|state| !state.up && state.alias.as_deref() == Some(BRIDGE_ALIAS)) {
        for key in ["accept_dad", "accept_ra"] {
            plan.push_lasting(Step::SetSysctl(
                Side::Host,
                sysctl(format!("net/ipv6/conf/{name}/{key}"), "0"),
            ));
        }
    }
    let promisc = config.reflection == Reflection::Promiscuous;
    let filter = config.vlans.is_some() && facts.bridge.as_ref().is_some_and(|state| !vlan::filters(state));
    if facts.bridge.as_ref().is_none_or(|state| !state.up || (promisc && !state.promisc)) || filter {
        let change = LinkChange {
            up: Some(true),
            promisc: promisc.then_some(true),
            vlan_filtering: filter.then_some(true),
            ..LinkChange::default()
        };
        plan.push_lasting(Step::SetLink(Side::Host, name.clone(), change));
    }
    gateway_steps(plan, config, container.mtu, addressed, facts)
}

/// A bridge takes the lowest address of its ports unless one was set; a gateway's address must not change
/// with the containers that come and go. Setting it to what it is makes it stay; one of ours was made with it.
fn fix_address(plan: &mut Plan, config: &Config, facts: &Facts) {
    let foreign = facts.bridge.as_ref().filter(|state| state.alias.as_deref() != Some(BRIDGE_ALIAS));
    if let Some(mac) = foreign.and_then(|state| state.mac).filter(|_| config.gateway != Gateway::No) {
        let change = LinkChange { mac: Some(mac), ..LinkChange::default() };
        plan.push_lasting(Step::SetLink(Side::Host, config.bridge.clone(), change));
    }
}

fn gateway_steps(
    plan: &mut Plan,
    config: &Config,
    mtu: u32,
    addressed: &CniResult,
    facts: &Facts,
) -> Result<(), Error> {
    if config.gateway == Gateway::No || addressed.ips.is_empty() {
        return Ok(());
    }
    if let (Some(vlans), Some(gateway)) = (&config.vlans, &config.vlan_gateway) {
        vlan::gateway_steps(plan, (&config.bridge, gateway), mtu, vlans, facts);
    }
    address_steps(plan, config, addressed, facts)?;
    for family in Family::ALL {
        if addressed.ips.iter().any(|ip| Family::of(ip.address.ip()) == family) {
            let path = match family {
                Family::V4 => "net/ipv4/ip_forward",
                Family::V6 => "net/ipv6/conf/all/forwarding",
            };
            plan.push_lasting(Step::SetSysctl(Side::Host, sysctl(path.into(), "1")));
        }
    }
    Ok(())
}

fn address_steps(
    plan: &mut Plan,
    config: &Config,
    addressed: &CniResult,
    facts: &Facts,
) -> Result<(), Error> {
    let device = config.gateway_device();
    for wanted in addressed.ips.iter().filter_map(gateway_address) {
        if facts.gateway_addresses.contains(&wanted) {
            continue;
        }
        for has in facts.gateway_addresses.iter().filter(|has| excludes(**has, wanted)) {
            if !config.force_address {
                return Err(Error::OtherAddress { bridge: device.clone(), has: *has, wanted });
            }
            plan.push_lasting(Step::DeleteAddress(Side::Host, device.clone(), *has));
        }
        plan.push_lasting(Step::AddAddress(Side::Host, device.clone(), wanted, AddressFlags { nodad: true }));
    }
    Ok(())
}

fn gateway_address(ip: &Ip) -> Option<IpNetwork> {
    IpNetwork::new(ip.gateway?, ip.address.prefix()).ok()
}

/// A bridge has one IPv4 address of ours, and IPv6 addresses of different subnets.
fn excludes(has: IpNetwork, wanted: IpNetwork) -> bool {
    match (has, wanted) {
        (IpNetwork::V4(_), IpNetwork::V4(_)) => true,
        (IpNetwork::V6(one), IpNetwork::V6(other)) => {
            !one.ip().is_unicast_link_local()
                && (one.contains(other.network()) || other.contains(one.network()))
        }
        _ => false,
    }
}

fn link_steps(plan: &mut Plan, config: &Config, container: &Container<'_>, facts: &Facts) {
    plan.push(Step::CreateLink(Link {
        side: Side::Host,
        name: container.attachment.host_veth(),
        mtu: Some(container.mtu),
        mac: Some(facts.host_mac),
        alias: Some(container.attachment.alias()),
        kind: LinkKind::Veth {
            peer: container.attachment.ifname.clone(),
            peer_mac: container.mac,
            port: Some((
                config.bridge.clone(),
                PortFlags {
                    hairpin: Some(config.reflection == Reflection::Hairpin),
                    isolated: config.isolated.then_some(true),
                },
            )),
        },
    }));
    if let Some(vlans) = &config.vlans {
        let joined = vlans.of_port(vlan::default_of(facts.bridge.as_ref()));
        plan.push_lasting(Step::SetPortVlans(container.attachment.host_veth(), joined));
    }
}

/// Sysctls first, while the interface is down; then addresses, up, routes.
fn container_steps(
    plan: &mut Plan,
    config: &Config,
    container: &Container<'_>,
    addressed: &CniResult,
) -> Result<(), Error> {
    let name = &container.attachment.ifname;
    if !addressed.ips.is_empty() {
        for step in container_sysctls(config, name, addressed) {
            plan.push_lasting(Step::SetSysctl(Side::Container, step));
        }
    }
    let flags = AddressFlags { nodad: config.duplicate_detection == DuplicateDetection::Off };
    for ip in &addressed.ips {
        plan.push_lasting(Step::AddAddress(Side::Container, name.clone(), ip.address, flags));
    }
    let up = LinkChange { up: Some(true), ..LinkChange::default() };
    plan.push_lasting(Step::SetLink(Side::Container, name.clone(), up));
    for route in &addressed.routes {
        plan.push_lasting(Step::AddRoute(Side::Container, spec(route, name, addressed)?));
    }
    Ok(())
}

/// Every link on the way to the gateway, so that the first packet is not lost. A bridge that carried packets
/// before goes on doing so.
fn waiting_steps(plan: &mut Plan, config: &Config, container: &Container<'_>, facts: &Facts) {
    plan.push_lasting(Step::AwaitCarrier(Side::Container, container.attachment.ifname.clone()));
    plan.push_lasting(Step::AwaitCarrier(Side::Host, container.attachment.host_veth()));
    if facts.bridge.as_ref().is_none_or(|bridge| !bridge.carries) {
        plan.push_lasting(Step::AwaitCarrier(Side::Host, config.bridge.clone()));
    }
    if let Some(gateway) = &config.vlan_gateway {
        plan.push_lasting(Step::AwaitCarrier(Side::Host, gateway.clone()));
    }
}

fn container_sysctls(config: &Config, name: &IfName, addressed: &CniResult) -> Vec<Sysctl> {
    let mut sysctls = vec![sysctl(format!("net/ipv4/conf/{name}/arp_notify"), "1")];
    if addressed.ips.iter().any(|ip| ip.address.is_ipv6()) {
        for link in ["lo", name.as_str()] {
            sysctls.push(sysctl(format!("net/ipv6/conf/{link}/disable_ipv6"), "0"));
        }
        sysctls.push(sysctl(format!("net/ipv6/conf/{name}/keep_addr_on_down"), "1"));
        if config.duplicate_detection == DuplicateDetection::Off {
            sysctls.push(sysctl(format!("net/ipv6/conf/{name}/accept_dad"), "0"));
        }
    }
    sysctls
}

pub(super) fn sysctl(path: String, value: &str) -> Sysctl {
    Sysctl { path, value: value.into(), optional: true }
}

/// A route without a next hop goes to the gateway of its family's first address, unless its scope is the link.
fn spec(route: &Route, dev: &IfName, addressed: &CniResult) -> Result<RouteSpec, Error> {
    const LINK: u8 = 253;
    let family = Family::of(route.dst.ip());
    let of_family = addressed.ips.iter().filter(|ip| Family::of(ip.address.ip()) == family);
    let gw = route.gw.or_else(|| of_family.clone().find_map(|ip| ip.gateway));
    let gw = gw.filter(|gw| route.scope.is_none_or(|scope| scope < LINK) || route.gw == Some(*gw));
    if gw.is_none() && route.scope.is_none() {
        return Err(Error::NoGateway(route.dst));
    }
    let Route { dst, mtu, advmss, priority, table, scope, .. } = *route;
    Ok(RouteSpec { gw, mtu, advmss, priority, table, scope, ..RouteSpec::new(dst, dev.clone()) })
}

fn element_steps(plan: &mut Plan, config: &Config, container: &Container<'_>, addressed: &CniResult) {
    if config.masquerade && !addressed.ips.is_empty() {
        let addresses: Vec<IpNetwork> = addressed.ips.iter().map(|ip| ip.address).collect();
        plan.push_lasting(Step::ShareElements(shared::masquerade(&container.attachment.network, &addresses)));
    }
    if config.guard_mac {
        plan.push(Step::CreateElements(guards(container.attachment, container.mac)));
    }
}

/// The host's veth may send from the container's address only.
pub(super) fn guards(attachment: &AttachmentId, mac: Mac) -> Vec<Element> {
    let interface = || Value::Interface(attachment.host_veth());
    let element = |set, key| Element { set, key, data: Vec::new(), owner: attachment.owner() };
    vec![
        element(SetId::Guarded, vec![interface()]),
        element(SetId::Allowed, vec![interface(), Value::Mac(mac)]),
    ]
}

fn record(
    config: &Config,
    container: &Container<'_>,
    netns: Option<NetnsRef>,
    addressed: &CniResult,
) -> Record {
    Record {
        plugin: "bridge".into(),
        netns,
        bridge: Some(config.bridge.clone()),
        host_veth: Some(container.attachment.host_veth()),
        mac: Some(container.mac),
        addresses: addressed.ips.iter().map(|ip| ip.address).collect(),
        gateways: addressed.ips.iter().filter_map(|ip| ip.gateway).collect(),
        masquerade: config.masquerade,
        guarded: config.guard_mac,
        ..Record::default()
    }
}

fn result(
    config: &Config,
    container: &Container<'_>,
    netns: Option<NetnsRef>,
    mut addressed: CniResult,
    facts: &Facts,
) -> CniResult {
    let mtu = Some(container.mtu);
    let bridge_mac = facts.bridge.as_ref().and_then(|state| state.mac).unwrap_or(facts.bridge_mac);
    let bridge_mtu = facts.bridge.as_ref().map(|state| state.mtu).or(mtu);
    let interface = |name: &IfName, mac, mtu| Interface {
        name: name.to_string(),
        mac: Some(mac),
        mtu,
        ..Interface::default()
    };
    addressed.interfaces = vec![
        interface(&config.bridge, bridge_mac, bridge_mtu),
        interface(&container.attachment.host_veth(), facts.host_mac, mtu),
        Interface {
            sandbox: netns.map(|netns| netns.path.to_string_lossy().into_owned()),
            ..interface(&container.attachment.ifname, container.mac, mtu)
        },
    ];
    if let Some(gateway) = config.vlan_gateway.as_ref().filter(|_| !addressed.ips.is_empty()) {
        let mac = facts.gateway.as_ref().and_then(|state| state.mac).unwrap_or(facts.gateway_mac);
        let mtu = facts.gateway.as_ref().map(|state| state.mtu).or(mtu);
        addressed.interfaces.push(interface(gateway, mac, mtu));
    }
    for ip in &mut addressed.ips {
        ip.interface = Some(2);
    }
    addressed
}
