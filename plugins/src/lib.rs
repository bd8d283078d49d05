//! The CNI plugins, a folder each, and which of them a call is for.
//!
//! A plugin parses its configuration, asks a pure function for a plan, and lets `kernel` apply it.

pub mod bandwidth;
pub mod bridge;
mod cause;
mod daemon;
pub mod dummy;
pub mod firewall;
mod fuzz;
pub mod host_device;
pub mod interface;
mod ipam;
pub mod ipvlan;
pub mod loopback;
pub mod macvlan;
pub mod overlay;
#[cfg(test)]
mod pages;
pub mod portmap;
mod predecessor;
mod previous;
pub mod ptp;
mod purge;
pub mod resolver;
mod routing;
mod sandbox;
pub mod sbr;
mod shared;
pub mod tap;
pub mod tuning;
pub mod vlan;
pub mod vrf;

pub use fuzz::fuzz_plugins;

use std::env;
use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

use zeugma_ipam::{Dhcp, HostLocal, Static};
use zeugma_skel::{Plugin, dry_run, run};

use interface::Interface;

/// Runs the plugin that this process was called as.
pub fn main() -> ExitCode {
    let mut words = env::args_os();
    let called_as = words.next().unwrap_or_default();
    let words: Vec<OsString> = words.collect();
    match words.iter().map(|word| word.to_str().unwrap_or_default()).collect::<Vec<_>>()[..] {
        ["--dry-run", plugin] => dispatch(plugin, Mode::DryRun),
        ["--version" | "-V"] => version(),
        ["--purge"] => purged(),
        ["daemon", ref flags @ ..] if name_of(&called_as) == "dhcp" => daemon::become_daemon(flags),
        [zeugma_kernel::MAKE_TAP, ref device @ ..] => ExitCode::from(zeugma_kernel::make_tap(device)),
        [] => dispatch(name_of(&called_as).as_str(), Mode::Run),
        [plugin] => dispatch(plugin, Mode::Run),
        _ => usage(),
    }
}

/// What is asked of the plugin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Run,
    DryRun,
}

/// `/opt/cni/bin/zeugma-bridge` → `bridge`.
fn name_of(called_as: &OsString) -> String {
    let name = Path::new(called_as).file_name().unwrap_or_default().to_string_lossy().into_owned();
    name.strip_prefix("zeugma-").unwrap_or(&name).to_owned()
}

fn dispatch(plugin: &str, mode: Mode) -> ExitCode {
    match plugin.strip_prefix("zeugma-").unwrap_or(plugin) {
        "bridge" => act(&Interface(bridge::Bridge), mode),
        "ptp" => act(&Interface(ptp::Ptp), mode),
        "overlay" => act(&overlay::Overlay, mode),
        "macvlan" => act(&Interface(macvlan::Macvlan), mode),
        "ipvlan" => act(&Interface(ipvlan::Ipvlan), mode),
        "vlan" => act(&Interface(vlan::Vlan), mode),
        "dummy" => act(&Interface(dummy::Dummy), mode),
        "tap" => act(&Interface(tap::Tap), mode),
        "host-device" => act(&host_device::Verbs, mode),
        "loopback" => act(&loopback::Loopback, mode),
        // The second is what configurations for Mesos call a plugin that takes the same.
        "portmap" | "mesos-cni-port-mapper" => act(&portmap::Portmap, mode),
        "firewall" => act(&firewall::Firewall, mode),
        "tuning" => act(&tuning::Tuning, mode),
        "bandwidth" => act(&bandwidth::Bandwidth, mode),
        "sbr" => act(&sbr::Sbr, mode),
        "vrf" => act(&vrf::Vrf, mode),
        // The second is what Podman calls a plugin that does the same.
        "resolver" | "dnsname" => act(&resolver::Resolver, mode),
        "host-local" => act(&HostLocal, mode),
        "static" => act(&Static, mode),
        "dhcp" => act(&Dhcp, mode),
        "cni" if mode == Mode::Run => about(),
        _ => usage(),
    }
}

fn act<P: Plugin>(plugin: &P, mode: Mode) -> ExitCode {
    match mode {
        Mode::Run => run(plugin),
        Mode::DryRun => dry_run(plugin),
    }
}

fn purged() -> ExitCode {
    match purge::purge() {
        Ok(done) => {
            print!("{done}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("zeugma-cni: {error}");
            ExitCode::FAILURE
        }
    }
}

fn version() -> ExitCode {
    println!("zeugma-cni {}", env!("CARGO_PKG_VERSION"));
    ExitCode::SUCCESS
}

/// Called by its own name it is no plugin: it says which it could be.
fn about() -> ExitCode {
    eprintln!("zeugma-cni {}: CNI plugins {}", env!("CARGO_PKG_VERSION"), zeugma_model::PLUGINS.join(", "));
    eprintln!("A runtime calls it through links named as the plugins: see `zeugma install --help`.");
    if env::var_os("CNI_COMMAND").is_some() { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn usage() -> ExitCode {
    eprintln!("usage: zeugma-cni [--dry-run] PLUGIN < configuration, or through a link named as the plugin");
    eprintln!("plugins: {}", zeugma_model::PLUGINS.join(", "));
    ExitCode::FAILURE
}
