//! Clusters to decide on.

use std::collections::BTreeMap;

use serde_json::json;
use zeugma_model::{Backend, Block, Network, NetworkName, Node, NodeName};

use crate::{Desired, Here, LinkSeen, Observed, SeenKind, Underlay, View, alias, desired, shares};

/// What there is, seen from one of its nodes.
#[derive(Debug, Clone)]
pub(super) struct Cluster {
    pub(super) here: Here,
    pub(super) networks: BTreeMap<NetworkName, Network>,
    pub(super) nodes: BTreeMap<NodeName, Node>,
    /// When nodes were last written; none: not known.
    pub(super) revisions: BTreeMap<NodeName, u64>,
    /// In the order in which they were claimed.
    pub(super) blocks: Vec<Block>,
}

impl Cluster {
    /// Four nodes with a block of each family, seen from `a`. `b` and `c` are on its link, `d` behind a router.
    pub(super) fn of(backend: Backend) -> Self {
        let mut cluster = Self {
            here: Here { node: "a".parse().unwrap(), underlay: Vec::new() },
            networks: BTreeMap::new(),
            nodes: BTreeMap::new(),
            revisions: BTreeMap::new(),
            blocks: Vec::new(),
        };
        cluster.network("net", backend, 4096);
        for (name, number, addresses) in [
            ("a", 1, ["192.0.2.1", "2001:db8::1"]),
            ("b", 2, ["192.0.2.2", "2001:db8::2"]),
            ("c", 3, ["192.0.2.3", "2001:db8::3"]),
            ("d", 4, ["198.51.100.4", "2001:db8:d::4"]),
        ] {
            cluster.join(name, number, &addresses);
            cluster.take(name, &format!("10.9.{number}.0/24"));
            cluster.take(name, &format!("fd00:9:0:{number}::/64"));
        }
        cluster.seen_from("a")
    }

    /// Dual stack, with port 51820 for WireGuard.
    pub(super) fn network(&mut self, name: &str, backend: Backend, vni: u32) {
        let mut options = json!({"backend": backend});
        match backend {
            Backend::Vxlan | Backend::Auto => options["vni"] = vni.to_string().into(),
            Backend::Wireguard => options["port"] = "51820".into(),
            Backend::HostGw => {}
        }
        let network = json!({
            "name": name, "driver": "overlay", "options": options,
            "subnets": [{"subnet": "10.9.0.0/16"}, {"subnet": "fd00:9::/48"}],
        });
        self.networks.insert(name.parse().unwrap(), serde_json::from_value(network).unwrap());
    }

    pub(super) fn join(&mut self, name: &str, number: u8, addresses: &[&str]) {
        let node = Node {
            name: name.parse().unwrap(),
            addresses: addresses.iter().map(|address| address.parse().unwrap()).collect(),
            machine: format!("{number:032x}").parse().unwrap(),
            key: Some(zeugma_model::PublicKey([number; 32])),
            next_key: None,
            version: String::new(),
        };
        self.nodes.insert(node.name.clone(), node);
    }

    pub(super) fn take(&mut self, node: &str, block: &str) {
        let (network, node) = ("net".parse().unwrap(), node.parse().unwrap());
        self.blocks.push(Block { network, subnet: block.parse().unwrap(), node });
    }

    pub(super) fn leave(&mut self, name: &str) {
        self.nodes.remove(&name.parse().unwrap());
    }

    pub(super) fn node(&mut self, name: &str) -> &mut Node {
        self.nodes.get_mut(&name.parse().unwrap()).unwrap()
    }

    pub(super) fn seen_from(mut self, node: &str) -> Self {
        let node: NodeName = node.parse().unwrap();
        let addresses = self.nodes[&node].addresses.iter();
        let underlay = addresses.map(|address| Underlay {
            address: format!("{address}/{}", if address.is_ipv4() { 24 } else { 64 }).parse().unwrap(),
            link: "eth0".parse().unwrap(),
            mtu: 1500,
        });
        self.here = Here { underlay: underlay.collect(), node };
        self
    }

    pub(super) fn over_v6(mut self) -> Self {
        self.here.underlay.retain(|underlay| underlay.address.is_ipv6());
        self.nodes.values_mut().for_each(|node| node.addresses.retain(std::net::IpAddr::is_ipv6));
        self
    }

    pub(super) fn desired(&self) -> Desired {
        let Self { here, networks, nodes, revisions, blocks } = self;
        let revisions = revisions.iter().map(|(node, revision)| (node, *revision)).collect();
        let shares = shares(blocks.iter().enumerate());
        desired(&View { here, networks, nodes, revisions: &revisions, shares: &shares })
    }

    /// A host on which the WireGuard devices were made, and nothing else.
    pub(super) fn with_wireguard(&self) -> Observed {
        let links = self
            .networks
            .values()
            .filter(|network| network.overlay().is_some_and(|options| options.backend == Backend::Wireguard));
        let made = links.map(|network| {
            let alias = alias(&network.name);
            let seen = LinkSeen { alias, kind: SeenKind::Wireguard, mac: None, mtu: 1420, up: false };
            (network.name.wireguard(), seen)
        });
        Observed { links: made.collect(), ..Observed::default() }
    }
}
