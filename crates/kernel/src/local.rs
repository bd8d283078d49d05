//! Unix stream sockets that do not wait for ever.

use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use nix::sys::socket::sockopt::{PeerCredentials, SendTimeout};
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, UnixAddr, connect, getsockopt, setsockopt, socket,
};
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

/// The process that listens at the other end of `stream`, by its number here; none: it has none here.
///
/// # Errors
/// The system's.
pub fn listener_of(stream: &UnixStream) -> io::Result<Option<i32>> {
    let credentials = getsockopt(stream, PeerCredentials)?;
    Ok(Some(credentials.pid()).filter(|pid| *pid > 0))
}

/// The number of the link of that name in this network namespace; none: there is none.
pub fn link_index(name: &str) -> Option<u32> {
    nix::net::if_::if_nametoindex(name).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;

    #[test]
    fn who_listens_is_known_before_it_accepts() {
        let folder = std::env::temp_dir().join(format!("zeugma-listener-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let _listener = UnixListener::bind(folder.join("socket")).unwrap();
        let stream = connect_local(&folder.join("socket"), Duration::from_secs(10)).unwrap();
        assert_eq!(listener_of(&stream).unwrap(), Some(std::process::id().cast_signed()));
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
