//! The names of one network: which member or service has which, and what is answered to it.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use smallvec::SmallVec;
use zeugma_model::{Alias, AttachmentId};

use super::answer::LOCALHOST;
use super::names::Names;
use super::service::Service;
use super::{Map, Member, Network};
use crate::wire;
use wire::wire_name;

/// A network's settings, its names ready to be compared.
#[derive(Debug)]
pub(super) struct Settings {
    pub(super) network: Network,
    /// Its domain on the wire, in lower case; none when it has none or one without place there.
    pub(super) domain: Option<Vec<u8>>,
    /// Its own name as a suffix.
    pub(super) suffix: Option<Vec<u8>>,
}

/// A network with its members. A clone shares nearly everything.
#[derive(Clone, Default)]
pub(super) struct Net {
    /// None as long as only members or services are known: then nobody sees it.
    settings: Option<Arc<Settings>>,
    members: Map<AttachmentId, Arc<Member>>,
    names: Names,
    addresses: Map<IpAddr, Arc<[Arc<Member>]>>,
    /// How many services have a name here.
    services: usize,
}

/// Who has a name, and what is answered to it. What a question needs is at the beginning, side by side.
#[derive(Clone)]
#[repr(C)]
pub(super) struct Entry {
    /// In lower case on the wire.
    pub(super) name: SmallVec<[u8; 40]>,
    pub(super) v4: SmallVec<[Ipv4Addr; 2]>,
    pub(super) v6: SmallVec<[Ipv6Addr; 1]>,
    /// Whose own name it is, by attachment.
    pub(super) own: Vec<Arc<Member>>,
    /// Who has it as an alias; nobody gets it as such when it is somebody's own name.
    pub(super) shared: Vec<Arc<Member>>,
    /// Which services are named so, by name: the first one answers, and no member does. Their names differ by case.
    pub(super) services: Vec<Arc<Service>>,
    /// How many names end in this one: it exists, if only as a place on the way to those.
    below: usize,
}

impl Net {
    pub(super) fn set(&mut self, network: Network) {
        let on_wire = |text: &str| wire_name(text).filter(|name| !name.is_empty());
        let (domain, suffix) = (on_wire(&network.domain), on_wire(network.name.as_str()));
        self.settings = Some(Arc::new(Settings { network, domain, suffix }));
    }

    pub(super) fn settings(&self) -> Option<&Arc<Settings>> {
        self.settings.as_ref()
    }

    pub(super) fn members(&self) -> impl ExactSizeIterator<Item = &Arc<Member>> {
        self.members.values()
    }

    /// Names with who has them, in no order.
    pub(super) fn names(&self) -> impl Iterator<Item = &Entry> {
        self.names.iter()
    }

    /// Who has a name, without domain, in lower case on the wire.
    pub(super) fn name(&self, name: &[u8]) -> Option<&Entry> {
        self.names.get(name)
    }

    /// Who has an address.
    pub(super) fn at(&self, address: IpAddr) -> &[Arc<Member>] {
        self.addresses.get(&address).map_or(&[], |members| members)
    }

    /// The member must not be in yet.
    pub(super) fn insert(&mut self, member: Member) {
        let member = Arc::new(member);
        self.members.insert_mut(member.attachment.clone(), member.clone());
        for (name, is_own) in spellings(&member) {
            self.edit(&name, |entry| place(entry.holders(is_own), &member));
            ancestors(&name, |above| self.edit(above, |entry| entry.below += 1));
        }
        for address in unique(&member.addresses) {
            let mut members = self.at(address).to_vec();
            place(&mut members, &member);
            self.addresses.insert_mut(address, members.into());
        }
    }

    pub(super) fn remove(&mut self, id: &AttachmentId) {
        let Some(member) = self.members.get(id).cloned() else { return };
        self.members.remove_mut(id);
        for (name, is_own) in spellings(&member) {
            self.edit(&name, |entry| take(entry.holders(is_own), id));
            ancestors(&name, |above| self.edit(above, |entry| entry.below -= 1));
        }
        for address in unique(&member.addresses) {
            let mut members = self.at(address).to_vec();
            take(&mut members, id);
            if members.is_empty() {
                self.addresses.remove_mut(&address);
            } else {
                self.addresses.insert_mut(address, members.into());
            }
        }
    }

    /// Takes all out but the services.
    pub(super) fn vacate(&mut self) {
        if self.services == 0 {
            return *self = Self::default();
        }
        self.settings = None;
        let ids: Vec<_> = self.members.keys().cloned().collect();
        ids.iter().for_each(|id| self.remove(id));
    }

    /// Whether there is nothing to know of it.
    pub(super) fn is_empty(&self) -> bool {
        self.settings.is_none() && self.members.is_empty() && self.services == 0
    }

    pub(super) fn has_services(&self) -> bool {
        self.services > 0
    }

    /// The service must not be in yet. `name` is its name on the wire.
    pub(super) fn serve(&mut self, name: &[u8], service: &Arc<Service>) {
        self.services += 1;
        self.edit(name, |entry| {
            let at = entry.services.partition_point(|other| other.name < service.name);
            entry.services.insert(at, service.clone());
        });
        ancestors(name, |above| self.edit(above, |entry| entry.below += 1));
    }

    /// The service must be in.
    pub(super) fn serve_no_more(&mut self, name: &[u8], service: &Service) {
        self.services -= 1;
        self.edit(name, |entry| entry.services.retain(|other| other.name != service.name));
        ancestors(name, |above| self.edit(above, |entry| entry.below -= 1));
    }

    fn edit(&mut self, name: &[u8], change: impl FnOnce(&mut Entry)) {
        let mut entry = self.name(name).cloned().unwrap_or_else(|| Entry::new(name));
        change(&mut entry);
        if entry.is_nothing() {
            self.names.remove(name);
        } else {
            entry.settle();
            self.names.insert(entry);
        }
    }
}

impl Entry {
    /// Nobody's.
    fn new(name: &[u8]) -> Self {
        let (v4, v6) = (SmallVec::new(), SmallVec::new());
        let (own, shared, services) = (Vec::new(), Vec::new(), Vec::new());
        Self { name: name.into(), v4, v6, own, shared, services, below: 0 }
    }

    fn is_nothing(&self) -> bool {
        self.own.is_empty() && self.shared.is_empty() && self.services.is_empty() && self.below == 0
    }

    /// The service that has the name.
    pub(super) fn service(&self) -> Option<&Arc<Service>> {
        self.services.first()
    }

    fn holders(&mut self, own: bool) -> &mut Vec<Arc<Member>> {
        if own { &mut self.own } else { &mut self.shared }
    }

    /// Whose addresses are answered: nobody's where a service has the name, and an own name is no one else's alias.
    pub(super) fn answering(&self) -> &[Arc<Member>] {
        match (self.services.is_empty(), self.own.is_empty()) {
            (false, _) => &[],
            (true, false) => &self.own,
            (true, true) => &self.shared,
        }
    }

    /// Whoever wants the name, the owners first.
    pub(super) fn members(&self) -> impl Iterator<Item = &Arc<Member>> {
        self.own.iter().chain(&self.shared)
    }

    /// Gathers the addresses, so that a question finds them side by side.
    fn settle(&mut self) {
        if let Some(addresses) = self.service().map(|service| service.addresses()) {
            (self.v4, self.v6) = (SmallVec::from_slice(&addresses.v4), SmallVec::from_slice(&addresses.v6));
            return;
        }
        let mut seen = BTreeSet::new();
        let (mut v4, mut v6) = (SmallVec::new(), SmallVec::new());
        let addresses = self.answering().iter().flat_map(|member| &member.addresses);
        for address in addresses.filter(|address| seen.insert(**address)) {
            match address {
                IpAddr::V4(address) => v4.push(*address),
                IpAddr::V6(address) => v6.push(*address),
            }
        }
        (self.v4, self.v6) = (v4, v6);
    }
}

/// A member's names on the wire, each once, and whether it is its own. `localhost` is nobody's: RFC 6761, 6.3.
fn spellings(member: &Member) -> Vec<(Vec<u8>, bool)> {
    let mut seen = BTreeSet::new();
    let own = member.names.iter().map(|name| (name, true));
    let all = own.chain(member.aliases.iter().map(|alias| (alias, false)));
    let on_wire = |(name, is_own): (&Alias, bool)| Some((wire_name(name.as_str())?, is_own));
    let may_be_had = |name: &[u8]| wire::above(name, LOCALHOST).is_none();
    all.filter_map(on_wire).filter(|(name, _)| may_be_had(name) && seen.insert(name.clone())).collect()
}

/// Hands on the names above a name, but for the root.
fn ancestors(name: &[u8], mut each: impl FnMut(&[u8])) {
    let mut name = name;
    while let Some(above) = wire::parent(name).filter(|above| !above.is_empty()) {
        each(above);
        name = above;
    }
}

fn unique(addresses: &[IpAddr]) -> BTreeSet<IpAddr> {
    addresses.iter().copied().collect()
}

/// Keeps the order by attachment: the answer does not depend on who came first.
fn place(members: &mut Vec<Arc<Member>>, member: &Arc<Member>) {
    let at = members.partition_point(|other| other.attachment < member.attachment);
    members.insert(at, member.clone());
}

fn take(members: &mut Vec<Arc<Member>>, id: &AttachmentId) {
    members.retain(|member| member.attachment != *id);
}
