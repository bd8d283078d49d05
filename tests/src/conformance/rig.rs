//! The stage a promise is tested on: a host with an outside client, and the plugin with a config that
//! makes it work. Chained plugins get the bridge of the same directory before them.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result, ensure};
use netns_fixtures::{Attachment, Call, Chain, CniError, Host, World};
use serde_json::{Value, json};

use super::dhcp::Network;

/// The plugins that have promises here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs)]
pub enum Plugin {
    Bridge,
    Overlay,
    Ptp,
    Macvlan,
    Ipvlan,
    Vlan,
    Dummy,
    Tap,
    HostDevice,
    Loopback,
    Portmap,
    Firewall,
    Tuning,
    Bandwidth,
    Sbr,
    Vrf,
    Resolver,
    HostLocal,
    Static,
    Dhcp,
}

impl Plugin {
    /// All of them, in the order of the table's columns.
    pub const ALL: &[Plugin] = &[
        Plugin::Bridge,
        Plugin::Overlay,
        Plugin::Ptp,
        Plugin::Macvlan,
        Plugin::Ipvlan,
        Plugin::Vlan,
        Plugin::Dummy,
        Plugin::Tap,
        Plugin::HostDevice,
        Plugin::Loopback,
        Plugin::Portmap,
        Plugin::Firewall,
        Plugin::Tuning,
        Plugin::Bandwidth,
        Plugin::Sbr,
        Plugin::Vrf,
        Plugin::Resolver,
        Plugin::HostLocal,
        Plugin::Static,
        Plugin::Dhcp,
    ];
    /// Those whose links this machine's kernel may lack: the virtual machine's has them.
    pub const OF_SOME_KERNELS: &[Plugin] = &[Plugin::Ipvlan, Plugin::Vlan, Plugin::Dummy, Plugin::Vrf];
    /// Those that take and return prevResult.
    pub(super) const CHAINED: &[Plugin] = &[
        Plugin::Portmap,
        Plugin::Firewall,
        Plugin::Tuning,
        Plugin::Bandwidth,
        Plugin::Sbr,
        Plugin::Vrf,
        Plugin::Resolver,
    ];

    /// Those that make the container's interface and ask an IPAM for its addresses.
    pub(super) const INTERFACES: &[Plugin] = &[
        Plugin::Bridge,
        Plugin::Ptp,
        Plugin::Macvlan,
        Plugin::Ipvlan,
        Plugin::Vlan,
        Plugin::Dummy,
        Plugin::Tap,
        Plugin::HostDevice,
    ];
    /// Those that lease addresses, by themselves or by their IPAM.
    pub(super) const LEASING: &[Plugin] = &[
        Plugin::Bridge,
        Plugin::Ptp,
        Plugin::Macvlan,
        Plugin::Ipvlan,
        Plugin::Vlan,
        Plugin::Dummy,
        Plugin::Tap,
        Plugin::HostDevice,
        Plugin::HostLocal,
    ];

    /// The executable's name.
    pub fn name(self) -> &'static str {
        match self {
            Plugin::Bridge => "bridge",
            Plugin::Overlay => "overlay",
            Plugin::Ptp => "ptp",
            Plugin::Macvlan => "macvlan",
            Plugin::Ipvlan => "ipvlan",
            Plugin::Vlan => "vlan",
            Plugin::Dummy => "dummy",
            Plugin::Tap => "tap",
            Plugin::HostDevice => "host-device",
            Plugin::Loopback => "loopback",
            Plugin::Portmap => "portmap",
            Plugin::Firewall => "firewall",
            Plugin::Tuning => "tuning",
            Plugin::Bandwidth => "bandwidth",
            Plugin::Sbr => "sbr",
            Plugin::Vrf => "vrf",
            Plugin::Resolver => "resolver",
            Plugin::HostLocal => "host-local",
            Plugin::Static => "static",
            Plugin::Dhcp => "dhcp",
        }
    }

    /// The kind of link that the kernel must have for it, where that is not a matter of course.
    fn link_kind(self) -> Option<&'static str> {
        match self {
            Plugin::Macvlan => Some("type macvlan"),
            Plugin::Ipvlan => Some("type ipvlan"),
            Plugin::Vlan => Some("type vlan id 5"),
            Plugin::Dummy => Some("type dummy"),
            Plugin::Bandwidth => Some("type ifb"),
            Plugin::Vrf => Some("type vrf table 5"),
            _ => None,
        }
    }

    /// Whether this kernel has what the plugin makes: asked of `ip`, in a world of its own.
    pub fn is_possible(self) -> bool {
        let Some(kind) = self.link_kind() else { return true };
        let possible = netns_fixtures::try_run(|world| {
            let host = world.host("host")?;
            host.ip("link add wire type veth")?;
            let alone = matches!(self, Plugin::Dummy | Plugin::Vrf | Plugin::Bandwidth);
            let parent = if alone { "" } else { "link wire" };
            Ok(host.ip(&format!("link add {parent} name probe {kind}")).is_ok())
        });
        possible.unwrap_or(false)
    }

    pub(super) fn is_chained(self) -> bool {
        Plugin::CHAINED.contains(&self)
    }

    pub(super) fn is_ipam(self) -> bool {
        matches!(self, Plugin::HostLocal | Plugin::Static | Plugin::Dhcp)
    }
}

/// Where the container side of the default network lives.
pub(super) const SUBNET: &str = "10.88.0.0/24";
/// The host's interfaces to move, for one container each.
const DEVICES: [&str; 2] = ["dev0", "dev1"];
/// The version most promises are tested in: the newest that both we and Debian's reference speak.
pub(super) const VERSION: &str = "1.0.0";

pub(super) struct Rig<'a> {
    pub(super) world: &'a World,
    pub(super) bin_dir: &'a Path,
    pub(super) plugin: Plugin,
    /// The CNI versions that the executable says it speaks.
    pub(super) versions: Vec<String>,
    /// Whether the about line says that these are zeugma's, to which no known fault of others applies.
    pub(super) is_ours: bool,
    pub(super) host: Host,
    pub(super) client: Host,
    /// The network of `dhcp`.
    pub(super) dhcp: Option<Network>,
    containers: AtomicU32,
}

impl<'a> Rig<'a> {
    pub(super) fn new(world: &'a World, bin_dir: &'a Path, plugin: Plugin) -> Result<Rig<'a>> {
        let (host, client) = (world.host("host")?, world.host("client")?);
        world.link((&host, "eth0", "192.0.2.1/24"), (&client, "eth0", "192.0.2.2/24"))?;
        host.ip("route add default via 192.0.2.2")?;
        if plugin == Plugin::HostDevice {
            DEVICES.iter().try_for_each(|device| wire(&host, device))?;
        }
        if plugin == Plugin::Overlay {
            told(&host)?;
        }
        let call = Call::new(bin_dir, plugin.name(), "VERSION", &json!({"cniVersion": VERSION}));
        let about = call.clone().without("CNI_COMMAND").output(&host)?.finished.stderr;
        let answer = call.run(&host).context("VERSION")?;
        let versions =
            serde_json::from_value(answer["supportedVersions"].clone()).context("supportedVersions")?;
        let is_ours = about.contains("zeugma");
        let dhcp = (plugin == Plugin::Dhcp).then(|| Network::new(world, bin_dir, is_ours)).transpose()?;
        let containers = AtomicU32::new(0);
        Ok(Rig { world, bin_dir, plugin, versions, is_ours, host, client, dhcp, containers })
    }

    pub(super) fn speaks(&self, version: &str) -> bool {
        self.versions.iter().any(|spoken| spoken == version)
    }

    /// A config that makes this plugin work; promises change what they are about.
    pub(super) fn config(&self) -> Value {
        match self.plugin {
            Plugin::Bridge => bridge("cni0", SUBNET),
            Plugin::Overlay => json!({
                "type": "overlay", "dataDir": self.host.run_dir().join("networks"), "capabilities": {"mac": true},
            }),
            Plugin::Ptp => {
                let routes = json!([{"dst": "0.0.0.0/0"}]);
                json!({"type": "ptp", "ipam": {"type": "host-local", "subnet": SUBNET, "routes": routes}})
            }
            Plugin::Macvlan => with(on_wire("macvlan"), "capabilities", json!({"mac": true})),
            Plugin::Ipvlan => on_wire("ipvlan"),
            Plugin::Vlan => with(on_wire("vlan"), "vlanId", json!(5)),
            Plugin::Dummy => json!({"type": "dummy", "ipam": {"type": "host-local", "subnet": SUBNET}}),
            Plugin::Tap => json!({
                "type": "tap", "capabilities": {"mac": true, "ips": true},
                "ipam": {"type": "host-local", "subnet": SUBNET},
            }),
            Plugin::HostDevice => json!({
                "type": "host-device", "device": DEVICES[0], "capabilities": {"ips": true},
                "ipam": {"type": "host-local", "subnet": SUBNET},
            }),
            Plugin::Loopback => json!({"type": "loopback"}),
            Plugin::Portmap => json!({"type": "portmap", "capabilities": {"portMappings": true}}),
            Plugin::Firewall => json!({"type": "firewall"}),
            Plugin::Tuning => json!({
                "type": "tuning", "mtu": 1400, "sysctl": {"net.core.somaxconn": "500"},
                "capabilities": {"mac": true},
            }),
            Plugin::Bandwidth => json!({
                "type": "bandwidth", "capabilities": {"bandwidth": true},
                "ingressRate": 8_000_000, "ingressBurst": 8_000_000,
                "egressRate": 16_000_000, "egressBurst": 8_000_000,
            }),
            Plugin::Sbr => json!({"type": "sbr"}),
            Plugin::Vrf => json!({"type": "vrf", "vrfname": "blue"}),
            Plugin::Resolver => json!({"type": "resolver", "mode": "container"}),
            Plugin::HostLocal => json!({
                "type": "host-local", "capabilities": {"ips": true, "ipRanges": true},
                "ipam": {"type": "host-local", "subnet": SUBNET, "routes": [{"dst": "0.0.0.0/0"}]},
            }),
            Plugin::Static => json!({
                "type": "static", "capabilities": {"ips": true},
                "ipam": {
                    "type": "static", "addresses": [{"address": "10.88.0.7/24", "gateway": "10.88.0.1"}],
                    "routes": [{"dst": "0.0.0.0/0"}], "dns": {"nameservers": ["192.0.2.53"]},
                },
            }),
            Plugin::Dhcp => {
                let socket = self.dhcp.as_ref().map(|network| &network.socket);
                json!({"type": "dhcp", "ipam": {"type": "dhcp", "daemonSocketPath": socket}})
            }
        }
    }

    /// The config for one container more at the same time.
    pub(super) fn other_config(&self) -> Value {
        match self.plugin {
            Plugin::HostDevice => with(self.config(), "device", json!(DEVICES[1])),
            _ => self.config(),
        }
    }

    /// The plugin with `config`, behind a bridge when it is a chained one.
    pub(super) fn chain_of(&self, version: &str, config: Value) -> Result<Chain> {
        let plugins =
            if self.plugin.is_chained() { vec![bridge("cni0", SUBNET), config] } else { vec![config] };
        self.list_of(version, plugins)
    }

    pub(super) fn list_of(&self, version: &str, plugins: Vec<Value>) -> Result<Chain> {
        Chain::new(self.bin_dir, json!({"cniVersion": version, "name": "net", "plugins": plugins}))
    }

    pub(super) fn chain(&self) -> Result<Chain> {
        self.chain_of(VERSION, self.config())
    }

    /// A fresh container to attach, with a port of its own to publish: 8080, 8081, ….
    pub(super) fn container(&self) -> Result<Attachment> {
        let number = self.containers.fetch_add(1, Ordering::Relaxed);
        let name = format!("c{number}");
        let ifname = if self.plugin == Plugin::Loopback { "lo" } else { "eth0" };
        let attachment = self.world.container(&name)?.attachment(&name, ifname);
        let ports = json!([
            {"hostPort": 8080 + number, "containerPort": 80, "protocol": "tcp"},
            {"hostPort": 8080 + number, "containerPort": 80, "protocol": "udp"},
        ]);
        if let Some(network) = &self.dhcp {
            network.join(self.world, &attachment)?;
        }
        Ok(attachment.with(json!({"portMappings": ports})))
    }

    /// One call of the plugin alone, with its config as a runtime completes it.
    pub(super) fn call_after(
        &self,
        command: &str,
        attachment: &Attachment,
        version: &str,
        previous: &Value,
    ) -> Call {
        self.call_with(command, attachment, &self.complete(attachment, version, previous))
    }

    pub(super) fn call_with(&self, command: &str, attachment: &Attachment, config: &Value) -> Call {
        Call::new(self.bin_dir, self.plugin.name(), command, config).of(attachment)
    }

    /// The config as a runtime completes it.
    pub(super) fn complete(&self, attachment: &Attachment, version: &str, previous: &Value) -> Value {
        let config = self.config();
        let plugin = config.as_object().cloned().unwrap_or_default();
        let chain = self.list_of(version, vec![config]).expect("the list is written right above");
        chain.config(&self.host, &plugin, Some(attachment), Some(previous))
    }

    /// The addresses that `host-local` holds for `chain`.
    pub(super) fn leases(&self, chain: &Chain) -> Vec<String> {
        let entries = fs::read_dir(chain.leases(&self.host)).into_iter().flatten().flatten();
        let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
        let mut leases: Vec<_> = names.filter(|name| name.starts_with("10.")).collect();
        leases.sort();
        leases
    }

    /// Demands that `call` fails with `code`, an error object and a message.
    pub(super) fn ensure_refused(&self, call: Call, code: u64, what: &str) -> Result<()> {
        let outcome = call.output(&self.host)?;
        ensure!(!outcome.finished.status.success(), "{what}: accepted: {}", outcome.finished.stdout);
        let error: CniError = outcome.error();
        ensure!(error.code == code, "{what}: want code {code}, got: {error}");
        ensure!(!error.msg.is_empty(), "{what}: the error object has no msg");
        Ok(())
    }
}

/// An interface of the host with another end.
fn wire(host: &Host, device: &str) -> Result<()> {
    host.ip(&format!("link add {device} type veth peer name far-{device}")).map(drop)
}

/// A bridge network: default gateway, no masquerade, addresses from `host-local`.
pub(super) fn bridge(name: &str, subnet: &str) -> Value {
    json!({
        "type": "bridge", "bridge": name, "isDefaultGateway": true, "capabilities": {"mac": true, "ips": true},
        "ipam": {"type": "host-local", "subnet": subnet},
    })
}

/// A network on the wire of the host's eth0.
fn on_wire(plugin: &str) -> Value {
    json!({"type": plugin, "master": "eth0", "ipam": {"type": "host-local", "subnet": SUBNET}})
}

/// `object` with `key` set: configs are written once and varied.
pub(super) fn with(mut object: Value, key: &str, value: Value) -> Value {
    object[key] = value;
    object
}

/// The first address of a result (without prefix length), in the shape of CNI 0.3.0 and later.
pub(super) fn address(result: &Value) -> Result<String> {
    let cidr = result["ips"][0]["address"].as_str().with_context(|| format!("no address in {result}"))?;
    Ok(cidr.split('/').next().unwrap_or_default().to_owned())
}

/// What an agent writes down of an overlay without a tunnel.
fn told(host: &Host) -> Result<()> {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
    let state = json!({
        "network": "net", "backend": "host-gw", "subnets": ["10.88.0.0/16"], "blocks": [SUBNET], "mtu": 1500,
        "bridge": "cni0", "masquerade": true,
    });
    let directory = host.state_dir().join("overlays");
    fs::create_dir_all(&directory)?;
    Ok(fs::write(directory.join("net.json"), json!({"boot": boot.trim(), "state": state}).to_string())?)
}
