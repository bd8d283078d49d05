//! What the kernel refuses, and what never reached it.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use zeugma_model::IfName;
use zeugma_plan::Side;

use crate::Listener;

/// The kernel's answer to a request it did not carry out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The errno.
    pub errno: i32,
    /// What the kernel says about it (extended ACK), if it does.
    pub reason: Option<String>,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        io::Error::from_raw_os_error(self.errno).fmt(f)?;
        self.reason.as_ref().map_or(Ok(()), |reason| write!(f, ": {reason}"))
    }
}

/// Why a request to the kernel failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nothing is at the namespace's path.
    #[error("network namespace {path} does not exist: the runtime has to create it before ADD")]
    NoNetns {
        /// The path.
        path: PathBuf,
    },
    /// Something else is at the namespace's path.
    #[error(
        "{path} is no network namespace: give the path of one, such as /run/netns/NAME or /proc/PID/ns/net"
    )]
    NotNetns {
        /// The path.
        path: PathBuf,
    },
    /// A step is for the container, and there is none.
    #[error("no container namespace was given")]
    NoContainer,
    /// A system call failed before any request reached the kernel's subsystem.
    #[error("cannot {action}: {source}")]
    System {
        /// What was tried.
        action: &'static str,
        /// The cause.
        source: io::Error,
    },
    /// A file below /proc/sys could not be read or written.
    #[error("cannot set sysctl {path}: {source}; is /proc/sys writable here?")]
    Sysctl {
        /// The file below /proc/sys.
        path: String,
        /// The cause.
        source: io::Error,
    },
    /// There is no such link.
    #[error("there is no link {name} in the {side}'s namespace")]
    NoLink {
        /// Its name.
        name: IfName,
        /// Where.
        side: Side,
    },
    /// The kernel refused a step.
    #[error("{step}: {refusal}")]
    Refused {
        /// The step as `--dry-run` prints it.
        step: String,
        /// The kernel's answer.
        refusal: Refusal,
    },
    /// The kernel refused a question.
    #[error("cannot {action}: {refusal}")]
    Unanswered {
        /// What was asked.
        action: &'static str,
        /// The kernel's answer.
        refusal: Refusal,
    },
    /// A list changed each time while it was read.
    #[error("cannot {action}: it changes all the time; try again when fewer changes are made")]
    Restless {
        /// What was asked.
        action: &'static str,
    },
    /// An element that must be new is there already.
    #[error("{element} is taken by {owner}")]
    ElementTaken {
        /// The element, as nft writes it.
        element: String,
        /// Its comment.
        owner: String,
    },
    /// Another namespace is at the path than the one that was meant.
    #[error("the network namespace that was at {path} is gone")]
    GoneNetns {
        /// The path.
        path: PathBuf,
    },
    /// A link of the name that ours is to have is not ours.
    #[error("link {name} is somebody else's and is left alone: rename or remove it, `ip link del {name}`")]
    ForeignLink {
        /// Its name.
        name: IfName,
    },
    /// This host is to be reached by an address that it does not have.
    #[error("no interface has the address {address}: give one of this host's own, as `ip addr` shows them")]
    NoAddress {
        /// Which.
        address: IpAddr,
    },
    /// A program of the host has the address and port.
    #[error("port {port} of {address} is taken by {by}: let it listen elsewhere", port = .address.port(), address = .address.ip())]
    PortTaken {
        /// What was to be opened.
        address: SocketAddr,
        /// Who has it.
        by: Listener,
    },
    /// A reply could not be understood.
    #[error("the kernel's answer to {action} is not understood: {detail}")]
    Reply {
        /// What was asked.
        action: &'static str,
        /// The decoder's words.
        detail: String,
    },
}

impl Error {
    /// The errno, where the kernel gave one.
    pub fn errno(&self) -> Option<i32> {
        match self {
            Self::Refused { refusal, .. } | Self::Unanswered { refusal, .. } => Some(refusal.errno),
            Self::System { source, .. } | Self::Sysctl { source, .. } => source.raw_os_error(),
            Self::NoNetns { .. }
            | Self::NotNetns { .. }
            | Self::NoContainer
            | Self::NoLink { .. }
            | Self::GoneNetns { .. }
            | Self::ForeignLink { .. }
            | Self::NoAddress { .. }
            | Self::Restless { .. }
            | Self::PortTaken { .. }
            | Self::ElementTaken { .. }
            | Self::Reply { .. } => None,
        }
    }

    /// Whether a port is somebody else's.
    pub fn is_port_taken(&self) -> bool {
        self.errno() == Some(libc::EADDRINUSE)
    }

    /// Whether somebody else changed what the request rests on.
    pub fn is_diverged(&self) -> bool {
        matches!(self.errno(), Some(libc::ENOENT | libc::EEXIST | libc::EBUSY))
    }

    /// Whether the kernel has no nfnetlink, or no nftables in it.
    pub fn is_without_nftables(&self) -> bool {
        matches!(self.errno(), Some(libc::EPROTONOSUPPORT | libc::EOPNOTSUPP))
    }

    /// Whether the same request may succeed a moment later.
    pub fn is_transient(&self) -> bool {
        matches!(self.errno(), Some(libc::EAGAIN | libc::EBUSY | libc::EINTR | libc::ENOBUFS))
    }
}
