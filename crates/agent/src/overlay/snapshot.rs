//! What was known of overlays last, in a file that outlives a boot: while the catalogue is away, an agent that begins
//! works from it, so that hosts reach one another also after a restart.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use ipnetwork::IpNetwork;
use serde::{Deserialize, Serialize};
use zeugma_catalogue::Revision;
use zeugma_journal::files;
use zeugma_model::{Block, Network, NetworkName, Node};

use super::blocks::Claim;
use super::known::{Heard, Known};

/// In the state directory.
const FILE: &str = "cluster.json";
const MODE: u32 = 0o600;

/// Blocks that this node gave addresses of, by network.
pub(super) type Mine = BTreeMap<NetworkName, BTreeSet<IpNetwork>>;

/// The file's content.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Snapshot {
    /// Which catalogue said so.
    pub(super) catalogue: String,
    networks: Vec<Network>,
    nodes: Vec<Node>,
    blocks: Vec<(Block, u64)>,
    /// Those that this node gave addresses of.
    pub(super) mine: Mine,
}

impl Snapshot {
    pub(super) fn new(catalogue: &str, known: &Known, mine: &Mine) -> Self {
        let blocks = known.claims.values().map(|claim| (claim.block.clone(), claim.revision.0));
        Self {
            catalogue: catalogue.into(),
            networks: known.networks.values().cloned().collect(),
            nodes: known.nodes.values().cloned().collect(),
            blocks: blocks.collect(),
            mine: mine.clone(),
        }
    }

    /// What it says; who lives is not in it.
    pub(super) fn known(self) -> Known {
        let claim =
            |(block, revision): (Block, u64)| (block.key(), Claim { block, revision: Revision(revision) });
        Known {
            networks: self.networks.into_iter().map(|network| (network.name.clone(), network)).collect(),
            nodes: self.nodes.into_iter().map(|node| (node.name.clone(), node)).collect(),
            revisions: BTreeMap::new(),
            claims: self.blocks.into_iter().map(claim).collect(),
            alive: None,
            heard: Heard { networks: true, nodes: true, blocks: true },
        }
    }

    /// Whether it says anything of this host's networks.
    pub(super) fn is_empty(&self) -> bool {
        self.networks.is_empty() && self.mine.is_empty()
    }
}

pub(super) fn path(state_dir: &Path) -> PathBuf {
    state_dir.join(FILE)
}

/// The last one; one that cannot be read is as none.
pub(super) fn read(state_dir: &Path) -> Snapshot {
    let path = path(state_dir);
    let found = files::read(&path).map_err(|error| error.to_string());
    let read = found.and_then(|found| match found {
        Some(bytes) => serde_json::from_slice(&bytes).map_err(|error| error.to_string()),
        None => Ok(Snapshot::default()),
    });
    read.unwrap_or_else(|error| {
        tracing::warn!(path = %path.display(), error, "what was known of overlays is lost");
        Snapshot::default()
    })
}

/// Blocks.
///
/// # Errors
/// In words: when it cannot be written.
pub(super) fn write(state_dir: &Path, snapshot: &Snapshot) -> Result<(), String> {
    let text = serde_json::to_vec(snapshot).map_err(|error| error.to_string())?;
    files::replace_durably(&path(state_dir), &text, MODE).map_err(|error| error.to_string())
}
