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
    /// Leaves the session that it is started in, as the agent wants it.
    #[arg(long)]
    own_session: bool,
}

/// Runs until SIGTERM or SIGINT.
pub(crate) fn run(flags: Flags) -> Result<()> {
    log_to_stderr(LogFormat::Text);
    if flags.own_session {
        zeugma_kernel::leave_session()?;
    }
    let run_dir = run_dir();
    let (socket, saved) = (client::socket(&run_dir, &flags.name), saved_at(&run_dir, &flags.name));
    Ok(zeugma_wireguard::run(&Settings { link: flags.name, socket, saved })?)
}
