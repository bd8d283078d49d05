//! Overlays: one network across hosts. What a node tells the others, and what it wrote down for its own plugins.
//!
//! Which links, routes and neighbours come of it is decided in `zeugma-overlay`.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ipnetwork::IpNetwork;
use serde::{Deserialize, Serialize};

use crate::{IfName, NetworkName, NodeName};

/// A VXLAN network identifier (RFC 7348, 5): 1 to 16,777,215.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct Vni(u32);

/// How a network's packets get to other hosts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Backend {
    /// In UDP, as Ethernet frames (RFC 7348).
    #[default]
    Vxlan,
    /// Encrypted; never in clear.
    Wireguard,
    /// As they are, with the other host as the next hop; every host must be on link.
    HostGw,
    /// To hosts on link as with `host-gw`, to others as with `vxlan`.
    Auto,
}

/// A machine, as long as it is installed: 16 bytes, such as those of `/etc/machine-id` hashed. Written as 32 hex digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct MachineId(pub [u8; 16]);

/// A WireGuard public key (Curve25519, RFC 7748): 32 bytes, written in base64, as wg(8) does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PublicKey(pub [u8; 32]);

/// Why a value of an overlay was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OverlayError {
    /// Not 1 to 16,777,215.
    #[error("{0} is no VXLAN network identifier: take 1 to 16777215")]
    Vni(u32),
    /// No such backend.
    #[error("there is no backend {0:?}: take vxlan, wireguard, host-gw or auto")]
    Backend(String),
    /// Not 32 hex digits.
    #[error("{0:?} is no machine ID: write 32 hex digits")]
    MachineId(String),
    /// Not 32 bytes in base64.
    #[error("{0:?} is no WireGuard key: write 32 bytes in base64, as `wg genkey | wg pubkey` prints them")]
    PublicKey(String),
}

/// What a node tells the others: how to reach it. Kept until somebody removes the node; whether it lives is said by
/// [`Alive`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    /// Its name.
    pub name: NodeName,
    /// Where packets of overlays are sent to: at most one address of each family.
    pub addresses: Vec<IpAddr>,
    /// Its VTEPs' Ethernet addresses are made of it.
    pub machine: MachineId,
    /// Its WireGuard key; none: it can do no WireGuard.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<PublicKey>,
    /// The key that it changes to next.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_key: Option<PublicKey>,
    /// The agent's version.
    #[serde(default)]
    pub version: String,
}

/// A node lives: written under its name with a lease, gone when it is not heard of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alive {
    /// Which.
    pub node: NodeName,
}

/// Addresses of a network that a node gives out, and no other.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Block {
    /// Of which network.
    pub network: NetworkName,
    /// The addresses: a part of one of the network's subnets.
    pub subnet: IpNetwork,
    /// Whose.
    pub node: NodeName,
}

impl Block {
    /// What it is called in the catalogue, so that only one node can have it: `front/10.89.3.0/24`.
    pub fn key(&self) -> String {
        format!("{}/{}", self.network, self.subnet)
    }
}

/// What the agent wrote down of an overlay for the plugin, which works without agent and catalogue.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OverlayState {
    /// The network.
    pub network: NetworkName,
    /// How its packets get to other hosts.
    pub backend: Backend,
    /// All of its addresses, on every host.
    pub subnets: Vec<IpNetwork>,
    /// Those that this host gives out; each one's second address (`.1`) is the gateway, the first (`.0`) the host's own
    /// on the tunnel.
    pub blocks: Vec<IpNetwork>,
    /// Bytes: of the containers' interfaces.
    pub mtu: u32,
    /// The bridge of its containers on this host.
    pub bridge: IfName,
    /// The tunnel; none where all hosts are reached without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tunnel: Option<IfName>,
    /// Whether the outside sees the host's address.
    pub masquerade: bool,
    /// Whether there is no way out of it.
    #[serde(default)]
    pub internal: bool,
    /// Subnets of the other overlays whose containers may open connections to this one's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reachable_from: Vec<IpNetwork>,
}

impl Vni {
    /// The number.
    pub fn get(self) -> u32 {
        self.0
    }
}

impl Backend {
    /// Every one.
    pub const ALL: [Self; 4] = [Self::Vxlan, Self::Wireguard, Self::HostGw, Self::Auto];

    /// Its word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Vxlan => "vxlan",
            Self::Wireguard => "wireguard",
            Self::HostGw => "host-gw",
            Self::Auto => "auto",
        }
    }

    /// Whether packets never leave a host in clear.
    pub fn is_encrypted(self) -> bool {
        self == Self::Wireguard
    }
}

impl TryFrom<u32> for Vni {
    type Error = OverlayError;
    fn try_from(number: u32) -> Result<Self, OverlayError> {
        if (1..1 << 24).contains(&number) { Ok(Self(number)) } else { Err(OverlayError::Vni(number)) }
    }
}

impl From<Vni> for u32 {
    fn from(vni: Vni) -> u32 {
        vni.0
    }
}

impl fmt::Display for Vni {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

impl fmt::Display for Backend {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

impl FromStr for Backend {
    type Err = OverlayError;
    fn from_str(text: &str) -> Result<Self, OverlayError> {
        let found = Self::ALL.into_iter().find(|backend| backend.as_str() == text);
        found.ok_or_else(|| OverlayError::Backend(text.into()))
    }
}

impl fmt::Display for MachineId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(formatter, "{byte:02x}"))
    }
}

impl FromStr for MachineId {
    type Err = OverlayError;
    fn from_str(text: &str) -> Result<Self, OverlayError> {
        let wrong = || OverlayError::MachineId(text.into());
        let is_hex = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let number = is_hex.then(|| u128::from_str_radix(text, 16).ok()).flatten().ok_or_else(wrong)?;
        Ok(Self(number.to_be_bytes()))
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&STANDARD.encode(self.0))
    }
}

impl FromStr for PublicKey {
    type Err = OverlayError;
    fn from_str(text: &str) -> Result<Self, OverlayError> {
        let bytes = STANDARD.decode(text).ok().and_then(|bytes| bytes.try_into().ok());
        bytes.map(Self).ok_or_else(|| OverlayError::PublicKey(text.into()))
    }
}

macro_rules! as_text {
    ($($name:ty),*) => { $(
        impl TryFrom<String> for $name {
            type Error = OverlayError;
            fn try_from(text: String) -> Result<Self, OverlayError> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(value: $name) -> String {
                value.to_string()
            }
        }
    )* };
}

as_text!(MachineId, PublicKey);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        let key = PublicKey([7; 32]);
        assert_eq!(key.to_string().parse::<PublicKey>().unwrap(), key);
        let machine = MachineId([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 255]);
        assert_eq!(machine.to_string(), "000102030405060708090a0b0c0d0eff");
        assert_eq!(machine.to_string().parse::<MachineId>().unwrap(), machine);
        for backend in Backend::ALL {
            assert_eq!(backend.as_str().parse::<Backend>().unwrap(), backend);
            assert_eq!(serde_json::to_value(backend).unwrap(), backend.as_str());
        }
    }

    #[test]
    fn what_is_no_value_of_an_overlay_is_refused() {
        assert!(Vni::try_from(0).is_err() && Vni::try_from(1 << 24).is_err());
        assert_eq!(Vni::try_from(4096).unwrap().get(), 4096);
        assert!("ipip".parse::<Backend>().is_err());
        assert!("+0000000000000000000000000000001".parse::<MachineId>().is_err());
        assert!("AAAA".parse::<PublicKey>().is_err());
    }
}
