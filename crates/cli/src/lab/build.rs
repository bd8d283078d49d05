//! Sets a lab up, in its holder: places, links, agents, networks, services, containers, in this order. Nothing is undone
//! here: when something fails, the holder ends, and everything is gone with it.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::thread;

use anyhow::{Context, Result, anyhow, bail};
use netns_fixtures::lasting::{self, Ground};
use zeugma_model::PLUGINS;

use super::hold::Order;
use super::record::{Interface, Kind, Place, Running, State};
use super::topology::{Machine, Topology};
use super::{agents, check, containers, wires};
use crate::install;

/// Where machines have `zeugma`, first on their PATH.
pub(super) const BIN: &str = "/run/lab/bin";
/// Where runtimes look for plugins, and we, too.
const PLUGIN_DIR: &str = "/opt/cni/bin";

/// What a machine has nothing in at first: networks, plugins, and what was attached where.
const EMPTY: &[&str] = &["/etc/cni", "/etc/zeugma", "/var/lib/cni", "/var/lib/zeugma", "/opt/cni"];

/// The places of machines and switches.
type Places = BTreeMap<String, lasting::Place>;

/// Sets everything up; what is there, and the places that it is in.
pub(super) fn build(
    ground: &Ground,
    topology: &Topology,
    order: &Order,
) -> Result<(State, Vec<lasting::Place>)> {
    let places = places(ground, topology, order)?;
    let netns = |name: &str| places[name].netns().display().to_string();
    batch(|words, input| ground.tool("iproute2", words, input), "ip", &wires::links(topology, netns))?;
    join(topology, &places)?;
    let mut processes: BTreeMap<String, Vec<Running>> = BTreeMap::new();
    if topology.store.is_some() {
        let etcd = agents::etcd(&places[check::STORE])?;
        processes.insert(check::STORE.into(), vec![etcd]);
    }
    let started = each(&topology.machines, |machine| {
        let place = &places[&machine.name];
        let mut running = Vec::from_iter(agents::agent(place, topology, machine)?);
        if let Some(command) = &machine.command {
            running.push(agents::command(place, order, &machine.name, command, &BTreeMap::new())?);
        }
        Ok(running)
    })?;
    processes.extend(topology.machines.iter().map(|machine| machine.name.clone()).zip(started));
    agents::tell(topology, &places)?;
    let attached = each(&topology.machines, |machine| {
        let containers = topology.containers_of(&machine.name);
        let place = |container| containers::start(&places[&machine.name], order, container);
        containers.map(place).collect::<Result<Vec<_>>>()
    })?;
    let (containers, inside): (Vec<Place>, Vec<lasting::Place>) = attached.into_iter().flatten().unzip();
    let state = State { places: told(topology, processes).chain(containers).collect() };
    Ok((state, places.into_values().chain(inside).collect()))
}

/// Does something for each, at the same time, and gathers what comes of it, or the first that failed.
pub(super) fn each<T: Sync, R: Send>(many: &[T], work: impl Fn(&T) -> Result<R> + Sync) -> Result<Vec<R>> {
    thread::scope(|scope| {
        let threads: Vec<_> = many.iter().map(|one| scope.spawn(|| work(one))).collect();
        let outcomes = threads
            .into_iter()
            .map(|thread| thread.join().map_err(|_| anyhow!("a thread panicked")).flatten());
        // All are waited for.
        outcomes.collect::<Vec<_>>().into_iter().collect()
    })
}

fn places(ground: &Ground, topology: &Topology, order: &Order) -> Result<Places> {
    let machines = each(&topology.machines, |machine| {
        let place = ground.machine(&machine.name, EMPTY)?;
        let (hosts, forward) = (hosts(topology), machine.forward);
        let (zeugma, plugins) = (order.zeugma.clone(), order.plugins.clone());
        place.run(move || furnish(&hosts, forward, &zeugma, &plugins))?;
        Ok(place)
    })?;
    let mut places: Places = machines.into_iter().map(|place| (place.name().to_owned(), place)).collect();
    for switch in topology.links.iter().filter_map(|link| link.switch.as_ref()) {
        places.insert(switch.clone(), ground.switch(switch)?);
    }
    if topology.store.is_some() {
        let place = ground.machine(check::STORE, EMPTY)?;
        let address = wires::store_address();
        let bridge = format!(
            "link add br0 type bridge forward_delay 0\naddress add {address}/24 dev br0\nlink set br0 up\n"
        );
        batch(|words, input| place.tool("iproute2", words, input), "ip", &bridge)?;
        places.insert(check::STORE.into(), place);
    }
    Ok(places)
}

/// What every machine knows of the others: the first address of each family.
fn hosts(topology: &Topology) -> String {
    let line = |machine: &Machine| {
        let addresses = topology.ends_of(&machine.name).flat_map(|(_, end)| &end.addresses);
        let (v4, v6): (Vec<_>, Vec<_>) = addresses.map(|address| address.ip()).partition(|ip| ip.is_ipv4());
        let first = v4.into_iter().take(1).chain(v6.into_iter().take(1));
        first.map(|ip| format!("{ip} {}\n", machine.name)).collect::<String>()
    };
    topology.machines.iter().map(line).collect()
}

/// Files of a machine; on its thread.
fn furnish(hosts: &str, forward: bool, zeugma: &Path, plugins: &Path) -> Result<()> {
    let mut file = OpenOptions::new().append(true).open("/etc/hosts").context("open /etc/hosts")?;
    file.write_all(hosts.as_bytes()).context("write /etc/hosts")?;
    for directory in [BIN, PLUGIN_DIR] {
        fs::create_dir_all(directory).with_context(|| format!("create {directory}"))?;
    }
    // Machines are told from one another by it.
    fs::write("/etc/machine-id", machine_id()?).context("write /etc/machine-id")?;
    symlink(zeugma, Path::new(BIN).join("zeugma")).context("link zeugma")?;
    // As `zeugma install --replace` does it.
    let names = PLUGINS.iter().flat_map(|plugin| [plugin.to_string(), format!("zeugma-{plugin}")]);
    let links = names.map(|name| (name, Path::new(install::EXECUTABLE)));
    for (name, end) in std::iter::once((install::EXECUTABLE.to_owned(), plugins)).chain(links) {
        let link = Path::new(PLUGIN_DIR).join(&name);
        symlink(end, &link).with_context(|| format!("link {}", link.display()))?;
    }
    if forward {
        for key in ["ipv4/ip_forward", "ipv6/conf/all/forwarding"] {
            fs::write(Path::new("/proc/sys/net").join(key), "1").context("switch forwarding on")?;
        }
    }
    Ok(())
}

/// As machine-id(5) has it.
fn machine_id() -> Result<String> {
    let random = || getrandom::u64().map_err(|error| anyhow!("no randomness: {error}"));
    Ok(format!("{:016x}{:016x}\n", random()?, random()?))
}

/// Runs `ip` or `tc` with a script, unless that is empty.
fn batch(run: impl Fn(&[&str], &str) -> Result<()>, program: &str, script: &str) -> Result<()> {
    if script.is_empty() { Ok(()) } else { run(&[program, "-batch", "-"], script) }
}

/// Gives the links' ends what they have.
fn join(topology: &Topology, places: &Places) -> Result<()> {
    for link in &topology.links {
        if let Some(switch) = &link.switch {
            let place = &places[switch];
            batch(|words, input| place.tool("iproute2", words, input), "ip", &wires::ports(link.ends.len()))?;
        }
    }
    if topology.store.is_some() {
        let place = &places[check::STORE];
        let ports = wires::ports(wires::store_ports(topology));
        batch(|words, input| place.tool("iproute2", words, input), "ip", &ports)?;
    }
    each(&topology.machines, |machine| {
        let place = &places[&machine.name];
        let script = wires::machine(topology, machine);
        batch(|words, input| place.tool("iproute2", words, input), "ip", &script)?;
        shape(topology, machine, place)
    })?;
    Ok(())
}

fn shape(topology: &Topology, machine: &Machine, place: &lasting::Place) -> Result<()> {
    for (link, end) in topology.ends_of(&machine.name) {
        let Some(script) = wires::queue(link, end) else { continue };
        if let Err(error) = batch(|words, input| place.tool("iproute2", words, input), "tc", &script) {
            let (key, module) = if link.delay.is_some() { ("delay", "netem") } else { ("rate", "tbf") };
            let interface = &end.interface;
            bail!(
                "interface {interface}: {error:#}: `{key}` takes the kernel's module sch_{module}: load it, or take \
                 `{key}` away"
            );
        }
    }
    Ok(())
}

/// Machines and switches, as they are shown.
fn told(topology: &Topology, mut processes: BTreeMap<String, Vec<Running>>) -> impl Iterator<Item = Place> {
    let mut places = Vec::new();
    for machine in &topology.machines {
        let interface = |end: &super::topology::End| Interface {
            name: end.interface.to_string(),
            network: None,
            addresses: end.addresses.iter().map(ToString::to_string).collect(),
        };
        places.push(Place {
            name: machine.name.clone(),
            kind: Kind::Machine,
            machine: None,
            interfaces: topology.ends_of(&machine.name).map(|(_, end)| interface(end)).collect(),
            processes: processes.remove(&machine.name).unwrap_or_default(),
        });
    }
    let switches = topology.links.iter().filter_map(|link| link.switch.clone());
    for name in switches.chain(topology.store.map(|_| check::STORE.to_owned())) {
        let processes = processes.remove(&name).unwrap_or_default();
        places.push(Place { name, kind: Kind::Switch, machine: None, interfaces: Vec::new(), processes });
    }
    places.into_iter()
}

/// A file that a process of the lab writes to, opened where the holder sees it.
pub(super) fn log(name: &str) -> Result<File> {
    let path = Path::new(super::hold::RECORD).join(super::record::LOGS).join(name);
    File::create(&path).with_context(|| format!("write {}", path.display()))
}
