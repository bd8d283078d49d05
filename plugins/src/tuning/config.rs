//! What `tuning` can be told.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Deserialize;
use serde::de::{Deserializer, Error as _, MapAccess, Visitor};
use zeugma_model::Mac;
use zeugma_protocol::NetConf;
use zeugma_skel::Request;

use super::Error;

/// The keys as they stand in the configuration, or in `args.cni`.
#[derive(Debug, Default, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Raw {
    /// Sysctls of the container, an object of text, below `net` only. With dots or slashes; a part `IFNAME`
    /// stands for the interface's name, dots in that name are kept. A key that stands twice is an error.
    /// Default: none.
    sysctl: Sysctls,
    /// MAC address of the interface. Default: unchanged.
    mac: Option<String>,
    /// `true`: the interface receives everything; `false` changes nothing. Default false.
    promisc: Option<bool>,
    /// Bytes. Default 0: unchanged.
    mtu: Option<u32>,
    /// Whether it receives all multicast. Default: unchanged.
    allmulti: Option<bool>,
    /// Packets in the transmit queue. Default: unchanged.
    #[serde(rename = "txQLen")]
    tx_queue_len: Option<u32>,
    /// Directory in which the reference keeps what was before; only the DEL of what it attached reads there, as zeugma
    /// has records of its own. Default /run/cni/tuning.
    data_dir: Option<PathBuf>,
}

/// An object of strings in which no key stands twice.
#[derive(Debug, Default)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Sysctls(BTreeMap<String, String>);

impl<'de> Deserialize<'de> for Sysctls {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Unique;
        impl<'de> Visitor<'de> for Unique {
            type Value = Sysctls;
            fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                formatter.write_str("an object of sysctls")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Sysctls, A::Error> {
                let mut values = BTreeMap::new();
                while let Some((key, value)) = map.next_entry::<String, String>()? {
                    if values.insert(key.clone(), value).is_some() {
                        return Err(A::Error::custom(format!("sysctl {key} stands there twice")));
                    }
                }
                Ok(Sysctls(values))
            }
        }
        deserializer.deserialize_map(Unique)
    }
}

/// The reference's directory of backups.
pub(super) fn data_dir(conf: &NetConf) -> PathBuf {
    /// Its default.
    const DATA_DIR: &str = "/run/cni/tuning";
    let raw: Option<Raw> = conf.plugin_config().ok();
    let told = raw.and_then(|raw| raw.data_dir).filter(|path| !path.as_os_str().is_empty());
    told.unwrap_or_else(|| DATA_DIR.into())
}

/// What to change.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Config {
    /// Files below /proc/sys and what to write.
    pub(super) sysctls: BTreeMap<String, String>,
    pub(super) mac: Option<Mac>,
    pub(super) promisc: Option<bool>,
    pub(super) mtu: Option<u32>,
    pub(super) allmulti: Option<bool>,
    pub(super) tx_queue_len: Option<u32>,
}

impl Config {
    pub(super) fn of_network(conf: &NetConf) -> Result<Self, Error> {
        let raw: Raw = conf.plugin_config()?;
        Self::from_raw(raw, None)
    }

    /// `args.cni` wins over `runtimeConfig`, which wins over `CNI_ARGS`, which wins over the configuration.
    pub(super) fn of(request: &Request) -> Result<Self, Error> {
        let mut raw: Raw = request.conf.plugin_config()?;
        let told = [
            request.args.get("MAC").map(str::to_owned),
            request.conf.capability("mac")?,
            request.conf.arg_cni("mac")?,
        ];
        for mac in told.into_iter().flatten().filter(|mac| !mac.is_empty()) {
            raw.mac = Some(mac);
        }
        if let Some(Sysctls(sysctls)) = request.conf.arg_cni("sysctl")? {
            raw.sysctl.0.extend(sysctls);
        }
        raw.promisc = request.conf.arg_cni("promisc")?.or(raw.promisc);
        raw.mtu = request.conf.arg_cni("mtu")?.or(raw.mtu);
        raw.allmulti = request.conf.arg_cni("allmulti")?.or(raw.allmulti);
        raw.tx_queue_len = request.conf.arg_cni("txQLen")?.or(raw.tx_queue_len);
        Self::from_raw(raw, Some(request.ifname.as_str()))
    }

    fn from_raw(raw: Raw, ifname: Option<&str>) -> Result<Self, Error> {
        let mut sysctls = BTreeMap::new();
        for (key, value) in raw.sysctl.0 {
            let path = path(&key, ifname)?;
            if sysctls.insert(path, value).is_some() {
                return Err(Error::Twice { key });
            }
        }
        let mac = raw.mac.filter(|mac| !mac.is_empty());
        Ok(Self {
            sysctls,
            mac: mac.map(|mac| mac.parse().map_err(Error::Mac)).transpose()?,
            // False and zero are the defaults of the reference: nothing is changed.
            promisc: raw.promisc.filter(|on| *on),
            mtu: raw.mtu.filter(|mtu| *mtu > 0),
            allmulti: raw.allmulti,
            tx_queue_len: raw.tx_queue_len,
        })
    }

    pub(super) fn changes_link(&self) -> bool {
        self.mac.is_some()
            || self.promisc.is_some()
            || self.mtu.is_some()
            || self.allmulti.is_some()
            || self.tx_queue_len.is_some()
    }
}

/// `net.ipv4.conf.IFNAME.arp_filter` → `net/ipv4/conf/eth0/arp_filter`. An interface's dots are kept: the name
/// is put in after the dots of the key have become slashes.
fn path(key: &str, ifname: Option<&str>) -> Result<String, Error> {
    let path = if key.contains('/') { key.to_owned() } else { key.replace('.', "/") };
    let path = match ifname {
        Some(name) => path
            .split('/')
            .map(|part| if part == "IFNAME" { name } else { part })
            .collect::<Vec<_>>()
            .join("/"),
        None => path,
    };
    let is_inside = path.starts_with("net/") && path.split('/').all(|part| !["", ".", ".."].contains(&part));
    if is_inside { Ok(path) } else { Err(Error::Outside { key: key.into() }) }
}

/// A value with its white space as one: the kernel prints tabs where spaces were written.
pub(super) fn fields(value: &str) -> Vec<&str> {
    value.split_whitespace().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_network_s_sysctls_are_reached() {
        assert_eq!(
            path("net.ipv4.conf.IFNAME.arp_filter", Some("eth0.5")).unwrap(),
            "net/ipv4/conf/eth0.5/arp_filter"
        );
        assert_eq!(path("net/core/somaxconn", None).unwrap(), "net/core/somaxconn");
        for bad in [
            "kernel.hostname",
            "net",
            "net..core",
            "net/../kernel/hostname",
            "/net/core/somaxconn",
            "fs.file-max",
        ] {
            assert!(path(bad, Some("eth0")).is_err(), "{bad}");
        }
    }
}
