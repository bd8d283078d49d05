//! The stage for networks from the command line: a host whose agent keeps networks and leases of this world's own.
//! What is promised on it stands in `tests/networks.rs` and `tests/stacks.rs`.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use netns_fixtures::{Host, HostCommand, World};

use crate::agent::{Agent, command};
use crate::bin_dir;
use crate::stage::Stage;

/// A host with an agent.
#[derive(Debug)]
pub struct Lab<'a> {
    /// The host is its.
    pub stage: Stage<'a>,
    _agent: Agent,
}

impl<'a> Lab<'a> {
    /// Sets it up.
    ///
    /// # Errors
    /// When the kernel refuses, or the agent does not begin.
    pub fn new(world: &'a World) -> Result<Lab<'a>> {
        // Leases are below it, for whoever follows a list as it is.
        world.shadow("/var/lib")?;
        let stage = Stage::new(world)?;
        let agent = Agent::run(&stage.host, agent(&stage.host))?;
        Ok(Lab { stage, _agent: agent })
    }

    /// What `zeugma LINE` prints.
    ///
    /// # Errors
    /// When it fails; the message holds its standard error.
    pub fn zeugma(&self, line: &str) -> Result<String> {
        zeugma(&self.stage.host, line)
    }

    /// What `zeugma network LINE` prints.
    ///
    /// # Errors
    /// As [`Lab::zeugma`].
    pub fn network(&self, line: &str) -> Result<String> {
        self.zeugma(&format!("network {line}"))
    }

    /// A fresh container on networks, with its name as ID, and its first IPv4 address on each.
    ///
    /// # Errors
    /// When it cannot be connected.
    pub fn container(&self, name: &str, networks: &[&str]) -> Result<(Host, Vec<String>)> {
        let container = self.stage.world.container(name)?;
        let addresses = networks.iter().map(|network| self.connected(network, &container, ""));
        let addresses = addresses.collect::<Result<_>>()?;
        Ok((container, addresses))
    }

    /// Connects a container, with more flags, and returns its IPv4 address.
    ///
    /// # Errors
    /// As [`Lab::zeugma`].
    pub fn connected(&self, network: &str, container: &Host, flags: &str) -> Result<String> {
        let (name, netns) = (container.name(), container.path().display());
        let told = self.network(&format!("connect {network} {name} --netns {netns} {flags}"))?;
        let address = told.split_whitespace().nth(1).and_then(|word| word.split('/').next());
        Ok(address.with_context(|| format!("no address in {told:?}"))?.to_owned())
    }

    /// Where the list of a network is.
    pub fn file(&self, network: &str) -> PathBuf {
        self.stage.host.run_dir().join("net.d").join(format!("zeugma-{network}.conflist"))
    }
}

/// The command of an agent that clears networks with the plugins under test.
pub fn agent(host: &Host) -> HostCommand {
    command(host).arg("--bin-dir").arg(bin_dir())
}

/// What `zeugma LINE` prints on a host.
///
/// # Errors
/// As [`Lab::zeugma`].
pub fn zeugma(host: &Host, line: &str) -> Result<String> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let mut zeugma = host.command(bin_dir().join("zeugma")).args(&words);
    if words.iter().any(|word| ["connect", "disconnect"].contains(word)) {
        zeugma = zeugma.arg("--bin-dir").arg(bin_dir());
    }
    Ok(zeugma.run()?.stdout)
}

/// Demands that something was refused with these words.
///
/// # Errors
/// When it was accepted, or with other words.
pub fn ensure_refused(outcome: Result<String>, words: &str) -> Result<()> {
    let told = format!("{:?}", outcome.err().context("it was accepted")?);
    ensure!(told.contains(words), "{told}");
    Ok(())
}
