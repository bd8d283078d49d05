//! `zeugma dhcp`: the daemon that the plugin `dhcp` asks. It leases addresses inside containers' namespaces and keeps
//! them for as long as the containers live, over its own restarts, too.
//!
//! What to send when is decided in `crates/dhcp`; here are the socket (`listen`, `serve`), the leases (`registry`, a
//! task for each in `keeper`), their files (`record`) and the way into the containers (`container`).

mod container;
mod flags;
mod keeper;
mod listen;
mod record;
mod registry;
mod serve;

use std::fs;
use std::path::PathBuf;
use std::rc::Rc;

use anyhow::{Context, Result, ensure};
use tokio::net::UnixListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::{LocalSet, spawn_local};

pub(crate) use flags::Flags;
use listen::Listener;
use registry::Registry;

/// Runs until SIGTERM or SIGINT. Leases stay: the next start takes them up again.
pub(crate) fn run(flags: Flags) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    LocalSet::new().block_on(&runtime, daemon(flags))
}

async fn daemon(flags: Flags) -> Result<()> {
    let listener = Listener::open(&flags.on_host(&flags.socketpath))?;
    // Not before the socket is this one's: the file may be that of a daemon that runs.
    let _pidfile = flags.pidfile.clone().map(PidFile::write).transpose()?;
    let registry = Rc::new(Registry::new(&flags));
    registry.take_up();
    eprintln!("zeugma dhcp: listening on {}", flags.socketpath.display());
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    tokio::select! {
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
        end = accept(listener.socket(), registry) => end,
    }
}

async fn accept(socket: &UnixListener, registry: Rc<Registry>) -> Result<()> {
    loop {
        let (stream, _) = socket.accept().await.context("cannot accept on the socket")?;
        spawn_local(serve::serve(stream, registry.clone()));
    }
}

/// Says which process is the daemon; gone with it.
struct PidFile(PathBuf);

impl PidFile {
    fn write(path: PathBuf) -> Result<Self> {
        ensure!(path.is_absolute(), "the path of the pidfile, {}, has to be absolute", path.display());
        let pid = std::process::id().to_string();
        fs::write(&path, pid).with_context(|| format!("cannot write the pidfile {}", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        // Another daemon, on another socket, may have written the file since.
        if fs::read_to_string(&self.0).is_ok_and(|pid| pid == std::process::id().to_string()) {
            let _ = fs::remove_file(&self.0);
        }
    }
}
