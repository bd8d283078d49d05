//! The configuration of `static`: which of four places the addresses come from.

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use serde::Deserialize;
use serde_json::{Map, Value};
use zeugma_protocol::{Dns, NetConf, Route, Version, read_object};
use zeugma_skel::CniArgs;

use super::Error;
use crate::wire::{RouteRaw, more_than_one_per_family, parse_address, parse_cidr, parse_routes};

#[derive(Debug, Default, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct IpamRaw {
    /// List of addresses: `address` with its prefix length, and its `gateway` in the result if it has one.
    /// Default: none.
    addresses: Option<Vec<AddressRaw>>,
    /// `dst`, `gw`, `mtu`, `advmss`, `priority`, `table`, `scope`; passed on in the result. Default: none.
    routes: Option<Vec<RouteRaw>>,
    /// `nameservers`, `domain`, `search`, `options`; passed on in the result. Default: none.
    #[cfg_attr(test, schemars(with = "std::collections::BTreeMap<String, String>"))]
    dns: Option<Dns>,
}

#[derive(Debug, Default, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct AddressRaw {
    address: String,
    gateway: Option<String>,
}

/// An address with its gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Address {
    /// With its prefix length.
    pub(crate) address: IpNetwork,
    pub(crate) gateway: Option<IpAddr>,
}

/// All that `static` gives out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Config {
    pub(crate) addresses: Vec<Address>,
    pub(crate) routes: Vec<Route>,
    pub(crate) dns: Dns,
}

impl Config {
    /// `runtimeConfig.ips` replaces `args.cni.ips`, which replaces `ipam.addresses` and `IP=` together.
    pub(crate) fn parse(conf: &NetConf, args: Option<&CniArgs>) -> Result<Self, Error> {
        let mut config = Self::of_ipam(conf.ipam.as_ref().ok_or(Error::NoIpam)?)?;
        if let Some(args) = args {
            config.addresses.extend(of_arguments(args)?);
        }
        let places = [(conf.arg_cni("ips")?, "args.cni.ips"), (conf.capability("ips")?, "runtimeConfig.ips")];
        for (given, key) in places {
            let instead = of_list(given.unwrap_or_default(), key)?;
            if !instead.is_empty() {
                config.addresses = instead;
            }
        }
        let crowded = more_than_one_per_family(config.addresses.iter().map(|address| address.address.ip()));
        match conf.cni_version {
            version if crowded && version < Version::V0_3_0 => Err(Error::OnePerFamily(version)),
            _ => Ok(config),
        }
    }

    pub(super) fn of_ipam(ipam: &Map<String, Value>) -> Result<Self, Error> {
        let raw: IpamRaw = read_object(ipam, "ipam")?;
        let addresses = raw.addresses.unwrap_or_default().into_iter().map(Address::try_from);
        Ok(Self {
            addresses: addresses.collect::<Result<_, _>>()?,
            routes: parse_routes(raw.routes)?,
            dns: raw.dns.unwrap_or_default(),
        })
    }
}

impl TryFrom<AddressRaw> for Address {
    type Error = Error;
    fn try_from(raw: AddressRaw) -> Result<Self, Error> {
        Ok(Self {
            address: parse_cidr("addresses[].address", &raw.address)?,
            gateway: parse_address("addresses[].gateway", &raw.gateway.unwrap_or_default())?,
        })
    }
}

/// Addresses without gateways.
fn of_list(texts: Vec<String>, key: &'static str) -> Result<Vec<Address>, Error> {
    let parse = |text: String| Ok(Address { address: parse_cidr(key, &text)?, gateway: None });
    texts.into_iter().map(parse).collect()
}

/// `IP=` and `GATEWAY=`, lists with commas. A gateway belongs to those addresses of `IP=` whose subnet holds it.
fn of_arguments(args: &CniArgs) -> Result<Vec<Address>, Error> {
    let list = |key: &str| {
        let text = args.pairs.get(key).filter(|text| !text.is_empty());
        text.into_iter().flat_map(|text| text.split(',').map(str::trim)).collect::<Vec<_>>()
    };
    let mut addresses = Vec::new();
    for text in list("IP") {
        let address = parse_cidr("IP", text).map_err(Error::Arguments)?;
        addresses.push(Address { address, gateway: None });
    }
    for text in list("GATEWAY") {
        let gateway = parse_address("GATEWAY", text).map_err(Error::Arguments)?;
        let holds = |address: &&mut Address| gateway.is_some_and(|gateway| address.address.contains(gateway));
        addresses.iter_mut().filter(holds).for_each(|address| address.gateway = gateway);
    }
    Ok(addresses)
}
