//! `zeugma node`: the hosts that overlays span.

use anyhow::Result;
use clap::Subcommand;
use hyper::Method;
use zeugma_api::{NODE, NODES, NodeView, ROTATE};
use zeugma_journal::state_dir;
use zeugma_model::{Block, NodeName, PublicKey};

use crate::client::{Question, ask, filled};
use crate::peers;
use crate::table::table;

/// What to do with nodes.
#[derive(Debug, Clone, Subcommand)]
pub(crate) enum Action {
    /// Lists nodes: how they are reached, and whether they are heard of.
    #[command(visible_alias = "list")]
    Ls {
        /// A list of objects instead of a table.
        #[arg(long)]
        json: bool,
    },
    /// Forgets a node that does not come back, and gives its blocks of addresses to others; refused while it lives.
    #[command(visible_alias = "remove")]
    Rm {
        /// Which.
        node: NodeName,
    },
    /// Prints this node's WireGuard public key, as a file of peers has it; made if there is none. Needs no agent.
    Key,
    /// Gives this node a new WireGuard key. Connections go on.
    RotateKey,
}

/// Does it.
pub(crate) fn run(action: Action) -> Result<()> {
    match action {
        Action::Ls { json } => listed(json),
        Action::Rm { node } => removed(&node),
        Action::Key => {
            println!("{}", zeugma_agent::public_key(&state_dir())?);
            Ok(())
        }
        Action::RotateKey => {
            let key: PublicKey = ask(Method::POST, ROTATE)?;
            println!("{key}");
            Ok(())
        }
    }
}

fn listed(json: bool) -> Result<()> {
    let nodes: Vec<NodeView> = Question::get(NODES).answer()?;
    if json {
        println!("{}", serde_json::to_string_pretty(&nodes)?);
        return Ok(());
    }
    if !nodes.iter().any(|node| node.here) {
        eprintln!("zeugma: this host is not among them, as far as its agent knows");
        peers::agent_s_problems()?.iter().for_each(|line| eprintln!("zeugma: {line}"));
    }
    let row = |NodeView { node, alive, here }: NodeView| {
        let addresses: Vec<String> = node.addresses.iter().map(ToString::to_string).collect();
        let state = match (here, alive) {
            (true, _) => "here",
            (false, true) => "alive",
            (false, false) => "not heard of",
        };
        let key = node.key.map(|key| key.to_string()).unwrap_or_default();
        [node.name.to_string(), addresses.join(","), state.to_owned(), node.version, key]
    };
    let rows: Vec<_> = nodes.into_iter().map(row).collect();
    print!("{}", table(["NODE", "ADDRESSES", "STATE", "VERSION", "KEY"], &rows));
    Ok(())
}

fn removed(node: &NodeName) -> Result<()> {
    let blocks: Vec<Block> = ask(Method::DELETE, &filled(NODE, &[node.as_str()]))?;
    println!("{node} removed");
    blocks.iter().for_each(|block| println!("{} of network {} is free", block.subnet, block.network));
    Ok(())
}
