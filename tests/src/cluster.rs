//! Hosts that share an etcd: each with an agent, and with files of its own where machines have them. What they promise
//! one another is in `tests/mesh.rs` and those of overlays; what an agent promises alone is in `tests/agent.rs`.
//!
//! ```no_run
//! # use zeugma_tests::cluster::Cluster;
//! # netns_fixtures::run(|world| {
//! let mut cluster = Cluster::new(world, &["a", "b", "c"])?;
//! cluster.zeugma("a", "network create front --subnet 10.1.0.0/24")?;
//! let (web, addresses) = cluster.container("a", "front", "web")?;
//! cluster.host("b").ip("route add 10.1.0.0/24 via 192.0.2.1")?;
//! cluster.host("b").ping(&addresses[0])?;
//! cluster.cut("c")?;
//! cluster.restart_agent("a")
//! # });
//! ```

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use netns_fixtures::{Host, HostCommand, Running, World, eventually};

use crate::agent::Agent;
use crate::lab;

/// A file of peers: two hosts of a cluster, and an overlay of both.
pub const PEERS: &str = r#"
[[network]]
name = "front"
driver = "overlay"
subnets = [{ subnet = "10.1.0.0/16" }]

[[node]]
name = "a"
addresses = ["192.0.2.1"]
blocks = { front = ["10.1.1.0/24"] }

[[node]]
name = "b"
addresses = ["192.0.2.2"]
blocks = { front = ["10.1.2.0/24"] }
"#;

/// Longer than etcd takes to elect itself on a busy machine.
const START: Duration = Duration::from_secs(40);
/// The last part of etcd's and of the router's addresses.
const ETCD: u8 = 250;
const ROUTER: u8 = 254;

/// What hosts, etcd and the router between subnets are joined by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Underlay {
    /// One subnet, of both families: the host at place N has 192.0.2.N and 2001:db8:1::N.
    #[default]
    Link,
    /// One subnet, and no IPv4.
    Ipv6,
    /// The last host is behind a router, in a subnet of its own: 198.51.100.N and 2001:db8:2::N.
    Routed,
}

/// How a cluster is to be, before it is.
#[derive(Debug)]
pub struct Plan<'a> {
    world: &'a World,
    underlay: Underlay,
    flags: Vec<String>,
    without_agents: bool,
}

/// Machines on one switch, and what runs on them.
#[derive(Debug)]
pub struct Cluster<'a> {
    /// The world they are in.
    pub world: &'a World,
    /// The switch and the router, in a namespace: a machine's port is [`port`]. What passes is captured here.
    pub switch: Host,
    /// Where etcd runs.
    pub etcd_host: Host,
    underlay: Underlay,
    flags: Vec<String>,
    machines: BTreeMap<String, Machine>,
    etcd: Option<Running>,
    agents: BTreeMap<String, Agent>,
}

#[derive(Debug)]
struct Machine {
    host: Host,
    place: u8,
    /// In the subnet behind the router.
    is_apart: bool,
    addresses: Vec<String>,
}

impl<'a> Cluster<'a> {
    /// Hosts of these names at the places 1, 2, …, on one link, with agents that run.
    ///
    /// # Errors
    /// When the kernel refuses, or etcd or an agent does not begin.
    pub fn new(world: &'a World, names: &[&str]) -> Result<Cluster<'a>> {
        Cluster::plan(world).build(names)
    }

    /// For a cluster that is another than [`Cluster::new`] makes.
    pub fn plan(world: &'a World) -> Plan<'a> {
        Plan { world, underlay: Underlay::Link, flags: Vec::new(), without_agents: false }
    }

    /// A host by its name.
    ///
    /// # Panics
    /// When there is none.
    pub fn host(&self, name: &str) -> &Host {
        &self.machine(name).host
    }

    /// A host's address on the underlay, of a family (4 or 6).
    ///
    /// # Panics
    /// When it has none.
    pub fn address(&self, name: &str, family: u8) -> &str {
        let is_of_family = |address: &&String| address.contains(':') == (family == 6);
        self.machine(name).addresses.iter().find(is_of_family).expect("the host has an address of the family")
    }

    fn machine(&self, name: &str) -> &Machine {
        self.machines.get(name).unwrap_or_else(|| panic!("the cluster has no host {name}"))
    }

    /// The agent of a host.
    ///
    /// # Panics
    /// When it does not run.
    pub fn agent(&self, name: &str) -> &Agent {
        self.agents.get(name).unwrap_or_else(|| panic!("no agent runs on {name}"))
    }

    /// What `zeugma LINE` prints on a host.
    ///
    /// # Errors
    /// When it fails; the message holds its standard error.
    pub fn zeugma(&self, name: &str, line: &str) -> Result<String> {
        lab::zeugma(self.host(name), line)
    }

    /// A fresh container on a host, connected to a network, and its addresses. Its name, unique in the world, is its
    /// ID as well.
    ///
    /// # Errors
    /// When it cannot be connected.
    pub fn container(&self, host: &str, network: &str, name: &str) -> Result<(Host, Vec<String>)> {
        let container = self.world.container(name)?;
        let addresses = self.connect(host, network, &container, "")?;
        Ok((container, addresses))
    }

    /// Connects a container, with more flags, and returns its addresses.
    ///
    /// # Errors
    /// When it cannot be connected.
    pub fn connect(&self, host: &str, network: &str, container: &Host, flags: &str) -> Result<Vec<String>> {
        let (name, netns) = (container.name(), container.path().display());
        let told = self.zeugma(host, &format!("network connect {network} {name} --netns {netns} {flags}"))?;
        let bare = |word: &str| word.split('/').next().unwrap_or_default().to_owned();
        let addresses: Vec<String> = told.split_whitespace().skip(1).map(bare).collect();
        ensure!(!addresses.is_empty(), "no address in {told:?}");
        Ok(addresses)
    }

    /// [`Cluster::container`] as soon as the host has the network: one that was just created, or of a host that just
    /// came.
    ///
    /// # Errors
    /// With the last refusal.
    pub fn container_soon(&self, host: &str, network: &str, name: &str) -> Result<(Host, Vec<String>)> {
        let container = self.world.container(name)?;
        let mut outcome = Ok(Vec::new());
        eventually(START, || {
            outcome = self.connect(host, network, &container, "");
            outcome.is_ok()
        });
        let addresses = outcome.with_context(|| format!("{host} has no container on {network}"))?;
        Ok((container, addresses))
    }

    /// Waits until a host's agent has written this down for the next one: part of a name or value of the catalogue.
    ///
    /// # Errors
    /// When it does not.
    pub fn await_remembered(&self, host: &str, what: &str) -> Result<()> {
        let file = self.host(host).state_dir().join("known.redb");
        let is_there = || {
            let bytes = fs::read(&file).unwrap_or_default();
            bytes.windows(what.len()).any(|window| window == what.as_bytes())
        };
        ensure!(eventually(START, is_there), "{what} is not remembered on {host}");
        Ok(())
    }

    /// Another machine on the switch, at the next place, without an agent: a client outside.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn outsider(&mut self, name: &str) -> Result<Host> {
        let place = u8::try_from(self.machines.len() + 1)?;
        let host = self.world.host(name)?;
        self.put(&host, place, false)?;
        Ok(host)
    }

    /// Another host at the next place; its agent is not started.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn add_host(&mut self, name: &str) -> Result<Host> {
        let host = self.outsider(name)?;
        own_files(&host)?;
        Ok(host)
    }

    /// Takes a machine's power away, and gives it back: its processes, its kernel's state and its run directory are
    /// gone, and what outlives a boot is there. Its agent is not started.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn reboot(&mut self, name: &str) -> Result<()> {
        self.kill_agent(name);
        let Machine { host, place, is_apart, .. } = self.machines.remove(name).context("no such machine")?;
        end_tunnels(&host);
        // With its wire, and before the same is made again.
        self.switch.ip(&format!("link del {}", port(name)))?;
        host.remove()?;
        fs::remove_dir_all(host.run_dir())?;
        let again = self.world.host(name)?;
        own_files(&again)?;
        let boot = again.own("/proc/sys/kernel/random/boot_id")?;
        fs::write(boot, fs::read_to_string("/proc/sys/kernel/random/uuid")?)?;
        self.put(&again, place, is_apart)
    }

    /// How an agent reaches etcd.
    pub fn etcd_url(&self) -> String {
        match self.underlay {
            Underlay::Ipv6 => format!("http://[2001:db8:1::{ETCD}]:2379"),
            _ => format!("http://192.0.2.{ETCD}:2379"),
        }
    }

    /// The command of a host's agent, with the flags that all have.
    pub fn agent_command(&self, name: &str) -> HostCommand {
        let command = lab::agent(self.host(name)).args(["--node", name, "--etcd", &self.etcd_url()]);
        command.args(&self.flags)
    }

    /// Starts a host's agent with more flags, and waits until it serves names. The one that ran is killed.
    ///
    /// # Errors
    /// When it does not serve names soon.
    pub fn start_agent(&mut self, name: &str, flags: &[&str]) -> Result<()> {
        self.kill_agent(name);
        let agent = Agent::run(self.host(name), self.agent_command(name).args(flags))?;
        self.agents.insert(name.into(), agent);
        Ok(())
    }

    /// Ends a host's agent by SIGKILL and starts it again.
    ///
    /// # Errors
    /// As [`Cluster::start_agent`].
    pub fn restart_agent(&mut self, name: &str) -> Result<()> {
        self.start_agent(name, &[])
    }

    /// Ends a host's agent by SIGKILL, as a crash does; everything else of the host goes on.
    pub fn kill_agent(&mut self, name: &str) {
        self.agents.remove(name);
    }

    /// Pulls a host's cable.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn cut(&self, name: &str) -> Result<()> {
        self.switch.ip(&format!("link set {} down", port(name))).map(drop)
    }

    /// Plugs it in again.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn join(&self, name: &str) -> Result<()> {
        self.switch.ip(&format!("link set {} up", port(name))).map(drop)
    }

    /// Keeps a host from etcd, silently and both ways; other hosts are reached.
    ///
    /// # Errors
    /// When `nft` refuses.
    pub fn cut_from_etcd(&self, name: &str) -> Result<()> {
        self.change_cut("add", name)
    }

    /// Lets it to etcd again.
    ///
    /// # Errors
    /// When it was not kept from it.
    pub fn join_to_etcd(&self, name: &str) -> Result<()> {
        self.change_cut("delete", name)
    }

    fn change_cut(&self, verb: &str, name: &str) -> Result<()> {
        let line = |address: &String| {
            let family = if address.contains(':') { 6 } else { 4 };
            format!("{verb} element inet cut hosts{family} {{ {address} }}\n")
        };
        self.etcd_host.nft(&self.machine(name).addresses.iter().map(line).collect::<String>()).map(drop)
    }

    /// Kills etcd. What it knows is kept.
    pub fn stop_etcd(&mut self) {
        self.etcd = None;
    }

    /// Starts etcd, again, and waits until it answers.
    ///
    /// # Errors
    /// When it does not.
    pub fn start_etcd(&mut self) -> Result<()> {
        let (url, peer) = (self.etcd_url(), "http://127.0.0.1:2380");
        let data = self.world.dir().join("etcd");
        let command = self.etcd_host.command("etcd").arg("--data-dir").arg(data);
        let command = command.args(["--listen-client-urls", &format!("{url},http://127.0.0.1:2379")]);
        let command = command.args(["--advertise-client-urls", &url, "--listen-peer-urls", peer]);
        let command = command.args(["--initial-advertise-peer-urls", peer]);
        let running = command.args(["--initial-cluster", &format!("default={peer}")]).spawn()?;
        let answers = || self.etcdctl(&["endpoint", "health"]).is_ok();
        ensure!(eventually(START, answers), "etcd does not come up:\n{}", running.log());
        self.etcd = Some(running);
        Ok(())
    }

    /// What `etcdctl` prints, past all that is cut.
    ///
    /// # Errors
    /// When it fails.
    pub fn etcdctl(&self, words: &[&str]) -> Result<String> {
        let command = self.etcd_host.command("etcdctl").env("ETCDCTL_API", "3");
        Ok(command.args(["--endpoints", "http://127.0.0.1:2379"]).args(words).run()?.stdout)
    }

    /// Plugs a machine in and knows it from then on.
    fn put(&mut self, host: &Host, place: u8, is_apart: bool) -> Result<()> {
        let addresses = self.plug(host, place, is_apart)?;
        let machine = Machine { host: host.clone(), place, is_apart, addresses };
        self.machines.insert(host.name().into(), machine);
        Ok(())
    }

    /// Gives a machine an interface `eth0` on the switch with its addresses and a default route; returns the addresses.
    fn plug(&self, host: &Host, place: u8, is_apart: bool) -> Result<Vec<String>> {
        let (v4, v6) = if is_apart { ("198.51.100", "2001:db8:2:") } else { ("192.0.2", "2001:db8:1:") };
        let families: &[(&str, &str, &str)] = match self.underlay {
            Underlay::Ipv6 => &[(v6, ":", "64")],
            _ => &[(v4, ".", "24"), (v6, ":", "64")],
        };
        let address = |(net, dot, _): &(&str, &str, &str), place| format!("{net}{dot}{place}");
        let with_length: Vec<String> =
            families.iter().map(|family| format!("{}/{}", address(family, place), family.2)).collect();
        self.world.link((host, "eth0", &*with_length.join(" ")), (&self.switch, &*port(host.name()), ""))?;
        let bridge = if is_apart { "sw1" } else { "sw0" };
        self.switch.ip(&format!("link set {} master {bridge}", port(host.name())))?;
        for family in families {
            host.ip(&format!("route add default via {}", address(family, ROUTER)))?;
        }
        Ok(families.iter().map(|family| address(family, place)).collect())
    }
}

/// `zeugma wg` outlives the agent that started it, on purpose, but not its device.
impl Drop for Cluster<'_> {
    fn drop(&mut self) {
        self.agents.clear();
        self.machines.values().for_each(|machine| end_tunnels(&machine.host));
    }
}

fn end_tunnels(host: &Host) {
    let links = host.ip_json("link show type tun").unwrap_or_default();
    for link in links.as_array().into_iter().flatten().filter_map(|link| link["ifname"].as_str()) {
        let _ = host.ip(&format!("link del {link}"));
    }
}

impl<'a> Plan<'a> {
    /// Another underlay than one dual-stack link.
    #[must_use]
    pub fn underlay(self, underlay: Underlay) -> Plan<'a> {
        Plan { underlay, ..self }
    }

    /// Flags that every agent gets, now and whenever it is started.
    #[must_use]
    pub fn flags(mut self, flags: &[&str]) -> Plan<'a> {
        self.flags.extend(flags.iter().map(|flag| String::from(*flag)));
        self
    }

    /// Starts no agent.
    #[must_use]
    pub fn without_agents(self) -> Plan<'a> {
        Plan { without_agents: true, ..self }
    }

    /// Makes it.
    ///
    /// # Errors
    /// As [`Cluster::new`].
    pub fn build(self, names: &[&str]) -> Result<Cluster<'a>> {
        let Plan { world, underlay, flags, without_agents } = self;
        // For `/var/lib/cni`, which a machine may not have.
        world.shadow("/var/lib")?;
        fs::create_dir_all("/var/lib/cni")?;
        let (switch, etcd_host) = (switch(world, underlay)?, world.host("etcd")?);
        let (machines, agents) = Default::default();
        let mut cluster = Cluster { world, switch, etcd_host, underlay, flags, machines, etcd: None, agents };
        cluster.plug(&cluster.etcd_host, ETCD, false)?;
        cluster.etcd_host.nft(CUT)?;
        cluster.start_etcd()?;
        for (name, place) in names.iter().zip(1..) {
            let host = world.host(name)?;
            own_files(&host)?;
            let is_apart = underlay == Underlay::Routed && usize::from(place) == names.len();
            cluster.put(&host, place, is_apart)?;
        }
        if !without_agents {
            names.iter().try_for_each(|name| cluster.start_agent(name, &[]))?;
        }
        Ok(cluster)
    }
}

/// The switch's interface to a machine.
pub fn port(machine: &str) -> String {
    format!("port-{machine}")
}

/// Whom etcd's machine neither hears nor speaks to.
const CUT: &str = "table inet cut {
    set hosts4 { type ipv4_addr; }
    set hosts6 { type ipv6_addr; }
    chain input {
        type filter hook input priority 0
        ip saddr @hosts4 drop
        ip6 saddr @hosts6 drop
    }
    chain output {
        type filter hook output priority 0
        ip daddr @hosts4 drop
        ip6 daddr @hosts6 drop
    }
}";

/// A bridge of each subnet, and the router in the middle.
fn switch(world: &World, underlay: Underlay) -> Result<Host> {
    let switch = world.host("switch")?;
    let subnets: &[(&str, &str)] = match underlay {
        Underlay::Routed => &[("192.0.2.", "2001:db8:1::"), ("198.51.100.", "2001:db8:2::")],
        _ => &[("192.0.2.", "2001:db8:1::")],
    };
    for (number, (v4, v6)) in subnets.iter().enumerate() {
        // Without snooping nothing that is sent to a group, as IPv6 does to find neighbours, gets lost in it.
        switch.ip(&format!("link add sw{number} up type bridge mcast_snooping 0"))?;
        switch.ip(&format!("addr add {v6}{ROUTER}/64 dev sw{number} nodad"))?;
        if underlay != Underlay::Ipv6 {
            switch.ip(&format!("addr add {v4}{ROUTER}/24 dev sw{number}"))?;
        }
    }
    switch.set_sysctl("net.ipv4.ip_forward", "1")?;
    switch.set_sysctl("net.ipv6.conf.all.forwarding", "1")?;
    Ok(switch)
}

/// What one machine does not share with another: leases and its ID.
fn own_files(host: &Host) -> Result<()> {
    host.own("/var/lib/cni")?;
    if fs::exists("/etc/machine-id")? {
        let id: PathBuf = host.own("/etc/machine-id")?;
        let digits: String = host.name().bytes().map(|byte| format!("{byte:02x}")).collect();
        fs::write(&id, format!("{digits:0>32.32}\n")).context("write the machine's ID")?;
    }
    Ok(())
}
