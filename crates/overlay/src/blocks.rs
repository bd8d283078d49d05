//! Who has which addresses of a network, when not all of what is said can be true.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnetwork::IpNetwork;
use zeugma_model::{Block, NetworkName, NodeName};

/// Blocks of which no two have an address of a network in common. Only [`shares`] makes them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Shares {
    blocks: Vec<Block>,
    disputed: Vec<(Block, Block)>,
}

/// Addresses that are taken, of one network.
#[derive(Debug, Clone)]
pub struct Taken<T>(BTreeMap<(bool, u128), (u128, T)>);

/// The blocks of each node, and what was left out, a line each.
#[derive(Debug, Default)]
pub(crate) struct Held<'a> {
    pub(crate) by_node: BTreeMap<&'a NodeName, Vec<IpNetwork>>,
    pub(crate) problems: Vec<String>,
}

/// Of claims that have addresses in common the first one counts: blocks with when they were written, such as their
/// revisions in the catalogue. Every host decides alike.
pub fn shares<'a, T: Ord>(claims: impl IntoIterator<Item = (T, &'a Block)>) -> Shares {
    let mut claims: Vec<(T, &Block)> = claims.into_iter().collect();
    claims.sort();
    let mut taken: BTreeMap<&NetworkName, Taken<&Block>> = BTreeMap::new();
    let mut shares = Shares::default();
    for (_, block) in claims {
        let taken = taken.entry(&block.network).or_default();
        match taken.find(block.subnet) {
            Some((_, winner)) => shares.disputed.push((block.clone(), (*winner).clone())),
            None => {
                taken.insert(block.subnet, block);
                shares.blocks.push(block.clone());
            }
        }
    }
    shares
}

impl Shares {
    /// The claims that count.
    pub fn blocks(&self) -> &[Block] {
        &self.blocks
    }

    /// Those that do not, each with the one that does.
    pub fn disputed(&self) -> &[(Block, Block)] {
        &self.disputed
    }

    /// What packets of a host go by whose containers have addresses of `lost`, blocks that its node has no claim to any
    /// more. Those that nobody else has are its own: the catalogue has forgotten them. A block of another node that is a
    /// part of a lost one would lead to that node what these containers are sent, and is left out; a larger one
    /// would not, as the bridge's route is the narrower one.
    #[must_use]
    pub fn beside(&self, lost: &[Block]) -> Self {
        let mut blocks = self.blocks.clone();
        blocks.retain(|block| !lost.iter().any(|lost| lost.node != block.node && is_part(block, lost)));
        for lost in lost {
            if !self.blocks.iter().chain(&blocks).any(|block| have_common(block, lost)) {
                blocks.push(lost.clone());
            }
        }
        Self { blocks, disputed: self.disputed.clone() }
    }

    /// Other nodes' blocks that have addresses of `lost`.
    pub fn others_of<'a>(&'a self, lost: &'a Block) -> impl Iterator<Item = &'a Block> {
        self.blocks.iter().filter(|block| block.node != lost.node && have_common(block, lost))
    }
}

impl<T> Default for Taken<T> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<T> Taken<T> {
    /// Takes all of `block`.
    pub fn insert(&mut self, block: IpNetwork, owner: T) {
        let (first, last) = ends(block);
        self.0.insert((block.is_ipv4(), first), (last, owner));
    }

    /// What has an address of `block`: its last, and whose it is. Blocks in here have none in common.
    pub fn find(&self, block: IpNetwork) -> Option<&(u128, T)> {
        let (first, last) = ends(block);
        let before = self.0.range(..=(block.is_ipv4(), last)).next_back();
        before
            .filter(|((is_v4, _), (end, _))| *is_v4 == block.is_ipv4() && *end >= first)
            .map(|(_, taken)| taken)
    }
}

/// Blocks of a network by node, without those that are in none of its `subnets`.
pub(crate) fn held<'a>(blocks: impl Iterator<Item = &'a Block>, subnets: &[IpNetwork]) -> Held<'a> {
    let mut held = Held::default();
    for block in blocks {
        if subnets.iter().any(|subnet| contains(*subnet, block.subnet)) {
            held.by_node.entry(&block.node).or_default().push(block.subnet);
        } else {
            held.problems.push(outside(block));
        }
    }
    held.by_node.values_mut().for_each(|blocks| blocks.sort_unstable());
    held
}

fn outside(block: &Block) -> String {
    let Block { network, subnet, node } = block;
    format!("block {subnet} of node {node} is in none of the subnets of network {network}: free it there")
}

fn is_part(part: &Block, whole: &Block) -> bool {
    part.network == whole.network && contains(whole.subnet, part.subnet)
}

fn have_common(one: &Block, other: &Block) -> bool {
    is_part(one, other) || is_part(other, one)
}

/// Whether all of `part` is in `whole`.
pub fn contains(whole: IpNetwork, part: IpNetwork) -> bool {
    let ((first, last), (start, end)) = (ends(whole), ends(part));
    whole.is_ipv4() == part.is_ipv4() && first <= start && end <= last
}

/// The first and the last address, as numbers.
pub fn ends(network: IpNetwork) -> (u128, u128) {
    (number(network.network()), number(network.broadcast()))
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => u32::from(v4).into(),
        IpAddr::V6(v6) => v6.into(),
    }
}
