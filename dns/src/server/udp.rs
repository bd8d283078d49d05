//! Datagrams: as many in one call as there are.

use std::cell::RefCell;
use std::io::{self, ErrorKind};
use std::os::fd::AsFd;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::Interest;
use tokio::net::UdpSocket;
use tokio::time::sleep;
use zeugma_kernel::{BATCH, Exchange};

use super::Shared;
use super::handler::{Asker, answer};
use crate::zone::Audience;

/// After an error of the system's.
const PAUSE: Duration = Duration::from_millis(5);

/// Serves a socket until the task is aborted. All sockets share one set of buffers: a round does not wait.
pub(super) async fn serve(
    socket: UdpSocket,
    audience: Rc<Audience>,
    shared: Arc<Shared>,
    exchange: Rc<RefCell<Exchange>>,
) {
    loop {
        let round = || {
            let served = round(&socket, &audience, &shared, &mut exchange.borrow_mut())?;
            // A full round may have left some; else a poll is cheaper than asking in vain.
            if served < BATCH { Err(ErrorKind::WouldBlock.into()) } else { Ok(()) }
        };
        if socket.readable().await.is_err() {
            return;
        }
        match socket.try_io(Interest::READABLE, round) {
            // Lack of memory, say: there may still be something to read, but not at once.
            Err(error) if error.kind() != ErrorKind::WouldBlock => sleep(PAUSE).await,
            Ok(()) | Err(_) => {}
        }
    }
}

fn round(
    socket: &UdpSocket,
    audience: &Audience,
    shared: &Shared,
    exchange: &mut Exchange,
) -> io::Result<usize> {
    let counters = &shared.counters;
    let snapshot = shared.snapshot.load();
    let served = exchange.serve(socket.as_fd(), |datagram, buffer| {
        if datagram.is_cut {
            counters.malformed.add(1);
            return 0;
        }
        let asker = Asker { audience, source: datagram.from.ip() };
        answer(counters, &snapshot, asker, datagram.bytes, buffer)
    })?;
    counters.udp_queries.add(served.received as u64);
    counters.unsent.add(served.unsent as u64);
    Ok(served.received)
}
