//! When elements go that belong to a network, not to an attachment: not before GC finds that no attachment needs them.

use std::collections::BTreeSet;
use std::time::Duration;

use ipnetwork::IpNetwork;
use zeugma_journal::{Alone, Entry, Journal, Lock, OverlayStates, Record};
use zeugma_kernel::Kernel;
use zeugma_model::{AttachmentId, ContainerId, IfName, NetworkName, OverlayState};
use zeugma_plan::nft::{self, Element, SetId};
use zeugma_plan::{Plan, Side, Step};
use zeugma_protocol::NetConf;
use zeugma_upkeep::{network_owner, overlay, route_localnet, shared as of_record};

use crate::cause::Cause;

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
        // What keeps an overlay sealed does not go with its last container.
        for (network, state) in OverlayStates::default().each()? {
            match state {
                Ok(state) => needed.keep_overlay(&network, state.as_ref()),
                // It may be what keeps it sealed: nobody can say until it is written anew.
                Err(_) => drop(needed.unknown.insert(network_owner(&network))),
            }
        }
        needed.elements.sort();
        needed.elements.dedup();
        Ok(needed)
    }

    fn keep_overlay(&mut self, network: &NetworkName, state: Option<&OverlayState>) {
        let Some(state) = state else { return };
        self.owners.insert(network_owner(network));
        self.elements.extend(overlay(state));
    }

    fn add(&mut self, network: &NetworkName, record: &Record) {
        self.elements.extend(of_record(network, record));
        self.owners.extend(record.overlay.as_ref().map(|state| network_owner(&state.network)));
        if record.spoilt {
            self.unknown.insert(network_owner(network));
        }
        // A chain's GC begins with `bridge`: what the plugins behind it remember must not keep the bridge.
        if matches!(record.plugin.as_str(), "bridge" | "overlay") {
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
        let _sharing = Lock::sharing()?;
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

/// How long a sweep waits for those who attach and detach, while nobody else may begin to.
const PATIENCE: Duration = Duration::from_secs(5);

/// Removes what GC's records, and attachments deleted before, leave behind of a network.
pub(crate) fn sweep(
    kernel: &mut Kernel,
    journal: &Journal,
    network: &NetworkName,
    gone: &[Record],
) -> Vec<Cause> {
    let _alone = match Alone::within(PATIENCE) {
        Ok(alone) => alone,
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
        present.extend(kernel.members(set)?);
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
