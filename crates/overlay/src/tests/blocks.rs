//! Blocks that several nodes claim: whose they are, and what a host goes by that lost some.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnetwork::IpNetwork;
use proptest::prelude::*;
use zeugma_model::{Block, NodeName};

use crate::{Shares, contains, shares};

fn block(network: &str, node: &str, subnet: &str) -> Block {
    let (network, node) = (network.parse().unwrap(), node.parse().unwrap());
    Block { network, subnet: subnet.parse().unwrap(), node }
}

fn have_common(one: &Block, other: &Block) -> bool {
    one.network == other.network && (contains(one.subnet, other.subnet) || contains(other.subnet, one.subnet))
}

/// Without an address that two blocks of a network have.
fn is_sound(shares: &Shares) -> bool {
    let blocks = shares.blocks();
    (0..blocks.len()).all(|at| !blocks[..at].iter().any(|other| have_common(&blocks[at], other)))
}

#[test]
fn a_block_goes_to_whoever_claimed_it_first() {
    let claims = [
        (9, block("net", "a", "10.1.0.0/24")),
        (2, block("net", "first", "10.1.0.0/16")),
        (5, block("net", "apart", "10.2.0.0/24")),
        (7, block("net", "six", "fd00::/64")),
        (8, block("other", "a", "10.1.0.0/24")),
    ];
    let shares = shares(claims.iter().map(|(at, block)| (at, block)));
    let owners: Vec<&str> = shares.blocks().iter().map(|block| block.node.as_str()).collect();
    assert_eq!(owners, ["first", "apart", "six", "a"]);
    assert_eq!(shares.disputed(), [(claims[0].1.clone(), claims[1].1.clone())]);
}

#[test]
fn what_containers_lost_is_nobody_s_way_and_the_rest_of_a_larger_block_is_reached() {
    let check = |lost: &str, other: &str, expected: &[&str]| {
        let (lost, other) = (block("net", "a", lost), block("net", "b", other));
        let twin = Block { network: "twin".parse().unwrap(), ..other.clone() };
        let shares = shares([&other, &twin].into_iter().enumerate());
        let routed = shares.beside(std::slice::from_ref(&lost));
        let told: Vec<String> = routed
            .blocks()
            .iter()
            .map(|one| format!("{} {} {}", one.network, one.node, one.subnet))
            .collect();
        assert_eq!(told, expected);
        shares.others_of(&lost).count()
    };
    assert_eq!(check("10.1.0.0/24", "10.1.0.0/24", &["twin b 10.1.0.0/24"]), 1);
    assert_eq!(check("10.1.0.0/24", "10.1.0.128/25", &["twin b 10.1.0.128/25"]), 1);
    assert_eq!(check("10.1.3.0/24", "10.1.0.0/16", &["net b 10.1.0.0/16", "twin b 10.1.0.0/16"]), 1);
    let forgotten = ["net b 10.2.0.0/24", "twin b 10.2.0.0/24", "net a 10.1.0.0/24"];
    assert_eq!(check("10.1.0.0/24", "10.2.0.0/24", &forgotten), 0);
}

/// Blocks, each with when it was claimed.
fn claims() -> impl Strategy<Value = BTreeMap<Block, u8>> {
    let claim = ("(net|twin)", "[a-d]", 0..16_u8, 24..=28_u8, any::<bool>());
    let claim = claim.prop_map(|(network, node, part, prefix, is_v4)| {
        let (address, prefix): (IpAddr, u8) = match is_v4 {
            true => ([10, 1, 0, part * 16].into(), prefix),
            false => ([0xfd00, 0, 0, 0, 0, 0, 0, u16::from(part) * 16].into(), 96 + prefix),
        };
        let within = IpNetwork::new(address, prefix).unwrap();
        let subnet = IpNetwork::new(within.network(), prefix).unwrap();
        Block { network: network.parse().unwrap(), subnet, node: node.parse().unwrap() }
    });
    prop::collection::btree_map(claim, 0..9_u8, 0..20)
}

proptest! {
    #[test]
    fn every_claim_counts_or_has_lost_to_an_earlier_one(claims in claims(), lost in claims(), turn in 0..20_usize) {
        let made = shares(claims.iter().map(|(block, at)| (*at, block)));
        prop_assert!(is_sound(&made));
        prop_assert_eq!(made.blocks().len() + made.disputed().len(), claims.len());
        for (loser, winner) in made.disputed() {
            prop_assert!(made.blocks().contains(winner) && have_common(winner, loser));
            prop_assert!((claims[winner], winner) < (claims[loser], loser));
        }
        let mut turned: Vec<_> = claims.iter().map(|(block, at)| (*at, block)).collect();
        turned.rotate_left(turn.min(claims.len()));
        prop_assert_eq!(&shares(turned), &made);
        let node: NodeName = "a".parse().unwrap();
        let lost: Vec<Block> = lost.into_keys().map(|lost| Block { node: node.clone(), ..lost }).collect();
        prop_assert!(is_sound(&made.beside(&lost)));
    }
}
