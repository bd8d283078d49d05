//! View × question → answer. Pure: no sockets, no clock.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use ipnetwork::IpNetwork;
use zeugma_model::{Alias, AttachmentId, NetworkName};

/// What holds for all members of a network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Network {
    /// Its name.
    pub name: NetworkName,
    /// The domain below which its names answer, too; no dot at its ends.
    pub domain: String,
    /// Its addresses: who asks from inside one of these is a member's equal; everybody else is a stranger.
    pub subnets: Vec<IpNetwork>,
    /// Who is asked about names that are not the network's.
    pub upstreams: Upstreams,
}

/// Who is asked about names of the outside.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Upstreams {
    /// Nobody is.
    pub internal: bool,
    /// Servers; empty: the host's.
    pub servers: Vec<SocketAddr>,
    /// Servers for names below a domain, the longest that fits.
    pub by_domain: BTreeMap<String, Vec<SocketAddr>>,
}

/// A container on a network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Whose they are.
    pub attachment: AttachmentId,
    /// Its own names: container name, host name, short ID, pod. No alias of another takes one of these away.
    pub names: Vec<Alias>,
    /// Names that it may share with others.
    pub aliases: Vec<Alias>,
    /// Its addresses on this network.
    pub addresses: Vec<IpAddr>,
}

/// All networks and members at one moment: cheap to clone, never changed once published.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {}

impl Snapshot {
    /// This one with the network's settings, which take the place of earlier ones; its members stay.
    #[must_use]
    pub fn with_network(&self, _network: Network) -> Self {
        self.clone()
    }

    /// This one without the network and its members.
    #[must_use]
    pub fn without_network(&self, _network: &NetworkName) -> Self {
        self.clone()
    }

    /// This one with the member, which takes the place of an earlier one of the same attachment. Cost does not
    /// grow with the number of members.
    #[must_use]
    pub fn with_member(&self, _member: Member) -> Self {
        self.clone()
    }

    /// This one without the member.
    #[must_use]
    pub fn without_member(&self, _attachment: &AttachmentId) -> Self {
        self.clone()
    }
}
