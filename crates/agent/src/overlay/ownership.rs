//! Which blocks this node gives addresses of, which it keeps for containers that have some, and what it says of blocks
//! that two nodes claim.

use std::collections::BTreeSet;

use zeugma_model::{Block, NetworkName, NodeName};
use zeugma_overlay::{Shares, shares};

use super::blocks::{Claim, are_full};
use super::held::Seen;
use super::known::Known;
use super::membership::is_within;
use super::mine::Mine;

/// Who has what, as far as this node goes by it.
#[derive(Debug)]
pub(super) struct Ownership {
    /// Claims without contradictions, of networks that there are.
    pub(super) shares: Shares,
    /// Networks whose blocks of a family hardly have addresses; whether it is IPv4.
    pub(super) full: BTreeSet<(NetworkName, bool)>,
    /// Of the shares those that packets go by: none that containers of this host have addresses of and that are another
    /// node's.
    pub(super) routed: Shares,
    /// What is wrong with blocks, a line each.
    pub(super) problems: Vec<String>,
}

impl Ownership {
    /// As `known` has it; `mine` is brought up to it.
    pub(super) fn new(known: &Known, node: &NodeName, mine: &mut Mine, held: &Seen<'_>) -> Self {
        let is_sound = |claim: &&Claim| {
            let network = known.networks.get(&claim.block.network);
            network.is_some_and(|network| is_within(claim.block.subnet, network))
        };
        let sound = known.claims.values().filter(is_sound);
        let shares = shares(sound.map(|claim| (claim.revision, &claim.block)));
        let ours: BTreeSet<&Block> = shares.blocks().iter().filter(|block| block.node == *node).collect();
        let lost = lost(mine, &ours, node, held);
        for block in &ours {
            mine.entry(block.network.clone()).or_default().insert(block.subnet);
        }
        let full = full(&ours, held);
        let taken = lost.iter().flat_map(|lost| shares.others_of(lost).map(move |other| kept(lost, other)));
        let mut problems: Vec<String> = taken.collect();
        let claims =
            shares.disputed().iter().filter(|(loser, winner)| [&loser.node, &winner.node].contains(&node));
        problems.extend(claims.map(|(loser, winner)| dispute(loser, winner)));
        Self { routed: shares.beside(&lost), shares, full, problems }
    }
}

/// Blocks that this node gave addresses of and that are not its own any more, while containers have some; the others are
/// forgotten.
fn lost(mine: &mut Mine, ours: &BTreeSet<&Block>, node: &NodeName, held: &Seen<'_>) -> Vec<Block> {
    let mut lost = Vec::new();
    for (network, blocks) in mine.iter_mut() {
        blocks.retain(|subnet| {
            let block = Block { network: network.clone(), subnet: *subnet, node: node.clone() };
            if ours.contains(&block) {
                return true;
            }
            let is_used = held.is_used(network, *subnet);
            lost.extend(is_used.then_some(block));
            is_used
        });
    }
    mine.retain(|_, blocks| !blocks.is_empty());
    lost
}

fn full(ours: &BTreeSet<&Block>, held: &Seen<'_>) -> BTreeSet<(NetworkName, bool)> {
    let families: BTreeSet<(NetworkName, bool)> =
        ours.iter().map(|block| (block.network.clone(), block.subnet.is_ipv4())).collect();
    let is_full = |(network, is_v4): &(NetworkName, bool)| {
        let its = ours.iter().filter(|block| block.network == *network && block.subnet.is_ipv4() == *is_v4);
        are_full(its.map(|block| block.subnet), held.containers(network))
    };
    families.into_iter().filter(is_full).collect()
}

fn dispute(loser: &Block, winner: &Block) -> String {
    format!(
        "network {}: nodes {} and {} both claim addresses of {} and {}: {} had them first, and {} gives out none of them",
        winner.network, winner.node, loser.node, winner.subnet, loser.subnet, winner.node, loser.node
    )
}

fn kept(lost: &Block, winner: &Block) -> String {
    format!(
        "network {}: containers of this host have addresses of {}, which is node {}'s ({}): other hosts do not reach \
         them there; start them anew for addresses of this host's own",
        lost.network, lost.subnet, winner.node, winner.subnet
    )
}
