//! `zeugma repair`: once, and without an agent. What it does is the agent's `heal`.

use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use zeugma_agent::heal::{Mode, repair};

/// How the repair is done and told.
#[derive(Args)]
pub(crate) struct Flags {
    /// Prints what was done and what could not be done as one JSON object.
    #[arg(long)]
    json: bool,
    /// Changes nothing; prints what would be done.
    #[arg(long)]
    dry_run: bool,
}

/// Prints a line per step that was done, and nothing where nothing was to be done. What could not be done goes to
/// standard error, and the exit code is 1.
pub(crate) fn run(flags: &Flags) -> Result<ExitCode> {
    let repaired = repair(if flags.dry_run { Mode::DryRun } else { Mode::Apply })?;
    if flags.json {
        println!("{}", serde_json::to_string_pretty(&repaired)?);
    } else {
        for step in &repaired.steps {
            println!("{step}");
        }
        for failure in &repaired.failures {
            eprintln!("zeugma: cannot mend: {failure}");
        }
    }
    if zeugma_journal::state_dir().join("catalogue.redb").exists() && is_agent_away()? {
        eprintln!(
            "zeugma: the agent keeps services, and it does not run: start it, and their table is mended"
        );
    }
    Ok(if repaired.failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn is_agent_away() -> Result<bool> {
    Ok(zeugma_journal::Lock::try_exclusive("agent")?.is_some())
}
