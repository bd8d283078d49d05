//! `zeugma network connect` and `disconnect`: what a runtime does with a network, for a container that runs already.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use serde_json::{Map, Value, json};
use zeugma_journal::Journal;
use zeugma_kernel::Kernel;
use zeugma_model::{Alias, ContainerId, IfName, NetworkName};
use zeugma_networks::{Attached, Cache, Chain, List};
use zeugma_plan::Side;

use super::Places;
use super::container::{Container, containers, find};
use crate::service::label;

/// Interfaces that a container may have of us.
const INTERFACES: u32 = 1000;

/// What is joined with what.
#[derive(Debug, Clone, Args)]
pub(crate) struct Pair {
    /// The network.
    network: NetworkName,
    /// The container: its ID, the begin of it, or its name. With --netns: any ID.
    container: String,
    /// The namespace of something that no runtime looks after, such as /run/netns/lab1.
    #[arg(long, value_name = "PATH")]
    netns: Option<PathBuf>,
    /// The interface in the container; to connect, the first free of eth0, eth1, …; to disconnect, all that are on the
    /// network.
    #[arg(long, value_name = "NAME")]
    ifname: Option<IfName>,
    /// Where results of plugins are kept, as runtimes keep them.
    #[arg(long, value_name = "DIR", default_value = "/var/lib/cni")]
    cache_dir: PathBuf,
    #[command(flatten)]
    places: Places,
}

/// An interface to be.
#[derive(Debug, Clone, Args)]
pub(crate) struct Connect {
    #[command(flatten)]
    pair: Pair,
    /// An address of the network instead of the next free one; one of each family.
    #[arg(long = "ip", value_name = "ADDRESS")]
    addresses: Vec<IpAddr>,
    /// Another name of the container on the network. May be given several times.
    #[arg(long = "alias", value_name = "NAME")]
    aliases: Vec<Alias>,
    /// A label of the container, which services select it by. May be given several times.
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = label)]
    labels: Vec<(String, String)>,
}

/// An interface to go.
#[derive(Debug, Clone, Args)]
pub(crate) struct Disconnect {
    #[command(flatten)]
    pair: Pair,
}

impl Pair {
    fn list(&self) -> Result<List> {
        let found = self.places.directory().find(&self.network)?;
        let path = self.places.cni_conf_dir.display();
        found.with_context(|| {
            format!("{path} has no network {}: `zeugma network ls` lists them", self.network)
        })
    }

    fn chain(&self) -> Result<Chain> {
        Ok(Chain::new(&self.list()?, &self.places.bin_dir)?)
    }

    /// Its ID, and what the journal knows of it. Where a namespace is named, the word is the ID whatever others are
    /// called, and the journal need not know it.
    fn container(&self, journal: &Journal) -> Result<(ContainerId, Option<Container>)> {
        if self.netns.is_none() {
            let container = find(journal, &self.container)?;
            return Ok((container.id.clone(), Some(container)));
        }
        let id: ContainerId = self.container.parse()?;
        let known = containers(journal)?.into_values().find(|container| container.id == id);
        Ok((id, known))
    }
}

/// Connects, and prints the interface and its addresses.
pub(super) fn connect(connect: &Connect) -> Result<()> {
    let (pair, journal) = (&connect.pair, Journal::default());
    let chain = pair.chain()?;
    let (id, known) = pair.container(&journal)?;
    if let Some(other) = known.as_ref().and_then(|container| container.on(&pair.network).next()) {
        bail!("container {id} is on network {} already, by {}", pair.network, other.id.ifname);
    }
    let netns = pair.netns.clone().or_else(|| known.as_ref().and_then(|container| container.netns.clone()));
    let netns = netns.with_context(|| {
        format!("nobody knows the namespace of container {id}, or it is gone: name it with --netns PATH")
    })?;
    let ifname = pair.ifname.clone().map_or_else(|| free_name(&netns), Ok)?;
    let name = known.as_ref().and_then(|container| container.names.first().cloned());
    let attached = Attached {
        container: id,
        netns: Some(netns),
        ifname,
        args: arguments(name.as_deref()),
        capabilities: connect.capabilities(),
        labels: connect.labels.iter().cloned().collect(),
    };
    let result = chain.add(&attached)?;
    let cache = Cache::at(&pair.cache_dir);
    if let Err(error) = cache.keep(&pair.network, &attached, &result) {
        eprintln!("zeugma: DEL goes by the journal alone: {error}");
    }
    println!("{} {}", attached.ifname, addresses(&result).join(" "));
    Ok(())
}

impl Connect {
    fn capabilities(&self) -> Map<String, Value> {
        let mut capabilities = Map::new();
        if !self.addresses.is_empty() {
            capabilities.insert("ips".into(), json!(self.addresses));
        }
        if !self.aliases.is_empty() {
            // By network, as Podman writes them: the form that all who read aliases know.
            capabilities.insert("aliases".into(), json!({self.pair.network.as_str(): self.aliases}));
        }
        capabilities
    }
}

/// The container keeps its name.
fn arguments(name: Option<&str>) -> Vec<(String, String)> {
    let tolerant = [("IgnoreUnknown".to_owned(), "1".to_owned())];
    // A value ends at a semicolon.
    let name = name.filter(|name| !name.contains(';'));
    tolerant.into_iter().chain(name.map(|name| ("K8S_POD_NAME".into(), name.into()))).collect()
}

fn addresses(result: &Value) -> Vec<String> {
    let addresses = result.get("ips").and_then(Value::as_array).into_iter().flatten();
    addresses.filter_map(|ip| ip.get("address")?.as_str().map(str::to_owned)).collect()
}

fn free_name(netns: &Path) -> Result<IfName> {
    let mut kernel = Kernel::with_container(netns)?;
    let taken: Vec<IfName> = kernel.links(Side::Container)?.into_iter().map(|(name, _)| name).collect();
    let names = (0..INTERFACES).filter_map(|number| format!("eth{number}").parse().ok());
    names
        .into_iter()
        .find(|name| !taken.contains(name))
        .with_context(|| format!("{} has too many interfaces: name one with --ifname", netns.display()))
}

/// Disconnects, and prints the interfaces that are gone.
pub(super) fn disconnect(disconnect: &Disconnect) -> Result<()> {
    let (pair, journal) = (&disconnect.pair, Journal::default());
    let chain = pair.chain()?;
    let (id, known) = pair.container(&journal)?;
    let on_network = known.iter().flat_map(|container| container.on(&pair.network));
    let mut interfaces: Vec<IfName> = on_network.map(|attachment| attachment.id.ifname.clone()).collect();
    if let Some(ifname) = &pair.ifname {
        interfaces.retain(|one| one == ifname);
    }
    ensure!(!interfaces.is_empty(), "container {id} is not on network {}: nothing was done", pair.network);
    let netns = pair.netns.clone().or_else(|| known.as_ref().and_then(|container| container.netns.clone()));
    let cache = Cache::at(&pair.cache_dir);
    for ifname in interfaces {
        let (args, capabilities, labels) = (arguments(None), Map::new(), BTreeMap::new());
        let mut attached =
            Attached { container: id.clone(), netns: netns.clone(), ifname, args, capabilities, labels };
        let result = cache.recall(&pair.network, &mut attached)?;
        chain.del(&attached, result.as_ref())?;
        cache.forget(&pair.network, &attached)?;
        println!("{}", attached.ifname);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        pair: Pair,
    }

    #[test]
    fn beside_a_namespace_the_word_is_the_id_itself() {
        let directory = tempfile::tempdir().unwrap();
        let journal = Journal::at(directory.path());
        let id = |container: &str| zeugma_model::AttachmentId {
            network: "net".parse().unwrap(),
            container: container.parse().unwrap(),
            ifname: "eth0".parse().unwrap(),
        };
        let record = json!({"plugin": "bridge", "phase": "done", "identity": {"pod": {"namespace": "", "name": "lab"}}});
        journal.begin(&id("lab1"), serde_json::from_value(record).unwrap()).unwrap();
        let found = |line: &str| {
            let pair = Line::try_parse_from(line.split(' ')).unwrap().pair;
            let (id, known) = pair.container(&journal).unwrap();
            (id.to_string(), known.is_some())
        };
        assert_eq!(found("connect net lab"), ("lab1".into(), true));
        assert_eq!(found("connect net lab --netns /x"), ("lab".into(), false));
        assert_eq!(found("connect net lab1 --netns /x"), ("lab1".into(), true));
    }

    #[test]
    fn a_container_keeps_its_name_where_it_can_be_said() {
        assert_eq!(arguments(None).len(), 1);
        assert_eq!(arguments(Some("web"))[1], ("K8S_POD_NAME".into(), "web".into()));
        assert_eq!(arguments(Some("a;B=c")).len(), 1);
    }

    #[test]
    fn addresses_are_read_from_a_result() {
        assert_eq!(addresses(&json!({"ips": [{"address": "10.1.0.2/24"}, {}]})), ["10.1.0.2/24"]);
        assert!(addresses(&json!({})).is_empty());
    }
}
