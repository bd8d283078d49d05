//! `zeugma agent` on a node, with the run directory that it has on a real machine.

use anyhow::{Context, Result, ensure};
use netns_fixtures::Running;

use crate::{Node, Plugins, eventually};

/// An agent that runs; it ends with this or with its node.
pub struct Agent {
    daemon: Running,
}

impl Agent {
    /// Starts it and waits until it answers.
    pub fn start(node: &Node) -> Result<Self> {
        let zeugma = Plugins::find()?.zeugma();
        let zeugma = zeugma.to_str().context("the directory of plugins has a name in UTF-8")?;
        let agent = Self { daemon: node.spawn(&[zeugma, "agent", "--listen-metrics", "none"])? };
        eventually("the agent answers", || node.command(&[zeugma, "dns", "dump"]))
            .with_context(|| agent.daemon.log())?;
        ensure!(agent.daemon.is_running(), "the agent ended: {}", agent.daemon.log());
        Ok(agent)
    }
}
