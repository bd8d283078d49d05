//! What is said of overlays and nodes.

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use serde::{Deserialize, Serialize};
use zeugma_model::{Backend, IfName, NetworkName, Node, NodeName};

/// `GET`: a list of [`OverlayView`].
pub const PEERS: &str = "/v1/peers";
/// `GET`: a list of [`NodeView`].
pub const NODES: &str = "/v1/nodes";
/// `DELETE`: forgets a node that does not come back, and gives its blocks to others; refused while it lives.
pub const NODE: &str = "/v1/nodes/{name}";
/// `POST`: this node takes a new WireGuard key; answers when its peers use it.
pub const ROTATE: &str = "/v1/wireguard/rotate";

/// A node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeView {
    /// What it tells the others.
    pub node: Node,
    /// Whether it is heard of.
    pub alive: bool,
    /// Whether it is this one.
    pub here: bool,
}

/// An overlay on this host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OverlayView {
    /// Its network.
    pub network: NetworkName,
    /// How packets get to other hosts.
    pub backend: Backend,
    /// Who encrypts: `kernel` or `userspace`; none: nobody.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wireguard: Option<String>,
    /// The tunnel.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link: Option<IfName>,
    /// Bytes: of the containers' interfaces.
    pub mtu: u32,
    /// The addresses that this host gives out.
    pub blocks: Vec<IpNetwork>,
    /// The other hosts.
    pub peers: Vec<PeerView>,
    /// What does not work, a line each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub problems: Vec<String>,
}

/// Another host of an overlay.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerView {
    /// Its name.
    pub node: NodeName,
    /// Whether it is heard of; none: nobody says so, as with a file of peers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alive: Option<bool>,
    /// Its addresses of the overlay.
    pub blocks: Vec<IpNetwork>,
    /// `vxlan`, `wireguard` or `direct`.
    pub path: String,
    /// Where packets go.
    pub remote: Option<IpAddr>,
    /// The largest packet that was answered, in bytes; none: not tried yet, or none was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u32>,
    /// Of WireGuard: when keys were last agreed on, in seconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_handshake: Option<u64>,
    /// Bytes from it; none: nobody counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub received: Option<u64>,
    /// Bytes to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sent: Option<u64>,
    /// Of the last probes, how many in a hundred were not answered; none: none was sent yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loss: Option<u8>,
    /// The last answered probe's time there and back, in microseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub round_trip: Option<u64>,
}
