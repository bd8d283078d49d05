//! The daemon's socket: handed over by the service manager, or made here.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::net::{UnixListener as StdListener, UnixStream};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use tokio::net::UnixListener;

/// A listening socket. One that was made here is removed in the end.
pub(super) struct Listener {
    socket: UnixListener,
    made: Option<PathBuf>,
}

impl Listener {
    pub(super) fn open(path: &Path) -> Result<Self> {
        let handed_over = zeugma_kernel::activated()?;
        let (socket, made) = match <[_; 1]>::try_from(handed_over) {
            Ok([socket]) => (StdListener::from(socket), None),
            Err(none) if none.is_empty() => (bind(path)?, Some(path.to_path_buf())),
            Err(many) => bail!("{} sockets were handed over (LISTEN_FDS): one is needed", many.len()),
        };
        socket.set_nonblocking(true)?;
        Ok(Self { socket: UnixListener::from_std(socket)?, made })
    }

    pub(super) fn socket(&self) -> &UnixListener {
        &self.socket
    }
}

/// Takes the place of a daemon that was killed, but not of one that answers.
fn bind(path: &Path) -> Result<StdListener> {
    let cannot = || format!("cannot listen on {}", path.display());
    if let Some(folder) = path.parent() {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).with_context(cannot)?;
    }
    match StdListener::bind(path) {
        Err(error) if error.kind() == ErrorKind::AddrInUse => {}
        bound => return bound.with_context(cannot),
    }
    if UnixStream::connect(path).is_ok() {
        bail!("{}: another daemon answers at {}: stop it first", cannot(), path.display());
    }
    fs::remove_file(path).with_context(cannot)?;
    StdListener::bind(path).with_context(cannot)
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Some(path) = &self.made {
            let _ = fs::remove_file(path);
        }
    }
}
