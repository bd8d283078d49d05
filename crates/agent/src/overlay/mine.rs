//! The blocks that this node gives addresses of, in a file that outlives a boot: written before the first address is given
//! out, so that a catalogue that has forgotten one, or is another one, takes nothing away from containers.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use ipnetwork::IpNetwork;
use serde::{Deserialize, Serialize};
use zeugma_journal::files;
use zeugma_model::NetworkName;

/// In the state directory.
const FILE: &str = "blocks.json";
const MODE: u32 = 0o600;

/// Blocks by network.
pub(super) type Mine = BTreeMap<NetworkName, BTreeSet<IpNetwork>>;

/// The file's content.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Kept {
    /// Which catalogue they are of.
    pub(super) catalogue: String,
    pub(super) blocks: Mine,
}

pub(super) fn path(state_dir: &Path) -> PathBuf {
    state_dir.join(FILE)
}

/// What it says; nothing when it cannot be read.
pub(super) fn read(state_dir: &Path) -> Kept {
    let path = path(state_dir);
    let found = files::read(&path).map_err(|error| error.to_string());
    let read = found.and_then(|found| match found {
        Some(bytes) => serde_json::from_slice(&bytes).map_err(|error| error.to_string()),
        None => Ok(Kept::default()),
    });
    read.unwrap_or_else(|error| {
        tracing::warn!(path = %path.display(), error, "which blocks this node had is not known");
        Kept::default()
    })
}

/// Blocks.
///
/// # Errors
/// In words: when it cannot be written.
pub(super) fn write(state_dir: &Path, kept: &Kept) -> Result<(), String> {
    let text = serde_json::to_vec(kept).map_err(|error| error.to_string())?;
    files::replace_durably(&path(state_dir), &text, MODE).map_err(|error| error.to_string())
}
