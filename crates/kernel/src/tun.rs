//! A TUN device: IP packets of a link, read and written by a process. What is in them is the caller's.

use std::fs::{File, OpenOptions};
use std::io::{self, IoSlice, Read, Write};
use std::net::UdpSocket;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;

use zeugma_model::IfName;

use crate::Error;
use crate::sys::tun::{self, offload};

const TUN: &str = "/dev/net/tun";
/// How many packets may wait for the reader: one that others keep from running for a moment loses none.
const QUEUE: u32 = 10_000;

/// The one queue of a TUN device in the namespace of whoever opened it. Reads and writes never block.
#[derive(Debug)]
pub struct Tun {
    file: File,
    joins_udp: bool,
}

impl Tun {
    /// Opens the device, which is made where there is none, and stays when this is closed: what is sent to it then is
    /// lost, and goes no other way. Every packet, in and out, begins with a `virtio_net_hdr` of 10 bytes
    /// (linux/virtio_net.h, little-endian only where the machine is).
    ///
    /// # Errors
    /// `EBUSY` when another process has it; those of /dev/net/tun.
    pub fn open(name: &IfName) -> Result<Self, Error> {
        let failed = |source| Error::System { action: "open the TUN device by /dev/net/tun", source };
        let opened = OpenOptions::new().read(true).write(true).custom_flags(libc::O_NONBLOCK).open(TUN);
        let file = opened.map_err(failed)?;
        tun::attach(file.as_fd(), name).map_err(failed)?;
        let socket = UdpSocket::bind(("127.0.0.1", 0)).or_else(|_| UdpSocket::bind("[::]:0"));
        // A short queue loses packets under load, and is no reason to have none.
        let _ = socket.and_then(|socket| tun::set_queue_length(socket.as_fd(), name, QUEUE));
        let joins_udp = offloaded(&file).map_err(failed)?;
        Ok(Self { file, joins_udp })
    }

    /// Whether the device takes UDP datagrams in one piece (Linux 6.2).
    pub fn joins_udp(&self) -> bool {
        self.joins_udp
    }

    /// The next packet, behind its header; its length with that.
    ///
    /// # Errors
    /// `WouldBlock` when there is none.
    pub fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        (&self.file).read(buffer)
    }

    /// Hands the kernel a packet: header and parts of it, at most 1024.
    ///
    /// # Errors
    /// Those of writev(2): the device is down, or the packet is none.
    pub fn write(&self, parts: &[IoSlice<'_>]) -> io::Result<()> {
        (&self.file).write_vectored(parts).map(drop)
    }
}

/// Asks for all that this kernel can leave undone; whether UDP is in it.
fn offloaded(tun: &File) -> io::Result<bool> {
    let most = offload::CHECKSUM | offload::TCP;
    if tun::set_offload(tun.as_fd(), most | offload::UDP).is_ok() {
        return Ok(true);
    }
    tun::set_offload(tun.as_fd(), most).map(|()| false)
}

impl AsFd for Tun {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}
