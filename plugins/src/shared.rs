//! Elements that belong to a network, not to an attachment, and when they go.
//!
//! They are put in by every ADD and stay until GC finds that no attachment needs them.

use std::collections::BTreeSet;

use ipnetwork::IpNetwork;
use zeugma_journal::{Journal, Record};
use zeugma_kernel::Kernel;
use zeugma_model::{AttachmentId, ContainerId, IfName, NetworkName};
use zeugma_plan::nft::{Element, SetId, Value};
use zeugma_plan::{Family, Plan, Step, Sysctl};
use zeugma_protocol::NetConf;

use crate::cause::Cause;

/// The mark on elements and bridges of a network.
pub(crate) fn network_owner(network: &NetworkName) -> String {
    let name = network.as_str();
    // A name longer than a comment is cut: these elements are told apart by their keys.
    name.get(..name.len().min(120)).unwrap_or(name).to_owned()
}

/// The mark on a bridge that zeugma made.
pub(crate) const BRIDGE_ALIAS: &str = "zeugma bridge";

/// Subnets that are masqueraded towards the outside, and not within themselves.
pub(crate) fn masquerade(network: &NetworkName, addresses: &[IpNetwork]) -> Vec<Element> {
    let subnets = subnets(addresses);
    let alone = subnets.iter().map(|subnet| subnet_element(network, SetId::Masquerade(family(subnet)), &[*subnet]));
    let pairs = subnets.iter().map(|subnet| pair(network, SetId::Network, subnet));
    pairs.chain(alone).collect()
}

/// Subnets whose members reach one another's published ports through the host.
pub(crate) fn hairpin(network: &NetworkName, addresses: &[IpNetwork]) -> Vec<Element> {
    subnets(addresses).iter().map(|subnet| pair(network, SetId::Hairpin, subnet)).collect()
}

/// A bridge under an ingress policy.
pub(crate) fn ingress(network: &NetworkName, bridge: &IfName, same_bridge: bool) -> Vec<Element> {
    let interface = || Value::Interface(bridge.clone());
    let element = |set, key| Element { set, key, data: Vec::new(), owner: network_owner(network) };
    let mut elements = vec![element(SetId::Isolated, vec![interface()])];
    if same_bridge {
        elements.push(element(SetId::SameBridge, vec![interface(), interface()]));
    }
    elements
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
    let key = subnets.iter().map(|subnet| Value::Prefix(*subnet)).collect();
    Element { set, key, data: Vec::new(), owner: network_owner(network) }
}

/// The shared elements that a record stands for.
pub(crate) fn of_record(network: &NetworkName, record: &Record) -> Vec<Element> {
    match (record.plugin.as_str(), &record.bridge, record.ingress.as_deref()) {
        ("bridge", ..) if record.masquerade => masquerade(network, &record.addresses),
        ("portmap", ..) if record.masquerade => hairpin(network, &record.addresses),
        ("firewall", Some(bridge), Some(policy)) => ingress(network, bridge, policy == "same-bridge"),
        _ => Vec::new(),
    }
}

/// What is left in the journal: what shared things are still needed for.
pub(crate) struct Needed {
    elements: BTreeSet<Vec<u8>>,
    bridges: BTreeSet<IfName>,
    localnet: BTreeSet<IfName>,
}

impl Needed {
    /// Reads the whole journal: for GC, and for the DEL of a network's last attachment.
    pub(crate) fn by(journal: &Journal) -> Result<Self, Cause> {
        let mut needed = Self { elements: BTreeSet::new(), bridges: BTreeSet::new(), localnet: BTreeSet::new() };
        for network in journal.networks()? {
            for attachment in journal.attachments(&network)? {
                for entry in journal.entries(&attachment)? {
                    needed.add(&network, &entry.record);
                }
            }
        }
        Ok(needed)
    }

    fn add(&mut self, network: &NetworkName, record: &Record) {
        self.elements.extend(of_record(network, record).iter().map(identity));
        self.bridges.extend(record.bridge.clone());
        if record.plugin == "portmap" && record.masquerade {
            self.localnet.extend(record.bridge.clone());
        }
    }

    /// Whether some attachment is on the bridge.
    pub(crate) fn has_bridge(&self, bridge: &IfName) -> bool {
        self.bridges.contains(bridge)
    }

    /// What nobody needs any more of that which the records stood for.
    pub(crate) fn leftovers(&self, network: &NetworkName, records: &[Record]) -> Plan {
        let mut elements: Vec<Element> = Vec::new();
        let mut plan = Plan::new();
        for record in records {
            for element in of_record(network, record) {
                if !self.elements.contains(&identity(&element)) && !elements.contains(&element) {
                    elements.push(element);
                }
            }
            if let Some(bridge) = record.bridge.as_ref().filter(|_| record.plugin == "portmap" && record.masquerade)
                && !self.localnet.contains(bridge)
            {
                plan.push_lasting(Step::SetSysctl(zeugma_plan::Side::Host, route_localnet(bridge, false)));
            }
        }
        if !elements.is_empty() {
            plan.push_lasting(Step::UnshareElements(elements));
        }
        plan
    }
}

/// What tells elements apart whoever their owner is.
fn identity(element: &Element) -> Vec<u8> {
    let mut bytes = element.set.name().into_bytes();
    bytes.extend(element.key_bytes());
    bytes.extend(element.key_end_bytes());
    bytes
}

/// Whether 127.0.0.1 of the host may be left by way of a bridge.
pub(crate) fn route_localnet(bridge: &IfName, on: bool) -> Sysctl {
    let value = if on { "1" } else { "0" };
    Sysctl { path: format!("net/ipv4/conf/{bridge}/route_localnet"), value: value.into(), optional: true }
}

/// The attachments of a network that GC has to clear away: in the journal and not in the runtime's list.
pub(crate) fn stale(journal: &Journal, conf: &NetConf) -> Result<Vec<AttachmentId>, Cause> {
    let valid: BTreeSet<&(ContainerId, IfName)> =
        conf.valid_attachments.as_ref().ok_or(Cause::NoValidAttachments)?.iter().collect();
    let known = journal.attachments(&conf.name)?;
    Ok(known.into_iter().filter(|id| !valid.contains(&(id.container.clone(), id.ifname.clone()))).collect())
}

/// Removes what GC's records and an empty network leave behind.
pub(crate) fn sweep(kernel: &mut Kernel, journal: &Journal, network: &NetworkName, gone: &[Record]) -> Vec<Cause> {
    match Needed::by(journal) {
        Ok(needed) => kernel.apply_all(&needed.leftovers(network, gone)).into_iter().map(Cause::from).collect(),
        Err(cause) => vec![cause],
    }
}

/// The first of the elements that is not there.
pub(crate) fn missing(kernel: &mut Kernel, wanted: Vec<Element>) -> Result<Option<Element>, Cause> {
    for element in wanted {
        if kernel.element_owner(&element)?.is_none() {
            return Ok(Some(element));
        }
    }
    Ok(None)
}

/// Whether the kernel has nftables: asked by looking for an element that nobody has.
pub(crate) fn can_filter(kernel: &mut Kernel) -> Result<(), Cause> {
    kernel.can_filter()?;
    Ok(())
}
