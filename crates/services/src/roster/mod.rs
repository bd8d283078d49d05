//! Who serves: services, containers' labels, endpoints that were added, what health checks say, exchanges under way
//! → each service's endpoints and their states.
//!
//! Pure, and never more work than the services that are concerned: containers and services are found by label.
//! Time is an argument.

mod entry;
mod exchange;
mod held;
mod index;
mod lean;
mod placed;
#[cfg(test)]
mod random;
mod said;
mod standing;
#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use zeugma_model::{
    AttachmentId, Deployment, Endpoint, HealthCheck, NodeName, Origin, RegisteredEndpoint, ServiceName,
};

use crate::Workload;
pub use said::{Candidate, Check, Crew, Member, Source, Standing, Verdict};

use entry::{Alike, Entry, Health, Labels, Place, Who};
use held::{Ground, Held};
use index::Index;
use lean::Lean;
use placed::selectors;
use standing::Drive;

/// Everything that decides who serves.
#[derive(Debug)]
pub struct Roster {
    node: Arc<NodeName>,
    services: HashMap<Arc<ServiceName>, Held>,
    index: Index,
    labels: Alike<Labels>,
    nodes: Alike<NodeName>,
    /// Whose endpoints are to be looked at again.
    dirty: BTreeSet<Arc<ServiceName>>,
    /// When somebody has drained.
    deadlines: BTreeSet<(Instant, Arc<ServiceName>)>,
    /// Until the first [`Roster::take_changed`].
    is_founding: bool,
    /// At the founding: who had flows.
    served: HashMap<ServiceName, HashSet<IpAddr>>,
}

impl Roster {
    /// Of this node.
    ///
    /// Everything that is known has to be put before the first [`Roster::take_changed`]: who is there by then is
    /// presumed to serve until a health check says otherwise, as an agent that begins anew finds endpoints at work.
    pub fn new(node: NodeName) -> Self {
        Self {
            node: Arc::new(node),
            services: HashMap::new(),
            index: Index::default(),
            labels: Alike::default(),
            nodes: Alike::default(),
            dirty: BTreeSet::new(),
            deadlines: BTreeSet::new(),
            is_founding: true,
            served: HashMap::new(),
        }
    }

    /// Who got flows before the first [`Roster::take_changed`], of services where that is known: of these nobody else
    /// is presumed to serve.
    pub fn put_served(&mut self, served: HashMap<ServiceName, HashSet<IpAddr>>) {
        self.served = served;
    }

    /// A service is there, or is another than before.
    pub fn put_service(&mut self, deployment: Deployment, now: Instant) {
        let name = self.known(&deployment.service.name);
        let sought = selectors(&deployment.service.selector, deployment.rollout.as_ref());
        let lean = Lean::new(deployment);
        let held = self.services.entry(name.clone()).or_default();
        if held.lean.as_deref() == Some(&lean) {
            return;
        }
        let is_as_far =
            |before: &Lean| before.rollout == lean.rollout && before.selector() == lean.selector();
        if !held.lean.as_deref().is_some_and(is_as_far) {
            held.since = Some(now);
        }
        self.index.forget(&name, &held.sought);
        held.sought = self.index.seek(&name, &sought);
        held.lean = Some(Box::new(lean));
        held.is_altered = true;
        self.dirty.insert(name);
    }

    /// A service is gone. Its endpoints in the catalogue are kept until they go, too.
    pub fn remove_service(&mut self, name: &ServiceName) {
        let name = self.known(name);
        if let Some(held) = self.services.get_mut(&name) {
            self.index.forget(&name, &held.sought);
            *held = Held { entries: std::mem::take(&mut held.entries), is_altered: true, ..Held::default() };
            self.dirty.insert(name);
        }
    }

    /// A container of this host is attached, or is another than before.
    pub fn put_candidate(&mut self, candidate: Candidate, _now: Instant) {
        self.dirty.append(&mut self.index.put(candidate));
    }

    /// A container's attachment is gone.
    pub fn remove_candidate(&mut self, attachment: &AttachmentId) {
        self.dirty.append(&mut self.index.remove(attachment));
        // It may have lost its labels first: a runtime takes a chain of plugins away one by one.
        let due = self.deadlines.iter().filter(|(_, name)| self.drains(name, attachment));
        let left: Vec<_> = due.map(|(_, name)| name.clone()).collect();
        self.dirty.extend(left);
    }

    /// An endpoint is in the catalogue. Those that are containers of this host are left out by the caller.
    pub fn put_endpoint(&mut self, endpoint: RegisteredEndpoint, _now: Instant) {
        let name = self.known(&endpoint.service);
        let labels = endpoint.labels.into_iter().map(|(key, value)| (key.into(), value.into()));
        let labels: Labels = labels.collect();
        let labels = (!labels.is_empty()).then(|| self.labels.share(labels));
        let who = match endpoint.origin {
            Origin::Added => Who::Added(labels),
            Origin::Container(_) => Who::Remote(labels),
        };
        let Endpoint { address, node, weight, state: given } = endpoint.endpoint;
        let (address, node) = (address.to_canonical(), node.map(|node| self.nodes.share(node)));
        self.services.entry(name.clone()).or_default().list(Entry {
            address,
            weight,
            given,
            health: Health::Unknown,
            place: Place::Outside,
            is_listed: true,
            who,
            node,
        });
        self.dirty.insert(name);
    }

    /// An endpoint is gone from the catalogue: one that somebody added drains, a container is gone.
    pub fn remove_endpoint(&mut self, service: &ServiceName, address: IpAddr) {
        let Some((name, held)) = self
            .services
            .get_key_value(service)
            .map(|(name, _)| name.clone())
            .and_then(|name| self.services.get_mut(&name).map(|held| (name, held)))
        else {
            return;
        };
        if let Ok(at) = held.find(address.to_canonical()) {
            held.entries[at].is_listed = false;
            self.dirty.insert(name);
        }
    }

    /// A check came to a verdict.
    pub fn judge(&mut self, check: &Check, verdict: Verdict, _now: Instant) {
        let Some(held) = self.services.get_mut(&check.service) else { return };
        if held.judge(check.address.to_canonical(), verdict) {
            let name = self.known(&check.service);
            self.dirty.insert(name);
        }
    }

    /// Services whose endpoints, or they themselves, are not as they were at the last call; gone ones, too.
    ///
    /// What was put, removed and judged since shows in the answers of the others from here on.
    pub fn take_changed(&mut self, now: Instant) -> BTreeSet<ServiceName> {
        while let Some((due, name)) = self.deadlines.pop_first() {
            if due > now {
                self.deadlines.insert((due, name));
                break;
            }
            self.dirty.insert(name);
        }
        let dirty = std::mem::take(&mut self.dirty);
        let changed = dirty.into_iter().filter(|name| self.refresh(name, now));
        let changed = changed.map(|name| name.as_ref().clone()).collect();
        self.is_founding = false;
        self.served = HashMap::new();
        changed
    }

    /// When [`Roster::take_changed`] has to be called although nobody said anything: an endpoint has drained, or is to
    /// come back at once.
    pub fn next_change(&self) -> Option<Instant> {
        self.deadlines.first().map(|(due, _)| *due)
    }

    /// The service as the catalogue has it; none when it is gone.
    pub fn deployment(&self, name: &ServiceName) -> Option<Deployment> {
        self.held(name).map(|(_, lean)| lean.deployment(name))
    }

    /// What is to be programmed of a service; none when it is gone.
    pub fn workload(&self, name: &ServiceName) -> Option<Workload> {
        let (held, lean) = self.held(name)?;
        let endpoint = |entry: &Entry| Some(entry.endpoint(entry.state(held.is_checked())?));
        let endpoints = held.entries.iter().filter_map(endpoint).collect();
        Some(Workload { service: lean.service(name), endpoints })
    }

    /// The same with reasons, for people.
    pub fn crew(&self, name: &ServiceName) -> Option<Crew> {
        let (held, _) = self.held(name)?;
        let member = |entry: &Entry| {
            let endpoint = entry.endpoint(entry.state(held.is_checked())?);
            let why = held.why(entry).map(Into::into);
            Some((entry.address, Member { endpoint, source: entry.source(), why }))
        };
        Some(Crew { members: held.entries.iter().filter_map(member).collect() })
    }

    /// Which endpoints of the service are to be asked, and how. Containers of other nodes are asked by these.
    ///
    /// To be told to whoever asks after each [`Roster::take_changed`] that names the service: a verdict on who left
    /// is not one on who comes.
    pub fn checks(&self, name: &ServiceName) -> Option<(HealthCheck, Vec<Check>)> {
        let (held, lean) = self.held(name)?;
        let check = |entry: &Entry| Check { service: name.clone(), address: entry.address };
        let asked = held.entries.iter().filter(|entry| entry.is_asked()).map(check);
        Some((lean.health.as_deref()?.clone(), asked.collect()))
    }

    /// How the exchange of the service's endpoints stands; none: there is none. To be asked again when the service
    /// is among those that changed, and at the moment that is named.
    pub fn standing(&self, name: &ServiceName, now: Instant) -> Option<Standing> {
        let (name, held) = self.services.get_key_value(name)?;
        Some(Drive::new(held, name, &self.index, now)?.standing(&self.node))
    }

    fn refresh(&mut self, name: &Arc<ServiceName>, now: Instant) -> bool {
        let Some(held) = self.services.get_mut(name) else { return false };
        let served = self.served.get(name.as_ref());
        let (index, node, is_founding) = (&self.index, &self.node, self.is_founding);
        let ground = Ground { index, node, is_founding, served, now };
        let is_changed = held.refresh(&ground);
        self.deadlines.extend(held.aside.drained.values().map(|due| (*due, name.clone())));
        if held.comes_back {
            self.deadlines.insert((now, name.clone()));
        }
        if held.lean.is_none() && held.entries.is_empty() {
            self.services.remove(name);
        }
        is_changed
    }

    fn drains(&self, name: &ServiceName, attachment: &AttachmentId) -> bool {
        let is_it = |entry: &Entry| matches!(&entry.who, Who::Here(who) if **who == *attachment);
        let Some(held) = self.services.get(name) else { return false };
        held.entries.iter().any(|entry| entry.place == Place::Leaving && is_it(entry))
    }

    fn held(&self, name: &ServiceName) -> Option<(&Held, &Lean)> {
        let held = self.services.get(name)?;
        Some((held, held.lean.as_deref()?))
    }

    fn known(&self, name: &ServiceName) -> Arc<ServiceName> {
        self.services.get_key_value(name).map_or_else(|| Arc::new(name.clone()), |(name, _)| name.clone())
    }
}
