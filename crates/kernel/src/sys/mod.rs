//! The few calls that need `unsafe`.
#![allow(unsafe_code)]

pub(crate) mod datagrams;
#[cfg(feature = "overlay")]
pub(crate) mod ethtool;
pub(crate) mod packet;
pub(crate) mod tun;
pub(crate) mod tunnel;

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::time::Duration;

use zeugma_plan::Tap;

/// How long a lingering child keeps the socket: a multiple of an RCU grace period, so that the kernel has
/// freed what was deleted by then and closing waits for nothing.
const LINGER: Duration = Duration::from_millis(100);

/// Leaves a child behind that holds `socket`, and nothing else, for [`LINGER`].
///
/// Closing an nfnetlink socket waits until what any socket of the namespace deleted is freed. As the child has
/// the last reference, the caller's exit does not wait. Without a child (fork refused) the caller waits
/// itself, which is slow and right.
pub(crate) fn linger(socket: RawFd) {
    // SAFETY: the child calls only async-signal-safe functions and never returns; it shares no memory that
    // the parent could see change.
    unsafe {
        if libc::fork() != 0 {
            return;
        }
        libc::setsid();
        let last = libc::c_uint::MAX;
        let socket = socket as libc::c_uint;
        if socket > 0 {
            libc::syscall(libc::SYS_close_range, 0, socket - 1, 0);
        }
        libc::syscall(libc::SYS_close_range, socket + 1, last, 0);
        let time = libc::timespec { tv_sec: 0, tv_nsec: LINGER.subsec_nanos().into() };
        libc::nanosleep(&time, std::ptr::null_mut());
        libc::_exit(0);
    }
}

/// Sets a socket's send buffer beyond the limit for ordinary users (`SO_SNDBUFFORCE`).
pub(crate) fn send_buffer(socket: RawFd, bytes: usize) -> io::Result<()> {
    buffer(socket, libc::SO_SNDBUFFORCE, bytes)
}

/// The same of its receive buffer (`SO_RCVBUFFORCE`).
pub(crate) fn receive_buffer(socket: RawFd, bytes: usize) -> io::Result<()> {
    buffer(socket, libc::SO_RCVBUFFORCE, bytes)
}

fn buffer(socket: RawFd, which: libc::c_int, bytes: usize) -> io::Result<()> {
    let bytes = libc::c_int::try_from(bytes).unwrap_or(libc::c_int::MAX);
    // SAFETY: the pointer and length describe `bytes`, which outlives the call.
    let result = unsafe {
        libc::setsockopt(
            socket,
            libc::SOL_SOCKET,
            which,
            (&raw const bytes).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// A netlink socket's descriptor, for as long as the socket is borrowed.
pub(crate) fn borrow(socket: &netlink_sys::Socket) -> BorrowedFd<'_> {
    // SAFETY: the socket owns the descriptor and outlives the borrow.
    unsafe { BorrowedFd::borrow_raw(socket.as_raw_fd()) }
}

/// A netlink socket whose messages are waited for in a tokio runtime.
#[cfg(feature = "overlay")]
pub(crate) fn awaited(
    socket: netlink_sys::Socket,
) -> io::Result<tokio::io::unix::AsyncFd<netlink_sys::Socket>> {
    // SAFETY: the socket has one descriptor from its start to its end, and closes it after it is deregistered.
    let registered = unsafe { tokio::io::unix::AsyncFd::register(socket) };
    Ok(registered?)
}

/// Takes over a descriptor that this process was started with; children do not get it.
///
/// # Errors
/// When there is none of that number.
pub(crate) fn inherit(fd: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: fcntl(2) with F_SETFD takes no pointers.
    if unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) } < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: it is open, and whoever started this process gave it away; the caller asks once.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// The cookie of the network namespace that a socket is in; none before Linux 5.14.
pub(crate) fn netns_cookie(socket: RawFd) -> Option<u64> {
    /// asm-generic/socket.h.
    const SO_NETNS_COOKIE: libc::c_int = 71;
    let mut cookie = 0_u64;
    let mut length = size_of::<u64>() as libc::socklen_t;
    // SAFETY: the pointers describe `cookie` and `length`, which outlive the call.
    let result = unsafe {
        libc::getsockopt(socket, libc::SOL_SOCKET, SO_NETNS_COOKIE, (&raw mut cookie).cast(), &raw mut length)
    };
    (result == 0).then_some(cookie)
}

/// Makes a TAP device that outlives `tun`, an open /dev/net/tun. `EBUSY` when there is one of that name.
pub(crate) fn tap(tun: BorrowedFd<'_>, tap: &Tap) -> io::Result<()> {
    // SAFETY: ifreq is plain old data, for which zeroes are a valid value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (place, byte) in request.ifr_name.iter_mut().zip(tap.name.as_str().bytes().take(libc::IFNAMSIZ - 1)) {
        *place = byte as libc::c_char;
    }
    let queues = if tap.multi_queue { libc::IFF_MULTI_QUEUE } else { 0 };
    request.ifr_ifru.ifru_flags =
        (libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_TUN_EXCL | queues) as libc::c_short;
    let tun = tun.as_raw_fd();
    // SAFETY: the kernel reads and writes one ifreq at the pointer, which outlives the call.
    succeeded(unsafe { libc::ioctl(tun, libc::TUNSETIFF, &raw mut request) })?;
    for (number, value) in [(libc::TUNSETOWNER, tap.owner), (libc::TUNSETGROUP, tap.group)] {
        if let Some(id) = value {
            // SAFETY: the argument is a number, not a pointer.
            succeeded(unsafe { libc::ioctl(tun, number, libc::c_ulong::from(id)) })?;
        }
    }
    // SAFETY: the argument is a number, not a pointer.
    succeeded(unsafe { libc::ioctl(tun, libc::TUNSETPERSIST, 1 as libc::c_ulong) })
}

/// Gives free pages of the heap back; other C libraries than GNU's do so by themselves.
pub(crate) fn trim_heap() {
    #[cfg(target_env = "gnu")]
    // SAFETY: malloc_trim(3) is thread-safe and touches free memory alone.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Makes all threads take memory from one heap; other C libraries than GNU's have no more than one.
pub(crate) fn share_heap() {
    #[cfg(target_env = "gnu")]
    // SAFETY: mallopt(3) takes two numbers; of a setting that it does not know it says so, and changes nothing.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
    }
}

fn succeeded(result: libc::c_int) -> io::Result<()> {
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
