//! What plugin and daemon say to one another on the unix socket: one line of JSON each, then the end.
//!
//! Both carry [`VERSION`]; a daemon answers a question of another version with [`Failure::Version`].

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use zeugma_model::{AttachmentId, ContainerId, IfName, NetworkName};
use zeugma_protocol::Version;

/// Raised when a question or an answer changes its meaning.
pub const VERSION: u32 = 1;
/// The version of the CNI specification that results are in.
pub const RESULT: Version = Version::V1_1_0;

/// A line for the daemon.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Question {
    /// [`VERSION`].
    pub version: u32,
    /// What is asked.
    #[serde(flatten)]
    pub ask: Ask,
}

/// What is asked of the daemon.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "lowercase")]
pub enum Ask {
    /// ADD: a lease; the one that the attachment has, if it has one.
    Acquire {
        /// For whom.
        attachment: AttachmentId,
        /// The container's namespace, as an absolute path on the host.
        netns: PathBuf,
        /// What to tell the server.
        provide: Vec<Provide>,
        /// What to ask the server for.
        request: Vec<u8>,
    },
    /// CHECK: the lease that the attachment has.
    Confirm {
        /// Whose.
        attachment: AttachmentId,
    },
    /// DEL: gives the lease back; none is fine.
    Release {
        /// Whose.
        attachment: AttachmentId,
    },
    /// GC: gives back the leases of all other attachments of the network.
    Retain {
        /// The network.
        network: NetworkName,
        /// The attachments that exist.
        valid: Vec<(ContainerId, IfName)>,
    },
    /// STATUS.
    Status,
}

/// An option for the server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Provide {
    /// Its number.
    pub code: u8,
    /// Its bytes, at most 255.
    pub value: String,
}

/// The daemon's line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "lowercase")]
pub enum Answer {
    /// The lease.
    Lease {
        /// As a CNI result of [`RESULT`].
        result: Value,
    },
    /// It is done.
    Done,
    /// It cannot be done.
    Failed {
        /// What kind of failure.
        failure: Failure,
        /// What failed, on which object, and what to do.
        message: String,
    },
}

/// Why the daemon could not do it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Failure {
    /// No server granted anything in time.
    Timeout,
    /// The attachment has no lease, or not any more.
    NoLease,
    /// The server granted something that no interface can use.
    Unusable,
    /// The container's namespace or interface is not there.
    NoInterface,
    /// Another call for the same attachment is under way, or took this one's place.
    Busy,
    /// The question is of another version, or none at all.
    Version,
    /// A file, a socket, the kernel.
    Io,
}
