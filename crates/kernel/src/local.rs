//! Unix stream sockets that do not wait for ever.

use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use nix::sys::socket::sockopt::SendTimeout;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, setsockopt, socket};
use nix::sys::time::TimeVal;

/// Connects to the socket at `path`. Where its queue is full, because nobody accepts, no longer than `patience`:
/// the standard library's connect would wait until somebody does.
///
/// # Errors
/// The system's; `WouldBlock` when the patience is over.
pub fn connect_local(path: &Path, patience: Duration) -> io::Result<UnixStream> {
    let socket = socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    setsockopt(
        &socket,
        SendTimeout,
        &TimeVal::new(patience.as_secs() as _, patience.subsec_micros().into()),
    )?;
    connect(socket.as_raw_fd(), &UnixAddr::new(path)?)?;
    Ok(socket.into())
}
