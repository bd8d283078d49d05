//! Published ports.

use std::fmt;
use std::net::IpAddr;
use std::num::NonZeroU16;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A transport protocol whose ports can be published.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

impl Protocol {
    /// The number in the IP header (IANA protocol numbers).
    pub fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
            Self::Sctp => 132,
        }
    }

    /// The protocol with this number; none for any that has no ports to publish.
    pub fn of_number(number: u8) -> Option<Self> {
        [Self::Tcp, Self::Udp, Self::Sctp].into_iter().find(|protocol| protocol.number() == number)
    }

    /// `tcp`, `udp` or `sctp`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// The text names no transport protocol.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown protocol {0:?}: use tcp, udp or sctp")]
pub struct ProtocolError(String);

impl FromStr for Protocol {
    type Err = ProtocolError;
    fn from_str(text: &str) -> Result<Self, ProtocolError> {
        match text.to_ascii_lowercase().as_str() {
            "tcp" => Ok(Self::Tcp),
            "udp" => Ok(Self::Udp),
            "sctp" => Ok(Self::Sctp),
            _ => Err(ProtocolError(text.into())),
        }
    }
}

/// Which of the host's addresses a port is published on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HostAddress {
    /// Every address of both families (no `hostIP`).
    Any,
    /// Every IPv4 address (`0.0.0.0`).
    AnyV4,
    /// Every IPv6 address (`::`).
    AnyV6,
    /// This one.
    One(IpAddr),
}

impl HostAddress {
    /// An unspecified address means any of its family, as it does for bind(2).
    pub fn from_ip(address: Option<IpAddr>) -> Self {
        // An IPv4 address in IPv6's clothes is the IPv4 address.
        match address.map(|address| address.to_canonical()) {
            None => Self::Any,
            Some(IpAddr::V4(v4)) if v4.is_unspecified() => Self::AnyV4,
            Some(IpAddr::V6(v6)) if v6.is_unspecified() => Self::AnyV6,
            Some(address) => Self::One(address),
        }
    }
}

/// One published port: `host:host_port/protocol` leads to `container_port` of the container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PortMapping {
    /// The port on the host.
    pub host_port: NonZeroU16,
    /// The port of the container.
    pub container_port: NonZeroU16,
    /// The transport protocol.
    pub protocol: Protocol,
    /// The host's addresses that it is published on.
    pub host_address: HostAddress,
}
