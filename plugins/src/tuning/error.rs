//! What can go wrong in `tuning`, and its codes: remedies in docs/plugins/tuning.md.

use std::io;
use std::path::PathBuf;

use zeugma_model::MacError;
use zeugma_protocol::{CniCode, Code};

use crate::cause::{Cause, from_causes};

/// A failure of `tuning`.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Below the plugin.
    #[error(transparent)]
    Cause(#[from] Cause),
    /// A sysctl that is not the network's.
    #[error("invalid sysctl {key:?}: only those below net are the container's own")]
    Outside {
        /// The key.
        key: String,
    },
    /// Two keys are the same sysctl.
    #[error("sysctl {key:?} is set twice: remove one of the two")]
    Twice {
        /// One of them.
        key: String,
    },
    /// The kernel has none such.
    #[error("there is no sysctl {path} in the container: correct its name, or load the module that has it")]
    NoSysctl {
        /// Below /proc/sys.
        path: String,
    },
    /// A value that the kernel finds senseless.
    #[error("the kernel does not take a value: {0}; correct it in the configuration")]
    Senseless(zeugma_kernel::Error),
    /// The administrator does not allow it.
    #[error("sysctl {path} is not allowed: no line of {file} matches it")]
    NotAllowed {
        /// Below /proc/sys.
        path: String,
        /// The allowlist.
        file: &'static str,
    },
    /// The allowlist cannot be read.
    #[error("cannot read {file}: {source}")]
    Allowlist {
        /// The allowlist.
        file: &'static str,
        /// Why.
        source: io::Error,
    },
    /// The file of the plugin before us cannot be used.
    #[error("cannot {action} {}, where the plugin before zeugma remembers what the link was: {source}", file.display())]
    Backup {
        /// What was tried.
        action: &'static str,
        /// The file.
        file: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// No MAC address.
    #[error("invalid \"mac\": {0}")]
    Mac(MacError),
    /// CHECK found a setting changed.
    #[error("{0} has been changed since ADD; add the container again")]
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
            Self::Outside { .. }
            | Self::Twice { .. }
            | Self::NoSysctl { .. }
            | Self::Mac(_)
            | Self::Senseless(_) => Code::InvalidNetworkConfig,
            Self::NotAllowed { .. } => Code::Plugin(111),
            Self::Allowlist { .. } | Self::Backup { .. } => Code::IoFailure,
            Self::Changed(_) => Code::Plugin(110),
            Self::NotAvailable(_) => Code::NotAvailable,
        }
    }
}
