//! Results: one value inside, seven shapes on the wire.

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use serde_json::{Map, Value};
use zeugma_model::Mac;

use crate::decode::{read, read_key};
use crate::wire::{Families, Lists};
use crate::{DecodeError, Dns, EncodeError, Version};

/// What an ADD achieved, independent of the version it is printed in.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CniResult {
    /// Interfaces, host side and container side.
    pub interfaces: Vec<Interface>,
    /// Addresses.
    pub ips: Vec<Ip>,
    /// Routes in the container.
    pub routes: Vec<Route>,
    /// DNS settings.
    pub dns: Dns,
}

/// One interface of a result.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// Its Ethernet address.
    pub mac: Option<Mac>,
    /// Its MTU in bytes (1.1.0).
    pub mtu: Option<u32>,
    /// The container's namespace; none for the host's.
    pub sandbox: Option<String>,
    /// Path of its vhost-user socket (1.1.0).
    pub socket_path: Option<String>,
    /// Its PCI address (1.1.0).
    pub pci_id: Option<String>,
}

/// One address of a result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ip {
    /// The address with its prefix length, host bits kept.
    pub address: IpNetwork,
    /// The gateway of its subnet.
    pub gateway: Option<IpAddr>,
    /// Which of `interfaces` has it.
    pub interface: Option<usize>,
}

/// One route of a result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// The destination.
    pub dst: IpNetwork,
    /// The next hop; none: the gateway of the family's first address.
    pub gw: Option<IpAddr>,
    /// MTU along the route (1.1.0).
    pub mtu: Option<u32>,
    /// MSS to advertise (1.1.0).
    pub advmss: Option<u32>,
    /// Metric (1.1.0).
    pub priority: Option<u32>,
    /// Routing table (1.1.0).
    pub table: Option<u32>,
    /// Scope, numbered as in rtnetlink(7): 0 universe, 253 link, 254 host (1.1.0).
    pub scope: Option<u8>,
}

impl CniResult {
    /// The result as `version` writes it. What `version` has no word for is left out: before 1.1.0 the MTU and
    /// more, before 0.3.0 the interfaces and every address but the first of each family.
    ///
    /// Fails before 0.3.0 when there is no address.
    pub fn to_json(&self, version: Version) -> Result<Value, EncodeError> {
        const JSON: &str = "structures of texts and numbers are JSON";
        if version >= Version::V0_3_0 {
            return Ok(serde_json::to_value(Lists::of(self, version)).expect(JSON));
        }
        let families = Families::of(self, version).ok_or(EncodeError::NoAddress { version })?;
        Ok(serde_json::to_value(families).expect(JSON))
    }

    /// Reads a result of the version that it names itself, else of `default` (its configuration's).
    pub fn from_json(value: &Value, default: Version) -> Result<Self, DecodeError> {
        let Some(object) = value.as_object() else {
            return read::<Map<String, Value>>(value, "").map(|_| Self::default());
        };
        let version = match read_key::<String>(object, "", "cniVersion")?.as_deref() {
            None | Some("") => default,
            Some(text) => text.parse().map_err(|source| DecodeError::ResultVersion { source })?,
        };
        if version >= Version::V0_3_0 {
            read::<Lists>(value, "").map(Self::from)
        } else {
            read::<Families>(value, "").map(Self::from)
        }
    }
}
