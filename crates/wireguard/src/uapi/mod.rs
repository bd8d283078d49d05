//! WireGuard's cross-platform protocol (wireguard.com/xplatform): what is asked and answered on a device's socket, as
//! text and as values. No I/O.

mod read;
mod write;

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use ipnetwork::IpNetwork;
use zeugma_model::PublicKey;

pub use read::{answered, numbered, request, request_end};
pub use write::{change, state};

/// 32 bytes that nobody is to read in a log: a private or preshared key.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Secret(pub [u8; 32]);

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Secret(..)")
    }
}

/// What is asked of a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// Its state.
    Get,
    /// A change.
    Set(Change),
}

/// What is to be changed of a device; the rest stays.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Change {
    /// Its private key; none inside: no key any more.
    pub private_key: Option<Option<Secret>>,
    /// UDP; 0: any.
    pub listen_port: Option<u16>,
    /// `SO_MARK` of what it sends; 0: none.
    pub fwmark: Option<u32>,
    /// No other peers than these.
    pub replace_peers: bool,
    /// In order.
    pub peers: Vec<PeerChange>,
}

/// What is to be changed of a peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerChange {
    /// Which.
    pub key: PublicKey,
    /// It is to go.
    pub remove: bool,
    /// Nothing is to be done unless it is there.
    pub update_only: bool,
    /// What both sides know beyond their keys; none inside: nothing any more.
    pub preshared_key: Option<Option<Secret>>,
    /// Where it is.
    pub endpoint: Option<SocketAddr>,
    /// Seconds between packets that keep the way open; 0: none.
    pub keepalive: Option<u16>,
    /// No other addresses than these.
    pub replace_allowed: bool,
    /// Addresses that are its own, or (false) are so no more.
    pub allowed: Vec<(IpNetwork, bool)>,
}

impl PeerChange {
    /// Nothing, or that there is such a peer.
    pub fn of(key: PublicKey) -> Self {
        Self {
            key,
            remove: false,
            update_only: false,
            preshared_key: None,
            endpoint: None,
            keepalive: None,
            replace_allowed: false,
            allowed: Vec::new(),
        }
    }
}

/// A device as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct State {
    /// Its private key.
    pub private_key: Option<Secret>,
    /// UDP; 0: none as yet.
    pub listen_port: u16,
    /// `SO_MARK` of what it sends; 0: none.
    pub fwmark: u32,
    /// Everyone.
    pub peers: Vec<PeerState>,
}

/// A peer as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerState {
    /// Its key.
    pub key: PublicKey,
    /// What both sides know beyond their keys.
    pub preshared_key: Option<Secret>,
    /// Where it was last heard of, or is to be found at first.
    pub endpoint: Option<SocketAddr>,
    /// When keys were last agreed on, since 1970.
    pub last_handshake: Option<Duration>,
    /// Bytes from it.
    pub received: u64,
    /// Bytes to it.
    pub sent: u64,
    /// Seconds between packets that keep the way open; 0: none.
    pub keepalive: u16,
    /// The addresses that are its own.
    pub allowed: Vec<IpNetwork>,
}

impl State {
    /// What makes a new device the same: that is how it is written down.
    pub fn as_change(&self) -> Change {
        let peer = |peer: &PeerState| PeerChange {
            preshared_key: peer.preshared_key.map(Some),
            endpoint: peer.endpoint,
            keepalive: Some(peer.keepalive),
            replace_allowed: true,
            allowed: peer.allowed.iter().map(|network| (*network, true)).collect(),
            ..PeerChange::of(peer.key)
        };
        Change {
            private_key: self.private_key.map(Some),
            listen_port: Some(self.listen_port),
            fwmark: Some(self.fwmark),
            replace_peers: true,
            peers: self.peers.iter().map(peer).collect(),
        }
    }
}

/// Why a text was not understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Misread {
    /// It does not begin as a request does; how, is not said, as it may be secret.
    #[error("it is no request: write get=1 or set=1 first")]
    NoRequest,
    /// A line without `=`, which may be secret as well.
    #[error("a line is no KEY=VALUE")]
    NoPair,
    /// A key that nobody knows, or not there.
    #[error("{0:?} is no key that may stand here")]
    Key(String),
    /// A value that the key cannot have; it is not said, as it may be secret.
    #[error("the value of {0} is not one it can have")]
    Value(String),
    /// The other side said that it failed.
    #[error("the device refused: error {0}")]
    Refused(i32),
    /// The answer ends before its `errno`.
    #[error("the answer has no errno")]
    Cut,
}

/// For the fuzzer: reads `input` as a request and as an answer; what is understood is written and read again.
pub fn fuzz_uapi(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    if let Ok(Request::Set(asked)) = request(&text) {
        assert_eq!(request(&change(&asked)), Ok(Request::Set(asked)), "a request is read as it was written");
    }
    if let Ok(said) = answered(&text) {
        assert_eq!(answered(&state(&said)), Ok(said), "an answer is read as it was written");
    }
    let _ = request_end(input);
}

#[cfg(test)]
mod tests;
