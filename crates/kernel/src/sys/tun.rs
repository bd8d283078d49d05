//! The ioctls of a TUN device (linux/if_tun.h, linux/sockios.h).

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use zeugma_model::IfName;

use super::succeeded;

/// What the device hands over without finished checksums, or in one piece that is to be cut: `TUN_F_*`.
pub(crate) mod offload {
    pub(crate) const CHECKSUM: u32 = 1;
    pub(crate) const TCP: u32 = 2 | 4 | 8;
    pub(crate) const UDP: u32 = 0x20 | 0x40;
}

/// Makes `tun`, an open /dev/net/tun, the one queue of the device, which stays when `tun` is closed; what is read and
/// written begins with a `virtio_net_hdr` of 10 bytes. `EBUSY` when somebody else has the queue.
pub(crate) fn attach(tun: BorrowedFd<'_>, name: &IfName) -> io::Result<()> {
    // `sizeof(struct virtio_net_hdr)`.
    let header: libc::c_int = 10;
    let mut request = named(name);
    request.ifr_ifru.ifru_flags = (libc::IFF_TUN | libc::IFF_NO_PI | libc::IFF_VNET_HDR) as libc::c_short;
    let tun = tun.as_raw_fd();
    // SAFETY: the kernel reads and writes one ifreq at the pointer, which outlives the call.
    succeeded(unsafe { libc::ioctl(tun, libc::TUNSETIFF, &raw mut request) })?;
    // SAFETY: the argument is a number, not a pointer.
    succeeded(unsafe { libc::ioctl(tun, libc::TUNSETPERSIST, 1 as libc::c_ulong) })?;
    // SAFETY: the kernel reads one int at the pointer, which outlives the call.
    succeeded(unsafe { libc::ioctl(tun, libc::TUNSETVNETHDRSZ, &raw const header) })
}

/// Says what of [`offload`] the reader can do itself. `EINVAL` when the kernel does not know one of them.
pub(crate) fn set_offload(tun: BorrowedFd<'_>, flags: u32) -> io::Result<()> {
    // SAFETY: the argument is a number, not a pointer.
    succeeded(unsafe { libc::ioctl(tun.as_raw_fd(), libc::TUNSETOFFLOAD, libc::c_ulong::from(flags)) })
}

/// How many packets may wait at the device, by way of any `socket`.
pub(crate) fn set_queue_length(socket: BorrowedFd<'_>, name: &IfName, packets: u32) -> io::Result<()> {
    let mut request = named(name);
    request.ifr_ifru.ifru_metric = packets.cast_signed();
    // SAFETY: the kernel reads one ifreq at the pointer, which outlives the call.
    succeeded(unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFTXQLEN, &raw const request) })
}

fn named(name: &IfName) -> libc::ifreq {
    // SAFETY: ifreq is plain old data, for which zeroes are a valid value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (place, byte) in request.ifr_name.iter_mut().zip(name.as_str().bytes().take(libc::IFNAMSIZ - 1)) {
        *place = byte as libc::c_char;
    }
    request
}
