//! Runs of datagrams of one length, in one piece: `UDP_SEGMENT` and `UDP_GRO` (udp(7)) in recvmmsg(2) and sendmmsg(2).

use std::io;
use std::mem::zeroed;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, BorrowedFd};

use super::datagrams::Address;

/// How many pieces one call takes at most.
pub(crate) const BATCH: usize = 32;
/// Bytes of control messages that come with a piece: its segments' length and its traffic class.
const CONTROL: usize = 64;

/// The control messages of a piece as they come, aligned as a `cmsghdr` has to be.
#[derive(Clone, Copy)]
#[repr(C, align(8))]
pub(crate) struct Control([u8; CONTROL]);

/// What came with a piece.
#[derive(Clone, Copy)]
pub(crate) struct Piece {
    pub(crate) length: usize,
    /// The length of each datagram in it but the last, which may be shorter; 0: there is one alone.
    pub(crate) segment: usize,
    /// The two bits of RFC 3168.
    pub(crate) ecn: u8,
}

/// Room for what one call receives.
pub(crate) struct Room {
    bytes: Vec<u8>,
    stride: usize,
    from: [Address; BATCH],
    control: [Control; BATCH],
    pieces: [Piece; BATCH],
}

impl Room {
    /// Pieces are up to `longest` bytes long.
    pub(crate) fn new(longest: usize) -> Self {
        // Starts of pieces that were a power of two apart would all fall on the same lines of the cache.
        let stride = longest.next_multiple_of(4096) + 1088;
        Self {
            bytes: vec![0; stride * BATCH],
            stride,
            from: [Address::nobody(); BATCH],
            control: [Control([0; CONTROL]); BATCH],
            pieces: [Piece { length: 0, segment: 0, ecn: 0 }; BATCH],
        }
    }

    pub(crate) fn bytes(&self, index: usize) -> &[u8] {
        &self.bytes[index * self.stride..][..self.pieces[index].length]
    }

    pub(crate) fn from(&self, index: usize) -> Option<SocketAddr> {
        self.from[index].read()
    }

    pub(crate) fn piece(&self, index: usize) -> Piece {
        self.pieces[index]
    }
}

/// Lets what belongs together come in one piece, and each with its traffic class.
pub(crate) fn prepare(socket: BorrowedFd<'_>, is_v6: bool) -> io::Result<()> {
    set(socket, libc::SOL_UDP, libc::UDP_GRO, 1)?;
    if is_v6 {
        set(socket, libc::IPPROTO_IPV6, libc::IPV6_RECVTCLASS, 1)?;
        set(socket, libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER, libc::IPV6_PMTUDISC_DONT)
    } else {
        set(socket, libc::IPPROTO_IP, libc::IP_RECVTOS, 1)?;
        set(socket, libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, libc::IP_PMTUDISC_DONT)
    }
}

fn set(
    socket: BorrowedFd<'_>,
    level: libc::c_int,
    option: libc::c_int,
    value: libc::c_int,
) -> io::Result<()> {
    let length = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: the pointer and length describe `value`, which outlives the call.
    super::succeeded(unsafe {
        libc::setsockopt(socket.as_raw_fd(), level, option, (&raw const value).cast(), length)
    })
}

/// Receives what is there; how many pieces. Blocks never.
pub(crate) fn receive(socket: BorrowedFd<'_>, room: &mut Room) -> io::Result<usize> {
    // SAFETY: the structures are plain numbers and pointers, for which zero is a value.
    let (mut parts, mut headers): ([libc::iovec; BATCH], [libc::mmsghdr; BATCH]) = unsafe { zeroed() };
    let buffers = room.bytes.chunks_exact_mut(room.stride);
    for (index, (header, buffer)) in headers.iter_mut().zip(buffers).enumerate() {
        parts[index] = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
        let header = &mut header.msg_hdr;
        header.msg_iov = &raw mut parts[index];
        header.msg_iovlen = 1;
        header.msg_name = (&raw mut room.from[index]).cast();
        header.msg_namelen = size_of::<Address>() as libc::socklen_t;
        header.msg_control = (&raw mut room.control[index]).cast();
        header.msg_controllen = CONTROL as _;
    }
    let (fd, count) = (socket.as_raw_fd(), BATCH as libc::c_uint);
    // SAFETY: each header points at its buffer, address, control and part with their lengths; all outlive the call.
    let got = unsafe {
        libc::recvmmsg(fd, headers.as_mut_ptr(), count, libc::MSG_DONTWAIT as _, std::ptr::null_mut())
    };
    let got = usize::try_from(got).map_err(|_| io::Error::last_os_error())?;
    for (header, piece) in headers[..got].iter().zip(&mut room.pieces) {
        // What was cut is no whole datagram.
        let is_cut = header.msg_hdr.msg_flags & libc::MSG_TRUNC != 0;
        // SAFETY: one of the `got` that the call filled in; their buffers are `room`'s.
        *piece = unsafe { noted(&header.msg_hdr) };
        piece.length = if is_cut { 0 } else { header.msg_len as usize };
    }
    Ok(got)
}

/// What the control messages say.
///
/// # Safety
/// The header is one that recvmmsg(2) filled in, and what it points at is still there.
unsafe fn noted(header: &libc::msghdr) -> Piece {
    let mut piece = Piece { length: 0, segment: 0, ecn: 0 };
    // SAFETY: the header's control is the kernel's own writing, as long as it says; the macros stay inside.
    unsafe {
        let mut message = libc::CMSG_FIRSTHDR(header);
        while !message.is_null() {
            let (about, value) = (*message, libc::CMSG_DATA(message));
            match (about.cmsg_level, about.cmsg_type) {
                (libc::SOL_UDP, libc::UDP_GRO) => {
                    piece.segment =
                        usize::try_from(value.cast::<libc::c_int>().read_unaligned()).unwrap_or(0);
                }
                (libc::IPPROTO_IP, libc::IP_TOS) => piece.ecn = *value & 3,
                (libc::IPPROTO_IPV6, libc::IPV6_TCLASS) => {
                    piece.ecn = (value.cast::<libc::c_int>().read_unaligned() & 3) as u8;
                }
                _ => {}
            }
            message = libc::CMSG_NXTHDR(header, message);
        }
    }
    piece
}

/// Datagrams of one length to one address; the last may be shorter.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Run<'a> {
    pub(crate) bytes: &'a [u8],
    /// The datagrams' length; 0: there is one alone.
    pub(crate) segment: u16,
    pub(crate) to: SocketAddr,
    pub(crate) ecn: u8,
}

/// One control message, padded as `CMSG_SPACE` has it.
#[derive(Clone, Copy)]
#[repr(C, align(8))]
struct Note<T> {
    header: libc::cmsghdr,
    value: T,
}

#[derive(Clone, Copy)]
#[repr(C)]
struct Notes {
    segment: Note<u16>,
    class: Note<libc::c_int>,
}

fn note<T>(level: libc::c_int, kind: libc::c_int, value: T) -> Note<T> {
    // SAFETY: a cmsghdr is plain numbers, for which zero is a value.
    let mut header: libc::cmsghdr = unsafe { zeroed() };
    header.cmsg_len = (size_of::<libc::cmsghdr>() + size_of::<T>()) as _;
    header.cmsg_level = level;
    header.cmsg_type = kind;
    Note { header, value }
}

/// Sends them; how many of them the kernel took. The one behind is to blame when that is not all. Waits as long as the
/// socket's timeout says where there is no room.
pub(crate) fn send(socket: BorrowedFd<'_>, runs: &[Run<'_>]) -> io::Result<usize> {
    // SAFETY: the structures are plain numbers and pointers, for which zero is a value.
    let (mut parts, mut headers): ([libc::iovec; BATCH], [libc::mmsghdr; BATCH]) = unsafe { zeroed() };
    let mut to = [Address::nobody(); BATCH];
    let mut notes = [Notes { segment: note(0, 0, 0), class: note(0, 0, 0) }; BATCH];
    let count = runs.len().min(BATCH);
    for (index, run) in runs.iter().take(BATCH).enumerate() {
        let header = &mut headers[index].msg_hdr;
        parts[index] =
            libc::iovec { iov_base: run.bytes.as_ptr().cast_mut().cast(), iov_len: run.bytes.len() };
        header.msg_iov = &raw mut parts[index];
        header.msg_iovlen = 1;
        header.msg_namelen = to[index].write(run.to);
        header.msg_name = (&raw mut to[index]).cast();
        notes[index] =
            Notes { segment: note(libc::SOL_UDP, libc::UDP_SEGMENT, run.segment), class: class(run) };
        let (both, first) = (size_of::<Notes>(), size_of::<Note<u16>>());
        let (control, length): (*mut libc::c_void, usize) = match (run.segment > 0, run.ecn > 0) {
            (true, true) => ((&raw mut notes[index]).cast(), both),
            (true, false) => ((&raw mut notes[index]).cast(), first),
            (false, true) => ((&raw mut notes[index].class).cast(), both - first),
            (false, false) => continue,
        };
        (header.msg_control, header.msg_controllen) = (control, length as _);
    }
    // SAFETY: each header points at its bytes, address, notes and part with their lengths; all outlive the call, which
    // reads them and writes only `msg_len` of the headers.
    let taken = unsafe { libc::sendmmsg(socket.as_raw_fd(), headers.as_mut_ptr(), count as libc::c_uint, 0) };
    usize::try_from(taken).map_err(|_| io::Error::last_os_error())
}

fn class(run: &Run<'_>) -> Note<libc::c_int> {
    if run.to.is_ipv6() {
        note(libc::IPPROTO_IPV6, libc::IPV6_TCLASS, run.ecn.into())
    } else {
        note(libc::IPPROTO_IP, libc::IP_TOS, run.ecn.into())
    }
}
