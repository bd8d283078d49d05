//! Notifications of rtnetlink: whether what is ours is not what it was any more. What we changed ourselves is told as
//! well, so every message is compared with what is known.

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};

use netlink_packet_core::{NetlinkMessage, NetlinkPayload};
use netlink_packet_route::address::AddressScope;
use netlink_packet_route::link::LinkFlags;
use netlink_packet_route::neighbour::NeighbourMessage;
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use netlink_sys::protocols::NETLINK_ROUTE;
use tokio::io::unix::AsyncFd;
use zeugma_model::IfName;
use zeugma_overlay::{PROTOCOL, Route};

use super::observe::{Met, Seen, link_name, link_seen};
use crate::Error;
use crate::sys::awaited;
use crate::watch::{drain, listening};

/// `RTNLGRP_LINK`, `_NEIGH`, `_IPV4_IFADDR`, `_IPV4_ROUTE`, `_IPV6_IFADDR`, `_IPV6_ROUTE`.
const GROUPS: [u32; 6] = [1, 3, 5, 7, 9, 11];
/// `struct nlmsghdr`; `rtm_protocol` of `struct rtmsg`.
const HEADER: usize = 16;
const ROUTE_PROTOCOL: usize = HEADER + 5;
/// `RTM_NEWROUTE`, `RTM_DELROUTE`.
const ROUTES: [u16; 2] = [24, 25];

/// A socket that hears of changes, and whether it heard of addresses that come or go.
#[derive(Debug)]
pub(super) struct Listener(AsyncFd<netlink_sys::Socket>, AtomicBool);

/// What was heard.
#[derive(Debug, Default)]
pub(super) struct Heard {
    pub(super) messages: Vec<RouteNetlinkMessage>,
    /// Messages were lost, so anything may have changed.
    pub(super) is_lost: bool,
}

impl Heard {
    /// This, and what was heard later.
    pub(super) fn take(&mut self, later: Self) {
        self.messages.extend(later.messages);
        self.is_lost |= later.is_lost;
    }

    /// Without what was told of links.
    pub(super) fn forget_links(&mut self) {
        self.messages.retain(|message| {
            !matches!(message, RouteNetlinkMessage::NewLink(_) | RouteNetlinkMessage::DelLink(_))
        });
    }

    /// Whether all of it is known.
    pub(super) fn agrees_with(&self, seen: &Seen) -> bool {
        !self.is_lost && !self.messages.iter().any(|message| contradicts(message, seen))
    }
}

impl Listener {
    pub(super) fn open() -> Result<Self, Error> {
        let failed = |source| Error::System { action: "listen for changes of overlays", source };
        let socket = listening(NETLINK_ROUTE, &GROUPS).map_err(failed)?;
        Ok(Self(awaited(socket).map_err(failed)?, AtomicBool::new(false)))
    }

    /// What waits to be heard.
    pub(super) fn hear(&self) -> Heard {
        let mut heard = Heard::default();
        let read = drain(self.0.get_ref(), |bytes| {
            if is_of_use(bytes) {
                heard.messages.extend(decode(bytes));
            }
        });
        heard.is_lost = read.unwrap_or(true);
        if heard.is_lost || heard.messages.iter().any(is_move) {
            self.1.store(true, Ordering::Relaxed);
        }
        heard
    }

    /// Whether addresses came or went since this was asked last.
    pub(super) fn has_moved(&self) -> bool {
        self.1.swap(false, Ordering::Relaxed)
    }

    /// Waits until something can be heard.
    pub(super) async fn wait(&self) -> io::Result<Heard> {
        let mut ready = self.0.readable().await?;
        let heard = self.hear();
        ready.clear_ready();
        Ok(heard)
    }
}

/// A host may have many routes that are not ours.
fn is_of_use(bytes: &[u8]) -> bool {
    let kind = bytes.get(4..6).map(|kind| u16::from_ne_bytes([kind[0], kind[1]]));
    kind.is_none_or(|kind| !ROUTES.contains(&kind)) || bytes.get(ROUTE_PROTOCOL) == Some(&PROTOCOL)
}

fn decode(bytes: &[u8]) -> Option<RouteNetlinkMessage> {
    match NetlinkMessage::<RouteNetlinkMessage>::deserialize(bytes).ok()?.payload {
        NetlinkPayload::InnerMessage(message) => Some(message),
        _ => None,
    }
}

/// For the fuzzer: what a notification is taken for.
pub(super) fn fuzz(bytes: &[u8], seen: &Seen) -> Option<RouteNetlinkMessage> {
    let message = decode(bytes).filter(|_| is_of_use(bytes))?;
    let heard = Heard { messages: vec![message.clone()], is_lost: false };
    let hopes = seen.wanted.iter().map(|link| (link.clone(), None)).collect();
    let _ = (heard.agrees_with(seen), is_move(&message), may_help(&message, &hopes));
    Some(message)
}

/// Whether the message says otherwise than what is known.
fn contradicts(message: &RouteNetlinkMessage, seen: &Seen) -> bool {
    let there = &seen.observed;
    match message {
        RouteNetlinkMessage::NewLink(link) if link.header.interface_family == AddressFamily::Unspec => {
            let Some(name) = link_name(link) else { return false };
            let state = link_seen(link);
            let matters = state.is_ours() || seen.wanted.contains(&name);
            let is_other = matters && there.links.get(&name) != Some(&state);
            // What left by a link that went down is gone without a word.
            is_other || (is_way(seen, link.header.index) && !link.header.flags.contains(LinkFlags::Up))
        }
        RouteNetlinkMessage::DelLink(link) if link.header.interface_family == AddressFamily::Unspec => {
            let known = seen.names.get(&link.header.index);
            known.is_some_and(|name| there.links.contains_key(name)) || is_way(seen, link.header.index)
        }
        RouteNetlinkMessage::NewAddress(_) => {
            seen.address(message.clone()).is_some_and(|address| !there.addresses.contains(&address))
        }
        RouteNetlinkMessage::DelAddress(address) => {
            let is_ours = seen.address(message.clone()).is_some_and(|one| there.addresses.contains(&one));
            // What left by it may be gone without a word.
            is_ours || is_way(seen, address.header.index)
        }
        RouteNetlinkMessage::NewNeighbour(neighbour) => has_come(neighbour, seen),
        RouteNetlinkMessage::DelNeighbour(neighbour) => seen.knows(neighbour),
        RouteNetlinkMessage::NewRoute(route) => {
            seen.route(route).is_some_and(|(key, route)| there.routes.get(&key) != Some(&route))
        }
        RouteNetlinkMessage::DelRoute(route) => {
            seen.route(route).is_some_and(|(key, route)| there.routes.get(&key) == Some(&route))
        }
        _ => false,
    }
}

/// Whether this host may be reached by other addresses now.
fn is_move(message: &RouteNetlinkMessage) -> bool {
    use RouteNetlinkMessage::{DelAddress, NewAddress};
    let (NewAddress(address) | DelAddress(address)) = message else { return false };
    address.header.scope == AddressScope::Universe
}

/// Whether the message may mean that what failed by these links works now; with the indexes of those that were there.
pub(super) fn may_help(message: &RouteNetlinkMessage, links: &BTreeMap<IfName, Option<u32>>) -> bool {
    match message {
        RouteNetlinkMessage::NewLink(link) => link_name(link).is_some_and(|name| links.contains_key(&name)),
        RouteNetlinkMessage::NewAddress(address) => {
            links.values().any(|index| *index == Some(address.header.index))
        }
        _ => false,
    }
}

/// Whether routes of ours leave by a link that is not ours.
fn is_way(seen: &Seen, index: u32) -> bool {
    let Some(name) = seen.names.get(&index) else { return false };
    let by = |route: &Route| matches!(route, Route::By { link, .. } if link == name);
    !seen.observed.links.contains_key(name) && seen.observed.routes.values().any(by)
}

fn has_come(message: &NeighbourMessage, seen: &Seen) -> bool {
    match seen.met(message) {
        Some(Met::Neighbour(key, mac)) => seen.observed.neighbours.get(&key) != Some(&mac),
        Some(Met::Forward(entry)) => !seen.observed.forwards.contains(&entry),
        // One of ours may have become one that does not last.
        None => seen.knows(message),
    }
}
