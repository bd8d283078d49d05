//! What this node writes into the catalogue: itself, the blocks that it takes, those that it gives back. What is to be
//! written is decided without I/O from what is known; it is one transaction, which happens if all is still so.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ipnetwork::IpNetwork;
use zeugma_catalogue::{Error, Key, Kind, Outcome, Revision, Store, Table, Transaction};
use zeugma_model::{Block, Network, NetworkName, Node};
use zeugma_overlay::{Shares, Taken, contains};

use super::blocks::choose;
use super::known::Known;
use super::mine::Mine;

/// Blocks that are taken or given back in one transaction, beside the node itself.
const AT_ONCE: usize = 100;

/// What is known that matters for what this node writes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ground<'a> {
    /// As it is to be known.
    pub(super) node: &'a Node,
    pub(super) known: &'a Known,
    pub(super) shares: &'a Shares,
    /// Networks that are gone, and that containers are on.
    pub(super) leaving: &'a BTreeSet<NetworkName>,
    pub(super) mine: &'a Mine,
    /// Networks whose blocks of a family hardly have addresses; whether it is IPv4.
    pub(super) full: &'a BTreeSet<(NetworkName, bool)>,
    /// Blocks that others were seen to have before anything else was heard of it.
    pub(super) avoid: &'a BTreeSet<Block>,
}

/// How this node stands with the catalogue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Standing {
    /// Its name is another machine's: why, and what to do.
    Refused(String),
    /// Something is to be written.
    Joining(Chore),
    /// All is as it should be; networks that have no block for this node, and why.
    Member(BTreeMap<NetworkName, String>),
}

/// What is to be written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Chore {
    /// This node, and when it was last written; none: never.
    node: Option<(Node, Option<Revision>)>,
    take: Vec<Block>,
    free: Vec<(Block, Revision)>,
}

/// What became of it.
#[derive(Debug)]
pub(super) enum Done {
    /// It is written.
    Written(Chore, Revision),
    /// Somebody else has a block that was to be taken.
    Taken(Block),
    /// This is not as it was known; when it was last written, none: it is not there.
    Overtaken(Key, Option<Revision>),
}

/// What is next.
pub(super) fn standing(ground: Ground<'_>) -> Standing {
    let node = ground.node;
    let there = ground.known.nodes.get(&node.name);
    if let Some(other) = there.filter(|there| there.machine != node.machine) {
        return Standing::Refused(refusal(node, other));
    }
    if let Some((network, told)) =
        sealed_off(ground).filter(|_| there.is_none_or(|there| there.addresses != node.addresses))
    {
        // With its address in the catalogue no host could have that network any more.
        return Standing::Member(BTreeMap::from([(network, told)]));
    }
    let revision = ground.known.revisions.get(&node.name).copied();
    let mut chore = Chore {
        node: (there != Some(node)).then(|| (node.clone(), revision)),
        take: Vec::new(),
        free: stale(ground),
    };
    let mut lacking = BTreeMap::new();
    for network in ground.known.networks.values().filter(|network| !ground.leaving.contains(&network.name)) {
        let (blocks, lack) = wanted(ground, network);
        chore.take.extend(blocks);
        lacking.extend(lack.map(|told| (network.name.clone(), told)));
    }
    chore.take.truncate(AT_ONCE);
    chore.free.truncate(AT_ONCE - chore.take.len());
    if chore == Chore::default() { Standing::Member(lacking) } else { Standing::Joining(chore) }
}

fn refusal(node: &Node, other: &Node) -> String {
    let name = &node.name;
    let at: Vec<String> = other.addresses.iter().map(ToString::to_string).collect();
    format!(
        "another machine is node {name} (at {}, machine {}; this is machine {}): this one takes no part in overlays; \
         give one of them another name (zeugma agent --node), or, if it is this one, installed anew, run: zeugma node \
         rm {name}",
        at.join(", "),
        other.machine,
        node.machine
    )
}

/// A network that has an address of this node, and what to do about it.
fn sealed_off(ground: Ground<'_>) -> Option<(NetworkName, String)> {
    let all = ground.known.networks.values();
    let mut subnets =
        all.flat_map(|network| network.subnets.iter().map(move |subnet| (&network.name, subnet.subnet)));
    subnets.find_map(|(name, subnet)| {
        let address = ground.node.addresses.iter().find(|address| subnet.contains(**address))?;
        let told = format!(
            "address {address} of this host is in the subnet {subnet} of network {name}: it takes no part in overlays; \
             give it another address (zeugma agent --underlay), or create the network again with another subnet"
        );
        Some((name.clone(), told))
    })
}

/// Claims of ours that nothing is given out of any more.
fn stale(ground: Ground<'_>) -> Vec<(Block, Revision)> {
    let name = &ground.node.name;
    let is_kept = |block: &Block| {
        ground.mine.get(&block.network).is_some_and(|blocks| blocks.contains(&block.subnet))
            || ground.shares.blocks().contains(block)
    };
    let stale = ground.known.claims_of(name).filter(|claim| !is_kept(&claim.block));
    stale.map(|claim| (claim.block.clone(), claim.revision)).collect()
}

/// Blocks of a network that this node takes now: one a family, and one more when they are nearly full. And what it would
/// take, if there were any.
fn wanted(ground: Ground<'_>, network: &Network) -> (Vec<Block>, Option<String>) {
    let (mut blocks, mut lacking) = (Vec::new(), None);
    let Some(options) = network.overlay() else { return (blocks, lacking) };
    let name = &ground.node.name;
    let block = |subnet: IpNetwork| Block { network: network.name.clone(), subnet, node: name.clone() };
    let mut taken = Taken::default();
    let others = ground.shares.blocks().iter().chain(ground.avoid).filter(|one| one.network == network.name);
    others.for_each(|other| taken.insert(other.subnet, ()));
    // Containers have addresses of it, and nobody else claims it: the catalogue has forgotten.
    for lost in ground.mine.get(&network.name).into_iter().flatten() {
        if taken.find(*lost).is_none() && is_within(*lost, network) {
            taken.insert(*lost, ());
            blocks.push(block(*lost));
        }
    }
    for is_v4 in [true, false] {
        let of_family = |subnet: &IpNetwork| subnet.is_ipv4() == is_v4;
        let subnets: Vec<IpNetwork> =
            network.subnets.iter().map(|subnet| subnet.subnet).filter(of_family).collect();
        let has_one = ground
            .shares
            .blocks()
            .iter()
            .any(|one| one.network == network.name && one.node == *name && of_family(&one.subnet))
            || blocks.iter().any(|one| of_family(&one.subnet));
        let is_enough = has_one && !ground.full.contains(&(network.name.clone(), is_v4));
        if subnets.is_empty() || is_enough {
            continue;
        }
        let free = |subnet: &IpNetwork| choose(*subnet, options.block(*subnet), name, &taken);
        match subnets.iter().find_map(free) {
            Some(found) => {
                taken.insert(found, ());
                blocks.push(block(found));
            }
            None => lacking = Some(lack(network, &subnets)),
        }
    }
    (blocks, lacking)
}

fn lack(network: &Network, subnets: &[IpNetwork]) -> String {
    let subnets: Vec<String> = subnets.iter().map(ToString::to_string).collect();
    format!(
        "all blocks of network {} ({}) are taken: remove nodes that do not come back (zeugma node ls, zeugma node rm \
         NODE), or create it again with a larger subnet or smaller blocks",
        network.name,
        subnets.join(", ")
    )
}

/// Whether a block is a part of one of the network's subnets.
pub(super) fn is_within(block: IpNetwork, network: &Network) -> bool {
    network.subnets.iter().any(|subnet| contains(subnet.subnet, block))
}

/// Writes it, if all is as it was when it was decided on.
///
/// # Errors
/// Those of the store.
pub(super) async fn commit(store: &Arc<dyn Store>, chore: Chore) -> Result<Done, Error> {
    let transaction = chore.transaction()?;
    match store.commit(transaction).await? {
        Outcome::Committed(revision) => Ok(Done::Written(chore, revision)),
        Outcome::Conflict { key, found } => {
            let is_it = |block: &&Block| key.kind() == Kind::NodeBlock && block.key() == key.name();
            let taken = chore.take.iter().find(is_it).cloned();
            Ok(taken.map_or(Done::Overtaken(key, found), Done::Taken))
        }
    }
}

impl Chore {
    fn transaction(&self) -> Result<Transaction, Error> {
        let mut transaction = Transaction::new();
        if let Some((node, revision)) = &self.node {
            let key = Table::<Node>::key(node.name.as_str())?;
            transaction = match revision {
                Some(revision) => transaction.expect(key, *revision),
                None => transaction.expect_absent(key),
            };
            transaction = Table::put(transaction, node.name.as_str(), node, None)?;
        }
        for block in &self.take {
            let key = block.key();
            transaction = transaction.expect_absent(Table::<Block>::key(&key)?);
            transaction = Table::put(transaction, &key, block, None)?;
        }
        for (block, revision) in &self.free {
            let key = Table::<Block>::key(&block.key())?;
            transaction = transaction.expect(key.clone(), *revision).delete(key);
        }
        Ok(transaction)
    }

    /// What is known once it is written.
    pub(super) fn apply(self, revision: Revision, known: &mut Known) {
        if let Some((node, _)) = self.node {
            known.written(node, revision);
        }
        self.take.into_iter().for_each(|block| known.taken(block, revision));
        self.free.iter().for_each(|(block, _)| known.freed(block, revision));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use zeugma_catalogue::{Difference, Embedded};
    use zeugma_model::MachineId;
    use zeugma_overlay::shares;

    use super::*;

    #[derive(Default)]
    struct Case {
        known: Known,
        mine: Mine,
        full: BTreeSet<(NetworkName, bool)>,
        leaving: BTreeSet<NetworkName>,
    }

    impl Case {
        fn new() -> Self {
            let network = json!({"name": "front", "driver": "overlay", "options": {"vni": "7", "block": "28"},
                "subnets": [{"subnet": "10.1.0.0/27"}, {"subnet": "fd00::/56"}]});
            let mut case = Self::default();
            case.known.networks.insert("front".parse().unwrap(), serde_json::from_value(network).unwrap());
            case
        }

        fn claimed(mut self, node: &str, subnet: &str, revision: u64) -> Self {
            self.known.taken(block(node, subnet), Revision(revision));
            self
        }

        fn standing(&self, node: &Node) -> Standing {
            let claims = self.known.claims.values();
            let shares = shares(claims.map(|claim| (claim.revision, &claim.block)));
            standing(Ground {
                node,
                known: &self.known,
                shares: &shares,
                leaving: &self.leaving,
                mine: &self.mine,
                full: &self.full,
                avoid: &BTreeSet::new(),
            })
        }

        /// Writes until there is nothing more to write.
        fn settle(&mut self, node: &Node) -> BTreeMap<NetworkName, String> {
            for revision in 100.. {
                match self.standing(node) {
                    Standing::Joining(chore) => chore.apply(Revision(revision), &mut self.known),
                    Standing::Member(lacking) => return lacking,
                    Standing::Refused(told) => panic!("{told}"),
                }
            }
            unreachable!()
        }

        fn of(&self, node: &Node) -> Vec<String> {
            self.known.claims_of(&node.name).map(|claim| claim.block.subnet.to_string()).collect()
        }
    }

    fn block(node: &str, subnet: &str) -> Block {
        Block {
            network: "front".parse().unwrap(),
            subnet: subnet.parse().unwrap(),
            node: node.parse().unwrap(),
        }
    }

    fn node(name: &str) -> Node {
        let (machine, version) = (MachineId([1; 16]), String::new());
        Node {
            name: name.parse().unwrap(),
            addresses: Vec::new(),
            machine,
            key: None,
            next_key: None,
            version,
        }
    }

    #[test]
    fn a_node_takes_a_block_of_each_family_and_more_when_they_are_full() {
        let (mut case, a) = (Case::new().claimed("b", "10.1.0.0/28", 1), node("a"));
        assert!(case.settle(&a).is_empty());
        assert!(case.of(&a)[0] == "10.1.0.16/28" && case.of(&a).len() == 2, "{:?}", case.of(&a));
        case.full.insert(("front".parse().unwrap(), false));
        let Standing::Joining(chore) = case.standing(&a) else { panic!("nothing is to be done") };
        assert!(chore.take.len() == 1 && chore.take[0].subnet.is_ipv6(), "{chore:?}");
        case.full = BTreeSet::from([("front".parse().unwrap(), true)]);
        let lacking = case.settle(&a);
        assert!(lacking[&"front".parse().unwrap()].contains("zeugma node rm"), "{lacking:?}");
    }

    #[test]
    fn another_machine_of_the_same_name_takes_no_part() {
        let (mut case, one) = (Case::new(), node("a"));
        case.settle(&one);
        let other = Node { machine: MachineId([2; 16]), ..node("a") };
        let Standing::Refused(told) = case.standing(&other) else { panic!("it takes part") };
        assert!(told.contains("zeugma node rm a") && told.contains("--node"), "{told}");
    }

    #[test]
    fn a_node_with_an_address_of_a_network_does_not_join() {
        let mut case = Case::new();
        let a = Node { addresses: vec!["10.1.0.9".parse().unwrap()], ..node("a") };
        let told = case.settle(&a);
        assert!(
            told[&"front".parse().unwrap()].contains("10.1.0.9") && case.known.nodes.is_empty(),
            "{told:?}"
        );
    }

    #[test]
    fn a_block_that_the_catalogue_forgot_is_claimed_again_unless_it_is_another_s_now() {
        let (mut case, a) = (Case::new(), node("a"));
        case.mine.insert("front".parse().unwrap(), BTreeSet::from(["10.1.0.0/28".parse().unwrap()]));
        case.settle(&a);
        assert!(case.of(&a).contains(&"10.1.0.0/28".into()), "{:?}", case.of(&a));
        let mut case = Case { mine: case.mine, ..Case::new().claimed("b", "10.1.0.0/28", 1) };
        case.settle(&a);
        assert!(case.of(&a).contains(&"10.1.0.16/28".into()), "{:?}", case.of(&a));
    }

    #[test]
    fn what_was_heard_after_it_was_written_holds() {
        let (mut case, a) = (Case::new(), node("a"));
        let Standing::Joining(chore) = case.standing(&a) else { panic!("nothing is to be done") };
        // Somebody wrote and deleted all of it before this host hears that it was written.
        let gone = |revision| Difference::<Block> {
            put: BTreeMap::new(),
            deleted: chore.take.iter().map(Block::key).collect(),
            unreadable: BTreeMap::new(),
            revision: Revision(revision),
        };
        case.known.hear_blocks(gone(8));
        chore.clone().apply(Revision(7), &mut case.known);
        assert!(case.known.claims.is_empty() && case.known.nodes.contains_key(&a.name));
        chore.apply(Revision(9), &mut case.known);
        assert_eq!(case.known.claims.len(), 2);
    }

    #[tokio::test]
    async fn a_claim_that_the_catalogue_does_not_have_is_forgotten() {
        let root = tempfile::tempdir().unwrap();
        let store: Arc<dyn Store> = Arc::new(Embedded::open(root.path().join("a.redb")).await.unwrap());
        let (mut case, a) = (Case::new().claimed("b", "10.1.0.0/27", 1), node("a"));
        case.settle(&a);
        case.known.taken(block("a", "10.1.0.0/28"), Revision(2));
        let mut conflicts = 0;
        while let Standing::Joining(chore) = case.standing(&a) {
            match commit(&store, chore).await.unwrap() {
                Done::Written(chore, revision) => chore.apply(revision, &mut case.known),
                Done::Overtaken(key, None) => case.known.absent(&key),
                other => panic!("{other:?}"),
            }
            conflicts += 1;
            assert!(conflicts < 10, "it is tried for ever");
        }
        assert!(!case.of(&a).contains(&"10.1.0.0/28".into()), "{:?}", case.of(&a));
    }

    #[test]
    fn a_block_goes_back_when_nothing_is_given_out_of_it_any_more() {
        let mut case = Case::new().claimed("b", "10.1.0.0/27", 1).claimed("a", "10.1.0.0/28", 2);
        case.mine.insert("front".parse().unwrap(), BTreeSet::from(["10.1.0.0/28".parse().unwrap()]));
        let a = node("a");
        case.settle(&a);
        assert!(case.of(&a).contains(&"10.1.0.0/28".into()), "containers have it: {:?}", case.of(&a));
        case.mine.clear();
        case.settle(&a);
        assert!(!case.of(&a).contains(&"10.1.0.0/28".into()), "{:?}", case.of(&a));
    }
}
