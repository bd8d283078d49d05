//! Elements that belong to a network, not to an attachment, and when they go.
//!
//! They are put in by every ADD and stay until GC finds that no attachment needs them.

use std::collections::BTreeSet;

use ipnetwork::IpNetwork;
use zeugma_journal::{Entry, Journal, Lock, Record};
use zeugma_kernel::Kernel;
use zeugma_model::{AttachmentId, ContainerId, IfName, NetworkName};
use zeugma_plan::nft::{self, Element, SetId, Value};
use zeugma_plan::{Family, Plan, Side, Step, Sysctl};
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
    let alone =
        subnets.iter().map(|subnet| subnet_element(network, SetId::Masquerade(family(subnet)), &[*subnet]));
    let pairs = subnets.iter().map(|subnet| pair(network, SetId::Network, subnet));
    pairs.chain(alone).collect()
}

/// Subnets whose members reach one another's published ports through the host.
pub(crate) fn hairpin(network: &NetworkName, addresses: &[IpNetwork]) -> Vec<Element> {
    subnets(addresses).iter().map(|subnet| pair(network, SetId::Hairpin, subnet)).collect()
}

/// A bridge under an ingress policy.
pub(crate) fn ingress(network: &NetworkName, bridge: &IfName, same_bridge: bool) -> Vec<Element> {
    let isolated = shared_element(network, SetId::Isolated, vec![Value::Interface(bridge.clone())]);
    std::iter::once(isolated).chain(same_bridge.then(|| permission(network, bridge))).collect()
}

/// The permission for a bridge's containers to reach one another.
pub(crate) fn permission(network: &NetworkName, bridge: &IfName) -> Element {
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

/// The shared elements that a record stands for.
pub(crate) fn of_record(network: &NetworkName, record: &Record) -> Vec<Element> {
    match (record.plugin.as_str(), &record.bridge, record.ingress.as_deref()) {
        ("bridge" | "ptp", ..) if record.masquerade => masquerade(network, &record.addresses),
        ("portmap", ..) if record.masquerade => hairpin(network, &record.addresses),
        ("firewall", Some(bridge), Some(policy)) => ingress(network, bridge, policy == "same-bridge"),
        _ => Vec::new(),
    }
}

/// What is left in the journal: what shared things are still needed for.
pub(crate) struct Needed {
    elements: Vec<Element>,
    /// The marks of networks that have attachments.
    owners: BTreeSet<String>,
    /// The marks of networks with a record that cannot be read: all of theirs may be needed.
    unknown: BTreeSet<String>,
    bridges: BTreeSet<IfName>,
    localnet: BTreeSet<IfName>,
}

impl Needed {
    /// Reads the whole journal: for GC.
    pub(crate) fn by(journal: &Journal) -> Result<Self, Cause> {
        let mut needed = Self {
            elements: Vec::new(),
            owners: BTreeSet::new(),
            unknown: BTreeSet::new(),
            bridges: BTreeSet::new(),
            localnet: BTreeSet::new(),
        };
        for network in journal.networks()? {
            needed.owners.insert(network_owner(&network));
            for attachment in journal.attachments(&network)? {
                for entry in journal.entries(&attachment)? {
                    needed.add(&network, &entry.record);
                }
            }
        }
        needed.elements.sort();
        needed.elements.dedup();
        Ok(needed)
    }

    fn add(&mut self, network: &NetworkName, record: &Record) {
        self.elements.extend(of_record(network, record));
        if record.spoilt {
            self.unknown.insert(network_owner(network));
        }
        // A chain's GC begins with `bridge`: what the plugins behind it remember must not keep the bridge.
        if record.plugin == "bridge" {
            self.bridges.extend(record.bridge.clone());
        }
        if record.plugin == "portmap" && record.masquerade {
            self.localnet.extend(record.bridge.clone());
        }
    }

    /// Whether some attachment is on the bridge.
    pub(crate) fn has_bridge(&self, bridge: &IfName) -> bool {
        self.bridges.contains(bridge)
    }

    /// Clears away what is there for the network, or for the records, and nobody needs. A subnet that stood
    /// for narrower ones hands over to those.
    fn leftovers(&self, network: &NetworkName, gone: &[Record], present: &[Element]) -> Plan {
        let gone_elements: Vec<Element> = gone.iter().flat_map(|record| of_record(network, record)).collect();
        let is_ours = |element: &Element| {
            element.owner == network_owner(network)
                || !self.owners.contains(&element.owner)
                || gone_elements.iter().any(|other| is_same(other, element))
        };
        let unneeded = |element: &&Element| {
            is_ours(element)
                && !self.unknown.contains(&element.owner)
                && !self.elements.iter().any(|other| is_same(other, element))
        };
        let delete: Vec<Element> = present.iter().filter(unneeded).cloned().collect();
        let regain =
            self.elements.iter().filter(|element| delete.iter().any(|other| nft::covers(other, element)));
        let regain: Vec<Element> = regain.cloned().collect();
        let localnet = gone
            .iter()
            .filter(|record| record.plugin == "portmap")
            .filter_map(|record| record.bridge.as_ref());
        let mut plan = Plan::new();
        for bridge in localnet.filter(|bridge| !self.localnet.contains(*bridge)) {
            plan.push_lasting(Step::SetSysctl(Side::Host, route_localnet(bridge, false)));
        }
        for (elements, step) in [(delete, Step::UnshareElements as fn(_) -> _), (regain, Step::ShareElements)]
        {
            if !elements.is_empty() {
                plan.push_lasting(step(elements));
            }
        }
        plan
    }
}

/// Same set and same key, whoever the owner is.
fn is_same(one: &Element, other: &Element) -> bool {
    one.set == other.set && one.key == other.key
}

/// Whether the firewall of some attachment of ours has this address: reads the whole journal.
pub(crate) fn is_attached(journal: &Journal, address: IpNetwork) -> bool {
    let has_it = |entry: &Entry| {
        let record = &entry.record;
        record.plugin == "firewall" && record.addresses.iter().any(|has| has.ip() == address.ip())
    };
    let networks = journal.networks().unwrap_or_default();
    let attachments = networks.iter().flat_map(|network| journal.attachments(network).unwrap_or_default());
    attachments.into_iter().any(|id| journal.entries(&id).is_ok_and(|entries| entries.iter().any(has_it)))
}

/// Undoes a plan that was applied whole. The failure that made it necessary is the one to tell.
pub(crate) fn take_back(kernel: &mut Kernel, plan: &Plan) {
    let all: Vec<usize> = (0..plan.steps().count()).collect();
    kernel.apply_all(&Plan::from_iter(plan.undo_of(&all)));
}

/// Whether 127.0.0.1 of the host may be left by way of a bridge.
pub(crate) fn route_localnet(bridge: &IfName, on: bool) -> Sysctl {
    let value = if on { "1" } else { "0" };
    Sysctl { path: format!("net/ipv4/conf/{bridge}/route_localnet"), value: value.into(), optional: true }
}

/// The attachments of a network that GC has to clear away: in the journal and not in the runtime's list.
fn stale(journal: &Journal, conf: &NetConf) -> Result<Vec<AttachmentId>, Cause> {
    let valid: BTreeSet<&(ContainerId, IfName)> =
        conf.valid_attachments.as_ref().ok_or(Cause::NoValidAttachments)?.iter().collect();
    let known = journal.attachments(&conf.name)?;
    let is_stale = |id: &AttachmentId| !valid.contains(&(id.container.clone(), id.ifname.clone()));
    Ok(known.into_iter().filter(is_stale).collect())
}

/// GC of one plugin: lets `clear` take apart its part in every attachment that is not valid, whatever fails on the
/// way. Returns the records that were cleared, and what failed.
pub(crate) fn clear_stale(
    journal: &Journal,
    conf: &NetConf,
    plugin: &str,
    mut clear: impl FnMut(&AttachmentId, &Entry) -> Vec<Cause>,
) -> Result<(Vec<Record>, Vec<Cause>), Cause> {
    let (mut gone, mut causes) = (Vec::new(), Vec::new());
    for id in stale(journal, conf)? {
        causes.extend(journal.tidy(&id).err().map(Cause::from));
        match journal.entries(&id) {
            Ok(entries) => {
                for entry in entries.into_iter().filter(|entry| entry.record.plugin == plugin) {
                    causes.extend(clear(&id, &entry));
                    gone.push(entry.record);
                }
            }
            Err(error) => causes.push(error.into()),
        }
    }
    Ok((gone, causes))
}

/// Held by an ADD from its record to its last element, so that no GC takes the element for a leftover between
/// the two.
///
/// # Errors
/// When a GC takes longer than anybody waits.
pub(crate) fn sharing() -> Result<Lock, zeugma_journal::Error> {
    Lock::shared(SWEEP)
}

/// The lock that a sweep takes alone.
const SWEEP: &str = "sweep";

/// Removes what GC's records, and attachments deleted before, leave behind of a network.
pub(crate) fn sweep(
    kernel: &mut Kernel,
    journal: &Journal,
    network: &NetworkName,
    gone: &[Record],
) -> Vec<Cause> {
    let _alone = match Lock::exclusive(SWEEP) {
        Ok(lock) => lock,
        Err(error) => return vec![error.into()],
    };
    match leftovers(kernel, journal, network, gone) {
        Ok(plan) => kernel.apply_all(&plan).into_iter().map(Cause::from).collect(),
        Err(cause) => vec![cause],
    }
}

fn leftovers(
    kernel: &mut Kernel,
    journal: &Journal,
    network: &NetworkName,
    gone: &[Record],
) -> Result<Plan, Cause> {
    let mut present = Vec::new();
    for set in SetId::shared() {
        present.extend(kernel.shared_elements(set)?);
    }
    Ok(Needed::by(journal)?.leftovers(network, gone, &present))
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
