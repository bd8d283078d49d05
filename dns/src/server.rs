//! The sockets: questions in, answers out.

use std::net::{TcpListener, UdpSocket};
use std::path::PathBuf;

use zeugma_model::{AttachmentId, NetworkName};

use crate::zone::Snapshot;

/// Who asks through a listener.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Audience {
    /// The members of a network, and the host: a gateway's address.
    Network(NetworkName),
    /// One container: a socket inside its namespace.
    Container(AttachmentId),
}

/// A pair of sockets on one address and port.
#[derive(Debug)]
pub struct Listener {
    /// Who asks.
    pub audience: Audience,
    /// Datagrams.
    pub udp: UdpSocket,
    /// Streams.
    pub tcp: TcpListener,
}

/// How the server is set up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The host's servers are read from here, again when it changes.
    pub resolv_conf: PathBuf,
}

/// The running resolver; it ends when dropped.
#[derive(Debug)]
pub struct Resolver {}

/// Names one listener of a [`Resolver`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ListenerId(pub u64);

impl Resolver {
    /// Starts its thread.
    ///
    /// # Errors
    /// The system's, when there is no thread or runtime to be had.
    pub fn start(_settings: Settings) -> std::io::Result<Self> {
        Ok(Self {})
    }

    /// From now on questions are answered from this one.
    pub fn publish(&self, _snapshot: Snapshot) {}

    /// Answers what comes in here, until it is closed.
    ///
    /// # Errors
    /// The system's, when the sockets cannot be polled.
    pub fn listen(&self, _listener: Listener) -> std::io::Result<ListenerId> {
        Ok(ListenerId(0))
    }

    /// Closes a listener's sockets.
    pub fn close(&self, _listener: ListenerId) {}
}
