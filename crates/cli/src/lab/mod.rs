//! `zeugma lab`: networks of machines and containers, with agents, on one machine and apart from it. What namespaces a
//! lab is made of is in `netns_fixtures::lasting`; what is written in its file in `file`, and how that becomes a topology
//! in `check`.

mod agents;
mod build;
mod check;
mod containers;
mod down;
mod enter;
mod file;
mod fuzz;
mod graph;
mod hold;
mod list;
mod record;
#[cfg(test)]
mod tests;
mod topology;
mod up;
mod wires;

pub use fuzz::fuzz_lab;

use std::process::ExitCode;

use anyhow::Result;
use clap::Subcommand;

/// What to do with labs.
#[derive(Debug, Clone, Subcommand)]
pub(crate) enum Action {
    /// Sets up the lab that a file describes: all of it, or nothing.
    Up(up::Flags),
    /// Takes labs down; nothing of them is left.
    Down(down::Flags),
    /// Lists what is in labs, with addresses and states.
    #[command(visible_alias = "list")]
    Ls(list::Flags),
    /// Runs a command on a machine or in a container of a lab, and exits as it does.
    #[command(after_help = "Example: zeugma lab exec client -- curl http://192.0.2.1:8080/")]
    Exec(enter::Flags),
    /// Draws a lab.
    Graph(graph::Flags),
    /// The process that a lab is.
    #[command(hide = true)]
    Hold(hold::Flags),
    /// What `exec` runs in the lab.
    #[command(hide = true)]
    Inside(enter::Inside),
}

/// Does it.
pub(crate) fn run(action: Action) -> Result<ExitCode> {
    match action {
        Action::Up(flags) => return up::run(&flags),
        Action::Down(flags) => down::run(&flags)?,
        Action::Ls(flags) => list::run(&flags)?,
        Action::Exec(flags) => return enter::run(&flags),
        Action::Graph(flags) => return graph::run(&flags),
        Action::Hold(flags) => return hold::run(&flags),
        Action::Inside(inside) => return enter::run_inside(&inside),
    }
    Ok(ExitCode::SUCCESS)
}
