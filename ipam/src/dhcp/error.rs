//! What can go wrong in `dhcp`, with the CNI code of each.

use std::io;
use std::path::PathBuf;

use zeugma_protocol::{CniCode, Code, DecodeError};

use super::protocol::Failure;

/// Nobody listens at the socket. Page: docs/plugins/dhcp.md.
const NO_DAEMON: Code = Code::Plugin(130);
/// Somebody listens who is not our daemon, or not of our version.
const OTHER_DAEMON: Code = Code::Plugin(131);
/// The attachment has no lease, or another one.
const NO_LEASE: Code = Code::Plugin(132);
/// The server's grant is of no use.
const UNUSABLE: Code = Code::Plugin(133);
/// The interface is not there.
const NO_INTERFACE: Code = Code::Plugin(134);

/// Why `dhcp` could not serve.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No `ipam` object.
    #[error("IPAM config missing 'ipam' key: add \"ipam\": {{\"type\": \"dhcp\"}}")]
    NoIpam,
    /// A key has the wrong shape.
    #[error("cannot read {key} of the network configuration: {source}")]
    Decode {
        /// Which part.
        key: &'static str,
        /// What serde says.
        source: serde_json::Error,
    },
    /// No option of this name.
    #[error(
        "unknown DHCP option {0:?}: write its number as text, such as \"42\", or a name that the page of dhcp lists"
    )]
    Option(String),
    /// An option that frames the message.
    #[error("DHCP option {0} cannot be provided: it is part of every message")]
    Framing(String),
    /// A value that has no room.
    #[error("value too long for option {option:?}: {length} bytes, an option holds at most 255")]
    LongValue {
        /// Which.
        option: String,
        /// Its bytes.
        length: usize,
    },
    /// There is no namespace.
    #[error("no container namespace was given: dhcp asks from inside the container")]
    NoNetns,
    /// The question cannot be written.
    #[error("cannot ask the DHCP daemon: {0}; is CNI_NETNS text?")]
    Question(serde_json::Error),
    /// Nobody listens at the socket.
    #[error(
        "error dialing DHCP daemon: {}: {source}; start it (`zeugma dhcp`, or its systemd socket), or correct ipam.daemonSocketPath",
        socket.display()
    )]
    NoDaemon {
        /// The socket.
        socket: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The conversation broke.
    #[error("cannot talk to the DHCP daemon at {}: {source}; see its log", socket.display())]
    Connection {
        /// The socket.
        socket: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It takes too long.
    #[error("the DHCP daemon at {} does not answer: see its log, or start it again", socket.display())]
    Slow {
        /// The socket.
        socket: PathBuf,
    },
    /// The reference's daemon listens there.
    #[error("the daemon that answers is the reference's: stop `dhcp daemon` and start `zeugma dhcp`")]
    Reference,
    /// Somebody else listens there.
    #[error("the daemon's answer is not understood: {said:?}; is it `zeugma dhcp` of this version?")]
    Strange {
        /// What it said.
        said: String,
    },
    /// The daemon's result cannot be read.
    #[error("the daemon's result cannot be read: {0}; is it `zeugma dhcp` of this version?")]
    Result(DecodeError),
    /// The daemon could not do it.
    #[error("{message}")]
    Refused {
        /// Why, as a kind.
        failure: Failure,
        /// Why, in words.
        message: String,
    },
    /// CHECK: the lease is not what ADD gave.
    #[error(
        "the lease of {ifname} is {held}, which prevResult does not have: delete the container and create it again"
    )]
    Differs {
        /// The address in the lease.
        held: String,
        /// The interface.
        ifname: String,
    },
    /// STATUS: an ADD would fail.
    #[error("{0}")]
    NotAvailable(Box<Error>),
}

impl CniCode for Error {
    fn code(&self) -> Code {
        match self {
            Self::NoIpam | Self::Option(_) | Self::Framing(_) | Self::LongValue { .. } => {
                Code::InvalidNetworkConfig
            }
            Self::Decode { .. } => Code::DecodingFailure,
            Self::NoNetns | Self::Question(_) => Code::InvalidEnvironment,
            Self::NoDaemon { .. } => NO_DAEMON,
            Self::Connection { .. } => Code::IoFailure,
            Self::Slow { .. } => Code::TryAgainLater,
            Self::Reference | Self::Strange { .. } | Self::Result(_) => OTHER_DAEMON,
            Self::Refused { failure, .. } => of_failure(*failure),
            Self::Differs { .. } => NO_LEASE,
            Self::NotAvailable(_) => Code::NotAvailable,
        }
    }
}

fn of_failure(failure: Failure) -> Code {
    match failure {
        Failure::Timeout | Failure::Busy => Code::TryAgainLater,
        Failure::NoLease => NO_LEASE,
        Failure::Unusable => UNUSABLE,
        Failure::NoInterface => NO_INTERFACE,
        Failure::Version => OTHER_DAEMON,
        Failure::Io => Code::IoFailure,
    }
}
