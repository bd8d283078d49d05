//! Who is in front of a listener.

use std::net::IpAddr;
use std::rc::Rc;

use zeugma_model::NetworkName;

use super::ListenerId;
use crate::forward::Client;
use crate::zone::{Audience, Snapshot, View};

/// A listener's audience, and how its clients are told apart.
#[derive(Clone)]
pub(super) struct Room {
    pub(super) audience: Rc<Audience>,
    pub(super) id: ListenerId,
}

/// Who asked, for answers that take a while: what is seen may be another by then.
#[derive(Debug, Clone)]
pub(super) enum Asker {
    At(Rc<Audience>, IpAddr),
    /// This process, for a network's members or for who sees all.
    Own(Option<NetworkName>),
}

impl Asker {
    pub(super) fn view<'a>(&self, snapshot: &'a Snapshot) -> Option<View<'a>> {
        match self {
            Self::At(audience, address) => snapshot.view(audience, *address),
            Self::Own(Some(network)) => snapshot.view_of(network),
            Self::Own(None) => Some(snapshot.view_of_all()),
        }
    }
}

impl Room {
    pub(super) fn client(&self, address: IpAddr) -> Client {
        match *self.audience {
            Audience::Network(_) => Client::Address(address),
            Audience::Container(_) => Client::Inside(self.id.0),
        }
    }
}
