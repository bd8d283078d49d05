//! View × question → answer. Pure: no sockets, no clock.
//!
//! What a network's names are is in `network`, what there is of services in `service`, the names below theirs in
//! `derived` and their SRV records in `targets`; who sees which networks in `view`, what is answered in `answer`, and how
//! that is put on the wire in `render`.

mod answer;
mod derived;
mod dump;
mod names;
mod network;
mod render;
mod reverse;
mod service;
mod targets;
mod view;

use std::collections::BTreeMap;
use std::collections::hash_map::DefaultHasher;
use std::fmt;
use std::hash::BuildHasherDefault;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use ipnetwork::IpNetwork;
use zeugma_model::{Alias, AttachmentId, ContainerId, NetworkName, ServiceName};

pub use answer::Outcome;
pub use dump::{NameDump, NetworkDump, ServiceDump};
use network::Net;
pub(crate) use render::render_code;
pub use render::{NEGATIVE_TTL, TTL, render};
use service::Service;
pub use service::{NamedPort, NamedService};
pub use targets::Targets;
pub use view::View;

/// Persistent: a changed copy shares all but the path to the change. For what no plain question needs; names have a map
/// of their own (`names`).
type Map<K, V> = rpds::HashTrieMapSync<K, V, BuildHasherDefault<DefaultHasher>>;

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
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Upstreams {
    /// Nobody is.
    pub internal: bool,
    /// Servers; empty: the host's.
    pub servers: Vec<SocketAddr>,
    /// Servers for names below a domain, the longest that fits.
    pub by_domain: BTreeMap<String, Vec<SocketAddr>>,
}

/// A container on a network.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
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

/// Who asks through a listener.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Audience {
    /// The members of a network, and the host: a gateway's address.
    Network(NetworkName),
    /// One container: a socket inside its namespace.
    Container(AttachmentId),
}

/// All networks, members and services at one moment: cheap to clone, never changed once published.
#[derive(Clone, Default)]
pub struct Snapshot {
    networks: Map<NetworkName, Arc<Net>>,
    /// A container's attachments on all networks, in their order.
    containers: Map<ContainerId, Arc<[AttachmentId]>>,
    services: Map<ServiceName, Arc<Service>>,
    /// Whose virtual addresses are which.
    virtuals: Map<IpAddr, Arc<Service>>,
}

impl Snapshot {
    /// This one with the network's settings, which take the place of earlier ones; its members stay.
    #[must_use]
    pub fn with_network(&self, network: Network) -> Self {
        let (mut changed, name) = (self.clone(), network.name.clone());
        changed.change_net(&name, |net| net.set(network));
        changed
    }

    /// This one without the network and its members. Its services answer again when it comes back.
    #[must_use]
    pub fn without_network(&self, network: &NetworkName) -> Self {
        let Some(net) = self.networks.get(network) else { return self.clone() };
        let mut changed = self.clone();
        changed.change_net(network, Net::vacate);
        net.members().for_each(|member| changed.forget(&member.attachment));
        changed
    }

    /// This one with the member, which takes the place of an earlier one of the same attachment.
    ///
    /// Its cost does not grow with the number of members, but for those that share a name with it.
    #[must_use]
    pub fn with_member(&self, member: Member) -> Self {
        let id = member.attachment.clone();
        let mut changed = self.clone();
        changed.change_net(&id.network, |net| {
            net.remove(&id);
            net.insert(member);
        });
        changed.forget(&id);
        let others = changed.containers.get(&id.container).map_or(&[][..], |ids| &ids[..]);
        let mut ids: Vec<_> = others.iter().cloned().chain([id.clone()]).collect();
        ids.sort();
        changed.containers.insert_mut(id.container, ids.into());
        changed
    }

    /// This one without the member.
    #[must_use]
    pub fn without_member(&self, attachment: &AttachmentId) -> Self {
        let mut changed = self.clone();
        changed.change_net(&attachment.network, |net| net.remove(attachment));
        changed.forget(attachment);
        changed
    }

    /// How many members there are, on all networks.
    pub fn len(&self) -> usize {
        self.networks.values().map(|net| net.members().len()).sum()
    }

    /// Whether nobody has a name.
    pub fn is_empty(&self) -> bool {
        self.len() == 0 && self.services.is_empty()
    }

    /// Changes a network; one of which there is nothing to know is none.
    fn change_net(&mut self, name: &NetworkName, change: impl FnOnce(&mut Net)) {
        if !self.networks.contains_key(name) {
            self.networks.insert_mut(name.clone(), Arc::default());
        }
        let Some(net) = self.networks.get_mut(name) else { return };
        let net = Arc::make_mut(net);
        change(net);
        if net.is_empty() {
            self.networks.remove_mut(name);
        }
    }

    fn forget(&mut self, id: &AttachmentId) {
        let Some(ids) = self.containers.get(&id.container) else { return };
        let left: Vec<_> = ids.iter().filter(|other| *other != id).cloned().collect();
        if left.is_empty() {
            self.containers.remove_mut(&id.container);
        } else {
            self.containers.insert_mut(id.container.clone(), left.into());
        }
    }
}

/// Without its members and services, which may be many.
impl fmt::Debug for Snapshot {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Snapshot")
            .field("members", &self.len())
            .field("services", &self.services.size())
            .finish_non_exhaustive()
    }
}
