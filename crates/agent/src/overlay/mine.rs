//! The blocks that this node gives addresses of, and their networks, in a file that outlives a boot: written before the
//! first address is given out, so that a catalogue that has forgotten one, or is another one, takes nothing away from
//! containers.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use ipnetwork::IpNetwork;
use serde::{Deserialize, Deserializer, Serialize};
use zeugma_journal::files;
use zeugma_model::{Network, NetworkName};

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
    /// Those that the blocks are of, as this host goes by them: one that is removed while no agent runs stays as it was
    /// for the containers that are on it.
    #[serde(default, deserialize_with = "readable")]
    pub(super) networks: BTreeMap<NetworkName, Network>,
}

/// A network that another version wrote must not keep anybody from the blocks.
fn readable<'de, D: Deserializer<'de>>(from: D) -> Result<BTreeMap<NetworkName, Network>, D::Error> {
    let all = BTreeMap::<NetworkName, serde_json::Value>::deserialize(from)?;
    let read = |(name, value)| Some((name, serde_json::from_value(value).ok()?));
    Ok(all.into_iter().filter_map(read).collect())
}

/// Of the networks those that the blocks are of.
pub(super) fn networks(mine: &Mine, all: &BTreeMap<NetworkName, Network>) -> BTreeMap<NetworkName, Network> {
    let its = all.iter().filter(|(name, _)| mine.contains_key(*name));
    its.map(|(name, network)| (name.clone(), network.clone())).collect()
}

pub(super) fn path(state_dir: &Path) -> PathBuf {
    state_dir.join(FILE)
}

/// Blocks that are not `kept`, by network, and why.
pub(super) fn unkept(mine: &Mine, kept: &Mine, why: &str) -> Vec<(NetworkName, String)> {
    let each = mine.iter().flat_map(|(network, blocks)| blocks.iter().map(move |block| (network, block)));
    let unkept = each.filter(|(network, block)| !has(kept, network, block));
    let told = |block| {
        format!("no addresses of {block} are given out, as this host could forget that it has it: {why}")
    };
    unkept.map(|(network, block)| (network.clone(), told(block))).collect()
}

/// Whether a block of a network is among them.
pub(super) fn has(blocks: &Mine, network: &NetworkName, block: &IpNetwork) -> bool {
    blocks.get(network).is_some_and(|blocks| blocks.contains(block))
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

#[cfg(test)]
mod tests {
    use std::fs;

    use serde_json::json;

    use super::*;

    #[test]
    fn blocks_are_read_beside_networks_that_cannot_be() {
        let root = tempfile::tempdir().unwrap();
        let (name, front) = network("front");
        let told = json!({"catalogue": "one", "blocks": {"front": ["10.1.1.0/24"]},
            "networks": {"front": front, "back": {"driver": "of tomorrow"}}});
        fs::write(path(root.path()), told.to_string()).unwrap();
        let kept = read(root.path());
        assert!(has(&kept.blocks, &name, &"10.1.1.0/24".parse().unwrap()));
        assert_eq!(Vec::from_iter(kept.networks), [(name, front)]);
        fs::write(path(root.path()), r#"{"catalogue": "one", "blocks": {"front": []}}"#).unwrap();
        assert_eq!(read(root.path()).catalogue, "one");
    }

    fn network(name: &str) -> (NetworkName, Network) {
        let told = json!({"name": name, "driver": "overlay", "subnets": [{"subnet": "10.1.0.0/16"}]});
        (name.parse().unwrap(), serde_json::from_value(told).unwrap())
    }

    #[test]
    fn what_is_not_on_disk_is_told_by_network_until_it_is() {
        let root = tempfile::tempdir().unwrap();
        let blocks = |text: &[&str]| text.iter().map(|block| block.parse().unwrap()).collect();
        let front: NetworkName = "front".parse().unwrap();
        let before = Mine::from([(front.clone(), blocks(&["10.1.1.0/24"]))]);
        let mine = Mine::from([(front.clone(), blocks(&["10.1.1.0/24", "10.1.2.0/24"]))]);
        let kept = Kept {
            catalogue: "one".into(),
            blocks: mine.clone(),
            networks: networks(&mine, &BTreeMap::from([network("front"), network("back")])),
        };
        assert_eq!(Vec::from_iter(kept.networks.keys()), [&front]);
        fs::create_dir(path(root.path())).unwrap();
        let told = unkept(&mine, &before, &write(root.path(), &kept).unwrap_err());
        assert!(
            matches!(&told[..], [(network, why)] if *network == front && why.contains("of 10.1.2.0/24")
            && why.contains("blocks.json")),
            "{told:?}"
        );
        fs::remove_dir(path(root.path())).unwrap();
        write(root.path(), &kept).unwrap();
        assert_eq!(read(root.path()), kept);
        assert_eq!(unkept(&mine, &kept.blocks, ""), []);
    }
}
