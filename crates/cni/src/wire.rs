//! The two shapes that results have on the wire: `ip4`/`ip6` until 0.2.0, lists since 0.3.0. What a version
//! does not know is not written; everything is read in every version of its shape.

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use serde::{Deserialize, Deserializer, Serialize};
use zeugma_model::Mac;

use crate::{CniResult, Dns, Interface, Ip, Route, Version};

/// 0.1.0 and 0.2.0.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Families {
    #[serde(rename = "cniVersion", skip_deserializing)]
    version: &'static str,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ip4: Option<Family>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ip6: Option<Family>,
    #[serde(default, deserialize_with = "or_default")]
    dns: Dns,
}

#[derive(Debug, Serialize, Deserialize)]
struct Family {
    ip: Prefix,
    #[serde(default, deserialize_with = "address", skip_serializing_if = "Option::is_none")]
    gateway: Option<IpAddr>,
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "Vec::is_empty")]
    routes: Vec<WireRoute>,
}

/// 0.3.0 and newer.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Lists {
    #[serde(rename = "cniVersion", skip_deserializing)]
    version: &'static str,
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "Vec::is_empty")]
    interfaces: Vec<WireInterface>,
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "Vec::is_empty")]
    ips: Vec<WireIp>,
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "Vec::is_empty")]
    routes: Vec<WireRoute>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    dns: Option<Dns>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireInterface {
    name: String,
    #[serde(default, deserialize_with = "ethernet", skip_serializing_if = "Option::is_none")]
    mac: Option<Mac>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    mtu: Option<u32>,
    #[serde(default, deserialize_with = "text", skip_serializing_if = "Option::is_none")]
    sandbox: Option<String>,
    #[serde(default, deserialize_with = "text", skip_serializing_if = "Option::is_none")]
    socket_path: Option<String>,
    #[serde(default, rename = "pciID", deserialize_with = "text", skip_serializing_if = "Option::is_none")]
    pci_id: Option<String>,
}

#[derive(Debug, Serialize, Deserialize)]
struct WireIp {
    #[serde(skip_deserializing, skip_serializing_if = "Option::is_none")]
    version: Option<&'static str>,
    address: Prefix,
    #[serde(default, deserialize_with = "address", skip_serializing_if = "Option::is_none")]
    gateway: Option<IpAddr>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    interface: Option<usize>,
}

#[derive(Debug, Serialize, Deserialize)]
struct WireRoute {
    dst: Prefix,
    #[serde(default, deserialize_with = "address", skip_serializing_if = "Option::is_none")]
    gw: Option<IpAddr>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    mtu: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    advmss: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    priority: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    table: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    scope: Option<u8>,
}

impl Families {
    /// The first address of each family; none when there is no address at all.
    pub(crate) fn of(result: &CniResult, version: Version) -> Option<Self> {
        let ip4 = Family::of(result, version, IpNetwork::is_ipv4);
        let ip6 = Family::of(result, version, IpNetwork::is_ipv6);
        let some = ip4.is_some() || ip6.is_some();
        some.then(|| Self { version: version.as_str(), ip4, ip6, dns: result.dns.clone() })
    }
}

impl Family {
    fn of(result: &CniResult, version: Version, is_ours: fn(&IpNetwork) -> bool) -> Option<Self> {
        let ip = result.ips.iter().find(|ip| is_ours(&ip.address))?;
        let routes = result.routes.iter().filter(|route| is_ours(&route.dst));
        Some(Self {
            ip: Prefix(ip.address),
            gateway: ip.gateway,
            routes: routes.map(|route| WireRoute::of(route, version)).collect(),
        })
    }
}

impl From<Families> for CniResult {
    fn from(wire: Families) -> Self {
        let mut result = Self { dns: wire.dns, ..Self::default() };
        for family in [wire.ip4, wire.ip6].into_iter().flatten() {
            result.ips.push(Ip { address: family.ip.0, gateway: family.gateway, interface: None });
            result.routes.extend(family.routes.into_iter().map(Route::from));
        }
        result
    }
}

impl Lists {
    /// 0.x always writes `dns`, 1.x only when something is set, as the reference has it.
    pub(crate) fn of(result: &CniResult, version: Version) -> Self {
        let has_dns = version < Version::V1_0_0 || !result.dns.is_empty();
        Self {
            version: version.as_str(),
            interfaces: result.interfaces.iter().map(|link| WireInterface::of(link, version)).collect(),
            ips: result.ips.iter().map(|ip| WireIp::of(ip, version)).collect(),
            routes: result.routes.iter().map(|route| WireRoute::of(route, version)).collect(),
            dns: has_dns.then(|| result.dns.clone()),
        }
    }
}

impl From<Lists> for CniResult {
    fn from(wire: Lists) -> Self {
        Self {
            interfaces: wire.interfaces.into_iter().map(Interface::from).collect(),
            ips: wire.ips.into_iter().map(Ip::from).collect(),
            routes: wire.routes.into_iter().map(Route::from).collect(),
            dns: wire.dns.unwrap_or_default(),
        }
    }
}

impl WireInterface {
    fn of(link: &Interface, version: Version) -> Self {
        let is_new = version >= Version::V1_1_0;
        Self {
            name: link.name.clone(),
            mac: link.mac,
            mtu: link.mtu.filter(|_| is_new),
            sandbox: link.sandbox.clone(),
            socket_path: link.socket_path.clone().filter(|_| is_new),
            pci_id: link.pci_id.clone().filter(|_| is_new),
        }
    }
}

impl From<WireInterface> for Interface {
    fn from(wire: WireInterface) -> Self {
        let WireInterface { name, mac, mtu, sandbox, socket_path, pci_id } = wire;
        Self { name, mac, mtu, sandbox, socket_path, pci_id }
    }
}

impl WireIp {
    fn of(ip: &Ip, version: Version) -> Self {
        let family = if ip.address.is_ipv4() { "4" } else { "6" };
        Self {
            version: (version < Version::V1_0_0).then_some(family),
            address: Prefix(ip.address),
            gateway: ip.gateway,
            interface: ip.interface,
        }
    }
}

impl From<WireIp> for Ip {
    fn from(wire: WireIp) -> Self {
        Self { address: wire.address.0, gateway: wire.gateway, interface: wire.interface }
    }
}

impl WireRoute {
    fn of(route: &Route, version: Version) -> Self {
        let is_new = version >= Version::V1_1_0;
        Self {
            dst: Prefix(route.dst),
            gw: route.gw,
            mtu: route.mtu.filter(|_| is_new),
            advmss: route.advmss.filter(|_| is_new),
            priority: route.priority.filter(|_| is_new),
            table: route.table.filter(|_| is_new),
            scope: route.scope.filter(|_| is_new),
        }
    }
}

impl From<WireRoute> for Route {
    fn from(wire: WireRoute) -> Self {
        let WireRoute { dst: Prefix(dst), gw, mtu, advmss, priority, table, scope } = wire;
        Self { dst, gw, mtu, advmss, priority, table, scope }
    }
}

/// `address/length` with the host bits kept. `ipnetwork` alone would also take an address without a length.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
struct Prefix(IpNetwork);

#[derive(Debug, thiserror::Error)]
#[error("{0:?} is no prefix: write an address and a length, such as 10.1.2.3/24")]
struct PrefixError(String);

impl TryFrom<String> for Prefix {
    type Error = PrefixError;
    fn try_from(text: String) -> Result<Self, PrefixError> {
        let prefix = text
            .split_once('/')
            .and_then(|(address, length)| IpNetwork::new(address.parse().ok()?, length.parse().ok()?).ok());
        prefix.map(Self).ok_or(PrefixError(text))
    }
}

impl From<Prefix> for String {
    fn from(prefix: Prefix) -> String {
        prefix.0.to_string()
    }
}

/// Null is like missing: Go writes null for an empty slice.
pub(crate) fn or_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Option::deserialize(deserializer).map(Option::unwrap_or_default)
}

/// Text; empty is like missing, as Go has it.
fn text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    Ok(Option::<String>::deserialize(deserializer)?.filter(|text| !text.is_empty()))
}

fn address<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<IpAddr>, D::Error> {
    let Some(text) = text(deserializer)? else {
        return Ok(None);
    };
    text.parse().map(Some).map_err(|_| serde::de::Error::custom(format!("{text:?} is no IP address")))
}

/// An Ethernet address. A longer one, as InfiniBand has it, is no error but is not kept.
fn ethernet<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Mac>, D::Error> {
    let Some(text) = text(deserializer)? else {
        return Ok(None);
    };
    let is_other = text.len() > 17 && text.bytes().all(|byte| byte == b':' || byte.is_ascii_hexdigit());
    if is_other { Ok(None) } else { text.parse().map(Some).map_err(serde::de::Error::custom) }
}
