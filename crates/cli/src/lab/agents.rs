//! What runs on the machines of a lab: agents, what they share, commands; and what the agents are told.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::net::{SocketAddr, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use hyper::Method;
use netns_fixtures::lasting::Place;

use super::build::{BIN, each, log};
use super::file;
use super::hold::{Order, RECORD};
use super::record::{LOGS, Running};
use super::topology::{Machine, Topology};
use super::wires::store_address;
use crate::apply::Object;
use crate::client;

/// How long a process may take until it serves, on a machine that has a lot to do.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(5);
/// Bytes of a log that are shown when something failed.
const SHOWN: usize = 2000;
/// Where etcd serves its clients.
const ETCD_PORT: u16 = 2379;

/// Starts a machine's agent and waits until it answers; none: the machine has none.
pub(super) fn agent(place: &Place, topology: &Topology, machine: &Machine) -> Result<Option<Running>> {
    let Some(flags) = machine.agent.clone() else { return Ok(None) };
    let name = format!("{}.agent", machine.name);
    let log_file = log(&name)?;
    let mut command = Command::new("/proc/self/exe");
    command.arg0("zeugma").args(["agent", "--node", &machine.name]);
    if topology.store.is_some() {
        command.args(["--etcd", &format!("http://{}:{ETCD_PORT}", store_address())]);
    }
    if !flags.iter().any(|flag| flag.starts_with("--underlay")) {
        command.args(underlay(topology, machine));
    }
    command.args(flags).stdin(Stdio::null()).stdout(log_file.try_clone()?).stderr(log_file).current_dir("/");
    let (child, is_ready) = place.run(move || {
        command.env("PATH", path());
        let mut child = command.spawn().context("start the agent")?;
        let is_ready = await_ready(&mut child, || {
            client::ask::<serde_json::Value>(Method::GET, zeugma_api::STATUS).is_ok()
        })?;
        Ok((child, is_ready))
    })?;
    ensure_ready(is_ready, &format!("the agent of machine {}", machine.name), &name)?;
    Ok(Some(Running { what: "agent".into(), pid: child.id().cast_signed(), exit: None }))
}

/// Where others send packets of overlays to: its first addresses on the links. The store's switch is none of them.
fn underlay(topology: &Topology, machine: &Machine) -> Vec<String> {
    let ends = topology.ends_of(&machine.name).flat_map(|(_, end)| &end.addresses);
    let (v4, v6): (Vec<_>, Vec<_>) = ends.map(|address| address.ip()).partition(|ip| ip.is_ipv4());
    let firsts = v4.into_iter().take(1).chain(v6.into_iter().take(1));
    firsts.map(|ip| format!("--underlay={ip}")).collect()
}

/// Starts the etcd of the lab and waits until it takes connections.
pub(super) fn etcd(place: &Place) -> Result<Running> {
    let log_file = log("etcd")?;
    let (own, url) = (store_address(), format!("http://{}:{ETCD_PORT}", store_address()));
    let mut command = Command::new("etcd");
    command.args(["--data-dir", "/var/lib/etcd-lab", "--unsafe-no-fsync"]);
    command.args(["--listen-client-urls", &url, "--advertise-client-urls", &url]);
    command.args(["--listen-peer-urls", "http://127.0.0.1:2380"]);
    command.stdin(Stdio::null()).stdout(log_file.try_clone()?).stderr(log_file).current_dir("/");
    let address: SocketAddr = format!("{own}:{ETCD_PORT}").parse()?;
    let (child, is_ready) = place.run(move || {
        let spawned = command.spawn();
        let mut child = spawned.context(
            "cannot run etcd, which `store: etcd` takes: install it (Debian: etcd-server), or take `store` away",
        )?;
        let is_ready = await_ready(&mut child, || {
            TcpStream::connect_timeout(&address, Duration::from_secs(1)).is_ok()
        })?;
        Ok((child, is_ready))
    })?;
    ensure_ready(is_ready, "etcd", "etcd")?;
    Ok(Running { what: "etcd".into(), pid: child.id().cast_signed(), exit: None })
}

/// False: it ended, or serves nothing by the end of [`PATIENCE`].
fn await_ready(child: &mut Child, is_ready: impl Fn() -> bool) -> Result<bool> {
    let end = Instant::now() + PATIENCE;
    while Instant::now() < end && child.try_wait()?.is_none() {
        if is_ready() {
            return Ok(true);
        }
        thread::sleep(PAUSE);
    }
    Ok(false)
}

fn ensure_ready(is_ready: bool, what: &str, log: &str) -> Result<()> {
    if is_ready {
        return Ok(());
    }
    let mut text = Vec::new();
    let file = fs::File::open(Path::new(RECORD).join(LOGS).join(log));
    file.and_then(|mut file| file.read_to_end(&mut text))
        .with_context(|| format!("read the log of {what}"))?;
    let from = text.len().saturating_sub(SHOWN);
    bail!("{what} does not begin; the end of its log:\n{}", String::from_utf8_lossy(&text[from..]).trim_end())
}

/// Starts a command of the file's, which may end whenever it likes.
pub(super) fn command(
    place: &Place,
    order: &Order,
    name: &str,
    command: &file::Command,
    env: &BTreeMap<String, String>,
) -> Result<Running> {
    let log = log(name)?;
    let mut process = Command::new(&command.0[0]);
    process.args(&command.0[1..]).envs(env).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    let (directory, program, name) = (order.directory.clone(), command.0[0].clone(), name.to_owned());
    let pid = place.run(move || {
        if !process.get_envs().any(|(key, _)| key == "PATH") {
            process.env("PATH", path());
        }
        // It may be in a directory that machines have of their own.
        process.current_dir(if directory.is_dir() { &directory } else { Path::new("/") });
        let child = process.spawn();
        let child =
            child.with_context(|| format!("{name}: cannot run {program}: install it, or change `command`"));
        Ok(child?.id().cast_signed())
    })?;
    Ok(Running { what: "command".into(), pid, exit: None })
}

/// The PATH of processes in a lab; `zeugma` is this one.
pub(super) fn path() -> String {
    format!("{BIN}:{}", std::env::var("PATH").unwrap_or_else(|_| "/usr/sbin:/usr/bin:/sbin:/bin".into()))
}

/// Tells the agents of networks and services. Those that share a store are told one after the other, as the first makes
/// what the others then have.
pub(super) fn tell(topology: &Topology, places: &BTreeMap<String, Place>) -> Result<()> {
    let agents: Vec<&Machine> = topology.machines.iter().filter(|machine| machine.agent.is_some()).collect();
    let networks = |machine: &&Machine| {
        let networks = topology.networks_of(&machine.name).into_iter().map(Box::new).map(Object::Network);
        written(&places[&machine.name], networks.collect())
    };
    let services = |machine: &&Machine| {
        let services = topology.services_of(&machine.name).into_iter().map(Box::new).map(Object::Service);
        written(&places[&machine.name], services.collect())
    };
    if topology.store.is_none() {
        each(&agents, |machine| networks(machine).and_then(|()| services(machine)))?;
        return Ok(());
    }
    agents.iter().try_for_each(networks)?;
    agents.iter().take(1).try_for_each(services)
}

fn written(place: &Place, objects: Vec<Object>) -> Result<()> {
    let machine = place.name().to_owned();
    place.run(move || {
        for object in objects {
            let done = object.applied().with_context(|| format!("machine {machine}: {object}"))?;
            if let Some(problem) = done.problems.first() {
                bail!("machine {machine}: {object}: {problem}");
            }
        }
        Ok(())
    })
}
