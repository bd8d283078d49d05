//! `cargo xtask bench NAME`: measures ours beside the peers, interleaved, in private namespaces.
//!
//! A measurement here is of executables, as a runtime calls them or, for services, of an example of `crates/kernel`;
//! nothing is linked in.

mod capacity;
mod cni;
mod contestant;
mod dns;
mod measure;
mod overlay;
mod overlay_peers;
mod overlay_traffic;
mod report;
mod services;
mod services_agent;
mod tasks;
mod wireguard;
mod worker;

use std::path::PathBuf;

use anyhow::{Result, bail};

use crate::{netns, packages, shell};

/// What `cargo xtask bench` is asked.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Which one: cni, dns, overlay or services.
    name: String,
    /// Repetitions of each measurement.
    #[arg(long, default_value_t = 30)]
    rounds: usize,
    /// Installs netavark or aardvark-dns with cargo when it is missing (it takes some minutes).
    #[arg(long)]
    install_peers: bool,
    /// A directory with zeugma-cni and its plain names, built already.
    #[arg(long)]
    bin_dir: Option<PathBuf>,
    /// Inside the namespaces of one contestant; the bench starts this itself.
    #[arg(long, hide = true)]
    worker: Option<String>,
}

/// Runs the bench of that name, or, inside, a contestant's part of it.
pub(crate) fn run(options: &Options) -> Result<()> {
    if options.name == "dns" && netns::is_inside() {
        return dns::run(options);
    }
    if let (Some(contestant), true) = (&options.worker, netns::is_inside()) {
        return worker::serve(contestant);
    }
    packages::ensure_root("`cargo xtask bench`")?;
    packages::ensure_all()?;
    match options.name.as_str() {
        "cni" => {
            install_peer(options, "netavark", contestant::find_netavark().is_some())?;
            cni::run(options)
        }
        "dns" => {
            install_peer(options, "aardvark-dns", shell::which("aardvark-dns").is_some())?;
            dns::run(options)
        }
        "overlay" => {
            install_peer(options, "boringtun-cli", shell::which("boringtun-cli").is_some())?;
            overlay::run(options.rounds)
        }
        "services" => services::run(options.rounds),
        other => bail!("no bench {other:?}; there are: cni, dns, overlay, services"),
    }
}

fn install_peer(options: &Options, name: &str, is_here: bool) -> Result<()> {
    if options.install_peers && !is_here {
        shell::run(&mut shell::cargo(["install", name, "--locked"]))?;
    }
    Ok(())
}
