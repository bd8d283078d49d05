//! What can go wrong in `resolver`, and its codes: remedies in docs/plugins/resolver.md.

use zeugma_model::AliasError;
use zeugma_protocol::{CniCode, Code};

use crate::cause::{Cause, from_causes};

/// A failure of `resolver`.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Below the plugin.
    #[error(transparent)]
    Cause(#[from] Cause),
    /// No such mode.
    #[error("unknown mode {0:?}: use \"gateway\" or \"container\", or leave it out")]
    Mode(String),
    /// Not a domain.
    #[error("invalid domain {0:?}: write labels of letters, digits, `-` and `_` with dots between them")]
    Domain(String),
    /// Not a server.
    #[error("invalid server {0:?}: write an IP address, or one with a port as in 192.0.2.53:5353")]
    Server(String),
    /// Not a name.
    #[error("invalid name in \"names\": {0}")]
    Name(AliasError),
    /// Mode `gateway` where there is none.
    #[error(
        "mode is \"gateway\", and no gateway in prevResult is an address of the host: set isGateway in bridge, or \
         mode to \"container\""
    )]
    NoGateway,
    /// CHECK found less than ADD made.
    #[error("{0}: it was changed after ADD; add the container again")]
    Changed(String),
    /// STATUS: ADD would fail.
    #[error("not available: {0}")]
    NotAvailable(String),
    /// STATUS: the network needs an agent.
    #[error("names stay unanswered, and requireAgent is set: {0}")]
    NoAgent(String),
}
from_causes!(Error);

impl CniCode for Error {
    fn code(&self) -> Code {
        match self {
            Self::Cause(cause) => cause.code(),
            Self::Mode(_) | Self::Domain(_) | Self::Server(_) | Self::Name(_) | Self::NoGateway => {
                Code::InvalidNetworkConfig
            }
            Self::Changed(_) => Code::Plugin(110),
            Self::NotAvailable(_) => Code::NotAvailable,
            Self::NoAgent(_) => Code::LimitedConnectivity,
        }
    }
}
