//! SCTP as an oracle: a server that says who it is, and questions to it. As in `server.rs` and `traffic.rs`, whose
//! types have no name for this protocol; its one-to-one sockets (RFC 6458 section 4) act as theirs do.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, OwnedFd};

use anyhow::{Context, Result};
use nix::sys::socket::sockopt::{ReceiveTimeout, SendTimeout};
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockProtocol, SockType, SockaddrStorage, bind, connect, listen,
    setsockopt, socket,
};
use nix::sys::time::TimeVal;

use crate::server::{Server, greeting};
use crate::traffic::{PATIENCE, parse};
use crate::{AskError, Host};

impl Host {
    /// Answers each association to `address` with `NAME PEER-IP` and closes it. Needs a kernel with SCTP.
    ///
    /// # Errors
    /// When the address is taken or not of this host.
    pub fn sctp_echo(&self, address: &str, name: &str) -> Result<Server> {
        let (address, name) = (address.to_owned(), name.to_owned());
        let open = move || {
            let wanted = parse(&address)?;
            let open = || -> nix::Result<OwnedFd> {
                let socket = stream(&wanted)?;
                bind(socket.as_raw_fd(), &SockaddrStorage::from(wanted))?;
                listen(&socket, Backlog::new(16)?)?;
                Ok(socket)
            };
            let listener = TcpListener::from(open().with_context(|| format!("listen on sctp {address}"))?);
            let bound = listener.local_addr()?;
            Ok((listener, bound))
        };
        Server::start(self, open, move |listener| {
            if let Ok((mut association, peer)) = listener.accept() {
                let _ = association.write_all(greeting(&name, peer).as_bytes());
                let _ = association.shutdown(Shutdown::Write);
            }
        })
    }

    /// [`Host::ask_tcp`] over SCTP.
    ///
    /// # Errors
    /// The reason for no answer.
    pub fn ask_sctp(&self, address: &str) -> Result<String, AskError> {
        let address = parse(address)?;
        self.inside(move || {
            let socket = stream(&address).map_err(io::Error::from)?;
            let patience = TimeVal::new(PATIENCE.as_secs().cast_signed(), PATIENCE.subsec_micros().into());
            setsockopt(&socket, SendTimeout, &patience).map_err(io::Error::from)?;
            setsockopt(&socket, ReceiveTimeout, &patience).map_err(io::Error::from)?;
            connect(socket.as_raw_fd(), &SockaddrStorage::from(address)).map_err(io::Error::from)?;
            let mut answer = String::new();
            TcpStream::from(socket).read_to_string(&mut answer)?;
            Ok(answer)
        })
    }
}

/// A one-to-one socket of the address's family.
fn stream(address: &SocketAddr) -> nix::Result<OwnedFd> {
    let family = if address.is_ipv6() { AddressFamily::Inet6 } else { AddressFamily::Inet };
    socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC, SockProtocol::Sctp)
}
