//! What can go wrong in `portmap`, and its codes: remedies in docs/plugins/portmap.md.

use zeugma_model::{AttachmentId, ProtocolError};
use zeugma_protocol::{CniCode, Code};

use crate::cause::{Cause, TAKEN, from_causes};

/// A failure of `portmap`.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Below the plugin.
    #[error(transparent)]
    Cause(#[from] Cause),
    /// No such backend.
    #[error(
        "unknown backend {0:?}: use \"nftables\" or \"iptables\" (zeugma does both without either program)"
    )]
    Backend(String),
    /// Both ways of marking.
    #[error("cannot specify externalSetMarkChain and markMasqBit: remove one of them")]
    MarkTwice,
    /// No such bit.
    #[error("markMasqBit must be between 0 and 31, not {0}")]
    MarkBit(i64),
    /// A key that is not built.
    #[error("unsupported field {key} = {value:?}: remove it")]
    Unsupported {
        /// The key.
        key: &'static str,
        /// Its value.
        value: String,
    },
    /// No such protocol.
    #[error("invalid portMappings: {0}")]
    Protocol(ProtocolError),
    /// Not an address.
    #[error("invalid portMappings: hostIP {0:?} is no IP address")]
    HostIp(String),
    /// Not a port.
    #[error("invalid portMappings: {key} {value} is no port number: use 1 to 65535")]
    Port {
        /// `hostPort` or `containerPort`.
        key: &'static str,
        /// Its value.
        value: i64,
    },
    /// One host port is to lead to two ports.
    #[error(
        "invalid portMappings: hostPort {port} leads to containerPort {one} and {other}: keep one of them"
    )]
    Twins {
        /// As `80/tcp`.
        port: String,
        /// Where it leads.
        one: u16,
        /// Where it leads, too.
        other: u16,
    },
    /// Another container has the port.
    #[error("host port {port} is already published by {owner}: stop that container, or publish another port")]
    Published {
        /// As `0.0.0.0:80/tcp`.
        port: String,
        /// Whose it is.
        owner: AttachmentId,
    },
    /// A container that the plugins before zeugma attached has the port.
    #[error(
        "host port {port} is already published by {owner}, attached by the plugins before zeugma: stop that \
         container, run GC if it is gone, or publish another port"
    )]
    PublishedBefore {
        /// As `0.0.0.0:80/tcp`.
        port: String,
        /// Network and container, or the container alone.
        owner: String,
    },
    /// A program of the host listens on the port.
    #[error("host port {port} is in use by {program}: stop it, or publish another port")]
    Listening {
        /// As `0.0.0.0:80/tcp`.
        port: String,
        /// What listens there.
        program: String,
    },
    /// CHECK found a mapping missing.
    #[error("there is no nft element {element}: the table was changed after ADD; add the container again")]
    Missing {
        /// As nft writes it.
        element: String,
    },
    /// STATUS: ADD would fail.
    #[error("not available: {0}")]
    NotAvailable(String),
}
from_causes!(Error);

impl CniCode for Error {
    fn code(&self) -> Code {
        match self {
            Self::Cause(cause) => cause.code(),
            Self::Backend(_)
            | Self::MarkTwice
            | Self::MarkBit(_)
            | Self::Protocol(_)
            | Self::HostIp(_)
            | Self::Twins { .. }
            | Self::Port { .. } => Code::InvalidNetworkConfig,
            Self::Unsupported { .. } => Code::UnsupportedField,
            Self::Published { .. } | Self::PublishedBefore { .. } | Self::Listening { .. } => TAKEN,
            Self::Missing { .. } => Code::Plugin(110),
            Self::NotAvailable(_) => Code::NotAvailable,
        }
    }
}
