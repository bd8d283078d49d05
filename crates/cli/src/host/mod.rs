//! What `doctor` and `trace` know of this host: links, what is attached, what others filter. Looks, and changes nothing.

pub(crate) mod filters;

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnetwork::IpNetwork;
use zeugma_journal::{Journal, Listen, NetnsRef, Record};
use zeugma_kernel::{Kernel, LinkState};
use zeugma_model::{AttachmentId, IfName, PortMapping};
use zeugma_plan::Side;

/// A container on a network.
#[derive(Debug, Clone)]
pub(crate) struct Attached {
    pub(crate) id: AttachmentId,
    /// Names that it has beside its ID.
    pub(crate) names: Vec<String>,
    pub(crate) addresses: Vec<IpNetwork>,
    /// Those of the host.
    pub(crate) gateways: Vec<IpAddr>,
    pub(crate) bridge: Option<IfName>,
    pub(crate) ports: Vec<PortMapping>,
    pub(crate) masquerade: bool,
    /// Of firewalld.
    pub(crate) zone: Option<String>,
    /// Where the host answers its questions for names.
    pub(crate) asks: Vec<IpAddr>,
    pub(crate) netns: Option<NetnsRef>,
    /// Whether its namespace is still there.
    pub(crate) is_alive: bool,
    /// The MTU of its interface; none: not looked at.
    pub(crate) mtu: Option<u32>,
}

/// A link of the host.
#[derive(Debug, Clone, Default)]
pub(crate) struct Link {
    pub(crate) state: LinkState,
    pub(crate) addresses: Vec<IpNetwork>,
}

/// All attachments by the journal.
///
/// # Errors
/// When it cannot be read.
pub(crate) fn attached(journal: &Journal) -> Result<Vec<Attached>, zeugma_journal::Error> {
    let mut found = Vec::new();
    for network in journal.networks()? {
        for id in journal.attachments(&network)? {
            let records: Vec<Record> = journal.entries(&id)?.into_iter().map(|entry| entry.record).collect();
            found.extend((!records.is_empty()).then(|| one(id, &records)));
        }
    }
    Ok(found)
}

/// What the records of an attachment's plugins say together.
fn one(id: AttachmentId, records: &[Record]) -> Attached {
    let first = |part: fn(&Record) -> Option<IfName>| records.iter().find_map(part);
    let netns = records.iter().find_map(|record| record.netns.clone());
    let mut names: Vec<String> = Vec::new();
    let mut asks = Vec::new();
    for record in records {
        names.extend(record.identity.pod.iter().map(|pod| pod.name.clone()));
        names.extend(record.identity.aliases.iter().map(ToString::to_string));
        let Some(resolver) = &record.resolver else { continue };
        names.extend(resolver.names.iter().map(ToString::to_string));
        if let Listen::Gateway(gateways) = &resolver.listen {
            asks.clone_from(gateways);
        }
    }
    names.sort();
    names.dedup();
    let mut ports: Vec<PortMapping> =
        records.iter().flat_map(|record| record.ports.iter().copied()).collect();
    ports.sort();
    ports.dedup();
    let addresses = records.iter().map(|record| &record.addresses).find(|addresses| !addresses.is_empty());
    Attached {
        is_alive: netns.as_ref().is_none_or(NetnsRef::is_alive),
        addresses: addresses.cloned().unwrap_or_default(),
        gateways: records.iter().flat_map(|record| record.gateways.iter().copied()).collect(),
        bridge: first(|record| record.bridge.clone()),
        masquerade: records.iter().any(|record| record.masquerade),
        zone: records.iter().find_map(|record| record.zone.clone()),
        mtu: None,
        id,
        names,
        ports,
        asks,
        netns,
    }
}

/// All links of the host, with their addresses.
///
/// # Errors
/// When the kernel does not say.
pub(crate) fn links(kernel: &mut Kernel) -> Result<BTreeMap<IfName, Link>, zeugma_kernel::Error> {
    let mut addresses: BTreeMap<u32, Vec<IpNetwork>> = BTreeMap::new();
    for (index, address) in kernel.all_addresses()? {
        addresses.entry(index).or_default().push(address);
    }
    let links = kernel.links(Side::Host)?.into_iter();
    let with = |(name, state): (IfName, LinkState)| {
        let addresses = addresses.remove(&state.index).unwrap_or_default();
        (name, Link { state, addresses })
    };
    Ok(links.map(with).collect())
}

impl Attached {
    /// As people know it: network and container, the ID as container engines shorten it.
    pub(crate) fn shown(&self) -> String {
        let id = self.id.container.as_str();
        format!("{}/{}", self.id.network, id.get(..12).unwrap_or(id))
    }

    /// Its first address of the family of another.
    pub(crate) fn address_like(&self, other: IpAddr) -> Option<IpAddr> {
        self.addresses.iter().map(IpNetwork::ip).find(|address| address.is_ipv4() == other.is_ipv4())
    }
}
