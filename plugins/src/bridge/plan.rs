//! From a configuration, addresses and what is there to the steps of an ADD. Pure.

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use zeugma_journal::{BridgeMade, GatewayMade, HostSide, PortSet, Record};
use zeugma_kernel::LinkState;
use zeugma_model::{AttachmentId, Mac};
use zeugma_plan::{Family, Link, LinkChange, LinkKind, Plan, PortFlags, Side, Step};
use zeugma_protocol::{CniResult, Ip, Route};
use zeugma_upkeep::{BRIDGE_ALIAS, excludes, guards, host_veth_flags, masquerade, quiet_ipv6};

use super::Error;
use super::config::{Config, Gateway, Reflection};
use super::vlan;
use crate::interface::addressing::{self, Setup};
use crate::interface::{self, Attached, Place};

/// What the plan rests on: what is there, and fresh randomness.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Facts {
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

/// The container's end and what it gets.
struct Container<'a> {
    attachment: &'a AttachmentId,
    mac: Mac,
    mtu: u32,
}

/// Ethernet's, for a host without a way out.
const ETHERNET_MTU: u32 = 1500;

/// Plans an ADD. `given` is what the IPAM gave, nothing for a plain layer 2 network.
pub(in crate::bridge) fn attached(
    config: &Config,
    place: &Place,
    given: CniResult,
    facts: &Facts,
) -> Result<Attached, Error> {
    let addressed = with_gateways(config, given);
    check_addresses(config, &addressed)?;
    let attachment = &place.attachment;
    let container =
        Container { attachment, mac: config.mac.unwrap_or(facts.container_mac), mtu: mtu(config, facts) };
    let mut links = Plan::new();
    bridge_steps(&mut links, config, &container, facts)?;
    link_steps(&mut links, config, &container, facts);
    let mut addresses = Plan::new();
    gateway_steps(&mut addresses, config, container.mtu, &addressed, facts)?;
    if !config.container_down {
        let setup = Setup { duplicate_detection: config.duplicate_detection, ..Setup::default() };
        addressing::steps(&mut addresses, place.ifname(), &addressed, &setup)?;
        waiting_steps(&mut addresses, config, &container, facts);
    }
    element_steps(&mut addresses, config, &container, &addressed);
    Ok(Attached {
        links,
        addresses,
        record: Record {
            host: Some(host_side(config, &container, &addressed, facts)),
            ..record(config, place, &container, &addressed)
        },
        result: result(config, place, &container, addressed, facts),
    })
}

fn mtu(config: &Config, facts: &Facts) -> u32 {
    let bridge = facts.bridge.as_ref().map(|bridge| bridge.mtu);
    config.mtu.or(bridge).or(facts.underlay_mtu).unwrap_or(ETHERNET_MTU)
}

fn check_addresses(config: &Config, addressed: &CniResult) -> Result<(), Error> {
    addressing::check_mtu(config.mtu, addressed)?;
    let own = addressed.ips.iter().find(|ip| ip.gateway == Some(ip.address.ip()));
    match own.filter(|_| config.gateway != Gateway::No) {
        Some(ip) => Err(interface::Error::OwnGateway(ip.address).into()),
        None => Ok(()),
    }
}

/// Fills in gateways, and the default route of a default gateway.
fn with_gateways(config: &Config, mut result: CniResult) -> CniResult {
    if config.gateway == Gateway::No {
        return result;
    }
    for ip in &mut result.ips {
        ip.gateway = ip.gateway.or_else(|| addressing::first_host(ip.address));
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

/// The bridge exists, is up, has the gateways' addresses, and the host forwards.
fn bridge_steps(
    plan: &mut Plan,
    config: &Config,
    container: &Container<'_>,
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
    // Before it is up.
    if facts.bridge.as_ref().is_none_or(|state| !state.up && state.alias.as_deref() == Some(BRIDGE_ALIAS)) {
        for sysctl in quiet_ipv6(name) {
            plan.push_lasting(Step::SetSysctl(Side::Host, sysctl));
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
    Ok(())
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
    addressing::forwarding(plan, addressed);
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
        let is_in_the_way = |has: &&IpNetwork| !config.has_blocks && excludes(**has, wanted);
        for has in facts.gateway_addresses.iter().filter(is_in_the_way) {
            if !config.force_address {
                return Err(Error::OtherAddress { bridge: device.clone(), has: *has, wanted });
            }
            plan.push_lasting(Step::DeleteAddress(Side::Host, device.clone(), *has));
        }
        plan.push_lasting(Step::AddAddress(Side::Host, device.clone(), wanted, host_veth_flags()));
    }
    Ok(())
}

fn gateway_address(ip: &Ip) -> Option<IpNetwork> {
    IpNetwork::new(ip.gateway?, ip.address.prefix()).ok()
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

fn element_steps(plan: &mut Plan, config: &Config, container: &Container<'_>, addressed: &CniResult) {
    if config.masquerade && !addressed.ips.is_empty() {
        let addresses: Vec<IpNetwork> = addressed.ips.iter().map(|ip| ip.address).collect();
        plan.push_lasting(Step::ShareElements(masquerade(&container.attachment.network, &addresses)));
    }
    if config.guard_mac {
        plan.push(Step::CreateElements(guards(container.attachment, container.mac)));
    }
}

fn record(config: &Config, place: &Place, container: &Container<'_>, addressed: &CniResult) -> Record {
    Record {
        netns: place.netns.clone(),
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

/// What is there once the plan is through, so that a repair can make it again.
fn host_side(config: &Config, container: &Container<'_>, addressed: &CniResult, facts: &Facts) -> HostSide {
    let bridge = facts.bridge.as_ref();
    let default = vlan::default_of(bridge);
    let has_gateway = config.gateway != Gateway::No && !addressed.ips.is_empty();
    let vlans = config.vlans.as_ref();
    HostSide {
        bridge: BridgeMade {
            ours: bridge.is_none_or(|state| state.alias.as_deref() == Some(BRIDGE_ALIAS)),
            mac: bridge.and_then(|state| state.mac).unwrap_or(facts.bridge_mac),
            mtu: bridge.map_or(container.mtu, |state| state.mtu),
            vlan_filtering: vlans.is_some(),
            promisc: config.reflection == Reflection::Promiscuous,
        },
        port: PortSet {
            hairpin: config.reflection == Reflection::Hairpin,
            isolated: config.isolated,
            vlans: vlans.map(|vlans| vlan::set_of(&vlans.of_port(default))),
        },
        gateway: vlans.zip(config.vlan_gateway.as_ref()).filter(|_| has_gateway).map(|(vlans, name)| {
            let there = facts.gateway.as_ref();
            GatewayMade {
                name: name.clone(),
                mac: there.and_then(|state| state.mac).unwrap_or(facts.gateway_mac),
                mtu: there.map_or(container.mtu, |state| state.mtu),
                vlans: vlan::set_of(&vlans.of_gateway(default)),
            }
        }),
        addresses: addressed.ips.iter().filter(|_| has_gateway).filter_map(gateway_address).collect(),
    }
}

fn result(
    config: &Config,
    place: &Place,
    container: &Container<'_>,
    addressed: CniResult,
    facts: &Facts,
) -> CniResult {
    let mtu = Some(container.mtu);
    let bridge_mac = facts.bridge.as_ref().and_then(|state| state.mac).unwrap_or(facts.bridge_mac);
    let bridge_mtu = facts.bridge.as_ref().map(|state| state.mtu).or(mtu);
    let mut interfaces = vec![
        addressing::on_host(&config.bridge, Some(bridge_mac), bridge_mtu),
        addressing::on_host(&container.attachment.host_veth(), Some(facts.host_mac), mtu),
        addressing::in_container(place, Some(container.mac), mtu),
    ];
    if let Some(gateway) = config.vlan_gateway.as_ref().filter(|_| !addressed.ips.is_empty()) {
        let mac = facts.gateway.as_ref().and_then(|state| state.mac).unwrap_or(facts.gateway_mac);
        let mtu = facts.gateway.as_ref().map(|state| state.mtu).or(mtu);
        interfaces.push(addressing::on_host(gateway, Some(mac), mtu));
    }
    addressing::result(addressed, interfaces, 2)
}
