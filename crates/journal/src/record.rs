//! What a plugin remembers of one attachment.

use std::collections::BTreeMap;
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use ipnetwork::IpNetwork;
use serde::{Deserialize, Serialize};
use zeugma_model::{Alias, Identity, IfName, Mac, OverlayState, PortMapping};

use crate::host::{HostSide, Limits};

/// How far a call has come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Written before the kernel was touched: any part of it may be there.
    #[default]
    Intent,
    /// All of it is there.
    Done,
}

/// A network namespace by its path, and what stood there.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct NetnsRef {
    /// `CNI_NETNS`.
    pub path: PathBuf,
    /// The device of nsfs.
    pub device: u64,
    /// The namespace's inode.
    pub inode: u64,
    /// The kernel's cookie for it (`SO_NETNS_COOKIE`), never given twice in one boot; kernels before 5.14 have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cookie: Option<u64>,
}

impl NetnsRef {
    /// Whether the same namespace is still at the path.
    pub fn is_alive(&self) -> bool {
        fs::metadata(&self.path).is_ok_and(|now| (now.dev(), now.ino()) == (self.device, self.inode))
    }

    /// What stands at `path` now; none when there is nothing.
    pub fn of(path: &Path) -> Option<Self> {
        let about = fs::metadata(path).ok()?;
        Some(Self { path: path.into(), device: about.dev(), inode: about.ino(), cookie: None })
    }
}

/// What a link was before `tuning` changed it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkBackup {
    /// Its Ethernet address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac: Option<Mac>,
    /// Bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u32>,
    /// Whether it received everything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub promisc: Option<bool>,
    /// Whether it received all multicast.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allmulti: Option<bool>,
    /// Packets in its transmit queue.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tx_queue_len: Option<u32>,
}

/// A device of the host, as it was before it went into a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// Its name on the host.
    pub name: IfName,
    /// Its alias there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alias: Option<String>,
}

/// A routing rule: packets from an address are routed by a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceRule {
    /// The source address.
    pub from: IpNetwork,
    /// The table.
    pub table: u32,
}

/// What `resolver` was told of a network and a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resolver {
    /// Where the container asks.
    pub listen: Listen,
    /// The domain below which names answer, too, such as `zeugma.internal`; no dot at its ends.
    pub domain: String,
    /// The container's own names beside what its ID and identity give, such as its host name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub names: Vec<Alias>,
    /// Whether questions about other names than the network's stay unanswered.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub internal: bool,
    /// Who is asked about other names; empty: the host's servers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub servers: Vec<SocketAddr>,
    /// Who is asked about names below a domain.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub forward: BTreeMap<String, Vec<SocketAddr>>,
}

/// Where a container's questions arrive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Listen {
    /// At port 53 of these addresses of the host, the network's gateways.
    Gateway(Vec<IpAddr>),
    /// At 127.0.0.11 in the container, where a rule leads port 53 to this port.
    Container(u16),
}

/// One plugin's part in an attachment: everything that its DEL needs.
///
/// Parts that a plugin does not have stay empty and are not written.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// The plugin's plain name.
    pub plugin: String,
    /// The file could not be read: nothing is known but the plugin.
    #[serde(skip)]
    pub spoilt: bool,
    /// How far it came.
    pub phase: Phase,
    /// The boot it belongs to.
    #[serde(default)]
    pub boot: String,
    /// The container's namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub netns: Option<NetnsRef>,
    /// The bridge that the attachment is on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bridge: Option<IfName>,
    /// The host's interface whose wire the container's shares.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<IfName>,
    /// The host's end of the veth pair.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host_veth: Option<IfName>,
    /// Whether what the host's end of the veth pair sends is limited.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub shaped: bool,
    /// The limits themselves; none in records of older versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<Limits>,
    /// The link through which what the container sends is redirected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ifb: Option<IfName>,
    /// The bridge and the port; none in records of older versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<HostSide>,
    /// The overlay that the bridge is part of, as the agent had written it down.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overlay: Option<OverlayState>,
    /// The container's Ethernet address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac: Option<Mac>,
    /// The container's addresses.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<IpNetwork>,
    /// The gateways of those addresses that are the host's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gateways: Vec<IpAddr>,
    /// Whether the network is masqueraded.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub masquerade: bool,
    /// Whether the container's source address is guarded.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub guarded: bool,
    /// Published ports.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<PortMapping>,
    /// Whether all who use the ports are masqueraded.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub masquerade_all: bool,
    /// What the container's link was before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backup: Option<LinkBackup>,
    /// The host's device that is in the container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<Device>,
    /// The firewalld zone that has the addresses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
    /// The policy for traffic into the bridge.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ingress: Option<String>,
    /// Routing rules in the container.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<SourceRule>,
    /// Whether the tables of those rules were filled for them.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub own_tables: bool,
    /// The VRF that the interface is in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vrf: Option<IfName>,
    /// The type of the IPAM that gave the addresses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipam: Option<String>,
    /// What the resolver is to do for the container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resolver: Option<Resolver>,
    /// What the caller told of the container: for whoever answers questions about names.
    #[serde(default, skip_serializing_if = "Identity::is_empty")]
    pub identity: Identity,
}
