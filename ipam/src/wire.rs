//! Addresses, prefixes and routes as text in configurations, read as the reference reads them.
//!
//! Only shapes: what an address means to a plugin is the plugin's.

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use serde::Deserialize;
use zeugma_protocol::Route;

/// A value in a configuration is no address or prefix.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ValueError {
    /// No `address/length`.
    #[error("{key} {text:?} is not in CIDR notation: write address/length, such as 10.1.2.0/24")]
    NotCidr {
        /// Where it stands.
        key: &'static str,
        /// What stands there.
        text: String,
    },
    /// No address.
    #[error("{key} {text:?} is no IP address: write one such as 10.1.2.3 or fd00::3")]
    NotAddress {
        /// Where it stands.
        key: &'static str,
        /// What stands there.
        text: String,
    },
}

/// `address/length`, host bits kept. IPv4-mapped IPv6 is refused: its length would mean something else.
pub(crate) fn parse_cidr(key: &'static str, text: &str) -> Result<IpNetwork, ValueError> {
    let network = text.split_once('/').and_then(|(address, length)| {
        let length = length.bytes().all(|byte| byte.is_ascii_digit()).then(|| length.parse().ok())??;
        IpNetwork::new(address.parse().ok()?, length).ok()
    });
    network
        .filter(|network| network.ip().to_canonical() == network.ip())
        .ok_or_else(|| ValueError::NotCidr { key, text: text.into() })
}

/// An address; the empty text counts as none, as in Go's `net.IP`.
pub(crate) fn parse_address(key: &'static str, text: &str) -> Result<Option<IpAddr>, ValueError> {
    if text.is_empty() {
        return Ok(None);
    }
    let address: IpAddr = text.parse().map_err(|_| ValueError::NotAddress { key, text: text.into() })?;
    Ok(Some(address.to_canonical()))
}

/// An address that may carry a prefix length (`10.0.0.5` or `10.0.0.5/24`); the length is dropped.
pub(crate) fn parse_address_or_cidr(key: &'static str, text: &str) -> Result<Option<IpAddr>, ValueError> {
    match text.contains('/') {
        true => parse_cidr(key, text).map(|network| Some(network.ip())),
        false => parse_address(key, text),
    }
}

/// A route as it stands in `ipam.routes`; the keys after `gw` are of 1.1.0.
#[derive(Debug, Clone, Default, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct RouteRaw {
    dst: String,
    gw: Option<String>,
    mtu: Option<u32>,
    advmss: Option<u32>,
    priority: Option<u32>,
    table: Option<u32>,
    scope: Option<u8>,
}

impl TryFrom<RouteRaw> for Route {
    type Error = ValueError;
    /// In `mtu`, `advmss` and `priority` zero means unset, as in the reference.
    fn try_from(raw: RouteRaw) -> Result<Self, ValueError> {
        let set = |value: Option<u32>| value.filter(|&value| value != 0);
        Ok(Self {
            dst: parse_cidr("routes[].dst", &raw.dst)?,
            gw: parse_address("routes[].gw", &raw.gw.unwrap_or_default())?,
            mtu: set(raw.mtu),
            advmss: set(raw.advmss),
            priority: set(raw.priority),
            table: raw.table,
            scope: raw.scope,
        })
    }
}

/// All of `ipam.routes`.
pub(crate) fn parse_routes(raw: Option<Vec<RouteRaw>>) -> Result<Vec<Route>, ValueError> {
    raw.unwrap_or_default().into_iter().map(Route::try_from).collect()
}

/// Before 0.3.0 a result has room for one address of each family.
pub(crate) fn more_than_one_per_family(addresses: impl Iterator<Item = IpAddr>) -> bool {
    let (v4, v6): (Vec<_>, Vec<_>) = addresses.partition(IpAddr::is_ipv4);
    v4.len() > 1 || v6.len() > 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_are_read_as_the_reference_reads_them() {
        assert_eq!(parse_cidr("k", "10.1.2.3/24").unwrap().to_string(), "10.1.2.3/24");
        assert_eq!(parse_cidr("k", "fd00::1/64").unwrap().to_string(), "fd00::1/64");
        for bad in [
            "",
            "10.1.2.3",
            "10.1.2.3/33",
            "10.1.2.3/+8",
            "10.0.0.0/255.0.0.0",
            "fd00::/129",
            "x/8",
            "10.0.0.0/",
            "::ffff:10.0.0.0/104",
        ] {
            assert!(parse_cidr("k", bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_empty_address_is_unset_and_a_length_is_dropped() {
        assert_eq!(parse_address("k", ""), Ok(None));
        assert_eq!(parse_address("k", "::ffff:10.0.0.1"), Ok(Some("10.0.0.1".parse().unwrap())));
        assert_eq!(parse_address_or_cidr("k", "10.0.0.5/24"), Ok(Some("10.0.0.5".parse().unwrap())));
        assert!(parse_address("k", "10.0.0").is_err());
    }
}
