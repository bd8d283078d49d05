//! Echo requests (RFC 792, RFC 4443) of any size that are never fragmented, and the answers to them.

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;

use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, socket};
use zeugma_plan::Family;

use crate::{Error, sys};

/// Type, code, checksum, identifier, sequence number.
const HEADER: usize = 8;
/// What a queue or a buffer that is full answers.
const NO_ROOM: [i32; 3] = [libc::EAGAIN, libc::ENOBUFS, libc::ENOMEM];
/// `ICMP_ECHOREPLY`, `ICMPV6_ECHO_REPLY` and the requests.
const REPLY: [u8; 2] = [0, 129];
const REQUEST: [u8; 2] = [8, 128];

/// A raw socket for echo requests of one family. It never blocks.
#[derive(Debug)]
pub struct Pinger {
    family: Family,
    socket: UdpSocket,
    /// Tells our answers from those to other programs.
    identifier: u16,
}

impl Pinger {
    /// Opens it in this thread's namespace.
    ///
    /// # Errors
    /// When this process may open no raw sockets, or the kernel has no such family.
    pub fn open(family: Family) -> Result<Self, Error> {
        let failed = |source| Error::System { action: "open a socket for echo requests", source };
        let (of, protocol) = match family {
            Family::V4 => (AddressFamily::Inet, SockProtocol::Icmp),
            Family::V6 => (AddressFamily::Inet6, SockProtocol::IcmpV6),
        };
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let fd = socket(of, SockType::Raw, flags, protocol).map_err(|errno| failed(errno.into()))?;
        sys::never_fragment(fd.as_raw_fd(), family).map_err(failed)?;
        let identifier = std::process::id() as u16;
        // For addresses alone: a raw socket sends and receives as this one does.
        Ok(Self { family, socket: UdpSocket::from(fd), identifier })
    }

    /// The socket, to wait for answers.
    ///
    /// # Errors
    /// When this process has too many files open.
    pub fn waiting(&self) -> io::Result<UdpSocket> {
        self.socket.try_clone()
    }

    /// Sends a request that is an IP packet of `size` bytes; false: this host has no room for it now, which says nothing
    /// about the way.
    ///
    /// # Errors
    /// Those of sendto(2): `EMSGSIZE` when the link does not take it.
    pub fn send(&self, to: IpAddr, sequence: u16, size: u32) -> io::Result<bool> {
        let ip = match self.family {
            Family::V4 => 20,
            Family::V6 => 40,
        };
        let request = request(self.family, self.identifier, sequence, (size as usize).saturating_sub(ip));
        match self.socket.send_to(&request, SocketAddr::new(to, 0)) {
            Ok(_) => Ok(true),
            Err(error) if NO_ROOM.contains(&error.raw_os_error().unwrap_or_default()) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The next answer to a request of ours: who sent it, and its sequence number; none: there is no more.
    ///
    /// # Errors
    /// Those of recvfrom(2).
    pub fn receive(&self) -> io::Result<Option<(IpAddr, u16)>> {
        let mut buffer = [0; 128];
        loop {
            match self.socket.recv_from(&mut buffer) {
                Ok((length, from)) => {
                    let answer = answered(self.family, self.identifier, &buffer[..length]);
                    if let Some(sequence) = answer {
                        return Ok(Some((from.ip(), sequence)));
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                Err(error) => return Err(error),
            }
        }
    }
}

/// ICMPv6's checksum is the kernel's.
fn request(family: Family, identifier: u16, sequence: u16, length: usize) -> Vec<u8> {
    let mut message = vec![0; length.max(HEADER)];
    message[0] = REQUEST[usize::from(family == Family::V6)];
    message[4..6].copy_from_slice(&identifier.to_be_bytes());
    message[6..8].copy_from_slice(&sequence.to_be_bytes());
    if family == Family::V4 {
        let sum = checksum(&message);
        message[2..4].copy_from_slice(&sum.to_be_bytes());
    }
    message
}

/// RFC 1071.
fn checksum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0)));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

/// The sequence number of an answer to us. Of IPv4, raw sockets get the IP header, too.
fn answered(family: Family, identifier: u16, packet: &[u8]) -> Option<u16> {
    let message = match family {
        Family::V4 => packet.get(usize::from(packet.first()? & 0xf) * 4..)?,
        Family::V6 => packet,
    };
    let is_ours = *message.first()? == REPLY[usize::from(family == Family::V6)]
        && message.get(4..6)? == identifier.to_be_bytes();
    let sequence = message.get(6..8)?.try_into().ok()?;
    is_ours.then(|| u16::from_be_bytes(sequence))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_has_its_checksum_and_its_answer_is_known() {
        let mut message = request(Family::V4, 7, 513, 20);
        assert_eq!(checksum(&message), 0);
        assert_eq!((message.len(), message[0]), (20, 8));
        message[0] = 0;
        let packet = [&[0x45; 20][..], &message].concat();
        assert_eq!(answered(Family::V4, 7, &packet), Some(513));
        assert_eq!((answered(Family::V4, 8, &packet), answered(Family::V4, 7, &packet[..24])), (None, None));
    }
}
