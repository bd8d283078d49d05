//! Asks a device at its socket: ours or another's implementation.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use zeugma_model::IfName;

use crate::uapi::{self, Change, Misread, State};

/// Where wg(8) looks for devices that are not the kernel's.
const FOLDER: &str = "/var/run/wireguard";
/// The run directory of all of zeugma, unless it is told another.
const USUAL: &str = "/run/zeugma";
/// asm-generic/errno.h.
const EADDRINUSE: i32 = 98;
/// How long the other side may take.
const PATIENCE: Duration = Duration::from_secs(2);

/// Why a device did not answer.
#[derive(Debug, thiserror::Error)]
pub enum Unanswered {
    /// Nobody is there, or it does not answer.
    #[error("cannot ask the WireGuard device at {path}: {source}")]
    Silent {
        /// The socket.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// It says something else than expected.
    #[error("the WireGuard device at {path} answers: {source}")]
    Strange {
        /// The socket.
        path: PathBuf,
        /// What.
        source: Misread,
    },
}

impl Unanswered {
    /// Whether it answered that its UDP port is somebody else's.
    pub fn is_port_taken(&self) -> bool {
        matches!(self, Self::Strange { source: Misread::Refused(EADDRINUSE), .. })
    }
}

/// The socket of a device: where wg(8) looks for it, or below another run directory than the usual one, so that hosts
/// that share files do not share devices.
pub fn socket(run_dir: &Path, link: &IfName) -> PathBuf {
    let own = run_dir.join("wireguard");
    let folder = if run_dir == Path::new(USUAL) { Path::new(FOLDER) } else { &own };
    folder.join(format!("{link}.sock"))
}

/// A connection that says nothing, and ends with the device's process.
///
/// # Errors
/// Nobody is there.
pub fn watch(path: &Path) -> io::Result<Watched> {
    let stream = zeugma_kernel::connect_local(path, PATIENCE)?;
    stream.set_nonblocking(true)?;
    Ok(Watched(stream))
}

/// A device's process that is looked after.
#[derive(Debug)]
pub struct Watched(UnixStream);

impl Watched {
    /// Whether it runs.
    pub fn is_alive(&self) -> bool {
        matches!((&self.0).read(&mut [0]), Err(error) if error.kind() == io::ErrorKind::WouldBlock)
    }

    /// Kills it, whoever started it; false: it is not gone within two seconds, or cannot be seen from here.
    ///
    /// # Errors
    /// The system's.
    pub fn end(&self) -> io::Result<bool> {
        let pid = zeugma_kernel::listener_of(&self.0)?;
        let Some((pid, start)) = pid.and_then(|pid| Some((pid, zeugma_kernel::start_of(pid)?))) else {
            return Ok(!self.is_alive());
        };
        let process = zeugma_kernel::Process::find(pid, start).map_err(io::Error::other)?;
        // While the connection stands, the number has been that of no other process.
        match process.filter(|_| self.is_alive()) {
            Some(process) => process.end(PATIENCE).map_err(io::Error::other),
            None => Ok(!self.is_alive()),
        }
    }
}

/// The device as it is.
///
/// # Errors
/// [`Unanswered`].
pub fn get(path: &Path) -> Result<State, Unanswered> {
    asked(path, "get=1\n\n")
}

/// Changes the device.
///
/// # Errors
/// [`Unanswered`], also when the device refuses.
pub fn set(path: &Path, change: &Change) -> Result<(), Unanswered> {
    asked(path, &uapi::change(change)).map(drop)
}

fn asked(path: &Path, request: &str) -> Result<State, Unanswered> {
    let text = exchanged(path, request).map_err(|source| Unanswered::Silent { path: path.into(), source })?;
    uapi::answered(&text).map_err(|source| Unanswered::Strange { path: path.into(), source })
}

fn exchanged(path: &Path, request: &str) -> io::Result<String> {
    let mut stream = zeugma_kernel::connect_local(path, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.write_all(request.as_bytes())?;
    let mut text = Vec::new();
    let mut buffer = [0; 4096];
    while uapi::request_end(&text[text.len().saturating_sub(buffer.len() + 1)..]).is_none() {
        match stream.read(&mut buffer)? {
            0 => break,
            count => text.extend_from_slice(&buffer[..count]),
        }
    }
    String::from_utf8(text).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}
