//! What can go wrong in `host-local`, with the CNI code of each.

use std::io;
use std::net::IpAddr;
use std::path::PathBuf;

use zeugma_protocol::{CniCode, Code, DecodeError, Version};

use crate::alloc::RangeError;
use crate::store::StoreError;
use crate::wire::ValueError;

/// No free address. Page: docs/plugins/host-local.md.
const EXHAUSTED: Code = Code::Plugin(110);
/// The requested address has an owner.
const TAKEN: Code = Code::Plugin(111);
/// The attachment has addresses already.
const DUPLICATE: Code = Code::Plugin(112);
/// CHECK found no lease.
const NO_LEASE: Code = Code::Plugin(113);

/// Why `host-local` could not serve.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No `ipam` object.
    #[error("IPAM config missing 'ipam' key: add \"ipam\": {{\"type\": \"host-local\", \"subnet\": …}}")]
    NoIpam,
    /// A key has the wrong shape.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// A value in the configuration is no address or prefix.
    #[error(transparent)]
    Value(#[from] ValueError),
    /// `IP=` in CNI_ARGS is no address.
    #[error("CNI_ARGS: {0}")]
    Arguments(ValueError),
    /// A range set is wrong.
    #[error("invalid range set {set}: {source}")]
    RangeSet {
        /// Counted from 0 in the order ipRanges, subnet, ranges.
        set: usize,
        /// Why.
        source: RangeError,
    },
    /// Nothing to allocate from.
    #[error("no IP ranges specified: set ipam.subnet or ipam.ranges, or the capability ipRanges")]
    NoRanges,
    /// Two range sets share addresses.
    #[error("range set {one} overlaps with {other}")]
    Overlap {
        /// The first.
        one: usize,
        /// The second.
        other: usize,
    },
    /// Results of this version have room for one address of each family.
    #[error(
        "CNI version {0} does not support more than 1 address per family: use 0.3.0 or newer, or fewer range sets"
    )]
    OnePerFamily(Version),
    /// Requested addresses outside of the ranges, or several in one range set.
    #[error("failed to allocate all requested IPs: {}; each must lie in a range set of its own", list(.0))]
    NotInRanges(Vec<IpAddr>),
    /// The requested address is the gateway.
    #[error("requested ip {0} is subnet's gateway: request another one")]
    Gateway(IpAddr),
    /// The requested address has an owner.
    #[error("requested IP address {address} is not available in range set {ranges}: {} says who has it", lease.display())]
    Taken {
        /// The address.
        address: IpAddr,
        /// The range set.
        ranges: String,
        /// Its lease file.
        lease: PathBuf,
    },
    /// The attachment has an address already.
    #[error(
        "{address} has been allocated to {attachment}, duplicate allocation is not allowed: DEL comes first"
    )]
    Duplicate {
        /// The address.
        address: IpAddr,
        /// Who asks again.
        attachment: String,
    },
    /// ADD: every address has an owner.
    #[error(
        "failed to allocate for range {set}: no IP addresses available in range set: {ranges}; leases are in {}",
        directory.display()
    )]
    Exhausted {
        /// Which range set.
        set: usize,
        /// Its ranges.
        ranges: String,
        /// Where the leases are.
        directory: PathBuf,
    },
    /// STATUS: an ADD would find no address.
    #[error("no IP addresses available in range set: {ranges}; leases are in {}", directory.display())]
    NotAvailable {
        /// Its ranges.
        ranges: String,
        /// Where the leases are.
        directory: PathBuf,
    },
    /// CHECK: the attachment has no lease.
    #[error("host-local: Failed to find address added by container {attachment} in {}", directory.display())]
    NoLease {
        /// Whose.
        attachment: String,
        /// Where the leases are.
        directory: PathBuf,
    },
    /// `resolvConf` cannot be read.
    #[error("cannot read resolvConf {}: {source}", path.display())]
    ResolvConf {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The lease directory cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
}

fn list(addresses: &[IpAddr]) -> String {
    addresses.iter().map(IpAddr::to_string).collect::<Vec<_>>().join(" ")
}

impl CniCode for Error {
    fn code(&self) -> Code {
        match self {
            Self::Arguments(_) => Code::InvalidEnvironment,
            Self::Decode(error) => error.code(),
            Self::NoIpam
            | Self::Value(_)
            | Self::RangeSet { .. }
            | Self::NoRanges
            | Self::Overlap { .. }
            | Self::OnePerFamily(_)
            | Self::NotInRanges(_)
            | Self::Gateway(_) => Code::InvalidNetworkConfig,
            Self::Taken { .. } => TAKEN,
            Self::Duplicate { .. } => DUPLICATE,
            Self::Exhausted { .. } => EXHAUSTED,
            Self::NotAvailable { .. } => Code::NotAvailable,
            Self::NoLease { .. } => NO_LEASE,
            Self::ResolvConf { .. } | Self::Store(StoreError::Io { .. }) => Code::IoFailure,
            Self::Store(StoreError::Locked { .. }) => Code::TryAgainLater,
        }
    }
}
