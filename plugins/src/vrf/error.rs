//! What can go wrong in `vrf`, and its codes: remedies in docs/plugins/vrf.md.

use zeugma_model::{IfName, NameError};
use zeugma_protocol::{CniCode, Code};

use crate::cause::{Cause, from_causes};

/// A failure of `vrf`.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Below the plugin.
    #[error(transparent)]
    Cause(#[from] Cause),
    /// No name for the VRF.
    #[error("\"vrfname\" is missing: name the VRF that the interface goes into")]
    NoName,
    /// Not an interface name.
    #[error("invalid \"vrfname\" {name:?}: {source}")]
    Name {
        /// The name.
        name: String,
        /// Why not.
        source: NameError,
    },
    /// No routing table has this number.
    #[error("invalid \"table\" {0}: a routing table is a number from 1 to 4294967295, or 0 for a free one")]
    Table(i64),
    /// The VRF is there with another table.
    #[error(
        "VRF {name} already exists with routing table {has}, not {asked}: name that table or none, or another VRF"
    )]
    OtherTable {
        /// The VRF.
        name: IfName,
        /// Its table.
        has: u32,
        /// The configuration's.
        asked: u32,
    },
    /// Something else has the name.
    #[error("{name} is a link of the container already, and no VRF: choose another \"vrfname\"")]
    NotAVrf {
        /// The name.
        name: IfName,
    },
    /// The interface is a port of something.
    #[error("interface {ifname} has already a master: {master}; it can only be in one VRF")]
    HasMaster {
        /// The interface.
        ifname: IfName,
        /// Its master.
        master: String,
    },
    /// Every table is in use.
    #[error("no routing table is free in the container: name a \"table\"")]
    NoTable,
    /// The kernel does not have the link kind.
    #[error("this kernel has no links of type vrf: use one with CONFIG_NET_VRF (module vrf)")]
    NoVrfs,
    /// CHECK found something else.
    #[error("{0}: it was changed after ADD; add the container again")]
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
            Self::NoName | Self::Name { .. } | Self::Table(_) => Code::InvalidNetworkConfig,
            Self::NoTable => Code::Plugin(120),
            Self::NoVrfs => Code::Plugin(115),
            Self::OtherTable { .. } => Code::Plugin(121),
            Self::NotAVrf { .. } => Code::Plugin(122),
            Self::HasMaster { .. } => Code::Plugin(123),
            Self::Changed(_) => Code::Plugin(110),
            Self::NotAvailable(_) => Code::NotAvailable,
        }
    }
}
