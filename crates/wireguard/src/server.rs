//! The device's socket, `/run/wireguard/NAME.sock`: one request a connection or several, answered without waiting for
//! anyone. What a request means is the caller's.

use std::fs::{self, DirBuilder, Permissions};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use crate::uapi;

/// Connections at a time; more wait.
const MOST: usize = 16;
/// Bytes of a request: some ten thousand peers.
const LONGEST: usize = 16 << 20;

/// The socket, which is gone from the file system when this is dropped.
#[derive(Debug)]
pub(crate) struct Server {
    path: PathBuf,
    listener: UnixListener,
    clients: Vec<Client>,
}

#[derive(Debug)]
struct Client {
    stream: UnixStream,
    asked: Vec<u8>,
    answer: Vec<u8>,
    is_done: bool,
}

impl Server {
    /// Opens it; a socket that nobody listens at any more is replaced.
    ///
    /// # Errors
    /// `AddrInUse` when somebody does; those of the file system.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let folder = path.parent().unwrap_or(Path::new("/"));
        DirBuilder::new().recursive(true).mode(0o755).create(folder)?;
        if UnixStream::connect(path).is_ok() {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        // Nobody may connect before the mode is set: until then the socket is where nobody else gets to.
        let closed = path.with_extension("new");
        let _ = fs::remove_dir_all(&closed);
        DirBuilder::new().mode(0o700).create(&closed)?;
        let new = closed.join("s");
        let listener = UnixListener::bind(&new)?;
        fs::set_permissions(&new, Permissions::from_mode(0o600))?;
        listener.set_nonblocking(true)?;
        fs::rename(&new, path)?;
        fs::remove_dir(&closed)?;
        Ok(Self { path: path.into(), listener, clients: Vec::new() })
    }

    /// What to wait for, and whether to be written to, too.
    pub(crate) fn files(&self) -> impl Iterator<Item = (BorrowedFd<'_>, bool)> {
        let clients = self.clients.iter().map(|client| (client.stream.as_fd(), !client.answer.is_empty()));
        let is_open = self.clients.len() < MOST;
        is_open.then(|| (self.listener.as_fd(), false)).into_iter().chain(clients)
    }

    /// Takes what came, asks `answer` about every whole request, and sends what it says.
    pub(crate) fn serve(&mut self, mut answer: impl FnMut(&str) -> String) {
        while self.clients.len() < MOST
            && let Ok((stream, _)) = self.listener.accept()
        {
            if stream.set_nonblocking(true).is_ok() {
                self.clients.push(Client { stream, asked: Vec::new(), answer: Vec::new(), is_done: false });
            }
        }
        self.clients.retain_mut(|client| client.go_on(&mut answer).is_ok());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

impl Client {
    /// An error: the connection is over.
    fn go_on(&mut self, answer: &mut impl FnMut(&str) -> String) -> io::Result<()> {
        self.read()?;
        while let Some(end) = uapi::request_end(&self.asked) {
            let request: Vec<u8> = self.asked.drain(..end).collect();
            self.answer.extend(answer(&String::from_utf8_lossy(&request)).into_bytes());
        }
        while !self.answer.is_empty() {
            match self.stream.write(&self.answer) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => drop(self.answer.drain(..count)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        if self.is_done { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(()) }
    }

    fn read(&mut self) -> io::Result<()> {
        let mut buffer = [0; 16 << 10];
        while !self.is_done {
            match self.stream.read(&mut buffer) {
                Ok(0) => self.is_done = true,
                Ok(count) => self.asked.extend_from_slice(&buffer[..count]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
            if self.asked.len() > LONGEST {
                return Err(io::ErrorKind::FileTooLarge.into());
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_socket_is_its_owners_alone_and_nothing_else_is_left() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("wireguard/wg0.sock");
        // What one left that was killed in between.
        fs::create_dir_all(path.with_extension("new").join("s")).unwrap();
        let server = Server::open(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let names: Vec<_> = fs::read_dir(path.parent().unwrap()).unwrap().flatten().collect();
        assert_eq!(names.len(), 1, "{names:?}");
        assert_eq!(Server::open(&path).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        drop(server);
        assert!(!path.exists());
    }
}
