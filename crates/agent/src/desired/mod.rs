//! What the journal's records ask of the resolver: names, networks, and where it is to listen. Pure.
//!
//! It says what changes, not how that is done: the loop is `reconcile.rs`. How records become wishes is `wish.rs`,
//! which sockets open and close is `listeners.rs`.

pub(crate) mod listeners;
mod tally;
pub(crate) mod wish;

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::SystemTime;

use ipnetwork::IpNetwork;
use zeugma_dns::server::Audience;
use zeugma_dns::zone::{Member, Network};
use zeugma_journal::NetnsRef;
use zeugma_model::{AttachmentId, IfName, NetworkName};

use listeners::Place;
use tally::Tally;
use wish::{Seen, Settings, Wish};

/// Everything that is asked for now.
#[derive(Debug, Default)]
pub(crate) struct Desired {
    attachments: BTreeMap<AttachmentId, Option<Box<Kept>>>,
    networks: BTreeMap<NetworkName, Members>,
    places: BTreeMap<Place, Tally<Audience>>,
    names: usize,
}

/// What is remembered of a wish: there may be many thousands, and the snapshot has their names.
#[derive(Debug)]
struct Kept {
    /// Of the whole wish.
    fingerprint: u64,
    names: usize,
    settings: Arc<Settings>,
    subnets: Box<[IpNetwork]>,
    places: Box<[Place]>,
    netns: Option<NetnsRef>,
    bridge: Option<IfName>,
    written: SystemTime,
}

/// What the members of a network have in common.
#[derive(Debug, Default)]
struct Members {
    /// The newest one's settings hold: it was attached with the network's present configuration.
    by_age: BTreeSet<(SystemTime, AttachmentId)>,
    subnets: Tally<IpNetwork>,
    gateways: Tally<IpAddr>,
    bridges: Tally<IfName>,
    told: Option<Network>,
    settings: Option<Arc<Settings>>,
}

/// One step from one snapshot to the next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Change {
    Network(Network),
    NetworkGone(NetworkName),
    Member(Member),
    MemberGone(AttachmentId),
}

/// What came of looking at an attachment again.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Changes {
    /// In order.
    pub(crate) zone: Vec<Change>,
    /// Where listeners may have to open or close.
    pub(crate) places: BTreeSet<Place>,
}

/// A bridge whose network has names: the host itself can ask at its gateways.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HostLink {
    pub(crate) bridge: IfName,
    pub(crate) servers: BTreeSet<IpAddr>,
    pub(crate) domains: BTreeSet<String>,
}

impl Desired {
    /// Takes note of what the journal says about an attachment now.
    pub(crate) fn see(&mut self, id: &AttachmentId, seen: Seen) -> Changes {
        let before = self.attachments.remove(id).flatten();
        let (member, now) = match seen {
            Seen::Gone => (None, None),
            Seen::Silent => {
                self.attachments.insert(id.clone(), None);
                (None, None)
            }
            Seen::Wish(wish) => {
                let (member, kept) = self.kept(*wish);
                (Some(member), Some(Box::new(kept)))
            }
        };
        let fingerprint = |kept: &Option<Box<Kept>>| kept.as_ref().map(|kept| kept.fingerprint);
        let mut changes = Changes::default();
        let same = fingerprint(&before) == fingerprint(&now);
        if !same {
            let both = [(&before, false), (&now, true)];
            for (kept, there) in both.iter().filter_map(|(kept, there)| Some((kept.as_deref()?, *there))) {
                self.count(id, kept, there);
                changes.places.extend(kept.places.iter().cloned());
            }
        }
        if now.is_some() {
            self.attachments.insert(id.clone(), now);
        }
        if !same {
            self.tell(id, member, &mut changes.zone);
        }
        changes
    }

    fn kept(&self, wish: Wish) -> (Member, Kept) {
        let mut hasher = DefaultHasher::new();
        wish.hash(&mut hasher);
        let Wish { member, settings, subnets, places, netns, bridge, written } = wish;
        // Nearly always the same as its neighbours'.
        let known =
            self.networks.get(&member.attachment.network).and_then(|members| members.settings.clone());
        let settings = known.filter(|known| **known == settings).unwrap_or_else(|| Arc::new(settings));
        let kept = Kept {
            fingerprint: hasher.finish(),
            names: member.names.len() + member.aliases.len(),
            settings,
            subnets: subnets.into(),
            places: places.into(),
            netns,
            bridge,
            written,
        };
        (member, kept)
    }

    /// What changes for the zone once an attachment is entered, or taken out.
    fn tell(&mut self, id: &AttachmentId, member: Option<Member>, zone: &mut Vec<Change>) {
        let newest = self.networks.get(&id.network).and_then(|members| members.by_age.last());
        let settings = newest.and_then(|(_, newest)| Some(self.kept_of(newest)?.settings.clone()));
        let Some((settings, members)) = settings.zip(self.networks.get_mut(&id.network)) else {
            self.networks.remove(&id.network);
            return zone.push(Change::NetworkGone(id.network.clone()));
        };
        zone.extend(members.tell(&id.network, settings));
        zone.push(member.map_or_else(|| Change::MemberGone(id.clone()), Change::Member));
    }

    /// Enters an attachment into everything that is counted, or takes it out.
    fn count(&mut self, id: &AttachmentId, kept: &Kept, there: bool) {
        let members = self.networks.entry(id.network.clone()).or_default();
        members.count(id, kept, there);
        for place in &kept.places {
            let askers = self.places.entry(place.clone()).or_default();
            askers.count(place.audience(id), there);
            if askers.is_empty() {
                self.places.remove(place);
            }
        }
        self.names = if there { self.names + kept.names } else { self.names.saturating_sub(kept.names) };
    }

    /// Who wants to ask at a place; empty: nobody.
    pub(crate) fn askers(&self, place: &Place) -> impl Iterator<Item = &Audience> {
        self.places.get(place).into_iter().flat_map(Tally::iter)
    }

    /// The namespace of a container's place.
    pub(crate) fn netns(&self, audience: &Audience) -> Option<&NetnsRef> {
        match audience {
            Audience::Network(_) => None,
            Audience::Container(id) => self.kept_of(id)?.netns.as_ref(),
        }
    }

    fn kept_of(&self, id: &AttachmentId) -> Option<&Kept> {
        self.attachments.get(id)?.as_deref()
    }

    /// All attachments of the journal, with names or without.
    pub(crate) fn attachments(&self) -> impl ExactSizeIterator<Item = &AttachmentId> {
        self.attachments.keys()
    }

    /// How many networks have names.
    pub(crate) fn networks(&self) -> usize {
        self.networks.len()
    }

    /// Their names.
    pub(crate) fn network_names(&self) -> impl Iterator<Item = &NetworkName> {
        self.networks.keys()
    }

    /// How many names and aliases the members have.
    pub(crate) fn names(&self) -> usize {
        self.names
    }

    /// Where the host itself may ask, once for each bridge.
    pub(crate) fn host_links(&self) -> Vec<HostLink> {
        let mut links: BTreeMap<IfName, HostLink> = BTreeMap::new();
        for link in self.networks.values().flat_map(Members::host_links) {
            match links.get_mut(&link.bridge) {
                None => drop(links.insert(link.bridge.clone(), link)),
                Some(same) => {
                    same.servers.extend(link.servers);
                    same.domains.extend(link.domains);
                }
            }
        }
        links.into_values().collect()
    }
}

impl Kept {
    /// The host's addresses that it asks at.
    fn gateways(&self) -> impl Iterator<Item = IpAddr> {
        self.places.iter().filter_map(|place| match place {
            Place::Gateway(address) => Some(*address),
            Place::Container { .. } => None,
        })
    }
}

impl Members {
    fn count(&mut self, id: &AttachmentId, kept: &Kept, there: bool) {
        let key = (kept.written, id.clone());
        let _ = if there { self.by_age.insert(key) } else { self.by_age.remove(&key) };
        kept.subnets.iter().for_each(|subnet| self.subnets.count(*subnet, there));
        kept.gateways().for_each(|gateway| self.gateways.count(gateway, there));
        kept.bridge.iter().for_each(|bridge| self.bridges.count(bridge.clone(), there));
    }

    /// The network as it is to be answered for, when that differs from what was told before.
    fn tell(&mut self, name: &NetworkName, settings: Arc<Settings>) -> Option<Change> {
        let within = |gateway: &IpAddr| self.subnets.iter().any(|subnet| subnet.contains(*gateway));
        // The host asks from its gateway's address, which point-to-point networks have outside of theirs.
        let gateways = self.gateways.iter().filter(|gateway| !within(gateway));
        let subnets = self.subnets.iter().copied().chain(gateways.map(|gateway| IpNetwork::from(*gateway)));
        let network = Network {
            name: name.clone(),
            domain: settings.domain.clone(),
            subnets: subnets.collect(),
            upstreams: settings.upstreams.clone(),
        };
        self.settings = Some(settings);
        (self.told.as_ref() != Some(&network)).then(|| {
            self.told = Some(network.clone());
            Change::Network(network)
        })
    }

    fn host_links(&self) -> impl Iterator<Item = HostLink> {
        let link = |bridge: &IfName| HostLink {
            bridge: bridge.clone(),
            servers: self.gateways.iter().copied().collect(),
            domains: self.told.iter().map(|network| network.domain.clone()).collect(),
        };
        self.bridges.iter().map(link).filter(|link| !link.servers.is_empty())
    }
}

#[cfg(test)]
mod tests;
