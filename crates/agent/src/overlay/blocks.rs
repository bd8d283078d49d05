//! Which block a node takes next, and when. Pure. What becomes of blocks that two nodes claim: `zeugma_overlay::shares`.

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use sha2::{Digest, Sha256};
use zeugma_catalogue::Revision;
use zeugma_model::{Block, NodeName};
use zeugma_overlay::{Taken, ends};

/// Of a hundred addresses so many are given out before a node takes another block.
const FULL: u128 = 90;
/// Of a block's addresses those that no container gets: the host's on the tunnel, the gateway's, the broadcast address.
const KEPT: u128 = 3;

/// A block that a node says is its own, since when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Claim {
    pub(super) block: Block,
    pub(super) revision: Revision,
}

/// The part of `subnet` with that prefix length that `node` takes, if one is free: nodes begin at different places, so
/// that those that come at once seldom want the same.
pub(super) fn choose<T>(
    subnet: IpNetwork,
    prefix: u8,
    node: &NodeName,
    taken: &Taken<T>,
) -> Option<IpNetwork> {
    let bits = if subnet.is_ipv4() { 32 } else { 128 };
    let count = 1_u128.checked_shl(u32::from(prefix.checked_sub(subnet.prefix())?)).unwrap_or(u128::MAX);
    let size = 1_u128 << (bits - prefix);
    let (first, _) = ends(subnet);
    let start = place(subnet, node) % count;
    let (mut at, mut seen) = (start, 0_u128);
    while seen < count {
        let block = block(subnet, first + at * size, prefix)?;
        let Some((last, _)) = taken.find(block) else { return Some(block) };
        // Past what is in the way, which may be larger.
        let next = ((last - first) / size + 1).min(count);
        seen += next - at;
        at = if next == count { 0 } else { next };
    }
    None
}

/// Whether the blocks of a family hardly have addresses for more containers than there are.
pub(super) fn are_full(blocks: impl Iterator<Item = IpNetwork>, containers: usize) -> bool {
    let addresses = |block: IpNetwork| {
        let (first, last) = ends(block);
        (last - first).saturating_add(1).saturating_sub(KEPT)
    };
    let all = blocks.map(addresses).fold(0_u128, u128::saturating_add);
    containers as u128 >= all / 100 * FULL + all % 100 * FULL / 100
}

fn place(subnet: IpNetwork, node: &NodeName) -> u128 {
    let hash = Sha256::digest(format!("{subnet} {node}"));
    hash[..8].iter().fold(0, |number, byte| number << 8 | u128::from(*byte))
}

fn block(subnet: IpNetwork, first: u128, prefix: u8) -> Option<IpNetwork> {
    let address = match subnet {
        IpNetwork::V4(_) => IpAddr::V4(u32::try_from(first).ok()?.into()),
        IpNetwork::V6(_) => IpAddr::V6(first.into()),
    };
    IpNetwork::new(address, prefix).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn net(text: &str) -> IpNetwork {
        text.parse().unwrap()
    }

    #[test]
    fn a_node_takes_another_block_before_the_last_address_is_gone() {
        let full = |blocks: &[&str], containers| are_full(blocks.iter().map(|text| net(text)), containers);
        assert!(!full(&["10.1.0.0/24"], 226) && full(&["10.1.0.0/24"], 227));
        assert!(!full(&["10.1.0.0/24", "10.1.7.0/24"], 300));
        assert!(full(&[], 0));
        assert!(!full(&["fd00::/64"], 100_000) && !full(&["::/0"], 100_000));
    }

    proptest! {
        #[test]
        fn every_part_of_a_subnet_is_found_once(
            nodes in prop::collection::vec("[a-z]{1,8}", 16), odd in 0_u8..16, length in 26_u8..=32,
        ) {
            let (subnet, mut taken) = (net("10.1.0.0/24"), Taken::default());
            let large = IpNetwork::new(format!("10.1.0.{}", odd * 16).parse().unwrap(), length).unwrap();
            taken.insert(large, ());
            for node in nodes {
                let Some(block) = choose(subnet, 28, &node.parse().unwrap(), &taken) else { break };
                prop_assert!(taken.find(block).is_none() && ends(block).0 >= ends(subnet).0);
                taken.insert(block, ());
            }
            let free = (0..16_u8).filter(|at| taken.find(net(&format!("10.1.0.{}/28", at * 16))).is_none());
            prop_assert_eq!(free.count(), 0);
        }
    }
}
