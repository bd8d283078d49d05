//! Containers as the journal knows them: what `connect`, `disconnect` and `inspect` say of them.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Result, bail};
use ipnetwork::IpNetwork;
use zeugma_journal::{Entry, Journal};
use zeugma_model::{AttachmentId, ContainerId, Mac, NetworkName};

/// A container that is attached to something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Container {
    pub(super) id: ContainerId,
    /// Its own names, without aliases: those it may share.
    pub(super) names: Vec<String>,
    /// Where its namespace is, if it still is.
    pub(super) netns: Option<PathBuf>,
    pub(super) attachments: Vec<Attachment>,
}

/// One of its interfaces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Attachment {
    pub(super) id: AttachmentId,
    pub(super) mac: Option<Mac>,
    pub(super) addresses: Vec<IpNetwork>,
}

/// All containers of this host, by ID.
pub(super) fn containers(journal: &Journal) -> Result<BTreeMap<ContainerId, Container>> {
    let mut found = BTreeMap::new();
    for network in journal.networks()? {
        for id in journal.attachments(&network)? {
            let entries = journal.entries(&id)?;
            if !entries.is_empty() {
                let container = id.container.clone();
                let empty = || Container {
                    id: container.clone(),
                    names: Vec::new(),
                    netns: None,
                    attachments: Vec::new(),
                };
                found.entry(container.clone()).or_insert_with(empty).learn(id, &entries);
            }
        }
    }
    Ok(found)
}

impl Container {
    fn learn(&mut self, id: AttachmentId, entries: &[Entry]) {
        let records = || entries.iter().map(|entry| &entry.record);
        let pods = records().filter_map(|record| record.identity.pod.as_ref()).map(|pod| pod.name.clone());
        let own =
            records().filter_map(|record| record.resolver.as_ref()).flat_map(|resolver| &resolver.names);
        for name in pods.chain(own.map(ToString::to_string)) {
            if !self.names.contains(&name) {
                self.names.push(name);
            }
        }
        let alive = records().filter_map(|record| record.netns.as_ref()).find(|netns| netns.is_alive());
        self.netns = self.netns.take().or_else(|| alive.map(|netns| netns.path.clone()));
        let addresses = records().map(|record| &record.addresses).find(|addresses| !addresses.is_empty());
        self.attachments.push(Attachment {
            id,
            mac: records().find_map(|record| record.mac),
            addresses: addresses.cloned().unwrap_or_default(),
        });
    }

    /// On this network.
    pub(super) fn on<'a>(&'a self, network: &'a NetworkName) -> impl Iterator<Item = &'a Attachment> {
        self.attachments.iter().filter(move |attachment| attachment.id.network == *network)
    }
}

/// The container of that ID, of that name, or whose ID alone begins so, as container engines take it.
pub(super) fn find(journal: &Journal, word: &str) -> Result<Container> {
    let all = containers(journal)?;
    if let Some(exact) = all.values().find(|container| container.id.as_str() == word) {
        return Ok(exact.clone());
    }
    let is_named = |container: &&Container| container.names.iter().any(|name| name == word);
    let is_begun = |container: &&Container| container.id.as_str().starts_with(word);
    let named: Vec<&Container> = all.values().filter(is_named).collect();
    let begun: Vec<&Container> = all.values().filter(is_begun).collect();
    match if named.is_empty() { begun } else { named }.as_slice() {
        [one] => Ok((*one).clone()),
        [] => bail!(
            "no container {word} is attached to a network of this host: `zeugma ps` lists those that are; \
             name another's namespace with --netns PATH"
        ),
        several => {
            let ids: Vec<&str> = several.iter().map(|container| container.id.as_str()).collect();
            bail!("{word} may be each of {}: write more of the ID", ids.join(", "))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use zeugma_journal::Record;

    fn journal(containers: &[(&str, &str)]) -> (tempfile::TempDir, Journal) {
        let directory = tempfile::tempdir().unwrap();
        let journal = Journal::at(directory.path());
        for (id, name) in containers {
            let id = AttachmentId {
                network: "net".parse().unwrap(),
                container: id.parse().unwrap(),
                ifname: "eth0".parse().unwrap(),
            };
            let pod = json!({"plugin": "bridge", "phase": "done", "addresses": ["10.1.0.2/24"],
                "identity": {"pod": {"namespace": "", "name": name}}});
            let record: Record = serde_json::from_value(pod).unwrap();
            journal.begin(&id, record).unwrap();
        }
        (directory, journal)
    }

    #[test]
    fn containers_are_found_by_id_by_name_and_by_the_begin_of_an_id() {
        let (_directory, journal) = journal(&[("abc1", "web"), ("abd2", "db"), ("abc", "abd2")]);
        let id = |word: &str| find(&journal, word).map(|container| container.id.to_string());
        assert_eq!(id("web").unwrap(), "abc1");
        assert_eq!(id("abc").unwrap(), "abc");
        assert_eq!(id("abd").unwrap(), "abd2");
        assert_eq!(id("abd2").unwrap(), "abd2");
        assert!(id("ab").unwrap_err().to_string().contains("write more"));
        assert!(id("nobody").unwrap_err().to_string().contains("--netns"));
    }
}
