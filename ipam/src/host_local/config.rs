//! The configuration of `host-local`: where range sets and requested addresses come from, and in which order.

use std::net::IpAddr;
use std::path::PathBuf;

use serde::Deserialize;
use serde_json::{Map, Value};
use zeugma_protocol::{NetConf, Route, Version, read_key, read_object};
use zeugma_skel::CniArgs;

use super::Error;
use crate::alloc::{RangeRaw, RangeSet};
use crate::wire::{RouteRaw, more_than_one_per_family, parse_address_or_cidr, parse_routes};

/// The reference's default.
const DATA_DIR: &str = "/var/lib/cni/networks";

/// `ipam`, as it stands there.
#[derive(Debug, Default, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub(crate) struct IpamRaw {
    /// Network address and length, at least two host bits: short form of one range set with one range,
    /// before those of `ranges`. Default: none.
    subnet: Option<String>,
    /// First address to give, included. Default: the subnet's first address (.1).
    range_start: Option<String>,
    /// Last address to give, included. Default: the subnet's last (IPv4: before the broadcast address).
    range_end: Option<String>,
    /// Stands in the result and is never given to a container. Default: the subnet's first address (.1).
    gateway: Option<String>,
    /// List of range sets, each a list of ranges with `subnet`, `rangeStart`, `rangeEnd` and `gateway`; a
    /// container gets an address of each set. Default: none.
    ranges: Option<Vec<Vec<RangeRaw>>>,
    /// `dst`, `gw`, `mtu`, `advmss`, `priority`, `table`, `scope`; passed on in the result. Default: none.
    routes: Option<Vec<RouteRaw>>,
    /// File that `dns` of the result is read from. Default: none.
    resolv_conf: Option<PathBuf>,
    /// Folder of the leases. Default `/var/lib/cni/networks`.
    #[expect(dead_code, reason = "read by itself, so that DEL finds its leases whatever the other keys say")]
    data_dir: Option<PathBuf>,
}

/// What an ADD needs to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Config {
    /// At least one; a container gets an address of each.
    pub(crate) sets: Vec<RangeSet>,
    /// Addresses that the runtime asks for.
    pub(crate) requested: Vec<IpAddr>,
    /// Passed on.
    pub(crate) routes: Vec<Route>,
    /// The file that `dns` is read from.
    pub(crate) resolv_conf: Option<PathBuf>,
}

impl Config {
    /// Everything; `args` is none where there is no container (STATUS).
    pub(crate) fn parse(conf: &NetConf, args: Option<&CniArgs>) -> Result<Self, Error> {
        let raw = Self::of_ipam(conf.ipam.as_ref().ok_or(Error::NoIpam)?)?;
        let of_runtime: Option<Vec<Vec<RangeRaw>>> = conf.capability("ipRanges")?;
        let IpamRaw { subnet, range_start, range_end, gateway, .. } = raw;
        let short = subnet.is_some().then(|| vec![RangeRaw { subnet, range_start, range_end, gateway }]);
        let sets = of_runtime.into_iter().flatten().chain(short).chain(raw.ranges.into_iter().flatten());
        Ok(Self {
            sets: parse_sets(sets, conf.cni_version)?,
            requested: requested(conf, args)?,
            routes: parse_routes(raw.routes)?,
            resolv_conf: raw.resolv_conf.filter(|path| !path.as_os_str().is_empty()),
        })
    }

    pub(super) fn of_ipam(ipam: &Map<String, Value>) -> Result<IpamRaw, Error> {
        Ok(read_object(ipam, "ipam")?)
    }

    /// Every option but `subnet` and `ranges` may be wrong: DEL, CHECK and GC need no more than this.
    pub(crate) fn data_dir(conf: &NetConf) -> Result<PathBuf, Error> {
        let given: Option<PathBuf> = match &conf.ipam {
            Some(ipam) => read_key(ipam, "ipam", "dataDir")?,
            None => None,
        };
        Ok(given.filter(|path| !path.as_os_str().is_empty()).unwrap_or_else(|| DATA_DIR.into()))
    }
}

fn parse_sets(raw: impl Iterator<Item = Vec<RangeRaw>>, version: Version) -> Result<Vec<RangeSet>, Error> {
    let mut sets: Vec<RangeSet> = Vec::new();
    for (set, ranges) in raw.enumerate() {
        sets.push(ranges.try_into().map_err(|source| Error::RangeSet { set, source })?);
    }
    if sets.is_empty() {
        return Err(Error::NoRanges);
    }
    if version < Version::V0_3_0 && more_than_one_per_family(sets.iter().map(RangeSet::sample)) {
        return Err(Error::OnePerFamily(version));
    }
    for (one, set) in sets.iter().enumerate() {
        if let Some(distance) = sets[one + 1..].iter().position(|other| set.overlaps(other)) {
            return Err(Error::Overlap { one, other: one + 1 + distance });
        }
    }
    Ok(sets)
}

/// `IP=` of CNI_ARGS, `args.cni.ips` and the capability `ips` add up, as in the reference.
fn requested(conf: &NetConf, args: Option<&CniArgs>) -> Result<Vec<IpAddr>, Error> {
    let mut requested = Vec::new();
    if let Some(text) = args.and_then(|args| args.pairs.get("IP")) {
        requested.extend(parse_address_or_cidr("IP", text).map_err(Error::Arguments)?);
    }
    for (given, key) in
        [(conf.arg_cni("ips")?, "args.cni.ips"), (conf.capability("ips")?, "runtimeConfig.ips")]
    {
        for text in Option::<Vec<String>>::unwrap_or_default(given) {
            requested.extend(parse_address_or_cidr(key, &text)?);
        }
    }
    Ok(requested)
}
