//! The stage for the plugin `overlay`: two hosts whose tunnels, routes and states are made by hand, as an agent would.
//! What is promised on it stands in `tests/overlay_plugin.rs`.

use std::fs;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use netns_fixtures::{Attachment, Chain, Host, World, eventually};
use serde_json::{Value, json};

use crate::stage::{network, with};

/// Two hosts on one wire, `eth0` of each: 192.0.2.1 and 192.0.2.2, 2001:db8:1::1 and ::2.
#[derive(Debug)]
pub struct Pair<'a> {
    world: &'a World,
    /// The hosts.
    pub hosts: [Host; 2],
}

/// An overlay: number N has 10.N.0.0/16 and fd00:N::/56, host H of it 10.N.H.0/24 and fd00:N:0:H::/64.
#[derive(Debug, Clone)]
pub struct Overlay {
    /// Its name.
    pub name: &'static str,
    /// What its subnets begin with.
    pub number: u8,
    /// Keys that its state has beside, or instead.
    pub state: Value,
}

impl Overlay {
    /// By VXLAN, without anything particular.
    pub fn new(name: &'static str, number: u8) -> Overlay {
        Overlay { name, number, state: json!({}) }
    }

    /// With keys of its state.
    #[must_use]
    pub fn with(self, state: Value) -> Overlay {
        Overlay { state, ..self }
    }

    /// All of its addresses, by family.
    pub fn subnets(&self) -> [String; 2] {
        [format!("10.{}.0.0/16", self.number), format!("fd00:{}::/56", self.number)]
    }

    /// Those of a host, by family.
    pub fn blocks(&self, host: usize) -> [String; 2] {
        [format!("10.{}.{host}.0/24", self.number), format!("fd00:{}:0:{host}::/64", self.number)]
    }

    /// Its device.
    pub fn tunnel(&self) -> String {
        format!("vx-{}", self.name)
    }

    /// What the agent of a host writes down.
    pub fn told(&self, host: usize) -> Value {
        let state = json!({
            "network": self.name, "backend": "vxlan", "subnets": self.subnets(), "blocks": self.blocks(host),
            "mtu": 1450, "bridge": format!("br-{}", self.name), "tunnel": self.tunnel(), "masquerade": true,
        });
        with(state, self.state.clone())
    }
}

impl<'a> Pair<'a> {
    /// Sets it up.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn new(world: &'a World) -> Result<Pair<'a>> {
        let hosts = [world.host("one")?, world.host("two")?];
        world.link(
            (&hosts[0], "eth0", "192.0.2.1/24 2001:db8:1::1/64"),
            (&hosts[1], "eth0", "192.0.2.2/24 2001:db8:1::2/64"),
        )?;
        hosts[0].ip("route add default via 192.0.2.2")?;
        Ok(Pair { world, hosts })
    }

    /// Makes the overlay on both hosts.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn join(&self, overlay: &Overlay) -> Result<()> {
        [1, 2].into_iter().try_for_each(|host| {
            tunnel(&self.hosts[host - 1], overlay, host)?;
            tell(&self.hosts[host - 1], overlay, host)
        })
    }

    /// Adds a container of the overlay on host 1 or 2, and returns it with its addresses.
    ///
    /// # Errors
    /// The plugin's refusal.
    pub fn container(&self, overlay: &Overlay, host: usize, name: &str) -> Result<(Attachment, [String; 2])> {
        let container = self.world.container(name)?.attachment(name, "eth0");
        let host = &self.hosts[host - 1];
        let result = chain(host, overlay, json!({}))?.add(host, &container)?;
        Ok((container, [4, 6].map(|family| crate::stage::address(&result, family).unwrap_or_default())))
    }
}

/// The overlay's list on a host, of its plugin alone.
///
/// # Errors
/// Never.
pub fn chain(host: &Host, overlay: &Overlay, keys: Value) -> Result<Chain> {
    let leases = host.run_dir().join("networks");
    network(overlay.name, &[with(json!({"type": "overlay", "dataDir": leases}), keys)])
}

/// Writes down what the agent of a host would.
///
/// # Errors
/// When the file cannot be written.
pub fn tell(host: &Host, overlay: &Overlay, number: usize) -> Result<()> {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
    let directory = host.state_dir().join("overlays");
    fs::create_dir_all(&directory)?;
    let text = json!({"boot": boot.trim(), "state": overlay.told(number)}).to_string();
    fs::write(directory.join(format!("{}.json", overlay.name)), text).context("write the state")
}

/// The agent takes back what it wrote down.
///
/// # Errors
/// When it is not there.
pub fn untell(host: &Host, overlay: &Overlay) -> Result<()> {
    Ok(fs::remove_file(host.state_dir().join("overlays").join(format!("{}.json", overlay.name)))?)
}

/// The device, its addresses, and the routes: to the other host's part, and to nowhere for all that nobody has.
fn tunnel(host: &Host, overlay: &Overlay, number: usize) -> Result<()> {
    let (link, other) = (overlay.tunnel(), 3 - number);
    let ends = format!("local 192.0.2.{number} remote 192.0.2.{other} dstport 4789");
    host.ip(&format!("link add {link} type vxlan id {} {ends} nolearning", overlay.number))?;
    let first = |block: &str| block.split('/').next().unwrap_or_default().to_owned();
    for (address, bits) in overlay.blocks(number).iter().zip([32, 128]) {
        host.ip(&format!("address add {}/{bits} dev {link} nodad", first(address)))?;
    }
    host.ip(&format!("link set {link} mtu 1450 up"))?;
    for (block, subnet) in overlay.blocks(other).iter().zip(overlay.subnets()) {
        host.ip(&format!("route add {block} via {} dev {link} onlink", first(block)))?;
        host.ip(&format!("route add unreachable {subnet} metric 4278198272"))?;
    }
    Ok(())
}

/// Counts packets of a namespace that meet the conditions, from now on.
#[derive(Debug)]
pub struct Counter {
    host: Host,
    table: String,
}

impl Counter {
    /// `conditions` in nft's words, at a hook such as `prerouting`, before all else.
    ///
    /// # Errors
    /// When nft refuses.
    pub fn new(host: &Host, hook: &str, conditions: &str) -> Result<Counter> {
        static MADE: AtomicU32 = AtomicU32::new(0);
        let table = format!("count_{}", MADE.fetch_add(1, Ordering::Relaxed));
        let chain = format!("type filter hook {hook} priority -500; {conditions} counter");
        host.nft(&format!("table inet {table} {{\n chain count {{\n {chain}\n }}\n}}\n"))?;
        Ok(Counter { host: host.clone(), table })
    }

    /// How many there were.
    ///
    /// # Errors
    /// When the table is gone.
    pub fn packets(&self) -> Result<u64> {
        let table = self.host.run(["nft", "list", "table", "inet", &self.table])?.stdout;
        let number = table.split("packets ").nth(1).and_then(|rest| rest.split(' ').next());
        let number = number.with_context(|| format!("no counter in {table}"))?;
        Ok(number.parse()?)
    }

    /// Pings, and demands that some of the packets came, or that none did.
    ///
    /// # Errors
    /// With the number.
    pub fn ensure_by_pings(&self, from: &Host, to: &str, some: bool) -> Result<()> {
        let ping = || from.command("ping").args(["-c1", "-W1", to]).output();
        // Whoever is new on the wire is asked for first, and that may take its time.
        if some {
            eventually(Duration::from_secs(15), || {
                ping().is_ok() && self.packets().is_ok_and(|packets| packets > 0)
            });
        } else {
            ping()?;
            ping()?;
        }
        self.ensure(some)
    }

    /// Demands that there were some, or that there were none.
    ///
    /// # Errors
    /// With the number.
    pub fn ensure(&self, some: bool) -> Result<()> {
        let packets = self.packets()?;
        ensure!((packets > 0) == some, "{packets} packets in table {}", self.table);
        Ok(())
    }
}
