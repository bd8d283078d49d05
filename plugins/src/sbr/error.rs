//! What can go wrong in `sbr`, and its codes: remedies in docs/plugins/sbr.md.

use std::net::IpAddr;

use zeugma_model::IfName;
use zeugma_protocol::{CniCode, Code};

use crate::cause::{Cause, from_causes};

/// A failure of `sbr`.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Below the plugin.
    #[error(transparent)]
    Cause(#[from] Cause),
    /// No routing table has this number.
    #[error("invalid \"table\" {0}: a routing table is a number from 1 to 4294967295")]
    Table(i64),
    /// Not an address.
    #[error("invalid gateway {0:?} in \"gateways\": write an IP address without prefix length")]
    Gateway(String),
    /// Two of a family.
    #[error("\"gateways\" has {0} and {1} of the same family: it takes one IPv4 and one IPv6 address")]
    TwoGateways(IpAddr, IpAddr),
    /// Nothing to route by.
    #[error(
        "prevResult has no address on {ifname}: sbr routes by the container's addresses, put it behind a \
             plugin with \"ipam\""
    )]
    NoAddress {
        /// The interface.
        ifname: IfName,
    },
    /// A second ADD.
    #[error("sbr routes {ifname} by its addresses already: DEL first")]
    RoutedAlready {
        /// The interface.
        ifname: IfName,
    },
    /// Every table is in use.
    #[error("no routing table from {first} on is free in the container: delete rules, or name a \"table\"")]
    NoTable {
        /// Where the search began.
        first: u32,
    },
    /// CHECK found something else.
    #[error("{0}: the container's routing was changed after ADD; add the container again")]
    Changed(String),
    /// STATUS: ADD would fail.
    #[error("not available: {0}")]
    NotAvailable(String),
}
from_causes!(Error);

impl CniCode for Error {
    fn code(&self) -> Code {
        match self {
            Self::Cause(cause) => cause.code(),
            Self::Table(_) | Self::Gateway(_) | Self::TwoGateways(..) | Self::NoAddress { .. } => {
                Code::InvalidNetworkConfig
            }
            Self::RoutedAlready { .. } => Code::Plugin(113),
            Self::NoTable { .. } => Code::Plugin(120),
            Self::Changed(_) => Code::Plugin(110),
            Self::NotAvailable(_) => Code::NotAvailable,
        }
    }
}
