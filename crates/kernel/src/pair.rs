//! A UDP and a TCP socket on one address and port, of the host or inside a container: what a resolver is asked by.

use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::sockopt::{IpFreebind, Ipv6V6Only, ReuseAddr};
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, SockaddrStorage, bind, listen, setsockopt, socket,
};
use zeugma_journal::NetnsRef;
use zeugma_model::Protocol;

use crate::{Error, Netns, ports, sys};

/// Connections that nobody has taken yet.
const BACKLOG: i32 = 128;

/// The sockets; they do not block.
#[derive(Debug)]
pub struct SocketPair {
    /// Datagrams.
    pub udp: UdpSocket,
    /// Streams.
    pub tcp: TcpListener,
}

/// Opens both on an address that may be absent for now (IP_FREEBIND): they work whenever it is there, and also after
/// it went and came back.
///
/// # Errors
/// [`Error::PortTaken`], [`Error::System`].
pub fn pair(address: SocketAddr) -> Result<SocketPair, Error> {
    let udp = UdpSocket::from(bound(address, Protocol::Udp)?);
    let tcp = bound(address, Protocol::Tcp)?;
    let backlog = Backlog::new(BACKLOG).map_err(|errno| system("listen", errno))?;
    listen(&tcp, backlog).map_err(|errno| refused(errno, address, Protocol::Tcp))?;
    Ok(SocketPair { udp, tcp: TcpListener::from(tcp) })
}

/// [`pair`] inside a container's namespace, by way of a thread of its own, so that no other ever strays in there.
///
/// # Errors
/// [`Error::GoneNetns`] when another namespace is at the path, or none; as [`pair`].
///
/// # Panics
/// As the thread would.
pub fn pair_inside(netns: &NetnsRef, address: SocketAddr) -> Result<SocketPair, Error> {
    std::thread::scope(|scope| {
        let inside = scope.spawn(|| {
            let gone = || Error::GoneNetns { path: netns.path.clone() };
            let opened = Netns::open(&netns.path).map_err(|error| match error {
                Error::NoNetns { .. } => gone(),
                other => other,
            })?;
            if (opened.id().device, opened.id().inode) != (netns.device, netns.inode) {
                return Err(gone());
            }
            let pair = opened.inside(|| pair(address))??;
            let cookie = sys::netns_cookie(pair.udp.as_raw_fd());
            // An inode is given again after a namespace went; a cookie is not.
            if netns.cookie.is_some_and(|meant| cookie.is_some_and(|cookie| cookie != meant)) {
                return Err(gone());
            }
            Ok(pair)
        });
        inside.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// For datagrams SO_REUSEADDR would let two programs share the port, and one of them hear nothing; for streams it
/// only means that connections which are about to end are in nobody's way.
fn bound(address: SocketAddr, protocol: Protocol) -> Result<OwnedFd, Error> {
    let family = if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let kind = if protocol == Protocol::Udp { SockType::Datagram } else { SockType::Stream };
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let open = || -> Result<OwnedFd, Errno> {
        let socket = socket(family, kind, flags, None)?;
        if kind == SockType::Stream {
            setsockopt(&socket, ReuseAddr, &true)?;
        }
        if address.is_ipv6() {
            setsockopt(&socket, Ipv6V6Only, &true)?;
        }
        setsockopt(&socket, IpFreebind, &true)?;
        bind(socket.as_raw_fd(), &SockaddrStorage::from(address))?;
        Ok(socket)
    };
    open().map_err(|errno| refused(errno, address, protocol))
}

fn refused(errno: Errno, address: SocketAddr, protocol: Protocol) -> Error {
    match errno {
        Errno::EADDRINUSE => Error::PortTaken { address, by: ports::others(protocol, address.port()) },
        errno => system("open a socket for questions", errno),
    }
}

fn system(action: &'static str, errno: Errno) -> Error {
    Error::System { action, source: errno.into() }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn an_address_of_nobody_can_be_waited_for_and_its_port_is_taken_once() {
        let free = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = free.local_addr().unwrap().port();
        // TEST-NET-3 and the documentation prefix: no address of this machine.
        for address in ["203.0.113.77", "2001:db8::77"] {
            let address = SocketAddr::new(address.parse().unwrap(), port);
            let first = pair(address).unwrap();
            assert_eq!(first.udp.local_addr().unwrap(), address);
            assert!(matches!(pair(address), Err(Error::PortTaken { .. })));
        }
    }

    #[test]
    fn a_namespace_that_is_not_the_one_meant_is_gone() {
        let own = std::path::Path::new("/proc/self/ns/net");
        let here = NetnsRef::of(own).unwrap();
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        assert!(pair_inside(&here, any).is_ok());
        let gone = |netns: NetnsRef| matches!(pair_inside(&netns, any), Err(Error::GoneNetns { .. }));
        assert!(gone(NetnsRef { inode: here.inode + 1, ..here.clone() }));
        assert!(gone(NetnsRef { cookie: Some(u64::MAX), ..here.clone() }));
        assert!(gone(NetnsRef { path: "/nowhere".into(), ..here }));
    }
}
