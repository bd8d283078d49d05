//! What is known of networks, nodes and blocks, wherever it comes from: the catalogue, a file of peers, or what was
//! known before this agent began.

use std::collections::{BTreeMap, BTreeSet};

use zeugma_catalogue::{Difference, Key, Kind, Revision};
use zeugma_model::{Alive, Block, Network, NetworkName, Node, NodeName};

use super::blocks::Claim;

/// All of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Known {
    /// Overlays.
    pub(super) networks: BTreeMap<NetworkName, Network>,
    pub(super) nodes: BTreeMap<NodeName, Node>,
    /// When a node was last written.
    pub(super) revisions: BTreeMap<NodeName, Revision>,
    /// Blocks by what they are called in the catalogue.
    pub(super) claims: BTreeMap<String, Claim>,
    /// Who lives; none: nobody says so.
    pub(super) alive: Option<BTreeSet<NodeName>>,
    /// Which tables were heard of.
    pub(super) heard: Heard,
    /// Up to when nodes and blocks are as they were heard of: what was written before that is not news.
    until: Until,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Until {
    nodes: Revision,
    blocks: Revision,
}

/// Tables that were heard of.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Heard {
    pub(super) networks: bool,
    pub(super) nodes: bool,
    pub(super) blocks: bool,
}

impl Known {
    /// Whether all is known that matters for what goes where.
    pub(super) fn is_whole(&self) -> bool {
        self.heard.networks && self.heard.nodes && self.heard.blocks
    }

    /// The claims of a node.
    pub(super) fn claims_of<'a>(&'a self, node: &'a NodeName) -> impl Iterator<Item = &'a Claim> {
        self.claims.values().filter(move |claim| claim.block.node == *node)
    }

    pub(super) fn hear_networks(&mut self, difference: Difference<Network>) {
        self.heard.networks = true;
        unreadable(&difference);
        // With a node in their names they are of one host.
        let shared = |row: &str| row.parse::<NetworkName>().ok();
        for (row, network) in difference.put {
            let Some(name) = shared(&row) else { continue };
            match network.value.is_shared() && network.value.name == name {
                true => drop(self.networks.insert(name, network.value)),
                false => drop(self.networks.remove(&name)),
            }
        }
        difference
            .deleted
            .iter()
            .filter_map(|row| shared(row))
            .for_each(|name| drop(self.networks.remove(&name)));
    }

    pub(super) fn hear_nodes(&mut self, difference: Difference<Node>) {
        self.heard.nodes = true;
        self.until.nodes = difference.revision;
        unreadable(&difference);
        for (row, node) in difference.put {
            if node.value.name.as_str() == row {
                self.node(node.value, node.revision);
            }
        }
        for name in difference.deleted.iter().filter_map(|row| row.parse::<NodeName>().ok()) {
            self.nodes.remove(&name);
            self.revisions.remove(&name);
        }
    }

    pub(super) fn hear_blocks(&mut self, difference: Difference<Block>) {
        self.heard.blocks = true;
        self.until.blocks = difference.revision;
        unreadable(&difference);
        for (row, block) in difference.put {
            self.claims.insert(row, Claim { block: block.value, revision: block.revision });
        }
        difference.deleted.iter().for_each(|row| drop(self.claims.remove(row)));
    }

    pub(super) fn hear_alive(&mut self, difference: Difference<Alive>) {
        let alive = self.alive.get_or_insert_default();
        difference.deleted.iter().filter_map(|row| row.parse().ok()).for_each(|name: NodeName| {
            alive.remove(&name);
        });
        alive.extend(difference.put.into_values().map(|row| row.value.node));
    }

    fn node(&mut self, node: Node, revision: Revision) {
        self.revisions.insert(node.name.clone(), revision);
        self.nodes.insert(node.name.clone(), node);
    }

    /// This host wrote a node. What became of it may have been heard of before.
    pub(super) fn written(&mut self, node: Node, revision: Revision) {
        if revision > self.until.nodes {
            self.node(node, revision);
        }
    }

    /// This host wrote a block.
    pub(super) fn taken(&mut self, block: Block, revision: Revision) {
        if revision > self.until.blocks {
            self.claims.insert(block.key(), Claim { block, revision });
        }
    }

    /// This host freed a block.
    pub(super) fn freed(&mut self, block: &Block, revision: Revision) {
        if revision > self.until.blocks {
            self.claims.remove(&block.key());
        }
    }

    /// The catalogue says that it has no such value, whatever was heard.
    pub(super) fn absent(&mut self, key: &Key) {
        match key.kind() {
            Kind::NodeBlock => drop(self.claims.remove(key.name())),
            Kind::Node => {
                self.nodes.retain(|name, _| name.as_str() != key.name());
                self.revisions.retain(|name, _| name.as_str() != key.name());
            }
            _ => {}
        }
    }
}

fn unreadable<T>(difference: &Difference<T>) {
    for (row, error) in &difference.unreadable {
        tracing::warn!(row, %error, "what is known of it stays");
    }
}
