//! Whether a program of the host listens on a port.

use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};

use zeugma_model::Protocol;

/// Whether bind(2) finds the address in use. What cannot be tried (SCTP, an address that is not the host's)
/// is not in use.
pub fn listening(protocol: Protocol, address: SocketAddr) -> bool {
    let tried = match protocol {
        // The standard library sets SO_REUSEADDR: connections in TIME_WAIT do not count.
        Protocol::Tcp => TcpListener::bind(address).map(drop),
        Protocol::Udp => UdpSocket::bind(address).map(drop),
        Protocol::Sctp => Ok(()),
    };
    tried.is_err_and(|error| error.kind() == io::ErrorKind::AddrInUse)
}
