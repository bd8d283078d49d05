//! Services: what their networks know of them by name, and how the snapshot keeps that. Which names there are below a
//! service's own is `derived`'s matter.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use zeugma_model::{NetworkName, Protocol, ServiceName};

use super::Snapshot;
use super::answer::LOCALHOST;
use crate::wire::{above, wire_name};

/// A service, as its networks know it by name.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct NamedService {
    /// Its name.
    pub name: ServiceName,
    /// The networks whose members know it. Empty: nobody.
    pub networks: BTreeSet<NetworkName>,
    /// What its name is answered with: its virtual addresses, or (dnsrr) the endpoints that get flows.
    pub addresses: Vec<IpAddr>,
    /// What `tasks.NAME` is answered with: the endpoints that get flows; no unhealthy, no draining ones. The same as
    /// `addresses` in dnsrr, and in no other mode.
    pub tasks: Vec<IpAddr>,
    /// Named ports, for SRV.
    pub ports: Vec<NamedPort>,
}

/// A port of a service that has a name.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct NamedPort {
    /// Its name, without `_`.
    pub name: String,
    /// The transport protocol.
    pub protocol: Protocol,
    /// The port of the virtual address.
    pub port: u16,
    /// The port of the endpoints.
    pub target: u16,
}

/// A service as it is kept: there may be many, with many tasks.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Service {
    pub(super) name: ServiceName,
    pub(super) networks: Box<[NetworkName]>,
    /// None: it has no addresses but its tasks'.
    virtual_: Option<Addresses>,
    pub(super) tasks: Addresses,
    pub(super) ports: Box<[NamedPort]>,
}

/// Addresses in order, each once.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Addresses {
    pub(super) v4: Box<[Ipv4Addr]>,
    pub(super) v6: Box<[Ipv6Addr]>,
}

impl Snapshot {
    /// This one with the service, which takes the place of an earlier one of that name.
    ///
    /// Its cost does not grow with the number of services or members.
    #[must_use]
    pub fn with_service(&self, service: NamedService) -> Self {
        let mut changed = self.clone();
        changed.put_service(service);
        changed
    }

    /// This one without the service.
    #[must_use]
    pub fn without_service(&self, name: &ServiceName) -> Self {
        let mut changed = self.clone();
        changed.drop_service(name);
        changed
    }

    /// As [`Self::with_service`], here: many changes of one copy copy what they share once.
    pub fn put_service(&mut self, service: NamedService) {
        self.drop_service(&service.name);
        let service = Arc::new(Service::from(service));
        if let Some(name) = service.wire_name() {
            for network in &service.networks {
                self.change_net(network, |net| net.serve(&name, &service));
            }
            for address in service.virtual_.iter().flat_map(Addresses::iter) {
                self.virtuals.insert_mut(address, service.clone());
            }
        }
        self.services.insert_mut(service.name.clone(), service);
    }

    /// As [`Self::without_service`], here.
    pub fn drop_service(&mut self, name: &ServiceName) {
        let Some(service) = self.services.get(name).cloned() else { return };
        self.services.remove_mut(name);
        let Some(name) = service.wire_name() else { return };
        for network in &service.networks {
            self.change_net(network, |net| net.serve_no_more(&name, &service));
        }
        for address in service.virtual_.iter().flat_map(Addresses::iter) {
            // Another service may have got the address meanwhile.
            if self.virtuals.get(&address).is_some_and(|other| Arc::ptr_eq(other, &service)) {
                self.virtuals.remove_mut(&address);
            }
        }
    }
}

impl From<NamedService> for Service {
    fn from(service: NamedService) -> Self {
        let addresses: BTreeSet<_> = service.addresses.into_iter().collect();
        let tasks: BTreeSet<_> = service.tasks.into_iter().collect();
        Self {
            name: service.name,
            networks: service.networks.into_iter().collect(),
            virtual_: (addresses != tasks).then(|| Addresses::from(&addresses)),
            tasks: Addresses::from(&tasks),
            ports: service.ports.into(),
        }
    }
}

impl From<&BTreeSet<IpAddr>> for Addresses {
    fn from(addresses: &BTreeSet<IpAddr>) -> Self {
        let v4 = |address: &IpAddr| if let IpAddr::V4(address) = address { Some(*address) } else { None };
        let v6 = |address: &IpAddr| if let IpAddr::V6(address) = address { Some(*address) } else { None };
        Self { v4: addresses.iter().filter_map(v4).collect(), v6: addresses.iter().filter_map(v6).collect() }
    }
}

impl Service {
    /// What its name is answered with.
    pub(super) fn addresses(&self) -> &Addresses {
        self.virtual_.as_ref().unwrap_or(&self.tasks)
    }

    /// Whether its name stands for the tasks themselves.
    pub(super) fn is_headless(&self) -> bool {
        self.virtual_.is_none()
    }

    /// Its name in lower case on the wire; none when it has no place there, or is everywhere the host itself.
    pub(super) fn wire_name(&self) -> Option<Vec<u8>> {
        wire_name(self.name.as_str()).filter(|name| above(name, LOCALHOST).is_none())
    }
}

impl Addresses {
    pub(super) fn iter(&self) -> impl Iterator<Item = IpAddr> {
        self.v4.iter().copied().map(IpAddr::V4).chain(self.v6.iter().copied().map(IpAddr::V6))
    }
}
