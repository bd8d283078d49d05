//! What is programmed, and what changes when services, endpoints or the situation do.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

use ipnetwork::IpNetwork;
use zeugma_model::{Protocol, ServiceName};
use zeugma_plan::Family;
use zeugma_plan::nft::services::{Backend, Changes, Element, Forget, Frontend, Leave};

use crate::frontends::Frontends;
use crate::shared::Shared;
use crate::slots::placed;
use crate::wanted::{Situation, Wanted, WantedService, Workload, wanted};

/// Elements after which a transaction is full, when much is to be done: services are whole in one.
const FULL: usize = 20_000;

/// The state of the table, as far as it is programmed.
///
/// Every change that is returned has to reach the kernel, in order. When one does not, the value is of no use any
/// more: observe the kernel and begin anew.
#[derive(Debug, Clone, Default)]
pub struct Programmed {
    pub(crate) services: HashMap<Arc<str>, Held>,
    pub(crate) owners: HashMap<Frontend, Arc<str>>,
    pub(crate) shared: Shared,
    pub(crate) ground: BTreeSet<Element>,
    /// What the kernel has and nobody can have programmed.
    pub(crate) stray: Vec<Element>,
    /// Whose elements stay at the next sync, whoever is named there.
    pub(crate) kept: HashSet<Arc<str>>,
    /// It was observed: whether clients stay with whom they may was not.
    pub(crate) is_adopted: bool,
}

/// Two services want the same address and port: the one that has it keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conflict {
    /// The address and port.
    pub frontend: Frontend,
    /// Who has it.
    pub owner: String,
    /// Who does not get it.
    pub refused: ServiceName,
}

/// A service that is programmed.
#[derive(Debug, Clone, Default)]
pub(crate) struct Held {
    pub(crate) vips: Vec<IpAddr>,
    pub(crate) ports: Vec<(Family, Protocol, u16)>,
    pub(crate) here: Vec<IpAddr>,
    pub(crate) frontends: Frontends,
}

/// A frontend's flows, spread over endpoints.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Spread {
    pub(crate) slots: Vec<Backend>,
    pub(crate) others: Vec<Backend>,
    pub(crate) affinity: Option<u32>,
}

impl Programmed {
    /// Brings one service to what it is to be, in one transaction.
    pub fn update(&mut self, workload: &Workload, situation: &Situation) -> (Changes, Vec<Conflict>) {
        let mut changes = Changes::default();
        let conflicts = self.replace(&workload.service.name, wanted(workload, situation), &mut changes);
        self.shared.settle(&mut changes);
        (changes, conflicts)
    }

    /// Takes a service away, in one transaction.
    pub fn remove(&mut self, name: &ServiceName) -> Changes {
        let mut changes = Changes::default();
        self.replace(name, WantedService::default(), &mut changes);
        self.shared.settle(&mut changes);
        changes
    }

    /// Brings everything to what it is to be: what is not named goes. A service is whole in one transaction.
    pub fn sync(&mut self, workloads: &[Workload], situation: &Situation) -> (Vec<Changes>, Vec<Conflict>) {
        let (mut done, mut conflicts) = (Vec::new(), Vec::new());
        let mut changes = self.situate(situation);
        changes.delete.append(&mut self.stray);
        self.remove_unnamed(workloads, &mut changes);
        // Who gives an address or port up comes before who takes it over.
        let (giving, rest): (Vec<_>, Vec<_>) =
            workloads.iter().partition(|workload| self.gives_up(workload, situation));
        for workload in giving.into_iter().chain(rest) {
            let wanted = wanted(workload, situation);
            conflicts.extend(self.replace(&workload.service.name, wanted, &mut changes));
            if changes.delete.len() + changes.add.len() >= FULL {
                self.shared.settle(&mut changes);
                done.push(std::mem::take(&mut changes));
            }
        }
        if std::mem::take(&mut self.is_adopted) {
            self.look_at_clients(&mut changes);
            self.look_at_flows(&mut changes);
        }
        self.shared.touch_unclaimed();
        self.shared.settle(&mut changes);
        done.push(changes);
        done.retain(|changes| !changes.is_empty());
        (done, conflicts)
    }

    /// Who gets new flows, by service.
    pub fn serving(&self) -> HashMap<ServiceName, HashSet<IpAddr>> {
        let of = |held: &Held| {
            held.frontends
                .iter()
                .flat_map(|(_, spread)| &spread.slots)
                .map(|backend| backend.address)
                .collect()
        };
        self.services.iter().filter_map(|(name, held)| Some((name.parse().ok()?, of(held)))).collect()
    }

    /// The services that are programmed.
    pub fn names(&self) -> impl Iterator<Item = ServiceName> {
        self.services.keys().filter_map(|name| name.parse().ok())
    }

    /// Whether a service has it for its virtual address.
    pub fn has_vip(&self, vip: IpAddr) -> bool {
        self.shared.is_claimed(&Element::Vip(vip))
    }

    /// The virtual addresses of all services.
    pub fn vips(&self) -> impl Iterator<Item = IpAddr> {
        self.services.values().flat_map(|held| &held.vips).copied()
    }

    /// Brings what depends on the situation alone, the subnets, to what it is to be.
    pub fn situate(&mut self, situation: &Situation) -> Changes {
        let mut ground = BTreeSet::new();
        ground.extend(widest(&situation.direct).map(Element::Direct));
        ground.extend(widest(&situation.local).map(Element::Local));
        ground.extend(widest(&situation.inside).map(Element::Inside));
        ground.extend(overlays(&situation.overlays));
        ground.extend(widest(&situation.ranges).map(Element::Range));
        let changes = Changes {
            delete: self.ground.difference(&ground).cloned().collect(),
            add: ground.difference(&self.ground).cloned().collect(),
            ..Changes::default()
        };
        self.ground = ground;
        changes
    }

    fn look_at_clients(&self, changes: &mut Changes) {
        let frontends = self.services.values().flat_map(|held| held.frontends.iter());
        let affine = frontends.filter(|(_, spread)| spread.affinity.is_some());
        changes.leave.extend(
            affine.map(|(at, spread)| Leave { frontend: *at, keep: spread.stays().into_iter().collect() }),
        );
    }

    /// Flows of datagrams that whoever programmed before did not get to forget stay with who is gone.
    fn look_at_flows(&self, changes: &mut Changes) {
        let frontends = self.services.values().flat_map(|held| held.frontends.iter());
        let of_datagrams = frontends.filter(|(at, _)| at.protocol != Protocol::Tcp);
        let mut forget: Vec<Forget> = of_datagrams
            .map(|(at, spread)| Forget { frontend: *at, keep: spread.keeps().into_iter().collect() })
            .collect();
        // What the changes themselves forget is among it.
        forget.sort_unstable_by_key(|one| one.frontend);
        let known: HashSet<Frontend> = forget.iter().map(|one| one.frontend).collect();
        changes.forget.retain(|one| !known.contains(&one.frontend));
        changes.forget.append(&mut forget);
    }

    fn remove_unnamed(&mut self, workloads: &[Workload], changes: &mut Changes) {
        let named: HashSet<&str> = workloads.iter().map(|one| one.service.name.as_str()).collect();
        let kept = std::mem::take(&mut self.kept);
        let is_gone = |name: &&Arc<str>| !named.contains(&***name) && !kept.contains(*name);
        let mut gone: Vec<Arc<str>> = self.services.keys().filter(is_gone).cloned().collect();
        gone.sort_unstable();
        for name in gone {
            self.replace_held(&name, Held::default(), changes);
        }
    }

    fn gives_up(&self, workload: &Workload, situation: &Situation) -> bool {
        let Some(held) = self.services.get(workload.service.name.as_str()) else { return false };
        let wanted = wanted(workload, situation);
        held.frontends.iter().any(|(frontend, _)| !wanted.frontends.contains_key(frontend))
    }

    fn replace(&mut self, name: &ServiceName, wanted: WantedService, changes: &mut Changes) -> Vec<Conflict> {
        let mut conflicts = Vec::new();
        let mut held = Held { vips: wanted.vips, ports: wanted.ports, here: wanted.here, ..Held::default() };
        for (frontend, wanted) in wanted.frontends {
            match self.owners.get(&frontend).filter(|owner| &***owner != name.as_str()) {
                Some(owner) => {
                    let owner = owner.to_string();
                    conflicts.push(Conflict { frontend, owner, refused: name.clone() });
                }
                None => {
                    let before =
                        self.services.get(name.as_str()).and_then(|held| held.frontends.get(&frontend));
                    held.frontends.insert(frontend, Spread::new(before, wanted));
                }
            }
        }
        self.replace_held(&Arc::from(name.as_str()), held, changes);
        conflicts
    }

    fn replace_held(&mut self, name: &Arc<str>, held: Held, changes: &mut Changes) {
        let before = self.services.remove(name).unwrap_or_default();
        held.shared().for_each(|element| self.shared.claim(element));
        before.shared().for_each(|element| self.shared.release(element));
        for (frontend, spread) in before.frontends.iter() {
            if !held.frontends.contains(frontend) {
                self.owners.remove(frontend);
                change(*frontend, name, (spread, &Spread::default()), changes);
            }
        }
        let nothing = Spread::default();
        for (frontend, spread) in held.frontends.iter() {
            self.owners.insert(*frontend, name.clone());
            let before = before.frontends.get(frontend).unwrap_or(&nothing);
            change(*frontend, name, (before, spread), changes);
        }
        if !held.is_empty() {
            self.services.insert(name.clone(), held);
        }
    }
}

impl Held {
    fn is_empty(&self) -> bool {
        self.vips.is_empty() && self.ports.is_empty() && self.here.is_empty() && self.frontends.is_empty()
    }

    pub(crate) fn shared(&self) -> impl Iterator<Item = Element> {
        let vips = self.vips.iter().copied().map(Element::Vip);
        let ports =
            self.ports.iter().map(|(family, protocol, port)| Element::Port(*family, *protocol, *port));
        vips.chain(ports).chain(self.here.iter().copied().map(Element::Hairpin))
    }
}

impl Spread {
    fn new(before: Option<&Self>, wanted: Wanted) -> Self {
        let previous = before.map_or(&[][..], |before| &before.slots);
        Self {
            slots: placed(previous, &wanted.ready),
            others: wanted.others,
            affinity: wanted.affinity.filter(|_| !wanted.ready.is_empty()),
        }
    }

    /// Whom clients may stay with.
    fn stays(&self) -> BTreeSet<Backend> {
        self.slots.iter().copied().filter(|_| self.affinity.is_some()).collect()
    }

    /// Who answers flows that are to live on.
    fn keeps(&self) -> BTreeSet<Backend> {
        self.slots.iter().chain(&self.others).copied().collect()
    }
}

/// The least that leads from one to the other.
fn change(frontend: Frontend, name: &Arc<str>, (before, after): (&Spread, &Spread), changes: &mut Changes) {
    let service = |spread: &Spread| {
        let slots = spread.slots.len() as u32;
        (slots > 0).then(|| Element::Service(frontend, slots, spread.affinity.is_some(), name.clone()))
    };
    put(service(before), service(after), changes);
    for slot in 0..before.slots.len().max(after.slots.len()) {
        let element = |spread: &Spread| {
            spread.slots.get(slot).map(|backend| Element::Endpoint(frontend, slot as u32, *backend))
        };
        put(element(before), element(after), changes);
    }
    let affine = |spread: &Spread| spread.affinity.map(|seconds| Element::Affine(frontend, seconds));
    put(affine(before), affine(after), changes);
    changes.leave.extend(to_leave(frontend, before, after));
    if frontend.protocol != Protocol::Tcp {
        changes.forget.extend(to_forget(frontend, before, after));
    }
}

fn put(before: Option<Element>, after: Option<Element>, changes: &mut Changes) {
    if before != after {
        changes.delete.extend(before);
        changes.add.extend(after);
    }
}

/// Clients of who gets no new flows any more, or of everyone when clients no longer stay.
fn to_leave(frontend: Frontend, before: &Spread, after: &Spread) -> Option<Leave> {
    before.affinity?;
    let keep = after.stays();
    let is_left = before.slots.iter().any(|backend| !keep.contains(backend));
    is_left.then(|| Leave { frontend, keep: keep.into_iter().collect() })
}

/// Flows of who is gone, and, with the first endpoint, flows that nobody translated.
fn to_forget(frontend: Frontend, before: &Spread, after: &Spread) -> Option<Forget> {
    let keep = after.keeps();
    let begins = before.slots.is_empty() && !after.slots.is_empty();
    let is_lost = begins || before.keeps().iter().any(|backend| !keep.contains(backend));
    is_lost.then(|| Forget { frontend, keep: keep.into_iter().collect() })
}

/// Overlays do not overlap. If they do, the wider one counts: a set of intervals takes no others beside.
fn overlays(networks: &[Vec<IpNetwork>]) -> BTreeSet<Element> {
    let all: BTreeSet<IpNetwork> = widest(&networks.concat()).collect();
    let mut elements: BTreeSet<Element> = all.iter().copied().map(Element::Overlay).collect();
    for network in networks {
        let subnets: Vec<IpNetwork> = widest(network).filter(|subnet| all.contains(subnet)).collect();
        let pairs = subnets.iter().flat_map(|one| subnets.iter().map(move |other| (*one, *other)));
        let of_family = pairs.filter(|(one, other)| one.is_ipv4() == other.is_ipv4());
        elements.extend(of_family.map(|(one, other)| Element::Within(one, other)));
    }
    elements
}

/// Subnets in a set must not overlap: the widest stand for all.
fn widest(subnets: &[IpNetwork]) -> impl Iterator<Item = IpNetwork> {
    let contains = |wide: &IpNetwork, narrow: &IpNetwork| {
        wide.prefix() < narrow.prefix() && wide.contains(narrow.network())
    };
    let is_widest = move |subnet: &&IpNetwork| !subnets.iter().any(|other| contains(other, subnet));
    let network = |subnet: &IpNetwork| {
        IpNetwork::new(subnet.network(), subnet.prefix()).expect("a subnet's length fits its family")
    };
    subnets.iter().filter(is_widest).map(network)
}
