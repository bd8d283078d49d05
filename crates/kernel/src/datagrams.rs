//! Datagrams in, replies out, many in one call: half of what a small server costs is system calls.

use std::io;
use std::net::SocketAddr;
use std::os::fd::BorrowedFd;

use crate::sys::datagrams::{self, Address, Received, Sent, receive, send};

/// How many datagrams one round takes at most.
pub const BATCH: usize = datagrams::BATCH;
/// The longest datagram that is received whole.
const IN: usize = 1536;
/// The longest reply.
const OUT: usize = 1536;

/// A datagram that came in.
#[derive(Debug, Clone, Copy)]
pub struct Datagram<'a> {
    /// Its content, or the beginning of it.
    pub bytes: &'a [u8],
    /// Who sent it.
    pub from: SocketAddr,
    /// It was too long to be received whole.
    pub is_cut: bool,
}

/// What one round did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Served {
    /// Datagrams that came in. Fewer than [`BATCH`]: there were no more.
    pub received: usize,
    /// Replies that the kernel did not take.
    pub unsent: usize,
}

/// Buffers for one round; any socket may use them.
pub struct Exchange {
    buffers: Box<Buffers>,
}

struct Buffers {
    queries: [[u8; IN]; BATCH],
    replies: [[u8; OUT]; BATCH],
    from: [Address; BATCH],
    received: [Received; BATCH],
    lengths: [usize; BATCH],
}

impl Default for Exchange {
    fn default() -> Self {
        let buffers = Buffers {
            queries: [[0; IN]; BATCH],
            replies: [[0; OUT]; BATCH],
            from: [Address::nobody(); BATCH],
            received: [Received::default(); BATCH],
            lengths: [0; BATCH],
        };
        Self { buffers: Box::new(buffers) }
    }
}

impl Exchange {
    /// Receives what is there, hands each datagram to `answer` with room for the reply, and sends those replies whose
    /// length it returns is not 0. Blocks never.
    ///
    /// # Errors
    /// Those of recvmmsg(2): `WouldBlock` when there is nothing.
    pub fn serve(
        &mut self,
        socket: BorrowedFd<'_>,
        mut answer: impl FnMut(Datagram<'_>, &mut [u8]) -> usize,
    ) -> io::Result<Served> {
        let Buffers { queries, replies, from, received, lengths } = &mut *self.buffers;
        let count = receive(socket, queries, from, received)?;
        for index in 0..count {
            let about = received[index];
            let Some(from) = from[index].read() else { continue };
            let datagram = Datagram { bytes: &queries[index][..about.length], from, is_cut: about.is_cut };
            lengths[index] = answer(datagram, &mut replies[index]);
        }
        let reply = |index: usize| Sent {
            bytes: &replies[index][..lengths[index].min(OUT)],
            to: &from[index],
            received: received[index],
        };
        let mut outgoing = [reply(0); BATCH];
        let mut used = 0;
        for index in (0..count).filter(|index| lengths[*index] > 0) {
            outgoing[used] = reply(index);
            used += 1;
        }
        Ok(Served { received: count, unsent: send_all(socket, &outgoing[..used]) })
    }
}

/// Sends each; how many could not be. One that cannot does not keep those behind it.
fn send_all(socket: BorrowedFd<'_>, mut datagrams: &[Sent<'_>]) -> usize {
    let mut unsent = 0;
    while !datagrams.is_empty() {
        match send(socket, datagrams) {
            Ok(sent @ 1..) => datagrams = &datagrams[sent.min(datagrams.len())..],
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Ok(0) | Err(_) => {
                unsent += 1;
                datagrams = &datagrams[1..];
            }
        }
    }
    unsent
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;
    use std::os::fd::AsFd;

    use super::*;

    fn check(address: &str) {
        let (server, client) = (UdpSocket::bind(address).unwrap(), UdpSocket::bind(address).unwrap());
        for word in ["one", "", "silent", "two"] {
            client.send_to(word.as_bytes(), server.local_addr().unwrap()).unwrap();
        }
        let served = Exchange::default().serve(server.as_fd(), |datagram, reply| {
            assert_eq!(datagram.from, client.local_addr().unwrap());
            let length = if datagram.bytes == b"silent" { 0 } else { datagram.bytes.len() };
            reply[..length].copy_from_slice(&datagram.bytes[..length]);
            length
        });
        assert_eq!(served.unwrap(), Served { received: 4, unsent: 0 });
        let answer = || {
            let mut buffer = [0; 16];
            let length = client.recv(&mut buffer).unwrap();
            String::from_utf8(buffer[..length].to_vec()).unwrap()
        };
        assert_eq!([answer(), answer()], ["one", "two"]);
    }

    #[test]
    fn each_datagram_is_answered_to_its_sender() {
        check("127.0.0.1:0");
        check("[::1]:0");
    }

    #[test]
    fn nothing_there_is_said_at_once() {
        let server = UdpSocket::bind("127.0.0.1:0").unwrap();
        let served = Exchange::default().serve(server.as_fd(), |_, _| 0);
        assert_eq!(served.unwrap_err().kind(), io::ErrorKind::WouldBlock);
    }

    #[test]
    fn what_is_too_long_is_marked() {
        let server = UdpSocket::bind("127.0.0.1:0").unwrap();
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        client.send_to(&[1; IN + 1], server.local_addr().unwrap()).unwrap();
        let served = Exchange::default().serve(server.as_fd(), |datagram, _| {
            assert!(datagram.is_cut && datagram.bytes.len() == IN);
            0
        });
        assert_eq!(served.unwrap().received, 1);
    }
}
