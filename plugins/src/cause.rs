//! The causes of failure that all plugins share, and their CNI codes.

use zeugma_protocol::{CniCode, Code, DecodeError};
use zeugma_skel::delegate::DelegateError;

use crate::ipam::IpamError;
use crate::previous::PreviousError;

/// A failure below the plugin.
#[derive(Debug, thiserror::Error)]
pub enum Cause {
    /// The kernel.
    #[error(transparent)]
    Kernel(#[from] zeugma_kernel::Error),
    /// The journal.
    #[error(transparent)]
    Journal(#[from] zeugma_journal::Error),
    /// The configuration.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// The IPAM.
    #[error(transparent)]
    Ipam(#[from] IpamError),
    /// A plugin that does a part of the work.
    #[error(transparent)]
    Delegate(#[from] DelegateError),
    /// `prevResult`.
    #[error(transparent)]
    Previous(#[from] PreviousError),
    /// What the plugins before zeugma left.
    #[error(transparent)]
    Predecessor(#[from] crate::predecessor::Error),
    /// GC without the list that says what is valid.
    #[error("GC needs \"cni.dev/valid-attachments\" in the configuration: without it nothing is removed")]
    NoValidAttachments,
    /// A verb went on after a failure and met more of them.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Several(Vec<Cause>),
}

/// A port or address that is taken: 101 in every plugin's page.
pub(crate) const TAKEN: Code = Code::Plugin(101);

impl CniCode for Cause {
    fn code(&self) -> Code {
        match self {
            Self::Kernel(error) => kernel_code(error),
            Self::Journal(zeugma_journal::Error::Busy { .. }) => Code::TryAgainLater,
            Self::Journal(zeugma_journal::Error::File { .. } | zeugma_journal::Error::Record { .. }) => {
                Code::IoFailure
            }
            Self::Decode(error) => error.code(),
            Self::Ipam(error) => error.code(),
            Self::Delegate(error) => error.code(),
            Self::Previous(error) => error.code(),
            Self::Predecessor(_) => Code::IoFailure,
            Self::NoValidAttachments => Code::InvalidNetworkConfig,
            Self::Several(causes) => causes.first().map_or(Code::IoFailure, CniCode::code),
        }
    }

    fn details(&self) -> String {
        match self {
            Self::Ipam(error) => error.details(),
            Self::Delegate(error) => error.details(),
            Self::Decode(error) => error.details(),
            Self::Kernel(_)
            | Self::Journal(_)
            | Self::Previous(_)
            | Self::Predecessor(_)
            | Self::NoValidAttachments
            | Self::Several(_) => String::new(),
        }
    }
}

fn kernel_code(error: &zeugma_kernel::Error) -> Code {
    use zeugma_kernel::Error;
    match error {
        error if error.is_transient() => Code::TryAgainLater,
        Error::NoNetns { .. } | Error::NotNetns { .. } | Error::GoneNetns { .. } | Error::NoContainer => {
            Code::InvalidEnvironment
        }
        Error::ElementTaken { .. } => TAKEN,
        Error::System { .. }
        | Error::Sysctl { .. }
        | Error::NoLink { .. }
        | Error::ForeignLink { .. }
        | Error::NoAddress { .. }
        | Error::Restless { .. }
        | Error::PortTaken { .. }
        | Error::Refused { .. }
        | Error::Unanswered { .. }
        | Error::Reply { .. } => Code::IoFailure,
    }
}

/// All of them as one; none when there are none.
pub(crate) fn several(mut causes: Vec<Cause>) -> Result<(), Cause> {
    match causes.len() {
        0 => Ok(()),
        1 => Err(causes.remove(0)),
        _ => Err(Cause::Several(causes)),
    }
}

/// Lets `?` turn whatever lies below into a plugin's error.
macro_rules! from_causes {
    ($error:ty) => {
        $crate::cause::from_causes!($error, zeugma_kernel::Error, zeugma_journal::Error, zeugma_protocol::DecodeError,
            $crate::ipam::IpamError, $crate::previous::PreviousError);
    };
    ($error:ty, $($cause:ty),+) => {
        $(impl From<$cause> for $error {
            fn from(cause: $cause) -> Self {
                Self::Cause(cause.into())
            }
        })+
    };
}
pub(crate) use from_causes;
