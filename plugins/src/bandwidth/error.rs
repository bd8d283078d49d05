//! What can go wrong in `bandwidth`, and its codes: remedies in docs/plugins/bandwidth.md.

use zeugma_model::IfName;
use zeugma_protocol::{CniCode, Code};

use super::config::Direction;
use crate::cause::{Cause, from_causes};

/// A failure of `bandwidth`.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Below the plugin.
    #[error(transparent)]
    Cause(#[from] Cause),
    /// A rate without burst, or the other way round.
    #[error("{way}{has} without {way}{lacks}: set both, or neither")]
    Lonely {
        /// Which way.
        way: Direction,
        /// `Rate` or `Burst`.
        has: &'static str,
        /// The other one.
        lacks: &'static str,
    },
    /// More than 32 bits of bytes.
    #[error("{way}Burst {burst} is too long: it is in bits, and has to be less than 34359738360 (4 GiB)")]
    BurstLong {
        /// Which way.
        way: Direction,
        /// Bits.
        burst: u64,
    },
    /// Not one byte per second.
    #[error("{way}Rate {rate} is too low: it is in bits per second, and has to be at least 8")]
    RateTiny {
        /// Which way.
        way: Direction,
        /// Bits per second.
        rate: u64,
    },
    /// The longest burst is over before the kernel's clock has ticked.
    #[error(
        "{way}Rate {rate} is too high: it is in bits per second, and the longest burst (4 GiB) is over within \
         two microseconds"
    )]
    RateHigh {
        /// Which way.
        way: Direction,
        /// Bits per second.
        rate: u64,
    },
    /// A packet would take longer than the kernel keeps a burst for.
    #[error(
        "{way}Rate {rate} is too low: it is in bits per second, and no packet of {packet} bytes gets through"
    )]
    RateSmall {
        /// Which way.
        way: Direction,
        /// Bits per second.
        rate: u64,
        /// Bytes.
        packet: u32,
    },
    /// A packet needs more than the burst.
    #[error(
        "{way}Burst {burst} is too short: no packet of {packet} bytes gets through {link}; set at least {least}"
    )]
    BurstShort {
        /// Which way.
        way: Direction,
        /// Bits.
        burst: u64,
        /// Bytes.
        packet: u32,
        /// Whose packets they are.
        link: IfName,
        /// Bits.
        least: u64,
    },
    /// Not a subnet.
    #[error(
        "{0:?} in unshapedSubnets or shapedSubnets is no subnet: write one as 10.0.0.0/8 or 2001:db8::/32"
    )]
    Subnet(String),
    /// Both lists.
    #[error("unshapedSubnets and shapedSubnets cannot both be set: remove one of them")]
    BothSubnets,
    /// The container's interface is none whose traffic passes the host's queues.
    #[error("{ifname} is {kind}: only the traffic of a veth pair can be limited, as bridge and ptp make it")]
    NotVeth {
        /// The container's interface.
        ifname: IfName,
        /// Its kind, with an article.
        kind: String,
    },
    /// The other end of the pair is not where `prevResult` says.
    #[error("prevResult names no interface of the host that is the other end of {0}")]
    NoHostVeth(IfName),
    /// CHECK found a limit changed.
    #[error("{0}; the limits were changed after ADD: add the container again")]
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
            Self::Lonely { .. }
            | Self::BurstLong { .. }
            | Self::RateTiny { .. }
            | Self::RateHigh { .. }
            | Self::RateSmall { .. }
            | Self::BurstShort { .. }
            | Self::Subnet(_)
            | Self::BothSubnets
            | Self::NotVeth { .. }
            | Self::NoHostVeth(_) => Code::InvalidNetworkConfig,
            Self::Changed(_) => Code::Plugin(110),
            Self::NotAvailable(_) => Code::NotAvailable,
        }
    }
}
