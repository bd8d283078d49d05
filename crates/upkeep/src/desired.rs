//! What a host must have, by all records together.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnetwork::IpNetwork;
use zeugma_journal::{Claim, HostSide, Record};
use zeugma_model::{AttachmentId, IfName, Protocol};
use zeugma_plan::nft::Element;
use zeugma_plan::{Family, FlowFilter, PortFlags, any_addresses};

use crate::elements::{self, first_of, published_port};
use crate::links::{
    self, Bridge, Limited, Port, Routed, VlanGateway, forwarding_path, port_vlans, route_localnet,
};

/// A record, and whether the container's namespace is still there.
#[derive(Debug, Clone, PartialEq)]
pub struct Attached {
    /// Whose it is.
    pub id: AttachmentId,
    /// What it says.
    pub record: Record,
    /// Where the namespace is gone, DEL or GC has not come yet.
    pub is_alive: bool,
}

/// A published port's element, and what it may stand in the way of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Publication {
    /// The element.
    pub element: Element,
    /// The family and the host's address, none for any.
    pub place: (Family, Option<IpAddr>),
    /// The flows to be forgotten when it comes back: connectionless ones that went past it.
    pub stale: Vec<FlowFilter>,
}

/// What a host must have.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Desired {
    /// Elements of networks.
    pub shared: Vec<Element>,
    /// The marks of overlays whose states are known: nobody else is let in than they say.
    pub overlays: BTreeSet<String>,
    /// Elements of attachments, but for ports.
    pub owned: Vec<Element>,
    /// Ports by protocol and number, those of the first claimant first.
    pub ports: BTreeMap<(Protocol, u16), Vec<Publication>>,
    /// Bridges.
    pub bridges: BTreeMap<IfName, Bridge>,
    /// The host's gateways of VLANs.
    pub gateways: BTreeMap<IfName, VlanGateway>,
    /// The ports of bridges.
    pub links: BTreeMap<IfName, Port>,
    /// Links that are routed to.
    pub routed: BTreeMap<IfName, Routed>,
    /// Limits, by the host's veth.
    pub limits: BTreeMap<IfName, Limited>,
    /// Files below `/proc/sys` that must say 1.
    pub switches: BTreeSet<String>,
    /// Zones of firewalld and the containers' addresses in them.
    pub sources: BTreeSet<(String, IpAddr)>,
}

impl Desired {
    /// Takes a record in, but for what its network shares.
    pub(crate) fn add(&mut self, one: &Attached) {
        let Attached { id, record, .. } = one;
        match record.plugin.as_str() {
            "bridge" | "overlay" => self.add_bridge(one),
            "ptp" => self.add_routed(one),
            "portmap" => self.add_ports(id, record),
            "firewall" => {
                let zone = record.zone.iter();
                let of_zone = |zone: &String| {
                    let zone = zone.clone();
                    record.addresses.iter().map(move |address| (zone.clone(), address.ip()))
                };
                self.sources.extend(zone.flat_map(of_zone));
            }
            "bandwidth" => {
                let limits = links::of_container(record, id.alias());
                self.limits.extend(record.host_veth.clone().zip(limits));
            }
            _ => {}
        }
    }

    fn add_bridge(&mut self, one: &Attached) {
        let Attached { id, record, is_alive } = one;
        let Some(name) = &record.bridge else { return };
        self.owned.extend(
            record.mac.filter(|_| record.guarded).map(|mac| elements::guards(id, mac)).unwrap_or_default(),
        );
        let bridge = self.bridges.entry(name.clone()).or_default();
        if let Some(host) = &record.host {
            bridge.learn(host);
            let addresses = host.addresses.iter().copied();
            match &host.gateway {
                Some(made) => {
                    let fresh =
                        || VlanGateway { bridge: name.clone(), made: made.clone(), addresses: Vec::new() };
                    let gateway = self.gateways.entry(made.name.clone()).or_insert_with(fresh);
                    unite(&mut gateway.addresses, addresses.clone());
                }
                None => unite(&mut bridge.addresses, addresses.clone()),
            }
            self.forward(addresses.map(|address| Family::of(address.ip())));
        }
        let veth = record.host_veth.clone().unwrap_or_else(|| id.host_veth());
        let port = record.host.as_ref().map(|host| &host.port);
        self.links.insert(
            veth,
            Port {
                alias: id.alias(),
                bridge: name.clone(),
                flags: port.map_or_else(PortFlags::default, |port| PortFlags {
                    hairpin: Some(port.hairpin),
                    isolated: Some(port.isolated),
                }),
                vlans: port.and_then(|port| port.vlans.as_ref()).map(port_vlans),
                is_alive: *is_alive,
            },
        );
    }

    fn add_routed(&mut self, one: &Attached) {
        let Attached { id, record, is_alive } = one;
        let veth = record.host_veth.clone().unwrap_or_else(|| id.host_veth());
        let whole = |address: IpAddr| IpNetwork::from(address);
        self.forward(record.addresses.iter().map(|address| Family::of(address.ip())));
        self.routed.insert(
            veth,
            Routed {
                alias: id.alias(),
                addresses: record.gateways.iter().copied().map(whole).collect(),
                routes: record.addresses.iter().map(|address| whole(address.ip())).collect(),
                is_alive: *is_alive,
            },
        );
    }

    fn add_ports(&mut self, id: &AttachmentId, record: &Record) {
        for port in &record.ports {
            let places = any_addresses(port.host_address).into_iter();
            let places = places.filter(|(family, _)| first_of(&record.addresses, *family).is_some());
            let publications =
                published_port(id, record, port).into_iter().zip(places).map(|(element, place)| {
                    Publication {
                        element,
                        place,
                        stale: elements::stale_flows_of(record, port)
                            .into_iter()
                            .filter(|flow| flow.family() == place.0)
                            .collect(),
                    }
                });
            self.ports.entry((port.protocol, port.host_port.get())).or_default().extend(publications);
        }
        let rest = Record { ports: Vec::new(), ..record.clone() };
        self.owned.extend(elements::published(id, &rest));
        let localnet = record.masquerade
            && !record.ports.is_empty()
            && first_of(&record.addresses, Family::V4).is_some();
        if let Some(bridge) = record.bridge.as_ref().filter(|_| localnet) {
            self.switches.insert(route_localnet(bridge, true).path);
        }
    }

    fn forward(&mut self, families: impl Iterator<Item = Family>) {
        self.switches.extend(families.map(|family| forwarding_path(family).to_owned()));
    }

    /// Who claims nothing has lost the port to somebody else; the first claimant goes first.
    pub(crate) fn grant(&mut self, port: (Protocol, u16), claims: &[Claim]) {
        let Some(publications) = self.ports.get_mut(&port) else { return };
        let owners: Vec<String> = claims.iter().map(|claim| claim.owner.owner()).collect();
        let rank = |one: &Publication| owners.iter().position(|owner| *owner == one.element.owner);
        publications.retain(|one| rank(one).is_some());
        publications.sort_by_key(rank);
    }

    /// Nobody can say who has the port: whoever it is keeps what is there.
    pub fn forgo(&mut self, port: (Protocol, u16)) {
        self.ports.remove(&port);
    }
}

impl Bridge {
    /// The last record knows best; once ours, always ours.
    fn learn(&mut self, host: &HostSide) {
        let before = self.made.take();
        let mut made = host.bridge.clone();
        if let Some(before) = before {
            made.ours |= before.ours;
            made.vlan_filtering |= before.vlan_filtering;
            made.promisc |= before.promisc;
        }
        self.made = Some(made);
    }
}

fn unite(known: &mut Vec<IpNetwork>, more: impl Iterator<Item = IpNetwork>) {
    for address in more {
        if !known.contains(&address) {
            known.push(address);
        }
    }
}
