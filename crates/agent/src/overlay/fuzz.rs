//! The entry for fuzzing files of peers: people write them.

use std::collections::BTreeMap;

use ipnetwork::IpNetwork;
use zeugma_model::NodeName;
use zeugma_overlay::{Here, Observed, Underlay, View, desired, plan, shares};

use super::known::Known;
use super::peers_file::read;

/// Reads `input` as a file of peers. What is wrong has a place; of what is not, every node can tell what it is to have.
pub fn fuzz_peers_file(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let said = match read(&text) {
        Ok(said) => said,
        Err(why) => return assert!(why.starts_with(|first: char| first.is_ascii_digit()), "{why}"),
    };
    let networks = said.networks.iter().map(|network| (network.name.clone(), network.clone()));
    let networks: BTreeMap<_, _> = networks.collect();
    let mut known = Known::default();
    said.tell(&mut known);
    let shares = shares(known.claims.values().map(|claim| (claim.revision, &claim.block)));
    let revisions = BTreeMap::new();
    for node in known.nodes.keys() {
        let here = Here { node: node.clone(), underlay: underlay(&known, node) };
        let nodes = &known.nodes;
        let view = View { here: &here, networks: &networks, nodes, revisions: &revisions, shares: &shares };
        let wanted = desired(&view);
        assert!(!format!("{:?}", plan(&wanted, &Observed::default())).is_empty());
    }
}

fn underlay(known: &Known, node: &NodeName) -> Vec<Underlay> {
    let on_link = |address: &std::net::IpAddr| Underlay {
        address: IpNetwork::new(*address, 24).expect("either family has such a length"),
        link: "eth0".parse().expect("an interface's name"),
        mtu: 1500,
    };
    known.nodes[node].addresses.iter().map(on_link).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_corpus_has_files_that_are_understood() {
        let is_read = |file: &str| {
            let path = format!("{}/tests/corpus/peers_file/{file}", env!("CARGO_MANIFEST_DIR"));
            read(&std::fs::read_to_string(path).unwrap()).is_ok()
        };
        assert_eq!(["two.toml", "encrypted.toml", "backends.toml", "none"].map(is_read), [true; 4]);
        assert!(!is_read("mistake.toml"));
    }
}
