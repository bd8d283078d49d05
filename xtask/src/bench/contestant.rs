//! Who is measured, and how each attaches and detaches a container.
//!
//! All get the same network; how they are configured is here and nowhere else.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::cni::{self, Chain, Container};
use crate::shell;

/// The published port of container number `n`; below the ephemeral range.
const FIRST_PORT: usize = 1024;

/// What is to be set up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Net {
    /// bridge + host-local, the bridge being the gateway.
    Bridge,
    /// The same with ipMasq.
    Masq,
    /// bridge (ipMasq), portmap with one port, firewall, tuning: four processes.
    Chain,
    /// ptp + host-local.
    Ptp,
    /// macvlan + host-local on the uplink.
    Macvlan,
    /// ipvlan + host-local on the uplink.
    Ipvlan,
}

impl Net {
    /// All, by the words that parent and worker use.
    pub(crate) const ALL: [(&'static str, Self); 6] = [
        ("bridge", Self::Bridge),
        ("masq", Self::Masq),
        ("chain", Self::Chain),
        ("ptp", Self::Ptp),
        ("macvlan", Self::Macvlan),
        ("ipvlan", Self::Ipvlan),
    ];

    /// From its word.
    pub(crate) fn parse(word: &str) -> Option<Self> {
        Self::ALL.iter().find(|(known, _)| *known == word).map(|(_, net)| *net)
    }
}

/// Whose executables run.
pub(crate) enum Contestant {
    /// CNI executables by plain names in a directory: ours, and the reference's.
    Cni(PathBuf),
    /// Podman's, which has a protocol of its own, does no address management and always masquerades.
    Netavark(PathBuf),
}

impl Contestant {
    /// `cni:DIR` or `netavark:FILE`.
    pub(crate) fn parse(word: &str) -> Result<Self> {
        match word.split_once(':').context("a contestant is KIND:PATH")? {
            ("netavark", file) => Ok(Self::Netavark(file.into())),
            (_, dir) => Ok(Self::Cni(dir.into())),
        }
    }

    /// Attaches container number `n`, 1-based; what `detach` needs.
    pub(crate) fn attach(&self, net: Net, n: usize, container: &Container) -> Result<Value> {
        match self {
            Self::Cni(bin_dir) => chain(bin_dir, net).add(container, &ports(net, n)),
            Self::Netavark(file) => netavark(file, "setup", net, n, container).map(|()| Value::Null),
        }
    }

    /// Detaches it again.
    pub(crate) fn detach(&self, net: Net, n: usize, container: &Container, added: &Value) -> Result<()> {
        match self {
            Self::Cni(bin_dir) => chain(bin_dir, net).del(container, &ports(net, n), added),
            Self::Netavark(file) => netavark(file, "teardown", net, n, container),
        }
    }
}

fn ports(net: Net, n: usize) -> Vec<Value> {
    let host = u32::try_from(FIRST_PORT + n).expect("a bench has fewer containers than ports");
    if net == Net::Chain { vec![cni::port(host, 80)] } else { Vec::new() }
}

fn chain(bin_dir: &Path, net: Net) -> Chain {
    let ipam = json!({
        "type": "host-local",
        "ranges": [[{ "subnet": "10.90.0.0/16" }]],
        "routes": [{ "dst": "0.0.0.0/0" }],
    });
    let interface = match net {
        Net::Bridge | Net::Masq | Net::Chain => json!({
            "type": "bridge", "bridge": "bench0", "isGateway": true, "ipMasq": net != Net::Bridge, "ipam": ipam,
        }),
        Net::Ptp => json!({ "type": "ptp", "ipam": ipam }),
        Net::Macvlan => json!({ "type": "macvlan", "master": "uplink", "ipam": ipam }),
        Net::Ipvlan => json!({ "type": "ipvlan", "master": "uplink", "ipam": ipam }),
    };
    let mut plugins = vec![interface];
    if net == Net::Chain {
        plugins.push(json!({ "type": "portmap", "capabilities": { "portMappings": true } }));
        plugins.push(json!({ "type": "firewall" }));
        plugins.push(json!({ "type": "tuning", "sysctl": { "net.ipv4.conf.IFNAME.arp_filter": "1" } }));
    }
    Chain { bin_dir: bin_dir.to_owned(), version: "1.0.0", name: "bench".to_owned(), plugins }
}

/// netavark where it may be: on PATH, where cargo installs, and where Debian's podman has it.
pub(crate) fn find_netavark() -> Option<PathBuf> {
    let cargo = std::env::var_os("HOME").map(|home| Path::new(&home).join(".cargo/bin/netavark"));
    shell::which("netavark").or(cargo.filter(|file| file.is_file()))
}

fn netavark(file: &Path, verb: &str, net: Net, n: usize, container: &Container) -> Result<()> {
    let address = format!("10.90.{}.{}", n / 250, 2 + n % 250);
    let mut config = json!({
        "container_id": container.id, "container_name": container.id,
        "networks": { "bench": { "static_ips": [address], "interface_name": "eth0" } },
        "network_info": { "bench": {
            "name": "bench", "driver": "bridge", "network_interface": "bench0",
            "id": "0000000000000000000000000000000000000000000000000000000000000001",
            "subnets": [{ "subnet": "10.90.0.0/16", "gateway": "10.90.0.1" }],
            "ipv6_enabled": false, "internal": false, "dns_enabled": false,
            "ipam_options": { "driver": "host-local" },
        } },
    });
    if net == Net::Chain {
        config["port_mappings"] = json!([{
            "host_ip": "", "container_port": 80, "host_port": FIRST_PORT + n, "range": 1, "protocol": "tcp",
        }]);
    }
    let mut command = Command::new(file);
    command.args(["--config", "/run/netavark", verb]).arg(&container.netns);
    cni::feed(&mut command, &serde_json::to_vec(&config)?)
        .map(drop)
        .with_context(|| format!("netavark {verb}"))
}
