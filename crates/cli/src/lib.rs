//! `zeugma`: the command line for a person who installs or looks after the suite, the node agent, and the daemon of
//! `dhcp`.
//!
//! Not a CNI plugin: a runtime calls `zeugma-cni`, which needs nothing from here once it is installed, unless a
//! network's addresses come from DHCP. A library for the fuzzer alone, which reads files as the commands do: nobody
//! builds on it.

mod agent;
mod apply;
mod client;
mod dhcp;
mod dns;
mod doctor;
mod endpoint;
mod host;
mod install;
mod lab;
mod manual;
mod network;
mod node;
mod outcome;
mod peers;
mod ps;
mod repair;
mod service;
mod stack;
mod table;
mod trace;
mod watch;
mod wg;

pub use lab::fuzz_lab;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{CommandFactory, Parser, Subcommand};

/// Container networks: bridges, addresses, published ports.
#[derive(Parser)]
#[command(name = "zeugma", version, after_help = outcome::STATUSES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Places zeugma-cni and one link per plugin where a container runtime looks for CNI plugins.
    Install {
        /// The runtime's plugin directory.
        #[arg(long, default_value = "/opt/cni/bin")]
        bin_dir: PathBuf,
        /// Also takes the plain names (bridge, portmap, ...), so that existing configurations run unchanged.
        /// A file of another maker is kept as NAME.replaced-by-zeugma.
        #[arg(long)]
        replace: bool,
        /// The zeugma-cni to install; without it, the one beside this executable.
        #[arg(long)]
        from: Option<PathBuf>,
    },
    /// Undoes install: removes our links and puts back the files that --replace kept.
    Uninstall {
        /// The runtime's plugin directory.
        #[arg(long, default_value = "/opt/cni/bin")]
        bin_dir: PathBuf,
        /// Also removes what is left of us on the host: tables, unused bridges, lists of networks, the run directory.
        /// Refused while containers are attached.
        #[arg(long)]
        purge: bool,
    },
    /// The node agent: answers containers' questions for names.
    Agent(agent::Flags),
    /// Puts back what was deleted on this host of what its containers need: tables, bridges, addresses, ports.
    Repair(repair::Flags),
    /// Says what on this host keeps containers from their network, and what to do about it.
    Doctor(doctor::Flags),
    /// Says what a packet meets on this host, step by step, and whether it arrives.
    Trace(trace::Flags),
    /// Lists the other hosts of overlays: how packets get there, what size passes, and what is lost.
    Peers(peers::Flags),
    /// Lists what is attached to this host: containers, networks, addresses, ports, names.
    Ps(ps::Flags),
    /// Networks that containers are attached to.
    #[command(subcommand)]
    Network(network::Action),
    /// Nodes: the hosts that overlays span.
    #[command(subcommand)]
    Node(node::Action),
    /// Services: one name and one address for many containers.
    #[command(subcommand)]
    Service(service::Action),
    /// Endpoints of services that are no containers.
    #[command(subcommand)]
    Endpoint(endpoint::Action),
    /// Makes networks, services and endpoints what a file says.
    Apply(apply::Flags),
    /// Stacks: the networks and services of a docker-stack.yml.
    #[command(subcommand)]
    Stack(stack::Action),
    /// Labs: machines, links and containers as a file has them, out of namespaces, apart from this machine's own networks.
    #[command(subcommand)]
    Lab(lab::Action),
    /// Asks the agent what containers' names are answered with.
    #[command(subcommand)]
    Dns(dns::Question),
    /// The daemon of the IPAM plugin dhcp: leases addresses for containers and keeps them.
    Dhcp(dhcp::Flags),
    /// WireGuard in user space: runs one device, which wg(8) and the agent configure, until SIGTERM.
    Wg(wg::Flags),
    /// Prints the completions of a shell: see docs/reference/cli.md for where they go.
    Completions {
        /// For which shell.
        shell: clap_complete::Shell,
    },
    /// Makes man pages.
    Man(manual::Pages),
}

/// Does what this process's command line says.
pub fn main() -> ExitCode {
    let code = run(Cli::parse().command).unwrap_or_else(|error| {
        // What the agent says is for people: where in here it arrived is not.
        let is_refusal = error.downcast_ref::<client::Refusal>().is_some();
        if is_refusal {
            eprintln!("Error: {error}")
        } else {
            eprintln!("Error: {error:?}")
        }
        ExitCode::FAILURE
    });
    outcome::status(code)
}

fn run(command: Command) -> Result<ExitCode> {
    match command {
        Command::Install { bin_dir, replace, from } => {
            let from = from.map_or_else(install::beside_this_executable, Ok)?;
            tell(&install::install(&from, &bin_dir, replace)?);
        }
        Command::Uninstall { bin_dir, purge } => {
            if purge {
                install::purge(&bin_dir)?;
                tell(&network::withdrawn()?);
            }
            tell(&install::uninstall(&bin_dir)?);
        }
        Command::Agent(flags) => agent::run(flags)?,
        Command::Repair(flags) => return repair::run(&flags),
        Command::Doctor(flags) => return doctor::run(&flags),
        Command::Trace(flags) => return trace::run(&flags),
        Command::Peers(flags) => return peers::run(&flags),
        Command::Ps(flags) => print!("{}", ps::run(&flags)?),
        Command::Network(action) => return network::run(action),
        Command::Node(action) => node::run(action)?,
        Command::Service(action) => return service::run(action),
        Command::Endpoint(action) => endpoint::run(action)?,
        Command::Apply(flags) => return apply::run(&flags),
        Command::Stack(action) => return stack::run(action),
        Command::Lab(action) => return lab::run(action),
        Command::Dns(question) => return Ok(dns::run(&question)),
        Command::Dhcp(flags) => dhcp::run(flags)?,
        Command::Wg(flags) => wg::run(flags)?,
        Command::Completions { shell } => manual::completions(Cli::command(), shell)?,
        Command::Man(pages) => manual::man(Cli::command(), &pages)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn tell(lines: &[String]) {
    lines.iter().for_each(|line| println!("{line}"));
}
