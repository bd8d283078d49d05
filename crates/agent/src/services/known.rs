//! All that the director knows: services, who serves, what of it does not work. No I/O.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::IpAddr;
use std::time::Instant;

use ipnetwork::IpNetwork;
use zeugma_api::{EndpointView, ServiceView};
use zeugma_catalogue::{Difference, Revision};
use zeugma_model::{AttachmentId, Deployment, Endpoint, NodeName, Origin, RegisteredEndpoint, ServiceName};
use zeugma_services::{Conflict, Crew, Member, Roster, Source, Workload};

use super::batch::Wish;
use super::ground::Attachments;
use super::names::named;
use super::programming::Done;
use super::publish::{self, Published};
use crate::reconcile::ServiceNames;

/// The state of all services.
pub(super) struct Known {
    pub(super) node: NodeName,
    pub(super) roster: Roster,
    rows: BTreeMap<ServiceName, Row>,
    /// Other nodes' containers among the endpoints.
    elsewhere: HashMap<(ServiceName, IpAddr), AttachmentId>,
    /// This node's containers among the endpoints: the journal knows better.
    own: HashSet<(ServiceName, IpAddr)>,
    /// Of what names were last told.
    told: HashMap<ServiceName, Told>,
    /// Of all services.
    endpoints: usize,
    conflicts: BTreeMap<ServiceName, Vec<String>>,
    /// Rows that cannot be read, by key.
    unreadable: BTreeMap<String, String>,
    /// Services that are not in the kernel as they are to be.
    dirty: BTreeSet<ServiceName>,
}

/// What was told of a service by name.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
struct Told {
    fingerprint: u64,
    endpoints: u32,
}

/// A service in the catalogue.
struct Row {
    revision: Revision,
}

impl Known {
    pub(super) fn new(node: NodeName) -> Self {
        Self {
            roster: Roster::new(node.clone()),
            node,
            rows: BTreeMap::new(),
            elsewhere: HashMap::new(),
            own: HashSet::new(),
            told: HashMap::new(),
            endpoints: 0,
            conflicts: BTreeMap::new(),
            unreadable: BTreeMap::new(),
            dirty: BTreeSet::new(),
        }
    }

    pub(super) fn services_changed(&mut self, difference: Difference<Deployment>, now: Instant) {
        for name in difference.deleted {
            let was_unreadable = self.unreadable.remove(&format!("services/{name}")).is_some();
            let Ok(name) = name.parse::<ServiceName>() else { continue };
            // The roster may never have known it; the kernel may have it.
            self.dirty.extend(was_unreadable.then(|| name.clone()));
            self.rows.remove(&name);
            self.conflicts.remove(&name);
            self.roster.remove_service(&name);
        }
        for (key, row) in difference.put {
            self.unreadable.remove(&format!("services/{key}"));
            let name = row.value.service.name.clone();
            self.rows.insert(name, Row { revision: row.revision });
            self.roster.put_service(row.value, now);
        }
        let unreadable = difference.unreadable.into_iter();
        self.unreadable
            .extend(unreadable.map(|(name, error)| (format!("services/{name}"), error.to_string())));
    }

    pub(super) fn endpoints_changed(&mut self, difference: Difference<RegisteredEndpoint>, now: Instant) {
        for key in difference.deleted {
            self.unreadable.remove(&format!("endpoints/{key}"));
            let Some(at) = endpoint_key(&key) else { continue };
            self.elsewhere.remove(&at);
            if !self.own.remove(&at) {
                self.roster.remove_endpoint(&at.0, at.1);
            }
        }
        for (key, row) in difference.put {
            self.unreadable.remove(&format!("endpoints/{key}"));
            let endpoint = row.value;
            let at = (endpoint.service.clone(), endpoint.endpoint.address);
            if let Origin::Container(id) = &endpoint.origin {
                if endpoint.endpoint.node.as_ref() == Some(&self.node) {
                    // It may have been another's before.
                    self.elsewhere.remove(&at);
                    self.roster.remove_endpoint(&at.0, at.1);
                    self.own.insert(at);
                    continue;
                }
                self.own.remove(&at);
                self.elsewhere.insert(at, id.clone());
            } else {
                self.own.remove(&at);
                self.elsewhere.remove(&at);
            }
            self.roster.put_endpoint(endpoint, now);
        }
        let unreadable = difference.unreadable.into_iter();
        self.unreadable
            .extend(unreadable.map(|(name, error)| (format!("endpoints/{name}"), error.to_string())));
    }

    /// Takes note of what changed by now, and says what that is.
    pub(super) fn look(&mut self, now: Instant) -> BTreeSet<ServiceName> {
        let changed = self.roster.take_changed(now);
        self.dirty.extend(changed.iter().cloned());
        changed
    }

    /// These subnets of this host came or went: who was added there without a node may be a container of it, or no
    /// longer.
    pub(super) fn moved(&mut self, subnets: &BTreeSet<IpNetwork>) {
        let is_there = |endpoint: &Endpoint| {
            let address = endpoint.address.to_canonical();
            endpoint.node.is_none() && subnets.iter().any(|subnet| subnet.contains(address))
        };
        let is_meant = |name: &&ServiceName| {
            let workload = self.roster.workload(name);
            workload.is_some_and(|workload| workload.endpoints.iter().any(is_there))
        };
        let meant: Vec<ServiceName> = self.rows.keys().filter(is_meant).cloned().collect();
        self.dirty.extend(meant);
    }

    /// Whether anything is not in the kernel as it is to be.
    pub(super) fn is_dirty(&self) -> bool {
        !self.dirty.is_empty()
    }

    /// Everything as it is to be; nothing is left to be done then.
    pub(super) fn all(&mut self) -> (Vec<Workload>, Vec<ServiceName>) {
        // What was told of and is gone has to be told, too.
        let gone = self.told.keys().filter(|name| !self.rows.contains_key(*name)).cloned();
        let names = self.rows.keys().cloned().chain(gone).collect();
        self.dirty.clear();
        (self.rows.keys().filter_map(|name| self.roster.workload(name)).collect(), names)
    }

    /// Services that nobody can say of what they are to be.
    pub(super) fn unreadable(&self) -> Vec<ServiceName> {
        let names = self.unreadable.keys().filter_map(|key| key.strip_prefix("services/")?.parse().ok());
        names.filter(|name| !self.rows.contains_key(name)).collect()
    }

    /// What changed, as it is to be.
    pub(super) fn changed(&mut self) -> Vec<Wish> {
        let dirty = std::mem::take(&mut self.dirty).into_iter();
        dirty.map(|name| (name.clone(), self.roster.workload(&name))).collect()
    }

    /// What is to be told of these by name, where it is something new.
    pub(super) fn names(&mut self, services: &[ServiceName]) -> Vec<ServiceNames> {
        let mut news = Vec::new();
        for name in services {
            let before = self.told.get(name).copied();
            let workload = self.roster.workload(name);
            let now = workload.as_ref().map(|workload| {
                let (named, mut hasher) = (named(workload), DefaultHasher::new());
                named.hash(&mut hasher);
                (Told { fingerprint: hasher.finish(), endpoints: workload.endpoints.len() as u32 }, named)
            });
            let count = |told: Option<Told>| told.map_or(0, |told| told.endpoints as usize);
            self.endpoints += count(now.as_ref().map(|(told, _)| *told));
            self.endpoints -= count(before);
            match (before, now) {
                (_, None) if self.told.remove(name).is_some() => news.push(ServiceNames::Gone(name.clone())),
                (_, None) => {}
                (before, Some((told, named))) => {
                    self.told.insert(name.clone(), told);
                    if before.map(|before| before.fingerprint) != Some(told.fingerprint) {
                        news.push(ServiceNames::Put(named));
                    }
                }
            }
        }
        news
    }

    /// Takes note of who does not get what it wants.
    pub(super) fn done(&mut self, done: &Done) {
        for name in &done.looked_at {
            self.conflicts.remove(name);
        }
        for conflict in &done.conflicts {
            let lines = self.conflicts.entry(conflict.refused.clone()).or_default();
            lines.push(line(conflict));
        }
        for (name, line) in &done.unfit {
            self.conflicts.entry(name.clone()).or_default().push(line.clone());
        }
    }

    /// What does not work, of everything or of a service.
    pub(super) fn problems(&self, of: Option<&ServiceName>) -> Vec<String> {
        let is_meant = |name: &ServiceName| of.is_none_or(|of| of == name);
        let lines = self.conflicts.iter().filter(|(name, _)| is_meant(name)).flat_map(|(_, lines)| lines);
        lines.chain(self.unreadable.values().filter(|_| of.is_none())).cloned().collect()
    }

    /// What other nodes have to know of a service: this node's containers that serve it.
    pub(super) fn published(&self, name: &ServiceName, attachments: &Attachments) -> Published {
        let endpoints = self.roster.deployment(name).map(|deployment| {
            let crew = self.roster.crew(name).unwrap_or_default();
            publish::published(&deployment, crew, attachments)
        });
        let mut endpoints = endpoints.unwrap_or_default();
        for endpoint in &mut endpoints {
            endpoint.endpoint.node = Some(self.node.clone());
        }
        (name.clone(), endpoints)
    }

    pub(super) fn view(&self, name: &ServiceName) -> Option<ServiceView> {
        let row = self.rows.get(name)?;
        let deployment = self.roster.deployment(name)?;
        let Crew { members } = self.roster.crew(name).unwrap_or_default();
        let endpoint = |(address, member): (IpAddr, Member)| {
            let origin = match member.source {
                Source::Here(id) => Origin::Container(id),
                Source::Registered => {
                    let id = self.elsewhere.get(&(name.clone(), address));
                    id.map_or(Origin::Added, |id| Origin::Container(id.clone()))
                }
            };
            let (endpoint, why) = (member.endpoint, member.why);
            let (node, weight, state) = (endpoint.node, endpoint.weight, endpoint.state);
            EndpointView { address, node, weight, state, origin, why }
        };
        Some(ServiceView {
            deployment,
            revision: row.revision.0,
            endpoints: members.into_iter().map(endpoint).collect(),
            problems: self.conflicts.get(name).cloned().unwrap_or_default(),
        })
    }

    pub(super) fn views(&self) -> Vec<ServiceView> {
        self.rows.keys().filter_map(|name| self.view(name)).collect()
    }

    /// How many services and endpoints there are.
    pub(super) fn counts(&self) -> (usize, usize) {
        (self.rows.len(), self.endpoints)
    }
}

fn endpoint_key(key: &str) -> Option<(ServiceName, IpAddr)> {
    let (service, address) = key.rsplit_once('/')?;
    Some((service.parse().ok()?, address.parse().ok()?))
}

fn line(conflict: &Conflict) -> String {
    let Conflict { frontend, owner, refused } = conflict;
    let (address, port, protocol) = (frontend.address, frontend.port, frontend.protocol);
    match address.is_unspecified() {
        true => format!("{refused}: port {port}/{protocol} is published by service {owner}: publish another"),
        false => {
            format!("{refused}: {address} port {port}/{protocol} is service {owner}'s: take another address")
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use zeugma_catalogue::Row as Stored;

    use super::*;

    fn difference<T>(key: &str, value: T) -> Difference<T> {
        let row = Stored { value, revision: Revision(1), lease: None };
        let (deleted, unreadable) = Default::default();
        Difference { put: [(key.to_owned(), row)].into(), deleted, unreadable, revision: Revision(1) }
    }

    #[test]
    fn who_was_added_without_a_node_is_looked_at_again_when_its_subnet_comes() {
        let (mut known, now) = (Known::new("n".parse().unwrap()), Instant::now());
        let service = json!({"service": {"name": "web", "vips": ["10.213.0.1"], "ports": [{"port": 80}]}});
        let endpoint = json!({"service": "web", "endpoint": {"address": "10.88.0.2"}});
        known.services_changed(difference("web", serde_json::from_value(service).unwrap()), now);
        known.endpoints_changed(difference("web/10.88.0.2", serde_json::from_value(endpoint).unwrap()), now);
        known.look(now);
        assert_eq!(known.changed().len(), 1);
        known.moved(&["10.89.0.0/16".parse().unwrap()].into());
        assert!(!known.is_dirty());
        known.moved(&["10.88.0.0/16".parse().unwrap()].into());
        assert!(known.is_dirty() && known.changed()[0].0.as_str() == "web");
    }
}
