//! Writes nodes that are not there into etcd: what `cargo xtask bench overlay` lets an agent have for peers.
//!
//! `peers URL NETWORK fill COUNT`: node N, from 1 on, is `peer-N` at 198.18.0.0 + N, with one block of NETWORK,
//! 10.128.0.0 + 256 * N / 24. `peers URL NETWORK change N`: it takes another block besides, 10.192.0.0 + 256 * N / 24.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use ipnetwork::IpNetwork;
use zeugma_catalogue::etcd::{Etcd, Settings};
use zeugma_catalogue::{Outcome, Store, Table, Transaction};
use zeugma_model::{Alive, Block, MachineId, NetworkName, Node, NodeName};

type Failure = Box<dyn std::error::Error>;

/// Three keys each, in one transaction.
const AT_ONCE: usize = Transaction::KEY_LIMIT / 3;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Failure> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [url, network, what, number] = &words[..] else {
        return Err("use: peers URL NETWORK fill COUNT, or change NUMBER".into());
    };
    let (network, number): (NetworkName, u32) = (network.parse()?, number.parse()?);
    let store: Arc<dyn Store> = Arc::new(Etcd::open(Settings::new([url.clone()]))?);
    match &**what {
        "fill" => {
            let all: Vec<u32> = (1..=number).collect();
            for some in all.chunks(AT_ONCE) {
                let batch =
                    some.iter().try_fold(Transaction::new(), |batch, n| with_peer(batch, &network, *n))?;
                commit(&store, batch).await?;
            }
            Ok(())
        }
        "change" => commit(&store, with_block(Transaction::new(), &network, number, 0x0ac0_0000)?).await,
        other => Err(format!("{other:?} is neither fill nor change").into()),
    }
}

async fn commit(store: &Arc<dyn Store>, batch: Transaction) -> Result<(), Failure> {
    match store.commit(batch).await? {
        Outcome::Committed(_) => Ok(()),
        Outcome::Conflict { key, .. } => Err(format!("{key} was written by somebody else").into()),
    }
}

fn name(number: u32) -> Result<NodeName, Failure> {
    Ok(format!("peer-{number}").parse()?)
}

fn with_peer(batch: Transaction, network: &NetworkName, number: u32) -> Result<Transaction, Failure> {
    let name = name(number)?;
    let node = Node {
        name: name.clone(),
        addresses: vec![IpAddr::from(Ipv4Addr::from(0xc612_0000 + number))],
        machine: MachineId(u128::from(number).to_be_bytes()),
        key: None,
        next_key: None,
        version: String::new(),
    };
    let batch = Table::put(batch, name.as_str(), &node, None)?;
    let batch = Table::put(batch, name.as_str(), &Alive { node: name.clone() }, None)?;
    with_block(batch, network, number, 0x0a80_0000)
}

fn with_block(
    batch: Transaction,
    network: &NetworkName,
    number: u32,
    from: u32,
) -> Result<Transaction, Failure> {
    let subnet = IpNetwork::new(IpAddr::from(Ipv4Addr::from(from + (number << 8))), 24)?;
    let block = Block { network: network.clone(), subnet, node: name(number)? };
    Ok(Table::put(batch, &block.key(), &block, None)?)
}
