//! Whether a program of the host listens on a port, and which.

use std::fmt;
use std::fs;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::path::Path;

use nix::errno::Errno;
use nix::sys::socket::sockopt::{Ipv6V6Only, ReuseAddr};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrStorage, bind, setsockopt, socket};

use zeugma_model::Protocol;

/// A program that has a port open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listener {
    /// Its name as in /proc/PID/comm; "a program" when it cannot be found (another PID namespace).
    pub name: String,
    /// Its process ID, when it was found.
    pub pid: Option<u32>,
}

impl fmt::Display for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.pid {
            Some(pid) => write!(f, "{} (process {pid})", self.name),
            None => f.write_str(&self.name),
        }
    }
}

/// Who has the address open, as bind(2) sees it. What cannot be tried (SCTP, an address that is not the
/// host's) is free.
pub fn listener(protocol: Protocol, address: SocketAddr) -> Option<Listener> {
    let tried = match protocol {
        Protocol::Tcp => bound(address, SockType::Stream),
        Protocol::Udp => bound(address, SockType::Datagram),
        Protocol::Sctp => Ok(()),
    };
    (tried == Err(Errno::EADDRINUSE)).then(|| program(protocol, address.port(), |_| true))
}

/// Binds and lets go. Nothing listens in between, so that no client is led astray. Connections in TIME_WAIT
/// do not count (SO_REUSEADDR); for datagrams that option would let two programs share the port.
fn bound(address: SocketAddr, kind: SockType) -> Result<(), Errno> {
    let family = if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let socket = socket(family, kind, SockFlag::SOCK_CLOEXEC, None)?;
    if kind == SockType::Stream {
        setsockopt(&socket, ReuseAddr, &true)?;
    }
    if address.is_ipv6() {
        // The other family has a claim of its own.
        setsockopt(&socket, Ipv6V6Only, &true)?;
    }
    bind(socket.as_raw_fd(), &SockaddrStorage::from(address))
}

/// Another program than this one that has the port, at whatever address.
pub(crate) fn others(protocol: Protocol, port: u16) -> Listener {
    let own = std::process::id();
    program(protocol, port, |pid| pid != own)
}

/// That a tunnel does not get its UDP port, who has it, and what to do.
#[cfg(feature = "overlay")]
pub fn port_of_another(port: u16) -> String {
    let by = others(Protocol::Udp, port);
    format!(
        "UDP port {port} is taken by {by}: let it take another, or create the network with another `port`"
    )
}

fn program(protocol: Protocol, port: u16, counts: impl Fn(u32) -> bool) -> Listener {
    let inodes: Vec<String> = [protocol.as_str().to_owned(), format!("{protocol}6")]
        .iter()
        .filter_map(|table| fs::read_to_string(format!("/proc/net/{table}")).ok())
        .flat_map(|table| table.lines().filter_map(|line| inode_at(line, protocol, port)).collect::<Vec<_>>())
        .collect();
    let unknown = Listener { name: "a program".into(), pid: None };
    let Ok(processes) = fs::read_dir("/proc") else { return unknown };
    processes
        .filter_map(Result::ok)
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .find(|pid| counts(*pid) && holds(*pid, &inodes))
        .map_or(unknown, |pid: u32| Listener { name: name_of(pid), pid: Some(pid) })
}

/// A line of /proc/net/tcp or udp: local address in field 1, state in field 3, inode in field 9.
fn inode_at(line: &str, protocol: Protocol, port: u16) -> Option<String> {
    const LISTEN: &str = "0A";
    let fields: Vec<&str> = line.split_whitespace().collect();
    let local = u16::from_str_radix(fields.get(1)?.rsplit(':').next()?, 16).ok()?;
    let counts = protocol != Protocol::Tcp || *fields.get(3)? == LISTEN;
    (local == port && counts).then(|| fields.get(9).map(|inode| format!("socket:[{inode}]"))).flatten()
}

fn holds(pid: u32, inodes: &[String]) -> bool {
    let Ok(files) = fs::read_dir(format!("/proc/{pid}/fd")) else { return false };
    files.filter_map(Result::ok).any(|file| {
        fs::read_link(file.path())
            .is_ok_and(|target: std::path::PathBuf| inodes.iter().any(|inode| Path::new(inode) == target))
    })
}

fn name_of(pid: u32) -> String {
    fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default().trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[cfg(feature = "overlay")]
    #[test]
    fn a_tunnel_s_port_is_told_with_its_way_out() {
        let told = port_of_another(51_820);
        assert!(told.starts_with("UDP port 51820 is taken by ") && told.contains("`port`"), "{told}");
    }

    #[test]
    fn a_listening_program_is_named() {
        let listener_here = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener_here.local_addr().unwrap();
        let found = listener(Protocol::Tcp, address).unwrap();
        assert_eq!(found.pid, Some(std::process::id()));
        drop(listener_here);
        assert_eq!(listener(Protocol::Tcp, address), None);
    }
}
