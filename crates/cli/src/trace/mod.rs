//! `zeugma trace`: what a packet meets on this host, step by step, and where it ends. By the journal, the elements of our
//! tables and the kernel's routes; with `--live` also by the kernel's own word.

mod filter;
mod live;
mod nat;
mod state;
mod target;
mod walk;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, ensure};
use clap::Args;
use serde::Serialize;
use zeugma_kernel::Kernel;

use live::Met;
use state::{Live, State};
use target::{Place, Target, found};
use walk::{End, Packet, Step, Walk};

use crate::service::seconds;

/// Which packet.
#[derive(Debug, Clone, Args)]
#[command(
    after_help = "Examples: zeugma trace web db:5432; zeugma trace 203.0.113.7 host:8080; zeugma trace web 1.1.1.1:53/udp --live"
)]
pub(crate) struct Flags {
    /// Who sends: a container's name or ID, `host`, or an address.
    source: String,
    /// Who gets it: a container, a service, `host` or an address; with a port, and behind it /udp. Without a port: an
    /// echo request.
    #[arg(value_name = "DST[:PORT][/PROTOCOL]")]
    destination: Target,
    /// Waits for such a packet and shows which rules it really meets, also those of other programs. For that time a
    /// table inet zeugma-trace is there, which the kernel removes with this process.
    #[arg(long)]
    live: bool,
    /// Sends such a packet itself, from the container's namespace or from the host; with --live.
    #[arg(long, requires = "live")]
    probe: bool,
    /// How long --live waits for a packet.
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = seconds, requires = "live")]
    timeout: u32,
    /// Prints a JSON object: see docs/reference/cli.md.
    #[arg(long)]
    json: bool,
}

/// What is printed: an interface to be relied upon, docs/reference/cli.md.
#[derive(Debug, Serialize)]
struct Told {
    source: std::net::IpAddr,
    destination: std::net::IpAddr,
    port: Option<u16>,
    protocol: Option<&'static str>,
    steps: Vec<Step>,
    #[serde(flatten)]
    end: End,
    /// None: not asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    live: Option<Vec<Met>>,
}

/// Prints the way; the exit code is 1 when the packet does not arrive, or none came.
pub(crate) fn run(flags: &Flags) -> Result<ExitCode> {
    let mut around = Live(Kernel::host());
    let state = State::observe(&mut around.0)?;
    let source = found(&state, &flags.source)?;
    let destination = found(&state, &flags.destination.whom)?;
    ensure!(
        !matches!(source, Place::Service(_)),
        "{} is a virtual address: nothing is sent from it",
        flags.source
    );
    let packet = walk::packet(&state, &mut around, source, destination, flags.destination.port)?;
    let mut walk = Walk::new(&state, &mut around);
    let end = walk.through(source, packet.clone())?;
    let steps = walk.steps;
    let live = match flags.live {
        true => Some(watch(&mut around.0, &packet, source, flags)?),
        false => None,
    };
    let (port, protocol) =
        (packet.port.map(|(_, port)| port), packet.port.map(|(protocol, _)| protocol.as_str()));
    let told =
        Told { source: packet.source, destination: packet.destination, port, protocol, steps, end, live };
    match flags.json {
        true => println!("{}", serde_json::to_string_pretty(&told)?),
        false => print!("{}", text(&told)),
    }
    let is_lost = matches!(told.end, End::Dropped { .. }) || told.live.is_some_and(|met| met.is_empty());
    Ok(if is_lost { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn watch(kernel: &mut Kernel, packet: &Packet, source: Place<'_>, flags: &Flags) -> Result<Vec<Met>> {
    let timeout = Duration::from_secs(flags.timeout.into());
    live::watch(kernel, packet, flags.probe.then_some(source), timeout)
}

fn text(told: &Told) -> String {
    let port = match (told.port, told.protocol) {
        (Some(port), Some(protocol)) => format!(" port {port}/{protocol}"),
        _ => " echo request".into(),
    };
    let mut text = format!("{} -> {}{port}\n", told.source, told.destination);
    for (number, Step { at, what }) in (1..).zip(&told.steps) {
        text += &format!("{number:>3}  {at}: {what}\n");
    }
    text += &match &told.end {
        End::Delivered { to } => format!("delivered to {to}\n"),
        End::Dropped { by, remedy } => format!("dropped by {by}\n     {remedy}\n"),
    };
    match &told.live {
        None => {}
        Some(met) if met.is_empty() => text += "live: no such packet came\n",
        Some(met) => {
            text += "live:\n";
            met.iter().for_each(|one| text += &line(one));
        }
    }
    text
}

fn line(met: &Met) -> String {
    let rule = met.rule.as_deref().unwrap_or("end of the chain");
    let links = [("in", &met.iif), ("out", &met.oif)];
    let links = links.into_iter().filter_map(|(word, link)| Some(format!(" {word} {}", link.as_ref()?)));
    format!("     {}:{} {rule} => {}\n", met.chain, links.collect::<String>(), met.verdict)
}

#[cfg(test)]
mod tests;
