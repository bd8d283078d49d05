//! `zeugma ps`: what is attached to this host, by the journal. Needs no agent, and asks the kernel nothing.

use std::collections::BTreeSet;

use anyhow::Result;
use clap::Args;
use ipnetwork::IpNetwork;
use serde::Serialize;
use zeugma_journal::{Entry, Journal};
use zeugma_model::{AttachmentId, ContainerId, HostAddress, IfName, Mac, NetworkName, PortMapping};

use crate::table::table;

/// Digits of a container's ID in the table, as container engines show it.
const SHORT_ID: usize = 12;

/// What to list.
#[derive(Debug, Clone, Args)]
pub(crate) struct Flags {
    /// Only this network's attachments.
    #[arg(long)]
    network: Option<NetworkName>,
    /// Prints a JSON list with full container IDs: see docs/reference/cli.md.
    #[arg(long)]
    json: bool,
}

/// An attachment as `--json` has it: an interface to be relied upon, docs/reference/cli.md.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Attachment {
    container: ContainerId,
    network: NetworkName,
    interface: IfName,
    addresses: Vec<IpNetwork>,
    mac: Option<Mac>,
    ports: Vec<Port>,
    names: Vec<String>,
    domain: Option<String>,
}

/// A published port; without `address`: on every address of the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Port {
    #[serde(skip_serializing_if = "Option::is_none")]
    address: Option<String>,
    host: u16,
    container: u16,
    protocol: &'static str,
}

/// The list as text.
pub(crate) fn run(flags: &Flags) -> Result<String> {
    let found = attachments(&Journal::default(), flags.network.as_ref())?;
    if flags.json {
        return Ok(serde_json::to_string_pretty(&found)? + "\n");
    }
    let rows: Vec<[String; 7]> = found.iter().map(row).collect();
    Ok(table(["CONTAINER", "NETWORK", "INTERFACE", "ADDRESSES", "MAC", "PORTS", "NAMES"], &rows))
}

fn attachments(journal: &Journal, only: Option<&NetworkName>) -> Result<Vec<Attachment>> {
    let networks = only.map_or_else(|| journal.networks(), |network| Ok(vec![network.clone()]))?;
    let mut found = Vec::new();
    for network in networks {
        for id in journal.attachments(&network)? {
            let entries = journal.entries(&id)?;
            // A DEL may have been faster, and records of an earlier boot are nothing.
            found.extend((!entries.is_empty()).then(|| attachment(id, &entries)));
        }
    }
    Ok(found)
}

/// What the records of an attachment's plugins say together.
fn attachment(id: AttachmentId, entries: &[Entry]) -> Attachment {
    let records = || entries.iter().map(|entry| &entry.record);
    let addresses = records().map(|record| &record.addresses).find(|addresses| !addresses.is_empty());
    let ports: BTreeSet<PortMapping> = records().flat_map(|record| record.ports.iter().copied()).collect();
    let resolver = records().rev().find_map(|record| record.resolver.as_ref());
    let mut names: Vec<String> = Vec::new();
    let pods = records().filter_map(|record| record.identity.pod.as_ref()).map(|pod| pod.name.clone());
    let own = resolver.into_iter().flat_map(|resolver| &resolver.names).map(ToString::to_string);
    let aliases = records().flat_map(|record| &record.identity.aliases).map(ToString::to_string);
    for name in pods.chain(own).chain(aliases) {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    Attachment {
        container: id.container,
        network: id.network,
        interface: id.ifname,
        addresses: addresses.cloned().unwrap_or_default(),
        mac: records().find_map(|record| record.mac),
        ports: ports.iter().map(port).collect(),
        names,
        domain: resolver.map(|resolver| resolver.domain.clone()),
    }
}

fn port(mapping: &PortMapping) -> Port {
    Port {
        address: match mapping.host_address {
            HostAddress::Any => None,
            HostAddress::AnyV4 => Some("0.0.0.0".into()),
            HostAddress::AnyV6 => Some("::".into()),
            HostAddress::One(address) => Some(address.to_string()),
        },
        host: mapping.host_port.get(),
        container: mapping.container_port.get(),
        protocol: mapping.protocol.as_str(),
    }
}

fn row(attachment: &Attachment) -> [String; 7] {
    let id = attachment.container.as_str();
    let joined = |parts: Vec<String>| parts.join(",");
    [
        id.get(..SHORT_ID).unwrap_or(id).into(),
        attachment.network.to_string(),
        attachment.interface.to_string(),
        joined(attachment.addresses.iter().map(ToString::to_string).collect()),
        attachment.mac.map(|mac| mac.to_string()).unwrap_or_default(),
        joined(attachment.ports.iter().map(shown).collect()),
        joined(attachment.names.clone()),
    ]
}

/// As Docker and Podman show it.
fn shown(port: &Port) -> String {
    let Port { address, host, container, protocol } = port;
    let address = match address {
        None => String::new(),
        Some(v6) if v6.contains(':') => format!("[{v6}]:"),
        Some(v4) => format!("{v4}:"),
    };
    format!("{address}{host}->{container}/{protocol}")
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use zeugma_journal::Record;

    use super::*;

    fn journal(records: &[(&str, serde_json::Value)]) -> (tempfile::TempDir, Journal) {
        let directory = tempfile::tempdir().unwrap();
        let journal = Journal::at(directory.path());
        for (container, record) in records {
            let id = AttachmentId {
                network: "net".parse().unwrap(),
                container: container.parse().unwrap(),
                ifname: "eth0".parse().unwrap(),
            };
            let record: Record = serde_json::from_value(record.clone()).unwrap();
            let mut entry = journal.begin(&id, record).unwrap();
            journal.finish(&mut entry).unwrap();
        }
        (directory, journal)
    }

    #[test]
    fn the_records_of_a_chain_are_one_line() {
        let bridge = json!({"plugin": "bridge", "phase": "done", "mac": "02:00:00:00:00:01",
            "addresses": ["10.88.0.2/24"], "identity": {"pod": {"namespace": "", "name": "shop"}, "aliases": ["www"]}});
        let portmap = json!({"plugin": "portmap", "phase": "done", "ports": [
            {"host_port": 8080, "container_port": 80, "protocol": "tcp", "host_address": "any"},
            {"host_port": 53, "container_port": 53, "protocol": "udp", "host_address": {"one": "2001:db8::1"}},
        ]});
        let resolver = json!({"plugin": "resolver", "phase": "done", "addresses": ["10.88.0.2/24"],
            "identity": {"pod": {"namespace": "", "name": "shop"}, "aliases": ["www"]},
            "resolver": {"listen": {"gateway": ["10.88.0.1"]}, "domain": "blue", "names": ["till"]}});
        let id = "0123456789abcdef";
        let (_directory, journal) = journal(&[(id, bridge), (id, portmap), (id, resolver)]);
        let found = attachments(&journal, None).unwrap();
        let expected = [
            "0123456789ab",
            "net",
            "eth0",
            "10.88.0.2/24",
            "02:00:00:00:00:01",
            "[2001:db8::1]:53->53/udp,8080->80/tcp",
            "shop,till,www",
        ];
        assert_eq!(found.iter().map(row).collect::<Vec<_>>(), [expected.map(str::to_owned)]);
        assert_eq!(found[0].domain.as_deref(), Some("blue"));
        assert_eq!(found[0].container.as_str(), id);
    }

    #[test]
    fn a_network_that_nobody_is_on_is_an_empty_list() {
        let (_directory, journal) = journal(&[("one", json!({"plugin": "bridge", "phase": "done"}))]);
        let other = "other".parse().unwrap();
        assert!(attachments(&journal, Some(&other)).unwrap().is_empty());
        assert_eq!(attachments(&journal, None).unwrap().len(), 1);
    }
}
