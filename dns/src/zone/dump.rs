//! All names as plain values, for who wants to look.

use std::net::IpAddr;
use std::sync::Arc;

use zeugma_model::AttachmentId;

use super::network::{Entry, Net};
use super::{Member, Network, Snapshot};
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
    /// Who has it as an alias and does not get it, because it is somebody's own name.
    pub refused: Vec<AttachmentId>,
}

impl Snapshot {
    /// Everything that is answered, by network and name.
    pub fn dump(&self) -> Vec<NetworkDump> {
        let mut dumps: Vec<_> = self.nets().filter_map(Net::dump).collect();
        dumps.sort_by(|one, other| one.network.name.cmp(&other.network.name));
        dumps
    }
}

impl Net {
    fn dump(&self) -> Option<NetworkDump> {
        let network = self.settings()?.network.clone();
        let is_held = |(_, entry): &(&[u8], &Entry)| !entry.answering().is_empty();
        let mut names: Vec<_> = self.names().filter(is_held).map(|(name, entry)| entry.dump(name)).collect();
        names.sort_by(|one, other| one.name.cmp(&other.name));
        Some(NetworkDump { network, names })
    }
}

impl Entry {
    fn dump(&self, name: &[u8]) -> NameDump {
        let ids = |members: &[Arc<Member>]| members.iter().map(|member| member.attachment.clone()).collect();
        let text = |label| String::from_utf8_lossy(label).into_owned();
        NameDump {
            name: labels(name).map(text).collect::<Vec<_>>().join("."),
            addresses: self
                .v4
                .iter()
                .map(|a| IpAddr::V4(*a))
                .chain(self.v6.iter().map(|a| IpAddr::V6(*a)))
                .collect(),
            attachments: ids(self.answering()),
            refused: ids(self.refused()),
        }
    }
}
