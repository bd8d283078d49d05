//! What services need of an attachment's records: whom it can be, and how its subnets are reached.

use std::collections::{BTreeSet, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::IpAddr;

use ipnetwork::IpNetwork;
use tokio::sync::mpsc::UnboundedSender;
use zeugma_journal::{Entry, Phase, Record};
use zeugma_model::{Alias, AttachmentId, Selector};
use zeugma_services::Candidate;

use super::Event;
use crate::desired::wish;

/// A container of this host on one of its networks.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Attached {
    /// With the lengths of their subnets' prefixes.
    pub(crate) addresses: Vec<IpNetwork>,
    pub(crate) wire: Wire,
    pub(crate) labels: BTreeSet<(String, String)>,
}

/// How members of its subnets reach one another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Wire {
    /// Through the host, as point-to-point links do.
    Host,
    /// Through a bridge, whose frames netfilter may see.
    Bridge,
    /// By a wire of their own, past the host.
    Own,
}

impl Attached {
    /// What is there; none without an address.
    pub(crate) fn of(id: &AttachmentId, entries: &[Entry]) -> Option<Self> {
        let done = || entries.iter().map(|entry| &entry.record).filter(|record| record.phase == Phase::Done);
        let addresses: BTreeSet<IpNetwork> =
            done().flat_map(|record| record.addresses.iter().copied()).collect();
        let wire = match () {
            () if done().any(|record| record.parent.is_some() || record.device.is_some()) => Wire::Own,
            () if done().any(|record| record.bridge.is_some()) => Wire::Bridge,
            () => Wire::Host,
        };
        let attached = Self { addresses: addresses.into_iter().collect(), wire, labels: labels(id, done()) };
        (!attached.addresses.is_empty()).then_some(attached)
    }

    /// Who it may be for a service.
    pub(crate) fn candidate(&self, id: &AttachmentId) -> Candidate {
        let addresses: BTreeSet<IpAddr> = self.addresses.iter().map(IpNetwork::ip).collect();
        Candidate {
            attachment: id.clone(),
            addresses: addresses.into_iter().collect(),
            labels: self.labels.clone(),
        }
    }
}

/// Tells the director of attachments, each time that one is another than before.
pub(crate) struct Telling {
    events: UnboundedSender<Event>,
    told: HashMap<AttachmentId, u64>,
}

impl Telling {
    pub(crate) fn new(events: UnboundedSender<Event>) -> Self {
        Self { events, told: HashMap::new() }
    }

    /// What the journal has of one now.
    pub(crate) fn tell(&mut self, id: &AttachmentId, attached: Option<Attached>) {
        let fingerprint = attached.as_ref().map(|attached| {
            let mut hasher = DefaultHasher::new();
            attached.hash(&mut hasher);
            hasher.finish()
        });
        let before = match fingerprint {
            Some(fingerprint) => self.told.insert(id.clone(), fingerprint),
            None => self.told.remove(id),
        };
        if before != fingerprint {
            // Nobody is there to listen when the agent ends.
            let _ = self.events.send(Event::Attached(id.clone(), attached));
        }
    }

    /// All of it was told.
    pub(crate) fn all_told(&self) {
        let _ = self.events.send(Event::JournalRead);
    }
}

/// Its labels, names and aliases.
fn labels<'a>(id: &AttachmentId, records: impl Iterator<Item = &'a Record>) -> BTreeSet<(String, String)> {
    let mut labels = BTreeSet::new();
    let mut insert = |key: &str, value: &str| {
        labels.insert((key.to_owned(), value.to_owned()));
    };
    for record in records {
        let told: &[Alias] = record.resolver.as_ref().map_or(&[], |resolver| &resolver.names);
        wish::names(id, record, told).iter().for_each(|name| insert(Selector::NAME, name.as_str()));
        record.identity.aliases.iter().for_each(|alias| insert(Selector::ALIAS, alias.as_str()));
        record.identity.labels.iter().for_each(|(key, value)| insert(key, value));
    }
    labels
}
