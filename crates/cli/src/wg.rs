//! `zeugma wg`: WireGuard in user space, one device a process. What it does: `crates/wireguard`.

use anyhow::Result;
use clap::Args;
use zeugma_agent::{LogFormat, log_to_stderr};
use zeugma_journal::run_dir;
use zeugma_model::IfName;
use zeugma_wireguard::{Settings, client, saved_at};

/// Which device.
#[derive(Debug, Clone, Args)]
pub(crate) struct Flags {
    /// The TUN device: made if it is missing, and left when this ends, so that nothing takes another way.
    name: IfName,
}

/// Runs until SIGTERM or SIGINT.
pub(crate) fn run(flags: Flags) -> Result<()> {
    log_to_stderr(LogFormat::Text);
    let (socket, saved) = (client::socket(&flags.name), saved_at(&run_dir(), &flags.name));
    Ok(zeugma_wireguard::run(&Settings { link: flags.name, socket, saved })?)
}
