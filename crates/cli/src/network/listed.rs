//! `zeugma network ls`: lists on disk, whoever made them, and what the catalogue has beside.

use std::collections::BTreeSet;
use std::thread::sleep;
use std::time::Duration;

use anyhow::Result;
use serde::Serialize;
use zeugma_api::{NETWORKS, NetworkView};
use zeugma_journal::Journal;
use zeugma_model::NetworkName;

use super::Places;
use crate::client::Question;
use crate::table;

/// Between two looks: files and the journal tell nobody of what is new.
const LOOK: Duration = Duration::from_millis(500);

/// A network as `--json` has it: an interface to be relied upon, docs/reference/cli.md.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Listed {
    name: NetworkName,
    driver: String,
    subnets: Vec<String>,
    containers: usize,
    /// Whether zeugma made it.
    ours: bool,
    /// The list; none: it is not on this host.
    file: Option<String>,
}

/// All networks; after the first time, a while later.
pub(super) fn fetch(places: &Places, after: Option<u64>) -> Result<(Vec<Listed>, u64)> {
    if after.is_some() {
        sleep(LOOK);
    }
    let journal = Journal::default();
    let on = |name: &NetworkName| -> Result<usize> {
        let attached = journal.attachments(name)?;
        Ok(attached.iter().map(|id| &id.container).collect::<BTreeSet<_>>().len())
    };
    let mut found = Vec::new();
    for list in places.directory().lists()? {
        found.push(Listed {
            driver: list.driver().to_owned(),
            subnets: list.subnets().iter().map(|(subnet, _)| subnet.to_string()).collect(),
            containers: on(&list.name)?,
            ours: list.is_ours(),
            file: Some(list.path.display().to_string()),
            name: list.name,
        });
    }
    // Without an agent the files are all there is.
    for NetworkView { network, problems, .. } in all().unwrap_or_default() {
        if after.is_none() {
            problems.iter().for_each(|problem| eprintln!("zeugma: network {}: {problem}", network.name));
        }
        if !found.iter().any(|listed| listed.ours && listed.name == network.name) {
            found.push(Listed {
                driver: network.driver.as_str().into(),
                subnets: network.subnets.iter().map(ToString::to_string).collect(),
                containers: on(&network.name)?,
                ours: true,
                file: None,
                name: network.name,
            });
        }
    }
    found.sort_by(|one, other| (!one.ours, &one.name).cmp(&(!other.ours, &other.name)));
    Ok((found, 0))
}

/// Those of the catalogue.
pub(crate) fn all() -> Result<Vec<NetworkView>> {
    Question::get(NETWORKS).answer()
}

/// For people. Networks of other makers bear their file's name.
pub(super) fn table(networks: &[Listed]) -> String {
    let row = |one: &Listed| {
        let origin = match (one.ours, &one.file) {
            (true, Some(_)) => "zeugma".into(),
            (true, None) => "zeugma, not on this host".into(),
            (false, file) => file.clone().unwrap_or_default(),
        };
        let (name, containers) = (one.name.to_string(), one.containers.to_string());
        [name, one.driver.clone(), one.subnets.join(","), containers, origin]
    };
    let rows: Vec<[String; 5]> = networks.iter().map(row).collect();
    table::table(["NAME", "DRIVER", "SUBNETS", "CONTAINERS", "FROM"], &rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whose_a_network_is_can_be_seen() {
        let listed = |name: &str, ours: bool, file: Option<&str>| Listed {
            name: name.parse().unwrap(),
            driver: "bridge".into(),
            subnets: vec!["10.1.0.0/24".into(), "fd00::/64".into()],
            containers: 2,
            ours,
            file: file.map(str::to_owned),
        };
        let text = table(&[listed("front", true, Some("/x")), listed("lab", false, Some("/e/10-lab.conf"))]);
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[1].starts_with("front") && lines[1].ends_with("zeugma"), "{text}");
        assert!(lines[2].ends_with("/e/10-lab.conf") && lines[2].contains("10.1.0.0/24,fd00::/64"), "{text}");
    }
}
