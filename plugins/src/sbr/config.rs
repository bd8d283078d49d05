//! What `sbr` can be told.

use std::net::IpAddr;

use serde::Deserialize;
use zeugma_plan::Family;
use zeugma_protocol::NetConf;

use super::Error;

/// The keys as they stand in the configuration.
#[derive(Debug, Default, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Raw {
    /// Routing table, from 1 on, that all of the container's addresses use. Then only the rules are made: whoever names
    /// a table fills it, for instance by `table` in the routes of the IPAM. Default: a free one from 100 on for each
    /// address, filled by `sbr`.
    table: Option<i64>,
    /// Next hops of the default routes: at most one IPv4 and one IPv6 address. Without effect beside `table`. Default:
    /// the gateways of `prevResult`.
    gateways: Option<Vec<String>>,
    /// Whether the table main keeps the routes to the interface's own subnets, with the container's address as their
    /// source: neighbours are then reached directly by packets whose source is still open. Without effect beside
    /// `table`. Default false.
    add_source_hints: bool,
}

/// Where the packets of the container's addresses are routed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Config {
    /// By a table that somebody else fills.
    Asked {
        /// The table.
        table: u32,
    },
    /// By tables of their own.
    Own {
        /// Next hops instead of those of `prevResult`, at most one of each family.
        gateways: Vec<IpAddr>,
        /// Whether main keeps the routes to the subnets.
        source_hints: bool,
    },
}

impl Config {
    pub(super) fn of(conf: &NetConf) -> Result<Self, Error> {
        let raw: Raw = conf.plugin_config()?;
        let gateways = parse_gateways(&raw.gateways.unwrap_or_default())?;
        let Some(table) = raw.table else {
            return Ok(Self::Own { gateways, source_hints: raw.add_source_hints });
        };
        let number = u32::try_from(table).ok().filter(|number| *number > 0);
        Ok(Self::Asked { table: number.ok_or(Error::Table(table))? })
    }

    /// The next hop that the configuration names for a family.
    pub(super) fn gateway(&self, family: Family) -> Option<IpAddr> {
        match self {
            Self::Asked { .. } => None,
            Self::Own { gateways, .. } => gateways.iter().copied().find(|it| Family::of(*it) == family),
        }
    }
}

/// `::ffff:192.0.2.1` is 192.0.2.1, as it is for Go.
fn parse_gateways(texts: &[String]) -> Result<Vec<IpAddr>, Error> {
    let mut gateways: Vec<IpAddr> = Vec::new();
    for text in texts {
        let parsed: IpAddr = text.parse().map_err(|_| Error::Gateway(text.clone()))?;
        let gateway = parsed.to_canonical();
        match gateways.iter().find(|other| Family::of(**other) == Family::of(gateway)) {
            Some(other) => return Err(Error::TwoGateways(*other, gateway)),
            None => gateways.push(gateway),
        }
    }
    Ok(gateways)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_family_has_one_gateway() {
        let parse =
            |texts: &[&str]| parse_gateways(&texts.iter().map(|it| it.to_string()).collect::<Vec<_>>());
        assert_eq!(parse(&["::ffff:192.0.2.1", "2001:db8::1"]).unwrap().len(), 2);
        assert!(matches!(parse(&["192.0.2.1", "192.0.2.2"]), Err(Error::TwoGateways(..))));
        assert!(matches!(parse(&["::1", "192.0.2.1", "::2"]), Err(Error::TwoGateways(..))));
        assert!(matches!(parse(&["192.0.2.1/24"]), Err(Error::Gateway(_))));
    }
}
