//! What `vrf` can be told.

use serde::Deserialize;
use zeugma_model::IfName;
use zeugma_protocol::NetConf;

use super::Error;

/// The keys as they stand in the configuration.
#[derive(Debug, Default, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default)]
pub(crate) struct Raw {
    /// Name of the VRF, an interface name of the container: at most 15 bytes. Required.
    vrfname: Option<String>,
    /// Routing table of the VRF. Default 0: that of the VRF if it is there, else a free one from 1 on.
    table: Option<i64>,
}

/// Which VRF the interface goes into.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Config {
    pub(super) name: IfName,
    /// The table that it must have; none: any.
    pub(super) table: Option<u32>,
}

impl Config {
    pub(super) fn of(conf: &NetConf) -> Result<Self, Error> {
        let raw: Raw = conf.plugin_config()?;
        let name = raw.vrfname.filter(|name| !name.is_empty()).ok_or(Error::NoName)?;
        let name = name.parse().map_err(|source| Error::Name { name, source })?;
        let asked = raw.table.unwrap_or_default();
        let table = u32::try_from(asked).map_err(|_| Error::Table(asked))?;
        Ok(Self { name, table: Some(table).filter(|table| *table > 0) })
    }
}
