//! Sockets outlive the agent where a service manager keeps them: given to it when they open (`FDSTORE` of
//! sd_notify(3)), taken back at the next start (`LISTEN_FDS`). What is asked in between waits in the socket.

use std::collections::BTreeMap;
use std::net::{TcpListener, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use sd_notify::NotifyState;
use zeugma_kernel::SocketPair;

use crate::desired::listeners::Place;

const UDP: &str = "udp";
const TCP: &str = "tcp";

/// What the last agent left, until it is asked for.
#[derive(Debug, Default)]
pub(crate) struct Inherited(BTreeMap<Place, SocketPair>);

impl Inherited {
    /// Sorts what was handed over. What is no pair, or not bound to what it is named after, is let go.
    pub(crate) fn new(handed_over: Vec<(String, OwnedFd)>) -> Self {
        let mut halves: BTreeMap<Place, (Option<UdpSocket>, Option<TcpListener>)> = BTreeMap::new();
        for (name, socket) in handed_over {
            match Place::of_stored_name(&name) {
                Some((UDP, place)) => halves.entry(place).or_default().0 = Some(socket.into()),
                Some((TCP, place)) => halves.entry(place).or_default().1 = Some(socket.into()),
                _ => tracing::warn!(name, "a socket was handed over that is none of ours"),
            }
        }
        let mut whole = BTreeMap::new();
        for (place, halves) in halves {
            match halves {
                (Some(udp), Some(tcp)) if is_at(&place, &udp, &tcp) => {
                    whole.insert(place, SocketPair { udp, tcp });
                }
                _ => forget(&place),
            }
        }
        Self(whole)
    }

    pub(crate) fn take(&mut self, place: &Place) -> Option<SocketPair> {
        self.0.remove(place)
    }

    /// Lets go of what nobody asked for.
    pub(crate) fn close(&mut self) {
        for place in std::mem::take(&mut self.0).into_keys() {
            tracing::info!(%place, "nobody asks here any more");
            forget(&place);
        }
    }
}

fn is_at(place: &Place, udp: &UdpSocket, tcp: &TcpListener) -> bool {
    let bound = [udp.local_addr(), tcp.local_addr()];
    let non_blocking = udp.set_nonblocking(true).and_then(|()| tcp.set_nonblocking(true));
    non_blocking.is_ok() && bound.into_iter().all(|bound| bound.is_ok_and(|bound| bound == place.address()))
}

/// Gives the service manager a copy of both sockets, if there is one.
pub(crate) fn store(place: &Place, pair: &SocketPair) {
    for (protocol, socket) in [(UDP, pair.udp.as_fd()), (TCP, pair.tcp.as_fd())] {
        tell(&place.stored_name(protocol), NotifyState::FdStore, &[socket]);
    }
}

/// Has it close its copies.
pub(crate) fn forget(place: &Place) {
    for protocol in [UDP, TCP] {
        tell(&place.stored_name(protocol), NotifyState::FdStoreRemove, &[]);
    }
}

fn tell(name: &str, what: NotifyState<'_>, sockets: &[BorrowedFd<'_>]) {
    // The manager would drop a socket with an error on it, which for datagrams is any client that went away.
    let unpolled = NotifyState::Custom("FDPOLL=0");
    let state = [what, NotifyState::FdName(name), unpolled];
    let told = if sockets.is_empty() {
        sd_notify::notify(&state)
    } else {
        sd_notify::notify_with_fds(&state, sockets)
    };
    if let Err(error) = told {
        tracing::warn!(name, %error, "the service manager does not keep this socket");
    }
}
