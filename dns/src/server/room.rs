//! Who is in front of a listener.

use std::net::IpAddr;
use std::rc::Rc;

use super::ListenerId;
use crate::forward::Client;
use crate::zone::Audience;

/// A listener's audience, and how its clients are told apart.
#[derive(Clone)]
pub(super) struct Room {
    pub(super) audience: Rc<Audience>,
    pub(super) id: ListenerId,
}

impl Room {
    pub(super) fn client(&self, address: IpAddr) -> Client {
        match *self.audience {
            Audience::Network(_) => Client::Address(address),
            Audience::Container(_) => Client::Inside(self.id.0),
        }
    }
}
