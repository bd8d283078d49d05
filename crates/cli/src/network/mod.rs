//! `zeugma network`: networks as people know them from Docker. Creating and removing is the agent's; what is listed,
//! inspected, connected and disconnected is read from files and the journal, and needs none.

mod container;
mod create;
mod inspect;
mod listed;
mod wire;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, Subcommand};
use hyper::Method;
use zeugma_api::{NETWORK, NetworkRemoved};
use zeugma_model::NetworkName;
use zeugma_networks::{Directory, List};

use crate::client::{Question, filled};
use crate::outcome;
use crate::watch::Listing;

pub(crate) use create::wanted;
pub(crate) use listed::all;

/// What to do with networks.
#[derive(Debug, Clone, Subcommand)]
pub(crate) enum Action {
    /// Makes a network, and the configuration list by which container runtimes know it.
    #[command(
        after_help = "Example: zeugma network create front --subnet 10.1.0.0/24; nerdctl run --network front …"
    )]
    Create(Box<create::Options>),
    /// Lists networks: those of zeugma, and others that runtimes of this host know.
    #[command(visible_alias = "list")]
    Ls {
        #[command(flatten)]
        listing: Listing,
        #[command(flatten)]
        places: Places,
    },
    /// Prints all that is known of networks, as a JSON list in Docker's form.
    Inspect {
        /// Which ones.
        #[arg(required = true)]
        names: Vec<NetworkName>,
        #[command(flatten)]
        places: Places,
    },
    /// Removes networks that no container and no service is on.
    #[command(visible_alias = "remove")]
    Rm {
        /// Which ones.
        #[arg(required = true)]
        names: Vec<NetworkName>,
    },
    /// Gives a running container an interface on a network, as its runtime would.
    #[command(
        after_help = "A namespace of one's own: zeugma network connect front lab1 --netns /run/netns/lab1"
    )]
    Connect(wire::Connect),
    /// Takes a container off a network.
    Disconnect(wire::Disconnect),
}

/// Where runtimes look.
#[derive(Debug, Clone, Args)]
pub(crate) struct Places {
    /// Where container runtimes look for networks. ZEUGMA_CNI_CONF_DIR in the environment is another default.
    #[arg(long, value_name = "DIR", default_value_os_t = conf_dir())]
    pub(crate) cni_conf_dir: PathBuf,
    /// Where they look for plugins.
    #[arg(long, value_name = "DIR", default_value = "/opt/cni/bin")]
    pub(crate) bin_dir: PathBuf,
}

impl Places {
    fn directory(&self) -> Directory {
        Directory::at(&self.cni_conf_dir)
    }
}

fn conf_dir() -> PathBuf {
    std::env::var_os("ZEUGMA_CNI_CONF_DIR").map_or_else(|| "/etc/cni/net.d".into(), PathBuf::from)
}

/// Removes the lists of our networks, whose plugins are about to go; a line for each.
pub(crate) fn withdrawn() -> Result<Vec<String>> {
    let directory = Directory::at(conf_dir());
    let mut done = Vec::new();
    for list in directory.lists()?.into_iter().filter(List::is_ours) {
        let gone = directory.remove(&list.name)?;
        done.extend(gone.map(|list| format!("removed {}", list.path.display())));
    }
    Ok(done)
}

/// Does it.
pub(crate) fn run(action: Action) -> Result<ExitCode> {
    match action {
        Action::Create(options) => create::run(&options)?,
        Action::Ls { listing, places } => {
            listing.print(|after| listed::fetch(&places, after), |list| listed::table(list))?
        }
        Action::Inspect { names, places } => return inspect::run(&names, &places),
        Action::Rm { names } => return Ok(removed(&names)),
        Action::Connect(connect) => wire::connect(&connect)?,
        Action::Disconnect(disconnect) => wire::disconnect(&disconnect)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// All that can be; each that cannot is named.
fn removed(names: &[NetworkName]) -> ExitCode {
    let mut code = ExitCode::SUCCESS;
    for name in names {
        match remove(name) {
            Ok(()) => println!("{name}"),
            Err(error) => {
                eprintln!("Error: {error:#}");
                code = ExitCode::FAILURE;
            }
        }
    }
    code
}

/// Removes one, and says on standard error what is left of it.
pub(crate) fn remove(name: &NetworkName) -> Result<()> {
    let path = filled(NETWORK, &[name.as_str()]);
    let removed: NetworkRemoved = Question::new(Method::DELETE, path).answer()?;
    tell_problems(name, &removed.problems);
    Ok(())
}

/// What does not work although it was written.
pub(crate) fn tell_problems(name: &NetworkName, problems: &[String]) {
    problems.iter().for_each(|problem| outcome::problem(format_args!("network {name}: {problem}")));
}
