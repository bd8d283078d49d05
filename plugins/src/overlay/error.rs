//! What can go wrong in `overlay`: what can in `bridge`, and that the agent has not written down what is needed.

use std::path::PathBuf;

use zeugma_model::{IfName, NameError, NetworkName};
use zeugma_protocol::{CniCode, Code};

use crate::cause::{Cause, from_causes};
use crate::{bridge, interface};

/// A failure of `overlay`.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// In the part that is the same as with `bridge`.
    #[error(transparent)]
    Bridge(#[from] bridge::Error),
    /// Below the plugin.
    #[error(transparent)]
    Cause(#[from] Cause),
    /// `network` is no network's name.
    #[error("invalid \"network\": {0}")]
    Network(NameError),
    /// The agent did not write down how the overlay is on this host.
    #[error(
        "overlay {network} is not ready on this host: {} is missing or from before the last boot; is the agent \
         running (systemctl status zeugma-agent), and the network created (zeugma network ls)?",
        file.display()
    )]
    NoState {
        /// Which overlay.
        network: NetworkName,
        /// What is read.
        file: PathBuf,
    },
    /// This host has no part of the overlay's addresses.
    #[error(
        "overlay {network} has no addresses for this host yet: see `zeugma peers`; its subnet may be too small for \
         so many hosts"
    )]
    NoBlock {
        /// Which overlay.
        network: NetworkName,
    },
    /// CHECK and STATUS found that nothing leads to other hosts.
    #[error(
        "the tunnel {tunnel} {what}: start zeugma agent, which mends it; `zeugma peers` tells what is in its way"
    )]
    NoTunnel {
        /// Its device.
        tunnel: IfName,
        /// In which way, in words.
        what: &'static str,
    },
}
from_causes!(Error);

impl From<interface::Error> for Error {
    fn from(error: interface::Error) -> Self {
        Self::Bridge(error.into())
    }
}

impl Error {
    /// STATUS's word.
    pub(super) fn not_available(error: impl std::fmt::Display) -> Self {
        interface::Error::NotAvailable(error.to_string()).into()
    }
}

impl CniCode for Error {
    fn code(&self) -> Code {
        match self {
            Self::Bridge(error) => error.code(),
            Self::Cause(cause) => cause.code(),
            Self::Network(_) => Code::InvalidNetworkConfig,
            Self::NoState { .. } | Self::NoBlock { .. } => Code::TryAgainLater,
            Self::NoTunnel { .. } => interface::Error::changed(String::new()).code(),
        }
    }

    fn details(&self) -> String {
        match self {
            Self::Bridge(error) => error.details(),
            Self::Cause(cause) => cause.details(),
            Self::Network(_) | Self::NoState { .. } | Self::NoBlock { .. } | Self::NoTunnel { .. } => {
                String::new()
            }
        }
    }
}
