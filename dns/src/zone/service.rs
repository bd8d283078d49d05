//! Services: what their networks know of them by name.

use std::collections::BTreeSet;
use std::net::IpAddr;

use zeugma_model::{NetworkName, Protocol, ServiceName};

use super::Snapshot;

/// A service, as its networks know it by name.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct NamedService {
    /// Its name.
    pub name: ServiceName,
    /// The networks whose members know it. Empty: nobody.
    pub networks: BTreeSet<NetworkName>,
    /// What its name is answered with: its virtual addresses, or (dnsrr) the endpoints that get flows.
    pub addresses: Vec<IpAddr>,
    /// What `tasks.NAME` is answered with: the endpoints that get flows; no unhealthy, no draining ones.
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

impl Snapshot {
    /// This one with the service, which takes the place of an earlier one of that name.
    #[must_use]
    pub fn with_service(&self, service: NamedService) -> Self {
        let mut changed = self.clone();
        changed.services.insert_mut(service.name.clone(), service.into());
        changed
    }

    /// This one without the service.
    #[must_use]
    pub fn without_service(&self, name: &ServiceName) -> Self {
        let mut changed = self.clone();
        changed.services.remove_mut(name);
        changed
    }
}
