//! What an ADD made on the host that the rest of its record does not tell, written down so that it can be made again.

use std::num::NonZeroU64;

use ipnetwork::IpNetwork;
use serde::{Deserialize, Serialize};
use zeugma_model::{IfName, Mac, VlanId, VlanRange};

/// The host's side of an attachment to a bridge.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostSide {
    /// The bridge.
    pub bridge: BridgeMade,
    /// How the host's veth is a port of it.
    pub port: PortSet,
    /// The gateway of the container's VLAN, where it is not the bridge.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<GatewayMade>,
    /// The gateways' addresses: on the VLAN's gateway, else on the bridge.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<IpNetwork>,
}

/// A bridge as the ADD left it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BridgeMade {
    /// Whether it bears our mark: then we may make it again.
    pub ours: bool,
    /// Its Ethernet address, which containers remember as their gateway's.
    pub mac: Mac,
    /// Bytes.
    pub mtu: u32,
    /// Whether it filters by VLAN.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub vlan_filtering: bool,
    /// Whether it receives everything.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub promisc: bool,
}

/// How a link is a port of a bridge.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortSet {
    /// Frames may leave by the port that they came in by.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub hairpin: bool,
    /// It does not talk to other isolated ports.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub isolated: bool,
    /// Its VLANs; none where the bridge was not told of any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vlans: Option<VlanSet>,
}

/// The VLANs of a port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VlanSet {
    /// The one that it is taken out of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leave: Option<VlanId>,
    /// Those whose frames keep their tags.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tagged: Vec<VlanRange>,
    /// The one of frames without a tag.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub untagged: Option<VlanId>,
}

/// The veth pair by which the host is the gateway of a VLAN.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GatewayMade {
    /// The end with the addresses.
    pub name: IfName,
    /// Its Ethernet address.
    pub mac: Mac,
    /// Bytes.
    pub mtu: u32,
    /// The VLANs of the end at the bridge.
    pub vlans: VlanSet,
}

/// The limits of an attachment.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Of what the container receives.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ingress: Option<Bucket>,
    /// Of what it sends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub egress: Option<Bucket>,
    /// The other side's subnets that are treated unlike the rest.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub subnets: Vec<IpNetwork>,
    /// Whether they alone are limited; else they alone are not.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub only_subnets: bool,
}

/// A rate and a burst.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bucket {
    /// Bytes per second.
    pub rate: NonZeroU64,
    /// Bytes that may be sent at once.
    pub burst: u32,
}
