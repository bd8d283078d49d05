//! What can go wrong in `static`, with the CNI code of each.

use std::net::IpAddr;

use zeugma_protocol::{CniCode, Code, DecodeError, Version};

use crate::wire::ValueError;

/// CHECK: the result differs from the configuration. Page: docs/plugins/static.md.
const DIFFERS: Code = Code::Plugin(120);

/// Why `static` could not serve.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No `ipam` object.
    #[error("IPAM config missing 'ipam' key: add \"ipam\": {{\"type\": \"static\", \"addresses\": …}}")]
    NoIpam,
    /// A key has the wrong shape.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// A value in the configuration is no address or prefix.
    #[error(transparent)]
    Value(#[from] ValueError),
    /// `IP=` or `GATEWAY=` in CNI_ARGS is no address or prefix.
    #[error("CNI_ARGS: {0}")]
    Arguments(ValueError),
    /// Results of this version have room for one address of each family.
    #[error(
        "CNI version {0} does not support more than 1 address per family: use 0.3.0 or newer, or fewer addresses"
    )]
    OnePerFamily(Version),
    /// CHECK came without a result.
    #[error("Required prevResult missing: CHECK compares the addresses with it")]
    NoPrevResult,
    /// CHECK: an address is not in the result, or has another gateway there.
    #[error(
        "static: Failed to match addr {address} on interface {ifname}: prevResult lacks it or has another gateway; \
         attach the container again"
    )]
    Differs {
        /// The configured address.
        address: IpAddr,
        /// The interface.
        ifname: String,
    },
}

impl CniCode for Error {
    fn code(&self) -> Code {
        match self {
            Self::Decode(error) => error.code(),
            Self::Arguments(_) => Code::InvalidEnvironment,
            Self::NoIpam | Self::Value(_) | Self::OnePerFamily(_) | Self::NoPrevResult => {
                Code::InvalidNetworkConfig
            }
            Self::Differs { .. } => DIFFERS,
        }
    }
}
