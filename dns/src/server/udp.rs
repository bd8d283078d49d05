//! Datagrams: as many in one call as there are.

use std::cell::RefCell;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::rc::{Rc, Weak};
use std::time::Duration;

use tokio::io::Interest;
use tokio::net::UdpSocket;
use tokio::task::spawn_local;
use tokio::time::sleep;
use zeugma_kernel::{BATCH, Exchange};

use super::handler::{Core, Later, Reply, Transport};
use super::room::{Asker, Room};
use crate::wire::DATAGRAM_BYTES;

/// After an error of the system's.
const PAUSE: Duration = Duration::from_millis(5);

/// One socket.
pub(super) struct Port {
    pub(super) core: Core,
    pub(super) socket: UdpSocket,
    pub(super) room: Room,
}

impl Port {
    /// Serves the socket until the task is aborted. All sockets share one set of buffers: a round does not wait.
    pub(super) async fn serve(self, exchange: Rc<RefCell<Exchange>>) {
        let port = Rc::new(self);
        loop {
            let round = || {
                let served = port.round(&mut exchange.borrow_mut())?;
                // A full round may have left some; else a poll is cheaper than asking in vain.
                if served < BATCH { Err(ErrorKind::WouldBlock.into()) } else { Ok(()) }
            };
            if port.socket.readable().await.is_err() {
                return;
            }
            match port.socket.try_io(Interest::READABLE, round) {
                // Lack of memory, say: there may still be something to read, but not at once.
                Err(error) if error.kind() != ErrorKind::WouldBlock => sleep(PAUSE).await,
                Ok(()) | Err(_) => {}
            }
        }
    }

    fn round(self: &Rc<Self>, exchange: &mut Exchange) -> io::Result<usize> {
        let counters = &self.core.shared.counters;
        let snapshot = self.core.shared.snapshot.load();
        let served = exchange.serve(self.socket.as_fd(), |datagram, buffer| {
            if datagram.is_cut {
                counters.malformed.add(1);
                return 0;
            }
            let address = datagram.from.ip();
            let asker = (snapshot.view(&self.room.audience, address), self.room.client(address));
            match self.core.answer(asker, datagram.bytes, buffer, Transport::Udp) {
                Reply::None => 0,
                Reply::Ready(length) => length,
                Reply::Later(later) => {
                    let (core, port) = (self.core.clone(), Rc::downgrade(self));
                    spawn_local(answer_later(core, port, later, (datagram.bytes.into(), datagram.from)));
                    0
                }
            }
        })?;
        counters.udp_queries.add(served.received as u64);
        counters.unsent.add(served.unsent as u64);
        Ok(served.received)
    }
}

/// The port is held weakly: it closes with its listener, however long somebody waits for others.
async fn answer_later(
    core: Core,
    port: Weak<Port>,
    later: Later,
    (request, client): (Box<[u8]>, SocketAddr),
) {
    let Some(audience) = port.upgrade().map(|port| port.room.audience.clone()) else { return };
    let given = core.given(later, &request, &Asker::At(audience, client.ip())).await;
    let mut buffer = [0; DATAGRAM_BYTES];
    let length = core.relay(&request, &given, &mut buffer, Transport::Udp);
    let Some(port) = port.upgrade() else { return };
    if port.socket.try_send_to(&buffer[..length], client).is_err() {
        core.shared.counters.unsent.add(1);
    }
}
