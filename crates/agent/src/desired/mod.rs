//! What the journal's records ask of the resolver: names, networks, and where it is to listen. Pure.
//!
//! It says what changes, not how that is done: the loop is `reconcile.rs`. How records become wishes is `wish.rs`,
//! which sockets open and close is `listeners.rs`.

pub(crate) mod listeners;
mod tally;
pub(crate) mod wish;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
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
    attachments: BTreeMap<AttachmentId, Option<Wish>>,
    networks: BTreeMap<NetworkName, Members>,
    places: BTreeMap<Place, Tally<Audience>>,
    names: usize,
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
        let now = match seen {
            Seen::Gone => None,
            Seen::Silent => {
                self.attachments.insert(id.clone(), None);
                None
            }
            Seen::Wish(wish) => Some(*wish),
        };
        let mut changes = Changes::default();
        if before != now {
            self.exchange(id, before.as_ref(), now.as_ref(), &mut changes);
        }
        if now.is_some() {
            self.attachments.insert(id.clone(), now);
        }
        changes
    }

    fn exchange(
        &mut self,
        id: &AttachmentId,
        before: Option<&Wish>,
        now: Option<&Wish>,
        changes: &mut Changes,
    ) {
        for (wish, there) in [(before, false), (now, true)] {
            let Some(wish) = wish else { continue };
            self.count(id, wish, there);
            changes.places.extend(wish.places.iter().cloned());
        }
        let members = self.networks.get(&id.network);
        let newest = members.and_then(|members| members.by_age.last()).map(|(_, id)| id.clone());
        let Some(newest) = newest else {
            self.networks.remove(&id.network);
            return changes.zone.push(Change::NetworkGone(id.network.clone()));
        };
        let settings = if newest == *id { now } else { self.wish(&newest) };
        let settings = settings.map(|wish| wish.settings.clone());
        if let (Some(settings), Some(members)) = (settings, self.networks.get_mut(&id.network)) {
            changes.zone.extend(members.tell(&id.network, settings));
        }
        changes.zone.push(match now {
            Some(wish) => Change::Member(wish.member.clone()),
            None => Change::MemberGone(id.clone()),
        });
    }

    /// Enters a wish into everything that is counted, or takes it out.
    fn count(&mut self, id: &AttachmentId, wish: &Wish, there: bool) {
        let members = self.networks.entry(id.network.clone()).or_default();
        members.count(id, wish, there);
        for place in &wish.places {
            let askers = self.places.entry(place.clone()).or_default();
            askers.count(place.audience(id), there);
            if askers.is_empty() {
                self.places.remove(place);
            }
        }
        let names = wish.member.names.len() + wish.member.aliases.len();
        self.names = if there { self.names + names } else { self.names.saturating_sub(names) };
    }

    /// Who wants to ask at a place; empty: nobody.
    pub(crate) fn askers(&self, place: &Place) -> impl Iterator<Item = &Audience> {
        self.places.get(place).into_iter().flat_map(Tally::iter)
    }

    /// The namespace of a container's place.
    pub(crate) fn netns(&self, audience: &Audience) -> Option<&NetnsRef> {
        match audience {
            Audience::Network(_) => None,
            Audience::Container(id) => self.wish(id)?.netns.as_ref(),
        }
    }

    fn wish(&self, id: &AttachmentId) -> Option<&Wish> {
        self.attachments.get(id)?.as_ref()
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

impl Members {
    fn count(&mut self, id: &AttachmentId, wish: &Wish, there: bool) {
        let key = (wish.written, id.clone());
        let _ = if there { self.by_age.insert(key) } else { self.by_age.remove(&key) };
        wish.subnets.iter().for_each(|subnet| self.subnets.count(*subnet, there));
        wish.gateways().for_each(|gateway| self.gateways.count(gateway, there));
        wish.bridge.iter().for_each(|bridge| self.bridges.count(bridge.clone(), there));
    }

    /// The network as it is to be answered for, when that differs from what was told before.
    fn tell(&mut self, name: &NetworkName, settings: Settings) -> Option<Change> {
        let within = |gateway: &IpAddr| self.subnets.iter().any(|subnet| subnet.contains(*gateway));
        // The host asks from its gateway's address, which point-to-point networks have outside of theirs.
        let gateways = self.gateways.iter().filter(|gateway| !within(gateway));
        let subnets = self.subnets.iter().copied().chain(gateways.map(|gateway| IpNetwork::from(*gateway)));
        let network = Network {
            name: name.clone(),
            domain: settings.domain,
            subnets: subnets.collect(),
            upstreams: settings.upstreams,
        };
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
