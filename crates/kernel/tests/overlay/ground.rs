//! Two hosts on one wire: `a` is settled by us, what `b` has is made by hand.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use netns_fixtures::{Host, World};
use serde_json::{Value, json};
use zeugma_kernel::overlay::{Overlays, Settled};
use zeugma_model::{Block, Network, NetworkName, Node, NodeName};
use zeugma_overlay::{Desired, Here, Underlay, View, shares};

/// The device of the network `net` with VXLAN.
pub(crate) const DEVICE: &str = "vx-net";

/// The stage.
pub(crate) struct Ground {
    pub(crate) a: Host,
    pub(crate) b: Host,
}

/// What is to be: networks and nodes, as the catalogue has them.
#[derive(Clone)]
pub(crate) struct Cluster {
    networks: BTreeMap<NetworkName, Network>,
    pub(crate) nodes: BTreeMap<NodeName, Node>,
    blocks: Vec<Block>,
    underlay: Vec<Underlay>,
}

impl Ground {
    pub(crate) fn new(world: &World) -> Result<Self> {
        let (a, b) = (world.host("a")?, world.host("b")?);
        world
            .link((&a, "eth0", "192.0.2.1/24 2001:db8::1/64"), (&b, "eth0", "192.0.2.2/24 2001:db8::2/64"))?;
        for (host, number) in [(&a, 1), (&b, 2)] {
            bridge(host, number)?;
        }
        Ok(Self { a, b })
    }

    /// Runs `story` inside `a` with the way to its kernel.
    pub(crate) fn settling<T: Send>(
        &self,
        story: impl AsyncFnOnce(&mut Overlays) -> Result<T> + Send,
    ) -> Result<T> {
        self.a.enter(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(async { story(&mut Overlays::open()?).await })
        })
    }

    /// What `b` would have for `net`, by ip(8) and bridge(8), with 192.0.2.2 or 2001:db8::2 as its end.
    pub(crate) fn by_hand(&self, desired: &Desired) -> Result<()> {
        let (is_v6, mac) = ends(desired)?;
        let (local, remote) = if is_v6 { ("2001:db8::2", "2001:db8::1") } else { ("192.0.2.2", "192.0.2.1") };
        let ours = self.a.ip_json(&format!("link show {DEVICE}"))?[0]["address"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        for line in [
            format!("link add vx0 address {mac} type vxlan id 4096 dstport 4789 local {local} nolearning"),
            "link set vx0 up".to_owned(),
            "addr add 10.9.2.0/32 dev vx0".to_owned(),
            "addr add fd00:9:0:2::/128 dev vx0 nodad".to_owned(),
            format!("neigh add 10.9.1.0 lladdr {ours} dev vx0 nud permanent"),
            format!("neigh add fd00:9:0:1:: lladdr {ours} dev vx0 nud permanent"),
            "route add 10.9.1.0/24 via 10.9.1.0 dev vx0 onlink".to_owned(),
            "-6 route add fd00:9:0:1::/64 via fd00:9:0:1:: dev vx0 onlink".to_owned(),
        ] {
            self.b.ip(&line)?;
        }
        self.b
            .run(["bridge", "fdb", "add", &ours, "dev", "vx0", "dst", remote, "self", "permanent"])
            .map(drop)
    }
}

/// Whether the underlay is IPv6, and the Ethernet address that `b` is to have.
fn ends(desired: &Desired) -> Result<(bool, String)> {
    let overlay = desired.overlays.values().next().context("an overlay")?;
    match &overlay.peers.values().next().context("a peer")?.path {
        zeugma_overlay::Path::Vxlan { mac, remote } => Ok((remote.is_ipv6(), mac.to_string())),
        path => anyhow::bail!("{path:?} is no VXLAN"),
    }
}

/// What containers of a host would be on.
fn bridge(host: &Host, number: u8) -> Result<()> {
    host.ip("link add br-net type bridge")?;
    host.ip("link set br-net up")?;
    host.ip(&format!("addr add 10.9.{number}.1/24 dev br-net"))?;
    host.ip(&format!("addr add fd00:9:0:{number}::1/64 dev br-net nodad")).map(drop)
}

impl Cluster {
    /// `net`, dual stack, with these options.
    pub(crate) fn new(options: Value) -> Result<Self> {
        let network = json!({
            "name": "net", "driver": "overlay", "options": options,
            "subnets": [{"subnet": "10.9.0.0/16"}, {"subnet": "fd00:9::/48"}],
        });
        let network: Network = serde_json::from_value(network)?;
        let underlay = [("192.0.2.1/24"), ("2001:db8::1/64")];
        let underlay = underlay.map(|address| -> Result<Underlay> {
            Ok(Underlay { address: address.parse()?, link: "eth0".parse()?, mtu: 1500 })
        });
        let mut cluster = Self {
            networks: BTreeMap::from([(network.name.clone(), network)]),
            nodes: BTreeMap::new(),
            blocks: Vec::new(),
            underlay: underlay.into_iter().collect::<Result<_>>()?,
        };
        cluster.join("a", 1, &["192.0.2.1", "2001:db8::1"])?;
        cluster.join("b", 2, &["192.0.2.2", "2001:db8::2"])?;
        Ok(cluster)
    }

    /// Another node, with 10.9.NUMBER.0/24 and fd00:9:0:NUMBER::/64.
    pub(crate) fn join(&mut self, name: &str, number: u16, addresses: &[&str]) -> Result<()> {
        let node = json!({"name": name, "addresses": addresses, "machine": format!("{number:032x}")});
        self.nodes.insert(name.parse()?, serde_json::from_value(node)?);
        let subnets = if number < 256 {
            [format!("10.9.{number}.0/24"), format!("fd00:9:0:{number:x}::/64")]
        } else {
            [format!("10.9.{}.{}/29", number / 32, number % 32 * 8), format!("fd00:9:0:{number:x}::/64")]
        };
        for subnet in subnets {
            self.blocks.push(Block { network: "net".parse()?, subnet: subnet.parse()?, node: name.parse()? });
        }
        Ok(())
    }

    pub(crate) fn leave(&mut self, name: &str) {
        self.nodes.retain(|node, _| node.as_str() != name);
    }

    /// Without IPv4 on the wire.
    pub(crate) fn over_v6(mut self) -> Self {
        self.underlay.retain(|underlay| underlay.address.is_ipv6());
        self
    }

    pub(crate) fn desired(&self) -> Result<Desired> {
        let here = Here { node: "a".parse()?, underlay: self.underlay.clone() };
        let (shares, revisions) = (shares(self.blocks.iter().enumerate()), BTreeMap::new());
        let (networks, nodes) = (&self.networks, &self.nodes);
        let view = View { here: &here, networks, nodes, revisions: &revisions, shares: &shares };
        Ok(zeugma_overlay::desired(&view))
    }
}

/// Nothing was to be done.
pub(crate) fn ensure_settled(settled: &Settled) -> Result<()> {
    ensure!(*settled == Settled::default(), "{settled:#?}");
    Ok(())
}

/// Waits for a change that somebody else makes, for a while.
pub(crate) async fn heard(overlays: &mut Overlays) -> Result<()> {
    let heard = tokio::time::timeout(Duration::from_secs(20), overlays.changed()).await;
    heard.map(drop).context("a change is heard of")
}
