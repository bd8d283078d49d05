//! What can go wrong in `firewall`, and its codes: remedies in docs/plugins/firewall.md.

use zeugma_protocol::{CniCode, Code};

use crate::cause::{Cause, from_causes};

/// A failure of `firewall`.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Below the plugin.
    #[error(transparent)]
    Cause(#[from] Cause),
    /// No such backend.
    #[error(
        "unknown backend {0:?}: use \"nftables\", \"firewalld\", or \"iptables\" (which means nftables here)"
    )]
    Backend(String),
    /// No such policy.
    #[error("unknown ingressPolicy {0:?}: use \"open\", \"same-bridge\" or \"isolated\"")]
    Policy(String),
    /// firewalld was asked for and does not answer, or refused.
    #[error(transparent)]
    Firewalld(#[from] zeugma_firewalld::Error),
    /// CHECK found something missing.
    #[error("{0}: it was there after ADD; add the container again")]
    Missing(String),
    /// STATUS: ADD would fail.
    #[error("not available: {0}")]
    NotAvailable(String),
}
from_causes!(Error);

impl CniCode for Error {
    fn code(&self) -> Code {
        match self {
            Self::Cause(cause) => cause.code(),
            Self::Backend(_) | Self::Policy(_) => Code::InvalidNetworkConfig,
            Self::Firewalld(zeugma_firewalld::Error::NoAnswer(_)) => Code::TryAgainLater,
            Self::Firewalld(zeugma_firewalld::Error::Refused { .. }) => Code::IoFailure,
            Self::Missing(_) => Code::Plugin(110),
            Self::NotAvailable(_) => Code::NotAvailable,
        }
    }
}
