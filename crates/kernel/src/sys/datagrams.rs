//! Many datagrams in one call: recvmmsg(2) and sendmmsg(2).

use std::io;
use std::mem::zeroed;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsRawFd, BorrowedFd};

/// How many datagrams one call takes at most.
pub(crate) const BATCH: usize = 64;

/// The address of a peer as the kernel writes it.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) union Address {
    family: libc::sa_family_t,
    v4: libc::sockaddr_in,
    v6: libc::sockaddr_in6,
}

impl Address {
    pub(crate) fn nobody() -> Self {
        // SAFETY: all variants are plain numbers, for which zero is a value.
        unsafe { zeroed() }
    }

    /// Makes it `to`; how long it is.
    pub(crate) fn write(&mut self, to: SocketAddr) -> libc::socklen_t {
        match to {
            SocketAddr::V4(to) => {
                // SAFETY: the structure is plain numbers, for which zero is a value.
                let mut v4: libc::sockaddr_in = unsafe { zeroed() };
                v4.sin_family = libc::AF_INET as libc::sa_family_t;
                v4.sin_port = to.port().to_be();
                v4.sin_addr.s_addr = u32::from_ne_bytes(to.ip().octets());
                self.v4 = v4;
                size_of::<libc::sockaddr_in>() as libc::socklen_t
            }
            SocketAddr::V6(to) => {
                // SAFETY: as above.
                let mut v6: libc::sockaddr_in6 = unsafe { zeroed() };
                v6.sin6_family = libc::AF_INET6 as libc::sa_family_t;
                v6.sin6_port = to.port().to_be();
                v6.sin6_addr.s6_addr = to.ip().octets();
                v6.sin6_scope_id = to.scope_id();
                self.v6 = v6;
                size_of::<libc::sockaddr_in6>() as libc::socklen_t
            }
        }
    }

    /// None for what is neither IPv4 nor IPv6.
    pub(crate) fn read(&self) -> Option<SocketAddr> {
        // SAFETY: every byte was written, by zeroes at first; all variants are plain numbers and begin with the family.
        unsafe {
            match libc::c_int::from(self.family) {
                libc::AF_INET => {
                    let ip = Ipv4Addr::from(self.v4.sin_addr.s_addr.to_ne_bytes());
                    Some(SocketAddrV4::new(ip, u16::from_be(self.v4.sin_port)).into())
                }
                libc::AF_INET6 => {
                    let (ip, port) = (self.v6.sin6_addr.s6_addr.into(), u16::from_be(self.v6.sin6_port));
                    Some(SocketAddrV6::new(ip, port, self.v6.sin6_flowinfo, self.v6.sin6_scope_id).into())
                }
                _ => None,
            }
        }
    }
}

/// A received datagram's length, and whether it was longer than its buffer.
#[derive(Clone, Copy, Default)]
pub(crate) struct Received {
    pub(crate) length: usize,
    pub(crate) is_cut: bool,
    address_length: libc::socklen_t,
}

/// Receives what is there into the buffers, one datagram each; how many.
pub(crate) fn receive<const BYTES: usize>(
    socket: BorrowedFd<'_>,
    buffers: &mut [[u8; BYTES]; BATCH],
    from: &mut [Address; BATCH],
    received: &mut [Received; BATCH],
) -> io::Result<usize> {
    // SAFETY: the structures are plain numbers and pointers, for which zero is a value.
    let (mut parts, mut headers): ([libc::iovec; BATCH], [libc::mmsghdr; BATCH]) = unsafe { zeroed() };
    for (index, header) in headers.iter_mut().enumerate() {
        parts[index] = libc::iovec { iov_base: buffers[index].as_mut_ptr().cast(), iov_len: BYTES };
        header.msg_hdr.msg_iov = &raw mut parts[index];
        header.msg_hdr.msg_iovlen = 1;
        header.msg_hdr.msg_name = (&raw mut from[index]).cast();
        header.msg_hdr.msg_namelen = size_of::<Address>() as libc::socklen_t;
    }
    let (fd, count) = (socket.as_raw_fd(), BATCH as libc::c_uint);
    // SAFETY: each header points at its buffer, address and part with their lengths; all outlive the call.
    let got = unsafe {
        libc::recvmmsg(fd, headers.as_mut_ptr(), count, libc::MSG_DONTWAIT as _, std::ptr::null_mut())
    };
    let got = usize::try_from(got).map_err(|_| io::Error::last_os_error())?;
    for (header, received) in headers[..got].iter().zip(received) {
        received.length = (header.msg_len as usize).min(BYTES);
        received.is_cut = header.msg_hdr.msg_flags & libc::MSG_TRUNC != 0;
        received.address_length = header.msg_hdr.msg_namelen;
    }
    Ok(got)
}

/// A datagram to be sent: which of the buffers, how much of it, to whom.
#[derive(Clone, Copy)]
pub(crate) struct Sent<'a> {
    pub(crate) bytes: &'a [u8],
    pub(crate) to: &'a Address,
    pub(crate) received: Received,
}

/// Sends them; how many of them the kernel took. The one behind is to blame when that is not all.
pub(crate) fn send(socket: BorrowedFd<'_>, datagrams: &[Sent<'_>]) -> io::Result<usize> {
    // SAFETY: the structures are plain numbers and pointers, for which zero is a value.
    let (mut parts, mut headers): ([libc::iovec; BATCH], [libc::mmsghdr; BATCH]) = unsafe { zeroed() };
    let count = datagrams.len().min(BATCH);
    for (index, datagram) in datagrams.iter().take(BATCH).enumerate() {
        let bytes = datagram.bytes;
        parts[index] = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
        let header = &mut headers[index].msg_hdr;
        header.msg_iov = &raw mut parts[index];
        header.msg_iovlen = 1;
        header.msg_name = std::ptr::from_ref(datagram.to).cast_mut().cast();
        header.msg_namelen = datagram.received.address_length.min(size_of::<Address>() as libc::socklen_t);
    }
    let (fd, flags) = (socket.as_raw_fd(), libc::MSG_DONTWAIT as _);
    // SAFETY: each header points at its bytes, address and part with their lengths; all outlive the call, which reads
    // bytes and address and writes only `msg_len` of the headers.
    let taken = unsafe { libc::sendmmsg(fd, headers.as_mut_ptr(), count as libc::c_uint, flags) };
    usize::try_from(taken).map_err(|_| io::Error::last_os_error())
}
