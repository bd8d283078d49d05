//! `zeugma-cni --purge`: everything of ours that no container needs goes from the host: the nftables tables,
//! bridges that we made, routes to virtual addresses, the run directory. Leases stay: they are the reference's as well.
//!
//! Forwarding stays on, as nobody knows who else needs it. So does the catalogue: an agent that comes back has its
//! services again.

use std::fs;
use std::io;

use zeugma_journal::{Journal, Lock, run_dir};
use zeugma_kernel::Kernel;
use zeugma_model::AttachmentId;
use zeugma_plan::{Plan, Step};
use zeugma_upkeep::BRIDGE_ALIAS;

use crate::cause::{Cause, several};

/// Why nothing, or not all, was removed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// Containers are attached.
    #[error("{} is still attached (and {} more): remove the containers first, or run GC", .0[0], .0.len() - 1)]
    InUse(Vec<AttachmentId>),
    /// Its socket and its lock are in the run directory.
    #[error("the agent runs: stop it first (systemctl disable --now zeugma-agent)")]
    Agent,
    /// Below.
    #[error(transparent)]
    Cause(#[from] Cause),
    /// The run directory stays.
    #[error("cannot remove the run directory: {0}")]
    RunDir(io::Error),
}

/// Removes what is left, and says what that was.
pub(crate) fn purge() -> Result<String, Error> {
    let journal = Journal::default();
    let attached = attachments(&journal)?;
    if !attached.is_empty() {
        return Err(Error::InUse(attached));
    }
    let _no_agent = Lock::try_exclusive("agent").map_err(Cause::from)?.ok_or(Error::Agent)?;
    let mut kernel = Kernel::host();
    let bridges = kernel.marked_links(BRIDGE_ALIAS).map_err(Cause::from)?;
    let steps = bridges.into_iter().map(Step::DeleteUnusedBridge).chain([Step::DeleteTables]);
    let plan = Plan::from_iter(steps);
    several(kernel.apply_all(&plan).into_iter().map(Cause::from).collect())?;
    // Those of the agent: ways of the host's own programs to services.
    kernel.hold_vip_routes(&[]).map_err(Cause::from)?;
    // The socket notes its deletions in the run directory when it is closed.
    drop(kernel);
    match fs::remove_dir_all(run_dir()) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Error::RunDir(error)),
        _ => Ok(format!("{plan}host: rm -r {}\n", run_dir().display())),
    }
}

fn attachments(journal: &Journal) -> Result<Vec<AttachmentId>, Cause> {
    let mut all = Vec::new();
    for network in journal.networks()? {
        all.extend(journal.attachments(&network)?);
    }
    Ok(all)
}
