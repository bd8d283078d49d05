//! Who sees which networks.

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use zeugma_model::{AttachmentId, NetworkName};

use super::network::{Net, Settings};
use super::{Audience, Snapshot};

/// The networks whose names an asker sees, its own first.
#[derive(Clone, Copy)]
pub struct View<'a> {
    pub(super) snapshot: &'a Snapshot,
    first: Option<&'a Net>,
    rest: Rest<'a>,
}

/// The networks behind the first.
#[derive(Clone, Copy)]
enum Rest<'a> {
    /// Those of these attachments.
    Of(&'a [AttachmentId]),
    /// Those of the member of the first network that has the address; looked up only when it comes to that.
    At(IpAddr),
    /// All.
    All,
}

impl Snapshot {
    /// What who asks from `source` through a listener sees; none: a stranger.
    ///
    /// A member sees the networks of its container. The host, and whatever else is inside the subnets, sees the
    /// listener's network.
    pub fn view(&self, audience: &Audience, source: IpAddr) -> Option<View<'_>> {
        let (network, rest) = match audience {
            Audience::Network(network) => (network, Rest::At(source)),
            Audience::Container(id) => (&id.network, Rest::Of(self.attachments(id))),
        };
        let net = self.networks.get(network)?;
        let settings = net.settings()?;
        let is_known = match rest {
            Rest::At(_) => settings.holds(source) || !net.at(source).is_empty(),
            Rest::Of(_) | Rest::All => true,
        };
        is_known.then_some(View { snapshot: self, first: Some(net), rest })
    }

    /// What is seen of one network and no other; none when there is no such network.
    pub fn view_of(&self, network: &NetworkName) -> Option<View<'_>> {
        let net = self.networks.get(network)?;
        net.settings()?;
        Some(View { snapshot: self, first: Some(net), rest: Rest::Of(&[]) })
    }

    /// What who may see everything sees: the host, when it is asked for no network.
    pub fn view_of_all(&self) -> View<'_> {
        View { snapshot: self, first: None, rest: Rest::All }
    }

    fn attachments(&self, id: &AttachmentId) -> &[AttachmentId] {
        self.containers.get(&id.container).map_or(&[], |ids| ids)
    }

    pub(super) fn nets(&self) -> impl Iterator<Item = &Net> {
        self.networks.values().map(|net| &**net)
    }
}

impl<'a> View<'a> {
    /// What `find` finds in the first network where it finds something.
    pub(super) fn find<T>(&self, mut find: impl FnMut(&'a Net, &'a Settings) -> Option<T>) -> Option<T> {
        let mut see = |net: &'a Net| find(net, net.settings()?);
        if let Some(found) = self.first.and_then(&mut see) {
            return Some(found);
        }
        match self.rest {
            Rest::All => self.snapshot.nets().find_map(see),
            Rest::Of(ids) => self.others(ids).find_map(see),
            Rest::At(source) => {
                let members = self.first.map_or(&[][..], |net| net.at(source));
                let ids = members.iter().flat_map(|member| self.snapshot.attachments(&member.attachment));
                ids.filter_map(|id| self.other(id)).find_map(see)
            }
        }
    }

    fn others(&self, ids: &'a [AttachmentId]) -> impl Iterator<Item = &'a Net> {
        ids.iter().filter_map(|id| self.other(id))
    }

    /// The network of an attachment, unless it is the first.
    fn other(&self, id: &AttachmentId) -> Option<&'a Net> {
        let net = &**self.snapshot.networks.get(&id.network)?;
        let is_first = self.first.is_some_and(|first| std::ptr::eq(first, net));
        (!is_first).then_some(net)
    }
}

impl Settings {
    fn holds(&self, address: IpAddr) -> bool {
        self.network.subnets.iter().any(|subnet| subnet.contains(address))
    }

    /// Whether all of `range` is this network's.
    pub(super) fn covers(&self, range: IpNetwork) -> bool {
        let is_inside = |subnet: &IpNetwork| subnet.prefix() <= range.prefix() && subnet.contains(range.ip());
        self.network.subnets.iter().any(is_inside)
    }
}
