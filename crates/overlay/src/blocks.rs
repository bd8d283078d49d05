//! Who has which addresses of a network, when not all of what is said can be true.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnetwork::IpNetwork;
use zeugma_model::{Block, NodeName};

/// The blocks of each node, and what was left out, a line each.
#[derive(Debug, Default)]
pub(crate) struct Held<'a> {
    pub(crate) by_node: BTreeMap<&'a NodeName, Vec<IpNetwork>>,
    pub(crate) problems: Vec<String>,
}

/// Blocks inside of `subnets` that overlap no other node's. Of two that do, the node whose name is first has it: every
/// host decides alike.
pub(crate) fn held<'a>(blocks: impl Iterator<Item = &'a Block>, subnets: &[IpNetwork]) -> Held<'a> {
    let mut held = Held::default();
    let mut ranges = Vec::new();
    for block in blocks {
        if subnets.iter().any(|subnet| contains(*subnet, block.subnet)) {
            ranges.push((range(block.subnet), block));
        } else {
            held.problems.push(outside(block));
        }
    }
    ranges.sort_unstable_by_key(|((start, end), block)| (block.subnet.is_ipv6(), *start, u128::MAX - end));
    let mut rest = ranges.as_slice();
    while let Some((first, _)) = rest.split_first() {
        let touches = |(range, block): &&((u128, u128), &Block)| {
            range.0 <= first.0.1 && block.subnet.is_ipv6() == first.1.subnet.is_ipv6()
        };
        let (group, others) = rest.split_at(rest.iter().take_while(touches).count());
        settle(&mut held, group.iter().map(|(_, block)| *block).collect());
        rest = others;
    }
    held.by_node.values_mut().for_each(|blocks| blocks.sort_unstable());
    held
}

/// Blocks that may overlap: all of them are inside of one.
fn settle<'a>(held: &mut Held<'a>, mut group: Vec<&'a Block>) {
    group.sort_unstable_by_key(|block| (&block.node, block.subnet));
    group.dedup();
    let mut kept: Vec<&Block> = Vec::new();
    for block in group {
        let rival = kept.iter().find(|other| other.node != block.node && overlap(other.subnet, block.subnet));
        if let Some(rival) = rival {
            held.problems.push(rivalry(block, rival));
            continue;
        }
        kept.push(block);
        held.by_node.entry(&block.node).or_default().push(block.subnet);
    }
}

fn outside(block: &Block) -> String {
    let Block { network, subnet, node } = block;
    format!("block {subnet} of node {node} is in none of the subnets of network {network}: free it there")
}

fn rivalry(block: &Block, rival: &Block) -> String {
    let (Block { subnet, node, .. }, Block { subnet: theirs, node: they, .. }) = (block, rival);
    let both = if subnet == theirs { String::new() } else { format!(", which overlaps {theirs}") };
    format!("nodes {they} and {node} both have {subnet}{both}: {they} keeps it, give {node} another block")
}

/// Whether all of `part` is in `whole`.
pub(crate) fn contains(whole: IpNetwork, part: IpNetwork) -> bool {
    let ((first, last), (start, end)) = (range(whole), range(part));
    whole.is_ipv4() == part.is_ipv4() && first <= start && end <= last
}

fn overlap(one: IpNetwork, other: IpNetwork) -> bool {
    contains(one, other) || contains(other, one)
}

/// First and last address, as numbers.
fn range(network: IpNetwork) -> (u128, u128) {
    (number(network.network()), number(network.broadcast()))
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => u32::from(v4).into(),
        IpAddr::V6(v6) => v6.into(),
    }
}
