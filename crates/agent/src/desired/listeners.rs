//! Where the resolver listens: which sockets are to be opened and closed. Pure.

use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};

use zeugma_dns::server::Audience;
use zeugma_model::AttachmentId;

/// The port of DNS.
pub(super) const DNS: u16 = 53;
/// Where a container asks, as with Docker's resolver.
pub(super) const INSIDE: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 11);

/// A pair of sockets, to be.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Place {
    /// Port 53 of an address of the host.
    Gateway(IpAddr),
    /// A port of 127.0.0.11 in a container's namespace.
    Container {
        /// The device of nsfs.
        device: u64,
        /// The namespace's inode.
        inode: u64,
        port: u16,
    },
}

/// What is to be done about a place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    Keep,
    Open(Audience),
    Close,
    /// Somebody else asks there from now on.
    Replace(Audience),
}

impl Place {
    /// Who asks there on behalf of an attachment.
    pub(super) fn audience(&self, id: &AttachmentId) -> Audience {
        match self {
            Self::Gateway(_) => Audience::Network(id.network.clone()),
            Self::Container { .. } => Audience::Container(id.clone()),
        }
    }

    /// How the service manager names one of its sockets while nobody runs: no colons (`FDNAME` of sd_notify(3)).
    pub(crate) fn stored_name(&self, protocol: &str) -> String {
        match self {
            Self::Gateway(address) => format!("{protocol}.gateway.{}", address.to_string().replace(':', "_")),
            Self::Container { device, inode, port } => {
                format!("{protocol}.container.{device}.{inode}.{port}")
            }
        }
    }

    /// The way back: protocol and place.
    pub(crate) fn of_stored_name(name: &str) -> Option<(&str, Self)> {
        let (protocol, rest) = name.split_once('.')?;
        let (kind, rest) = rest.split_once('.')?;
        let place = match kind {
            "gateway" => Self::Gateway(rest.replace('_', ":").parse().ok()?),
            "container" => {
                let numbers: Vec<u64> = rest.split('.').map(str::parse).collect::<Result<_, _>>().ok()?;
                let [device, inode, port] = numbers[..] else { return None };
                Self::Container { device, inode, port: port.try_into().ok()? }
            }
            _ => return None,
        };
        Some((protocol, place))
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gateway(_) => write!(f, "{}", self.address()),
            Self::Container { inode, .. } => write!(f, "{} in namespace {inode}", self.address()),
        }
    }
}

/// Who asks, for a person.
pub(crate) fn named(audience: &Audience) -> String {
    match audience {
        Audience::Network(network) => format!("network {network}"),
        Audience::Container(id) => format!("container {}", id.container),
    }
}

/// What is to be done when these want to ask at a place and it is open to one, or to nobody. Whoever has it keeps it.
pub(crate) fn step<'a>(askers: impl Iterator<Item = &'a Audience>, open: Option<&Audience>) -> Step {
    let askers: BTreeSet<&Audience> = askers.collect();
    match (askers.first(), open) {
        (None, None) => Step::Keep,
        (None, Some(_)) => Step::Close,
        (Some(_), Some(open)) if askers.contains(open) => Step::Keep,
        (Some(first), Some(_)) => Step::Replace((*first).clone()),
        (Some(first), None) => Step::Open((*first).clone()),
    }
}

/// What is wrong when several networks want the same address: only one of them is answered for.
pub(crate) fn conflict<'a>(place: &Place, askers: impl Iterator<Item = &'a Audience>) -> Option<String> {
    let networks: Vec<&str> = askers
        .filter_map(|audience| match audience {
            Audience::Network(network) => Some(network.as_str()),
            Audience::Container(_) => None,
        })
        .collect();
    (networks.len() > 1).then(|| {
        let networks = networks.join(", ");
        format!("{place}: the networks {networks} have this address, and one of them alone is answered for: give each a gateway of its own")
    })
}
