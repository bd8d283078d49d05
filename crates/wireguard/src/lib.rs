//! WireGuard in user space: a TUN device, UDP sockets and boringtun's protocol between them, in a process of its own.
//!
//! It is told what to do by WireGuard's cross-platform protocol at `/run/wireguard/NAME.sock`, so that wg(8) works with
//! it, too. System calls are the kernel crate's. Addresses and routes of the device are others'.

mod allowed;
mod checksum;
pub mod client;
mod difference;
mod engine;
mod join;
mod outbox;
mod packet;
mod peers;
mod saved;
mod segment;
mod server;
#[cfg(test)]
mod tests;
pub mod uapi;

pub use difference::{difference, told_with};

use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use zeugma_kernel::{Ending, Tun, ready};
use zeugma_model::IfName;

use engine::Engine;
use saved::Saved;
use server::Server;
use uapi::{Change, Request};

/// How `zeugma wg` is run.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The TUN device; made where it is missing, and never removed.
    pub link: IfName,
    /// Where it is asked at.
    pub socket: PathBuf,
    /// Where its configuration is kept over restarts.
    pub saved: PathBuf,
}

/// Where the configuration of `link` is kept, below the run directory.
pub fn saved_at(run_dir: &Path, link: &IfName) -> PathBuf {
    run_dir.join("wireguard").join(format!("{link}.conf"))
}

/// Why it does not run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another process has the device.
    #[error("another process runs the device {0} already: end that first")]
    Taken(IfName),
    /// The kernel refused.
    #[error(transparent)]
    Kernel(#[from] zeugma_kernel::Error),
    /// Something with its socket.
    #[error("cannot listen at {path}: {source}")]
    Socket {
        /// Where.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// What it was before cannot be had back.
    #[error("cannot use the configuration {path}: {source}; remove the file to begin without one")]
    Saved {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The device or the sockets broke.
    #[error("cannot go on with {link}: {source}")]
    Broken {
        /// The device.
        link: IfName,
        /// The cause.
        source: io::Error,
    },
}

/// Runs the device until SIGTERM or SIGINT. The TUN device stays then, and what is sent to it is lost: nothing leaves in
/// clear.
///
/// # Errors
/// [`Error`].
pub fn run(settings: &Settings) -> Result<(), Error> {
    let broken = |source| Error::Broken { link: settings.link.clone(), source };
    let ending = Ending::open().map_err(broken)?;
    let mut device = Device::open(settings)?;
    tracing::info!(link = %settings.link, socket = %settings.socket.display(), "WireGuard device runs");
    loop {
        match device.turn(&ending) {
            Ok(true) => {}
            Ok(false) => break,
            // Whoever deletes the device does not want it back, nor its keys kept.
            Err(error) if error.raw_os_error() == Some(EBADFD) => {
                tracing::info!(link = %settings.link, "the device is deleted");
                device.saved.forget();
                return Ok(());
            }
            Err(error) => return Err(broken(error)),
        }
    }
    // Where peers were last heard of is where they will be looked for.
    device.save();
    Ok(())
}

struct Device {
    engine: Engine,
    server: Server,
    saved: Saved,
}

impl Device {
    fn open(settings: &Settings) -> Result<Self, Error> {
        let tun = Tun::open(&settings.link).map_err(|error| match error.errno() {
            Some(EBUSY) => Error::Taken(settings.link.clone()),
            _ => Error::Kernel(error),
        })?;
        let mut engine = Engine::new(tun);
        let saved = Saved::at(settings.saved.clone());
        let unusable = |source| Error::Saved { path: settings.saved.clone(), source };
        if let Some(before) = saved.load().map_err(unusable)? {
            engine.change(&before).map_err(unusable)?;
        }
        let no_socket = |source| Error::Socket { path: settings.socket.clone(), source };
        let server = Server::open(&settings.socket).map_err(no_socket)?;
        Ok(Self { engine, server, saved })
    }

    /// Waits for something, and does it; false: it is to end.
    fn turn(&mut self, ending: &Ending) -> io::Result<bool> {
        let patience = self.engine.patience();
        let sockets = self.engine.sockets();
        let (v4, v6) = (sockets.v4.as_ref(), sockets.v6.as_ref());
        let mut files = vec![(ending.as_fd(), false), (self.engine.tun().as_fd(), false)];
        let udp = [v4, v6].map(|socket| socket.map(|socket| (socket.as_fd(), false)));
        files.extend(udp.iter().flatten());
        let first = files.len();
        files.extend(self.server.files());
        let ready = ready(&files, patience)?;
        let (has_v4, has_v6) = (v4.is_some(), v6.is_some());
        if ready[1..first].contains(&true) {
            self.engine.wake();
        }
        if self.engine.tick() && self.engine.has_roamed() {
            self.save();
        }
        let mut at = 2;
        for (is_v6, is_there) in [(false, has_v4), (true, has_v6)] {
            if is_there {
                if ready[at] {
                    self.engine.incoming(is_v6);
                }
                at += 1;
            }
        }
        if ready[1] {
            self.engine.outgoing()?;
        }
        if ready[first..].contains(&true) {
            self.asked();
        }
        Ok(!ready[0])
    }

    fn asked(&mut self) {
        let Self { engine, server, saved } = self;
        server.serve(|text| match uapi::request(&uapi::numbered(text, zeugma_kernel::link_index)) {
            Ok(Request::Get) => uapi::state(&engine.state()),
            Ok(Request::Set(change)) => changed(engine, saved, &change),
            Err(error) => {
                tracing::warn!(%error, "a request is not understood");
                format!("errno={EINVAL}\n\n")
            }
        });
    }

    fn save(&mut self) {
        save(&mut self.engine, &self.saved);
    }
}

fn changed(engine: &mut Engine, saved: &Saved, change: &Change) -> String {
    if let Err(error) = engine.change(change) {
        tracing::warn!(%error, "a change is refused");
        return format!("errno={}\n\n", error.raw_os_error().unwrap_or(EINVAL));
    }
    save(engine, saved);
    "errno=0\n\n".into()
}

/// The device goes on without; its next start will not know all.
fn save(engine: &mut Engine, saved: &Saved) {
    if let Err(error) = saved.save(&engine.state()) {
        tracing::error!(%error, "the configuration cannot be saved");
    }
}

/// asm-generic/errno-base.h.
const EINVAL: i32 = 22;
const EBUSY: i32 = 16;
/// asm-generic/errno.h: what a TUN device that is gone answers.
const EBADFD: i32 = 77;
