//! All names as plain values, for who wants to look.

use std::net::IpAddr;
use std::sync::Arc;

use zeugma_model::{AttachmentId, NetworkName, ServiceName};

use super::network::{Entry, Net};
use super::service::Service;
use super::{Member, NamedPort, Network, Snapshot};
use crate::wire::labels;

/// A network and its names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkDump {
    /// Its settings.
    pub network: Network,
    /// By name.
    pub names: Vec<NameDump>,
}

/// A name and who has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NameDump {
    /// In lower case, without domain.
    pub name: String,
    /// What is answered, of both families.
    pub addresses: Vec<IpAddr>,
    /// Whose addresses those are.
    pub attachments: Vec<AttachmentId>,
    /// The services that have it, so that no container does; the first one answers, the others differ from it by case.
    pub services: Vec<ServiceName>,
    /// Who asked for it as well and does not get it: it is another's own name, a service's or below a service's.
    pub refused: Vec<AttachmentId>,
}

/// A service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceDump {
    /// Its name.
    pub name: ServiceName,
    /// Who knows it.
    pub networks: Vec<NetworkName>,
    /// What its name is answered with.
    pub addresses: Vec<IpAddr>,
    /// What `tasks.NAME` is answered with.
    pub tasks: Vec<IpAddr>,
    /// Its named ports.
    pub ports: Vec<NamedPort>,
    /// Whether its name has no place in DNS, or is `localhost`: then nothing is answered.
    pub nameless: bool,
}

impl Snapshot {
    /// Everything that is answered, by network and name.
    pub fn dump(&self) -> Vec<NetworkDump> {
        let mut dumps: Vec<_> = self.nets().filter_map(Net::dump).collect();
        dumps.sort_by(|one, other| one.network.name.cmp(&other.network.name));
        dumps
    }

    /// All services, by name.
    pub fn dump_services(&self) -> Vec<ServiceDump> {
        let mut dumps: Vec<_> = self.services.values().map(|service| service.dump()).collect();
        dumps.sort_by(|one, other| one.name.cmp(&other.name));
        dumps
    }
}

impl Service {
    fn dump(&self) -> ServiceDump {
        ServiceDump {
            name: self.name.clone(),
            networks: self.networks.to_vec(),
            addresses: self.addresses().iter().collect(),
            tasks: self.tasks.iter().collect(),
            ports: self.ports.to_vec(),
            nameless: self.wire_name().is_none(),
        }
    }
}

impl Net {
    fn dump(&self) -> Option<NetworkDump> {
        let network = self.settings()?.network.clone();
        let is_held = |entry: &&Entry| entry.service().is_some() || entry.members().next().is_some();
        let is_services = |entry: &Entry| self.derived(&entry.name, Some(entry)).is_some();
        let mut names: Vec<_> =
            self.names().filter(is_held).map(|entry| entry.dump(is_services(entry))).collect();
        names.sort_by(|one, other| one.name.cmp(&other.name));
        Some(NetworkDump { network, names })
    }
}

impl Entry {
    /// `is_services`: it is one of the names below a service's.
    fn dump(&self, is_services: bool) -> NameDump {
        let answered = if is_services { &[][..] } else { self.answering() };
        let (v4, v6) = if is_services { Default::default() } else { (&self.v4[..], &self.v6[..]) };
        let is_taken = is_services || self.service().is_some();
        let own = self.own.iter().filter(|_| is_taken);
        let refused = own.chain(self.shared.iter().filter(|_| is_taken || !self.own.is_empty()));
        let id = |member: &Arc<Member>| member.attachment.clone();
        let text = |label| String::from_utf8_lossy(label).into_owned();
        NameDump {
            name: labels(&self.name).map(text).collect::<Vec<_>>().join("."),
            addresses: v4.iter().copied().map(IpAddr::V4).chain(v6.iter().copied().map(IpAddr::V6)).collect(),
            attachments: answered.iter().map(id).collect(),
            services: self.services.iter().map(|service| service.name.clone()).collect(),
            refused: refused.map(id).collect(),
        }
    }
}
