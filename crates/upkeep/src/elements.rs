//! Elements out of records. Those of networks are shared by their attachments: every ADD puts them in, and they stay
//! until GC finds that no attachment needs them.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnetwork::IpNetwork;
use zeugma_journal::Record;
use zeugma_model::{AttachmentId, Backend, IfName, Mac, NetworkName, OverlayState, PortMapping, Protocol};
use zeugma_plan::nft::{Element, SetId, Value};
use zeugma_plan::{Family, FlowFilter, any_addresses};

/// The mark on elements of a network.
pub fn network_owner(network: &NetworkName) -> String {
    let name = network.as_str();
    // A name longer than a comment is cut: these elements are told apart by their keys.
    name.get(..name.len().min(120)).unwrap_or(name).to_owned()
}

/// Subnets that are masqueraded towards the outside, and not within themselves.
pub fn masquerade(network: &NetworkName, addresses: &[IpNetwork]) -> Vec<Element> {
    let subnets = subnets(addresses);
    let alone =
        subnets.iter().map(|subnet| subnet_element(network, SetId::Masquerade(family(subnet)), &[*subnet]));
    let pairs = subnets.iter().map(|subnet| pair(network, SetId::Network, subnet));
    pairs.chain(alone).collect()
}

/// An overlay's: who gets in and by which way, what gets out by which, and that nothing is masqueraded within it.
///
/// All of the overlay's subnets count, not this host's blocks: what is another host's must not be mistaken for the
/// outside's.
pub fn overlay(state: &OverlayState) -> Vec<Element> {
    let (network, subnets) = (&state.network, subnets(&state.subnets));
    let mut elements = within(network, &subnets);
    for subnet in &subnets {
        let alone = |set: fn(Family) -> SetId| subnet_element(network, set(family(subnet)), &[*subnet]);
        elements.push(alone(SetId::Overlay));
        elements.extend((state.masquerade && !state.internal).then(|| alone(SetId::Masquerade)));
        if has_ways(state) {
            elements.push(alone(SetId::Claimed));
            elements.extend(ways(state).map(|way| {
                let key = vec![Value::Interface(way), Value::Prefix(*subnet)];
                shared_element(network, SetId::Ways(family(subnet)), key)
            }));
        }
        elements.extend(state.backend.is_encrypted().then(|| alone(SetId::Sealed)));
        let others = state.reachable_from.iter().filter(|other| family(other) == family(subnet));
        elements.extend(
            others.map(|other| subnet_element(network, SetId::Reachable(family(other)), &[*other, *subnet])),
        );
    }
    let tunnel = state.tunnel.clone().map(Value::Interface);
    elements.extend(tunnel.map(|tunnel| shared_element(network, SetId::Tunnels, vec![tunnel])));
    elements
}

/// Pairs of subnets of a network.
fn within(network: &NetworkName, subnets: &[IpNetwork]) -> Vec<Element> {
    let pairs = subnets.iter().flat_map(|one| subnets.iter().map(move |other| (one, other)));
    let pairs = pairs.filter(|(one, other)| family(one) == family(other));
    pairs.map(|(one, other)| subnet_element(network, SetId::Network(family(one)), &[*one, *other])).collect()
}

/// Whether all hosts are beyond the tunnel: where some are reached without, packets come and go by other interfaces.
fn has_ways(state: &OverlayState) -> bool {
    matches!(state.backend, Backend::Vxlan | Backend::Wireguard)
}

/// The interfaces that an overlay's packets come and go by; the host talks to itself by the last.
fn ways(state: &OverlayState) -> impl Iterator<Item = IfName> {
    let lo = "lo".parse().expect("lo is an interface's name");
    [Some(state.bridge.clone()), state.tunnel.clone(), Some(lo)].into_iter().flatten()
}

/// Subnets whose members reach one another's published ports through the host.
pub fn hairpin(network: &NetworkName, addresses: &[IpNetwork]) -> Vec<Element> {
    subnets(addresses).iter().map(|subnet| pair(network, SetId::Hairpin, subnet)).collect()
}

/// A bridge under an ingress policy.
pub fn ingress(network: &NetworkName, bridge: &IfName, same_bridge: bool) -> Vec<Element> {
    let isolated = shared_element(network, SetId::Isolated, vec![Value::Interface(bridge.clone())]);
    std::iter::once(isolated).chain(same_bridge.then(|| permission(network, bridge))).collect()
}

/// The permission for a bridge's containers to reach one another.
pub fn permission(network: &NetworkName, bridge: &IfName) -> Element {
    let interface = || Value::Interface(bridge.clone());
    shared_element(network, SetId::SameBridge, vec![interface(), interface()])
}

fn shared_element(network: &NetworkName, set: SetId, key: Vec<Value>) -> Element {
    Element { set, key, data: Vec::new(), owner: network_owner(network) }
}

fn family(subnet: &IpNetwork) -> Family {
    Family::of(subnet.ip())
}

fn subnets(addresses: &[IpNetwork]) -> Vec<IpNetwork> {
    let unique: BTreeSet<IpNetwork> = addresses
        .iter()
        .filter_map(|address| IpNetwork::new(address.network(), address.prefix()).ok())
        .collect();
    unique.into_iter().collect()
}

fn pair(network: &NetworkName, set: fn(Family) -> SetId, subnet: &IpNetwork) -> Element {
    subnet_element(network, set(family(subnet)), &[*subnet, *subnet])
}

fn subnet_element(network: &NetworkName, set: SetId, subnets: &[IpNetwork]) -> Element {
    shared_element(network, set, subnets.iter().map(|subnet| Value::Prefix(*subnet)).collect())
}

/// The shared elements that a record stands for. Whom an overlay is reachable from changes: its state alone tells.
pub fn shared(network: &NetworkName, record: &Record) -> Vec<Element> {
    match (record.plugin.as_str(), &record.bridge, record.ingress.as_deref()) {
        ("overlay", ..) => {
            let mut elements = record.overlay.as_ref().map(overlay).unwrap_or_default();
            elements.retain(|element| !matches!(element.set, SetId::Reachable(_)));
            elements
        }
        ("bridge" | "ptp", ..) if record.masquerade => masquerade(network, &record.addresses),
        ("portmap", ..) if record.masquerade => hairpin(network, &record.addresses),
        ("firewall", Some(bridge), Some(policy)) => ingress(network, bridge, policy == "same-bridge"),
        _ => Vec::new(),
    }
}

/// The first address of a family.
pub fn first_of(addresses: &[IpNetwork], family: Family) -> Option<IpAddr> {
    addresses.iter().map(IpNetwork::ip).find(|address| Family::of(*address) == family)
}

/// All elements of an attachment's ports, by set: one message then holds all of a set.
pub fn published(id: &AttachmentId, record: &Record) -> Vec<Element> {
    let mut elements: Vec<Element> =
        record.ports.iter().flat_map(|port| published_port(id, record, port)).collect();
    if record.masquerade_all {
        elements.extend(record.addresses.iter().map(|address| Element {
            set: SetId::MasqueradeAll(Family::of(address.ip())),
            key: vec![Value::Address(address.ip())],
            data: Vec::new(),
            owner: id.owner(),
        }));
    }
    elements.sort();
    elements.dedup();
    elements
}

/// The elements of one port: one per family that the container has.
pub fn published_port(id: &AttachmentId, record: &Record, port: &PortMapping) -> Vec<Element> {
    let owner = id.owner();
    let element = |(family, host): (Family, Option<IpAddr>)| {
        let container = first_of(&record.addresses, family)?;
        let rest = [Value::Protocol(port.protocol), Value::Port(port.host_port.get())];
        Some(Element {
            set: if host.is_some() { SetId::Published(family) } else { SetId::PublishedAny(family) },
            key: host.map(Value::Address).into_iter().chain(rest).collect(),
            data: vec![Value::Address(container), Value::Port(port.container_port.get())],
            owner: owner.clone(),
        })
    };
    any_addresses(port.host_address).into_iter().filter_map(element).collect()
}

/// The flows to be forgotten when the ports of a record are published.
pub fn stale_flows(record: &Record) -> Vec<FlowFilter> {
    record.ports.iter().flat_map(|port| stale_flows_of(record, port)).collect()
}

/// A connectionless flow that began before the port was published would go on to the host.
pub(crate) fn stale_flows_of(record: &Record, port: &PortMapping) -> Vec<FlowFilter> {
    let of_family = |(family, host): (Family, Option<IpAddr>)| {
        first_of(&record.addresses, family).map(|_| FlowFilter::Untranslated {
            protocol: port.protocol,
            port: port.host_port.get(),
            address: host.unwrap_or(family.unspecified()),
        })
    };
    let places = if port.protocol == Protocol::Tcp { Vec::new() } else { any_addresses(port.host_address) };
    places.into_iter().filter_map(of_family).collect()
}

/// The host's veth may send from the container's address only.
pub fn guards(attachment: &AttachmentId, mac: Mac) -> Vec<Element> {
    let interface = || Value::Interface(attachment.host_veth());
    let element = |set, key| Element { set, key, data: Vec::new(), owner: attachment.owner() };
    vec![
        element(SetId::Guarded, vec![interface()]),
        element(SetId::Allowed, vec![interface(), Value::Mac(mac)]),
    ]
}
