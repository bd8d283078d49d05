//! A file of peers, for two or three hosts without a store: each has the same one, and finds itself in it by its name.
//!
//! Networks go into this host's own catalogue, so that they are listed as others; nodes and their blocks are gone by as
//! the file has them.

use std::collections::BTreeMap;
use std::fs;
use std::net::IpAddr;
use std::num::NonZeroU16;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use ipnetwork::IpNetwork;
use serde::Deserialize;
use tokio::task::AbortHandle;
use tokio::time::sleep;
use toml::Spanned;
use zeugma_catalogue::{Error, Outcome, Revision, Store, Table, Transaction};
use zeugma_model::{Block, Network, NetworkName, Node, NodeName, PublicKey, Vni};

use super::blocks::Claim;
use super::identity;
use super::known::Known;

/// Says of a network in the catalogue that it is there because it was in the file.
const LABEL: &str = "zeugma.peers-file";
/// What networks get that name none: counted from here, in the order of the file.
const FIRST_VNI: u32 = 4096;
const FIRST_PORT: u16 = 51820;
/// More networks would have no port.
const MOST: u16 = u16::MAX - FIRST_PORT;
/// Before a catalogue that did not take the networks is tried again.
const RETRY: Duration = Duration::from_secs(5);

/// A file, and what it said last.
#[derive(Debug)]
pub(super) struct PeersFile {
    path: PathBuf,
    seen: Option<(SystemTime, u64)>,
    /// What is wrong with it; what it said before still holds.
    pub(super) problem: Option<String>,
    /// Writes its networks into the catalogue.
    writes: Option<AbortHandle>,
}

/// What it says.
#[derive(Debug, Default)]
pub(super) struct Said {
    pub(super) networks: Vec<Network>,
    nodes: Vec<Node>,
    claims: Vec<Claim>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    #[serde(default)]
    network: Vec<Spanned<Network>>,
    node: Vec<Spanned<RawNode>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawNode {
    name: NodeName,
    addresses: Vec<IpAddr>,
    #[serde(default)]
    key: Option<PublicKey>,
    #[serde(default)]
    blocks: BTreeMap<NetworkName, Vec<IpNetwork>>,
}

impl PeersFile {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path, seen: None, problem: None, writes: None }
    }

    /// What it says, when that is news. Blocks.
    pub(super) fn changed(&mut self) -> Option<Said> {
        let stamp = fs::metadata(&self.path).and_then(|file| Ok((file.modified()?, file.len())));
        let stamp = match stamp {
            Ok(stamp) if self.seen == Some(stamp) => return None,
            Ok(stamp) => stamp,
            Err(error) => {
                self.problem =
                    Some(format!("cannot read the file of peers {}: {error}", self.path.display()));
                return None;
            }
        };
        self.seen = Some(stamp);
        let text = fs::read_to_string(&self.path).map_err(|error| error.to_string());
        match text.and_then(|text| read(&text)) {
            Ok(said) => {
                self.problem = None;
                Some(said)
            }
            Err(why) => {
                self.problem = Some(format!("{}:{why}; what it said before holds", self.path.display()));
                None
            }
        }
    }

    /// Writes its networks into the catalogue, until that has worked or the file says something else.
    pub(super) fn write(&mut self, store: Arc<dyn Store>, networks: Vec<Network>) {
        if let Some(before) = self.writes.take() {
            before.abort();
        }
        let writing = async move {
            while let Err(error) = apply(store.clone(), &networks).await {
                tracing::error!(%error, "networks of the file of peers are not in the catalogue: it is tried again");
                sleep(RETRY).await;
            }
        };
        self.writes = Some(tokio::spawn(writing).abort_handle());
    }

    /// What is wrong with what it says of this node.
    pub(super) fn complaint(&self, known: &Known, node: &NodeName, key: Option<PublicKey>) -> Option<String> {
        let path = self.path.display();
        match known.nodes.get(node) {
            None if known.nodes.is_empty() => None,
            None => Some(format!(
                "{path} has no node {node}, which is this one: add it, or name this one as it is there (zeugma agent \
                 --node)"
            )),
            Some(there) if there.key.is_some() && there.key != key => {
                let key = key.map(|key| key.to_string()).unwrap_or_default();
                Some(format!("{path} has another key of node {node} than it has: write {key}"))
            }
            Some(_) => None,
        }
    }
}

impl Said {
    /// Nodes and blocks as they are to be known; who lives nobody says.
    pub(super) fn tell(self, known: &mut Known) {
        known.nodes = self.nodes.into_iter().map(|node| (node.name.clone(), node)).collect();
        let claims = self.claims.into_iter().enumerate();
        // Two nodes may claim the same block by mistake: both are kept to be seen.
        known.claims = claims.map(|(at, claim)| (format!("{at} {}", claim.block.key()), claim)).collect();
        (known.heard.nodes, known.heard.blocks, known.alive) = (true, true, None);
    }
}

/// All of it, or what is wrong: line, column, why.
pub(super) fn read(text: &str) -> Result<Said, String> {
    let at = |span: Option<Range<usize>>, why: &str| format!("{}: {why}", place(text, span));
    let raw: Raw = toml::from_str(text).map_err(|error| at(error.span(), error.message()))?;
    let mut said = Said::default();
    for network in raw.network {
        let span = network.span();
        let network = network.into_inner();
        if !network.is_shared() {
            return Err(at(Some(span), &format!("network {}: write driver = \"overlay\"", network.name)));
        }
        if said.networks.iter().any(|other| other.name == network.name) {
            return Err(at(Some(span), &format!("network {} is there twice", network.name)));
        }
        if network.subnets.is_empty() {
            let told = format!("network {}: write subnets = [{{ subnet = \"10.1.0.0/16\" }}]", network.name);
            return Err(at(Some(span), &told));
        }
        let nth = u16::try_from(said.networks.len()).ok().filter(|nth| *nth < MOST);
        let nth = nth.ok_or_else(|| at(Some(span), &format!("more than {MOST} networks")))?;
        said.networks.push(numbered(network, nth));
    }
    for node in raw.node {
        let (span, node) = (node.span(), node.into_inner());
        if said.nodes.iter().any(|other| other.name == node.name) {
            return Err(at(Some(span), &format!("node {} is there twice", node.name)));
        }
        for (network, subnets) in node.blocks {
            // What is written first holds, when two claim the same.
            let claims = subnets.into_iter().map(|subnet| Claim {
                block: Block { network: network.clone(), subnet, node: node.name.clone() },
                revision: Revision(said.nodes.len() as u64 + 1),
            });
            said.claims.extend(claims);
        }
        let (machine, version) = (identity::of_name(&node.name), String::new());
        let RawNode { name, addresses, key, .. } = node;
        said.nodes.push(Node { name, addresses, machine, key, next_key: None, version });
    }
    Ok(said)
}

fn numbered(mut network: Network, nth: u16) -> Network {
    network.labels.insert(LABEL.into(), "yes".into());
    let (vni, port) = (Vni::try_from(FIRST_VNI + u32::from(nth)), NonZeroU16::new(FIRST_PORT + nth));
    match (vni, port) {
        (Ok(vni), Some(port)) => network.allocated(vni, port),
        _ => network,
    }
}

/// Line and column of where a span begins, from 1.
fn place(text: &str, span: Option<Range<usize>>) -> String {
    let before = span.and_then(|span| text.get(..span.start)).unwrap_or_default();
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    format!("{}:{column}", before.matches('\n').count() + 1)
}

/// Makes the catalogue's networks of the file those; what left the file leaves the catalogue.
///
/// # Errors
/// Those of the store.
async fn apply(store: Arc<dyn Store>, networks: &[Network]) -> Result<(), Error> {
    let table = Table::<Network>::new(store.clone());
    let there = table.list("").await?.rows;
    let mut transaction = Transaction::new();
    for network in networks {
        if there.get(network.name.as_str()).is_none_or(|row| row.value != *network) {
            transaction = Table::put(transaction, network.name.as_str(), network, None)?;
        }
    }
    let is_kept = |name: &str| networks.iter().any(|network| network.name.as_str() == name);
    for (name, row) in &there {
        if row.value.labels.contains_key(LABEL) && !is_kept(name) {
            transaction = transaction.delete(Table::<Network>::key(name)?);
        }
    }
    // It expects nothing, so nothing is in its way.
    let _: Outcome = store.commit(transaction).await?;
    Ok(())
}

/// The file at a path, if there is to be one.
pub(super) fn at(path: Option<&Path>) -> Option<PeersFile> {
    path.map(|path| PeersFile::new(path.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = r#"
[[network]]
name = "front"
driver = "overlay"
subnets = [{ subnet = "10.1.0.0/16" }]

[[node]]
name = "a"
addresses = ["192.0.2.1"]
blocks = { front = ["10.1.1.0/24"] }

[[node]]
name = "b"
addresses = ["192.0.2.2", "2001:db8::2"]
blocks = { front = ["10.1.2.0/24"] }
"#;

    #[test]
    fn a_file_is_the_same_to_every_host() {
        let (mut known, said) = (Known::default(), read(FILE).unwrap());
        assert_eq!(said.networks[0].overlay().unwrap().vni().unwrap().get(), FIRST_VNI);
        said.tell(&mut known);
        let b: NodeName = "b".parse().unwrap();
        assert_eq!((known.nodes[&b].addresses.len(), known.nodes[&b].machine), (2, identity::of_name(&b)));
        let blocks: Vec<String> = known.claims_of(&b).map(|claim| claim.block.key()).collect();
        assert_eq!(blocks, ["front/10.1.2.0/24"]);
    }

    #[test]
    fn what_is_wrong_is_said_with_its_place() {
        let check = |from: &str, to: &str, expected: &str| {
            let told = read(&FILE.replace(from, to)).unwrap_err();
            assert!(told.starts_with(expected), "{told}");
        };
        check("192.0.2.1", "192.0.2.300", "9:14");
        check("\"b\"", "\"a\"", "12:1: node a is there twice");
        check("addresses = [\"192.0.2.1\"]", "adresses = []", "9:1: unknown field");
        check("[{ subnet = \"10.1.0.0/16\" }]", "[]", "2:1: network front: write subnets");
        check("\"overlay\"", "\"bridge\"", "2:1: network front: write driver");
    }
}
