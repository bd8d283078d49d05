//! A host with two bridges, containers on them and a client outside, and services programmed on it.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use ipnetwork::IpNetwork;
use netns_fixtures::{Host, World};
use serde_json::{Value, json};
use zeugma_kernel::Programmer;
use zeugma_plan::nft::services::Changes;
use zeugma_services::{Programmed, Situation, Workload};

/// The virtual addresses of the service `web`.
pub(crate) const VIPS: [&str; 2] = ["10.96.0.1", "fd00:96::1"];

/// The ranges that [`VIPS`] are of.
pub(crate) const RANGES: [&str; 2] = ["10.96.0.0/16", "fd00:96::/64"];

/// The stage.
pub(crate) struct Ground {
    pub(crate) host: Host,
    pub(crate) client: Host,
    /// On `br0`: 10.88.0.2, fd00:88::2 and so on.
    pub(crate) containers: Vec<Host>,
    /// On `br1`: 10.89.0.2, fd00:89::2.
    pub(crate) elsewhere: Host,
    pub(crate) situation: Situation,
}

impl Ground {
    /// With `count` containers on `br0`.
    pub(crate) fn new(world: &World, count: usize) -> Result<Self> {
        let (host, client) = (world.host("host")?, world.host("client")?);
        world.link(
            (&host, "eth0", "192.0.2.1/24 2001:db8:1::1/64"),
            (&client, "eth0", "192.0.2.2/24 2001:db8:1::2/64"),
        )?;
        for line in ["route add default via 192.0.2.2", "-6 route add default via 2001:db8:1::2"] {
            host.ip(line)?;
        }
        for line in ["route add 10.96.0.0/16 via 192.0.2.1", "-6 route add fd00:96::/64 via 2001:db8:1::1"] {
            client.ip(line)?;
        }
        host.set_sysctl("net.ipv4.ip_forward", "1")?;
        host.set_sysctl("net.ipv6.conf.all.forwarding", "1")?;
        for number in [88, 89] {
            bridge(&host, number)?;
        }
        let containers = (0..count).map(|at| container(world, &host, 88, at + 2)).collect::<Result<_>>()?;
        let elsewhere = container(world, &host, 89, 2)?;
        Ok(Self { host, client, containers, elsewhere, situation: situation()? })
    }

    /// Ours, with its sockets in the host's namespace.
    pub(crate) fn plane(&self) -> Result<Plane> {
        let programmer = self.host.enter(|| Ok(Programmer::open()?))?;
        Plane { programmer, programmed: Programmed::default(), situation: self.situation.clone() }.observed()
    }

    /// A reply of an echo server in every container: `c2`, `c3` and so on.
    pub(crate) fn echoes(&self) -> Result<Vec<netns_fixtures::Server>> {
        let mut servers = Vec::new();
        for container in &self.containers {
            servers.push(container.tcp_echo("[::]:80", container.name())?);
            servers.push(container.udp_echo("[::]:80", container.name())?);
        }
        Ok(servers)
    }
}

fn situation() -> Result<Situation> {
    let local = parsed(&["10.88.0.0/24", "10.89.0.0/24", "fd00:88::/64", "fd00:89::/64"])?;
    let (inside, ranges) = (local.clone(), parsed(&RANGES)?);
    Ok(Situation { node: "n1".parse()?, local, inside, overlays: Vec::new(), direct: Vec::new(), ranges })
}

pub(crate) fn parsed(networks: &[&str]) -> Result<Vec<IpNetwork>> {
    Ok(networks.iter().map(|network| network.parse()).collect::<Result<_, _>>()?)
}

fn bridge(host: &Host, number: usize) -> Result<()> {
    let name = format!("br{number}");
    host.ip(&format!("link add {name} type bridge"))?;
    host.ip(&format!("addr add 10.{number}.0.1/24 dev {name}"))?;
    host.ip(&format!("addr add fd00:{number}::1/64 dev {name} nodad"))?;
    host.ip(&format!("link set {name} up")).map(drop)
}

fn container(world: &World, host: &Host, number: usize, at: usize) -> Result<Host> {
    let container = world.host(&format!("c{}{at}", if number == 88 { "" } else { "x" }))?;
    let port = format!("v{number}x{at}");
    world.link(
        (host, port.as_str(), ""),
        (&container, "eth0", format!("10.{number}.0.{at}/24 fd00:{number}::{at}/64").as_str()),
    )?;
    host.ip(&format!("link set {port} master br{number}"))?;
    host.run(["bridge", "link", "set", "dev", &port, "hairpin", "on"])?;
    container.ip(&format!("route add default via 10.{number}.0.1"))?;
    container.ip(&format!("-6 route add default via fd00:{number}::1"))?;
    Ok(container)
}

/// Ours, as the agent has it.
pub(crate) struct Plane {
    programmer: Programmer,
    programmed: Programmed,
    situation: Situation,
}

impl Plane {
    /// With what the kernel has.
    pub(crate) fn observed(mut self) -> Result<Self> {
        self.programmed = Programmed::observed(self.programmer.observe()?);
        Ok(self)
    }

    /// Brings all services to what they are to be; returns how many elements changed.
    pub(crate) fn sync(&mut self, workloads: &[Workload]) -> Result<usize> {
        let (transactions, conflicts) = self.programmed.sync(workloads, &self.situation);
        ensure!(conflicts.is_empty(), "{conflicts:?}");
        transactions.iter().map(|changes| self.apply(changes)).sum()
    }

    /// One service.
    pub(crate) fn update(&mut self, workload: &Workload) -> Result<usize> {
        let (changes, _) = self.programmed.update(workload, &self.situation);
        self.apply(&changes)
    }

    fn apply(&mut self, changes: &Changes) -> Result<usize> {
        self.programmer.apply(changes)?;
        Ok(changes.add.len() + changes.delete.len())
    }
}

/// A service `web` at [`VIPS`], port 80 of TCP and UDP, with more keys.
pub(crate) fn web(keys: Value, endpoints: &[&str]) -> Result<Workload> {
    let mut service = json!({
        "name": "web", "vips": VIPS, "ports": [{"port": 80}, {"port": 80, "protocol": "udp"}],
    });
    let all = service.as_object_mut().context("an object")?;
    all.extend(keys.as_object().context("an object of keys")?.clone());
    let endpoints: Vec<Value> = endpoints.iter().map(|text| endpoint(text)).collect();
    Ok(Workload {
        service: serde_json::from_value(service)?,
        endpoints: serde_json::from_value(endpoints.into())?,
    })
}

/// `10.88.0.2`, `10.88.0.2 draining`.
fn endpoint(text: &str) -> Value {
    let (address, state) = text.split_once(' ').unwrap_or((text, "ready"));
    json!({"address": address, "state": state, "node": "n1"})
}

/// Both addresses of the containers with these numbers.
pub(crate) fn both(numbers: &[usize]) -> Vec<String> {
    numbers.iter().flat_map(|at| [format!("10.88.0.{at}"), format!("fd00:88::{at}")]).collect()
}

/// [`web`] on the containers with these numbers.
pub(crate) fn web_on(numbers: &[usize]) -> Result<Workload> {
    let endpoints = both(numbers);
    web(json!({}), &endpoints.iter().map(String::as_str).collect::<Vec<_>>())
}

/// How often each answers `count` questions over TCP.
pub(crate) fn shares(client: &Host, address: &str, count: usize) -> Result<BTreeMap<String, usize>> {
    let mut shares = BTreeMap::new();
    for _ in 0..count {
        let answer = client.ask_tcp(address)?;
        let who = answer.split(' ').next().unwrap_or_default().to_owned();
        *shares.entry(who).or_default() += 1;
    }
    Ok(shares)
}

/// `10.96.0.1:80`, `[fd00:96::1]:80`.
pub(crate) fn at(address: &str, port: u16) -> String {
    if address.contains(':') { format!("[{address}]:{port}") } else { format!("{address}:{port}") }
}
