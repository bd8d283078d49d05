//! IPv4 packets on one interface of a container, below the kernel's own IPv4: for a client that has no address
//! yet. What is in the packets is the caller's.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use zeugma_model::Mac;

use crate::sys::packet;
use crate::{Error, Netns};

/// A socket for IPv4 packets on one link, whatever their addresses. It never blocks.
///
/// As long as it is open it keeps its namespace alive.
#[derive(Debug)]
pub struct PacketSocket {
    fd: OwnedFd,
    index: u32,
}

impl PacketSocket {
    /// Opens it in `netns` on the link with this index; only UDP datagrams to `port` are received.
    ///
    /// # Errors
    /// [`Error::System`].
    pub fn open(netns: &Netns, index: u32, port: u16) -> Result<Self, Error> {
        let fd = netns.inside(|| packet::open(index, port))?;
        let fd = fd.map_err(|source| Error::System { action: "open a packet socket", source })?;
        Ok(Self { fd, index })
    }

    /// Sends a whole IPv4 packet to an Ethernet address.
    ///
    /// # Errors
    /// Those of sendto(2): the link is down, say.
    pub fn send(&self, to: Mac, packet: &[u8]) -> io::Result<()> {
        packet::send(self.fd.as_raw_fd(), self.index, to.0, packet)
    }

    /// The next packet, cut to the buffer, and the Ethernet address that it came from.
    ///
    /// # Errors
    /// `WouldBlock` when there is none.
    pub fn receive(&self, buffer: &mut [u8]) -> io::Result<(usize, Mac)> {
        packet::receive(self.fd.as_raw_fd(), buffer).map(|(length, from)| (length, Mac(from)))
    }
}

impl AsFd for PacketSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl AsRawFd for PacketSocket {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}
