//! An attachment's records as what they ask of the resolver.

use std::net::SocketAddr;
use std::time::SystemTime;

use ipnetwork::IpNetwork;
use zeugma_dns::zone::{Member, Upstreams};
use zeugma_journal::{Entry, Listen, NetnsRef, Record, Resolver};
use zeugma_model::{Alias, AttachmentId, IfName};

use super::listeners::Place;

/// Digits of a container's short ID.
const SHORT_ID: usize = 12;

/// What the journal has of an attachment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Seen {
    /// Nothing.
    Gone,
    /// Records, none of which is about names.
    Silent,
    /// A record of `resolver` among others.
    Wish(Box<Wish>),
}

/// What one attachment asks for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Wish {
    pub(crate) member: Member,
    pub(crate) settings: Settings,
    /// Its addresses with their prefixes.
    pub(crate) subnets: Vec<IpNetwork>,
    pub(crate) places: Vec<Place>,
    pub(crate) netns: Option<NetnsRef>,
    pub(crate) bridge: Option<IfName>,
    /// When the record was.
    pub(crate) written: SystemTime,
}

/// What it was told of its network.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Settings {
    pub(crate) domain: String,
    pub(crate) upstreams: Upstreams,
}

impl Seen {
    /// `written` is when the record of `resolver` was written.
    pub(crate) fn of(id: &AttachmentId, entries: &[Entry], written: SystemTime) -> Self {
        let wish = entries.iter().rev().find_map(|entry| {
            let resolver = entry.record.resolver.as_ref()?;
            Some(Wish::new(id, &entry.record, resolver, written))
        });
        match wish {
            None if entries.is_empty() => Self::Gone,
            None => Self::Silent,
            Some(wish) => {
                let bridge = entries.iter().find_map(|entry| entry.record.bridge.clone());
                Self::Wish(Box::new(Wish { bridge, ..wish }))
            }
        }
    }
}

impl Wish {
    fn new(id: &AttachmentId, record: &Record, resolver: &Resolver, written: SystemTime) -> Self {
        let member = Member {
            attachment: id.clone(),
            names: names(id, record, &resolver.names),
            aliases: record.identity.aliases.clone(),
            addresses: record.addresses.iter().map(IpNetwork::ip).collect(),
        };
        let upstreams = Upstreams {
            internal: resolver.internal,
            servers: resolver.servers.clone(),
            by_domain: resolver.forward.clone(),
        };
        Self {
            member,
            settings: Settings { domain: resolver.domain.clone(), upstreams },
            subnets: record.addresses.iter().map(|address| whole(*address)).collect(),
            places: places(record, resolver),
            netns: record.netns.clone(),
            bridge: None,
            written,
        }
    }
}

/// A container's own names. What is no name in DNS is left out, such as an ID of 64 digits.
pub(crate) fn names(id: &AttachmentId, record: &Record, told: &[Alias]) -> Vec<Alias> {
    let full = id.container.as_str();
    let short = full.get(..SHORT_ID).unwrap_or(full);
    let pod = record.identity.pod.iter().map(|pod| pod.name.as_str());
    let told = told.iter().map(Alias::as_str);
    let mut names: Vec<Alias> = Vec::new();
    for name in pod.chain(told).chain([short, full]).filter_map(|name| name.parse().ok()) {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

fn places(record: &Record, resolver: &Resolver) -> Vec<Place> {
    match (&resolver.listen, &record.netns) {
        (Listen::Gateway(addresses), _) => addresses.iter().copied().map(Place::Gateway).collect(),
        (Listen::Container(port), Some(netns)) => {
            vec![Place::Container { device: netns.device, inode: netns.inode, port: *port }]
        }
        (Listen::Container(_), None) => Vec::new(),
    }
}

/// The subnet of an address.
fn whole(address: IpNetwork) -> IpNetwork {
    IpNetwork::new(address.network(), address.prefix()).unwrap_or(address)
}

impl Place {
    /// What the sockets are bound to.
    pub(crate) fn address(&self) -> SocketAddr {
        match self {
            Self::Gateway(address) => SocketAddr::new(*address, super::listeners::DNS),
            Self::Container { port, .. } => SocketAddr::from((super::listeners::INSIDE, *port)),
        }
    }
}
