//! What is programmed and what many changed services come to: few transactions. Pure; who carries them out is
//! `programming.rs`.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnetwork::IpNetwork;
use zeugma_model::{Mode, ServiceName};
use zeugma_plan::Family;
use zeugma_plan::nft::services::{Changes, Element};
use zeugma_services::{Conflict, Programmed, Situation, Workload};

/// Elements after which a transaction is full. A service is whole in one.
const FULL: usize = 20_000;

/// A service as it is to be; none when it is gone.
pub(super) type Wish = (ServiceName, Option<Workload>);

/// What is programmed, or about to be.
#[derive(Debug, Default)]
pub(super) struct Batches {
    programmed: Programmed,
    /// Services that have something in the table.
    there: BTreeSet<ServiceName>,
    /// Those that lack a port or an address, and who has it.
    refused: BTreeMap<ServiceName, (Workload, BTreeSet<String>)>,
    /// Virtual addresses that are in no range.
    elsewhere: BTreeMap<ServiceName, Vec<IpNetwork>>,
    /// Those of endpoints, since the beginning.
    families: BTreeSet<Family>,
}

/// What is to be done.
#[derive(Debug, Default)]
pub(super) struct Batch {
    /// One transaction each, in order.
    pub(super) changes: Vec<Changes>,
    pub(super) conflicts: Vec<Conflict>,
    /// Services whose conflicts those are all of.
    pub(super) looked_at: Vec<ServiceName>,
}

impl Batches {
    /// What the kernel has.
    pub(super) fn observed(elements: Vec<Element>) -> Self {
        Self { programmed: Programmed::observed(elements), ..Self::default() }
    }

    /// Whether nothing has to be in the table.
    pub(super) fn is_empty(&self) -> bool {
        self.there.is_empty()
    }

    /// Addresses that clients have to find a way to, beside those in the ranges.
    pub(super) fn elsewhere(&self) -> impl Iterator<Item = IpNetwork> {
        self.elsewhere.values().flatten().copied()
    }

    /// Whether a service has it for its virtual address.
    pub(super) fn has_vip(&self, vip: IpAddr) -> bool {
        self.programmed.has_vip(vip)
    }

    /// Virtual addresses that are programmed.
    pub(super) fn vips(&self) -> impl Iterator<Item = IpAddr> {
        self.programmed.vips()
    }

    /// Families of which there were endpoints.
    pub(super) fn families(&self) -> &BTreeSet<Family> {
        &self.families
    }

    /// Services that were observed and are not among these.
    pub(super) fn unnamed(&self, workloads: &[Workload]) -> Vec<ServiceName> {
        let named: BTreeSet<&ServiceName> = workloads.iter().map(|one| &one.service.name).collect();
        self.programmed.names().filter(|name| !named.contains(name)).collect()
    }

    /// What is there of these stays, of what was observed: nobody can say what they are to be.
    pub(super) fn keep(&mut self, names: Vec<ServiceName>, ranges: &[IpNetwork]) {
        for name in names {
            let Some(vips) = self.programmed.keep(&name) else { continue };
            self.families.extend(vips.iter().copied().map(Family::of));
            let elsewhere = elsewhere(vips.into_iter(), ranges);
            if !elsewhere.is_empty() {
                self.elsewhere.insert(name.clone(), elsewhere);
            }
            self.there.insert(name);
        }
    }

    /// Brings everything else to what it is to be. It was observed just before.
    pub(super) fn sync(
        &mut self,
        workloads: Vec<Workload>,
        situation: &Situation,
        ranges: &[IpNetwork],
    ) -> Batch {
        workloads.iter().for_each(|workload| self.note(workload, ranges));
        if self.is_empty() {
            // The table goes as a whole.
            (self.programmed, self.refused) = Default::default();
            return Batch::default();
        }
        let (changes, conflicts) = self.programmed.sync(&workloads, situation);
        self.refused.clear();
        let mut batch = Batch { changes, conflicts, looked_at: Vec::new() };
        for workload in workloads {
            self.remember_refused(&workload, &batch.conflicts);
            batch.looked_at.push(workload.service.name);
        }
        batch
    }

    /// Brings some services to what they are to be, and those that got nothing because of them.
    pub(super) fn change(&mut self, wishes: Vec<Wish>, situation: &Situation, ranges: &[IpNetwork]) -> Batch {
        let mut batch = Batch::default();
        let mut names: BTreeSet<String> = BTreeSet::new();
        // Who gives something up comes before who takes it over.
        let (gone, there): (Vec<_>, Vec<_>) = wishes.into_iter().partition(|(_, wish)| wish.is_none());
        for (name, wish) in gone.into_iter().chain(there) {
            names.insert(name.to_string());
            self.forget(&name);
            match wish {
                None => batch.push(self.programmed.remove(&name)),
                Some(workload) => {
                    self.note(&workload, ranges);
                    self.update(&workload, situation, &mut batch);
                }
            }
            batch.looked_at.push(name);
        }
        let waits = |(_, owners): &(Workload, BTreeSet<String>)| !owners.is_disjoint(&names);
        let waiting: Vec<Workload> =
            self.refused.values().filter(|one| waits(one)).map(|(workload, _)| workload.clone()).collect();
        for workload in waiting {
            batch.conflicts.retain(|conflict| conflict.refused != workload.service.name);
            self.refused.remove(&workload.service.name);
            self.update(&workload, situation, &mut batch);
            batch.looked_at.push(workload.service.name);
        }
        batch
    }

    /// The subnets are others.
    pub(super) fn situate(&mut self, situation: &Situation) -> Changes {
        if self.is_empty() { Changes::default() } else { self.programmed.situate(situation) }
    }

    fn update(&mut self, workload: &Workload, situation: &Situation, batch: &mut Batch) {
        let (changes, conflicts) = self.programmed.update(workload, situation);
        batch.push(changes);
        self.remember_refused(workload, &conflicts);
        batch.conflicts.extend(conflicts);
    }

    fn remember_refused(&mut self, workload: &Workload, conflicts: &[Conflict]) {
        let name = &workload.service.name;
        let owners: BTreeSet<String> = conflicts
            .iter()
            .filter(|conflict| conflict.refused == *name)
            .map(|conflict| conflict.owner.clone())
            .collect();
        if !owners.is_empty() {
            self.refused.insert(name.clone(), (workload.clone(), owners));
        }
    }

    fn forget(&mut self, name: &ServiceName) {
        self.there.remove(name);
        self.elsewhere.remove(name);
        self.refused.remove(name);
    }

    fn note(&mut self, workload: &Workload, ranges: &[IpNetwork]) {
        let service = &workload.service;
        self.families.extend(workload.endpoints.iter().map(|endpoint| Family::of(endpoint.address)));
        let is_in_table = matches!(service.mode, Mode::Vip(_)) || !service.published.is_empty();
        if is_in_table {
            self.there.insert(service.name.clone());
        }
        let Mode::Vip(vips) = service.mode else { return };
        let elsewhere = elsewhere(vips.iter(), ranges);
        if !elsewhere.is_empty() {
            self.elsewhere.insert(service.name.clone(), elsewhere);
        }
    }
}

/// Those that are in no range.
fn elsewhere(vips: impl Iterator<Item = IpAddr>, ranges: &[IpNetwork]) -> Vec<IpNetwork> {
    let is_elsewhere = |address: &IpAddr| !ranges.iter().any(|range| range.contains(*address));
    vips.filter(is_elsewhere).map(IpNetwork::from).collect()
}

impl Batch {
    /// Adds to the transaction that is being filled. In each, elements go before others come.
    fn push(&mut self, changes: Changes) {
        let len = |changes: &Changes| changes.delete.len() + changes.add.len();
        match self.changes.last_mut().filter(|last| len(last) + len(&changes) <= FULL) {
            Some(last) => {
                last.delete.extend(changes.delete);
                last.add.extend(changes.add);
                last.leave.extend(changes.leave);
                last.forget.extend(changes.forget);
            }
            None if !changes.is_empty() => self.changes.push(changes),
            None => {}
        }
    }
}
