//! The sockets: questions in, answers out.
//!
//! One thread with a runtime of its own (`worker`) has all listeners; the handle here tells it what to do. Datagrams
//! are `udp`'s, streams `tcp`'s, what is in them is `handler`'s.

mod alias;
mod handler;
mod lookup;
mod room;
mod stats;
mod tcp;
mod udp;
mod worker;

use std::io;
use std::net::{TcpListener, UdpSocket};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::thread::JoinHandle;

use arc_swap::ArcSwap;
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::oneshot;
use zeugma_model::NetworkName;

pub use lookup::{Looked, LookupError};

pub use crate::authority::{ZoneError, ZoneFile, Zones};
pub use crate::zone::Audience;
use crate::zone::Snapshot;
use stats::Counters;
pub use stats::Stats;
use worker::Command;

/// A pair of sockets on one address and port.
#[derive(Debug)]
pub struct Listener {
    /// Who asks.
    pub audience: Audience,
    /// Datagrams.
    pub udp: UdpSocket,
    /// Streams.
    pub tcp: TcpListener,
}

/// How the server is set up.
#[derive(Debug, Default)]
pub struct Settings {
    /// The host's servers are read from here, again when it changes.
    pub resolv_conf: PathBuf,
    /// Zones of the operator's own; their files are read again when they change.
    pub zones: Zones,
}

/// What the handle and the thread both see.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    snapshot: ArcSwap<Snapshot>,
    pub(crate) zones: Zones,
    pub(crate) counters: Counters,
}

/// The running resolver; it ends when dropped.
#[derive(Debug)]
pub struct Resolver {
    shared: Arc<Shared>,
    commands: UnboundedSender<Command>,
    next: AtomicU64,
    thread: Option<JoinHandle<()>>,
}

/// Names one listener of a [`Resolver`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ListenerId(pub u64);

impl Resolver {
    /// Starts its thread.
    ///
    /// # Errors
    /// The system's, when there is no thread or runtime to be had.
    pub fn start(settings: Settings) -> io::Result<Self> {
        let Settings { resolv_conf, zones } = settings;
        let shared = Arc::new(Shared { zones, ..Shared::default() });
        let (commands, thread) = worker::spawn(resolv_conf, shared.clone())?;
        Ok(Self { shared, commands, next: AtomicU64::new(0), thread: Some(thread) })
    }

    /// From now on questions are answered from this one.
    pub fn publish(&self, snapshot: Snapshot) {
        self.shared.snapshot.store(Arc::new(snapshot));
    }

    /// Answers what comes in here, until it is closed.
    ///
    /// # Errors
    /// The system's, when the sockets cannot be polled.
    pub fn listen(&self, listener: Listener) -> io::Result<ListenerId> {
        let id = ListenerId(self.next.fetch_add(1, Ordering::Relaxed));
        self.told(|done| Command::Listen { id, listener: Box::new(listener), done })??;
        Ok(id)
    }

    /// Closes a listener's sockets. They are closed when this returns; nothing happens when they were already.
    pub fn close(&self, listener: ListenerId) {
        // A thread that is gone has closed them, too.
        let _ = self.told(|done| Command::Close { id: listener, done });
    }

    /// What a client on `network` would be answered, or one that sees all networks; others are asked as for a client.
    ///
    /// `kind` is a record type's mnemonic, such as `A`.
    ///
    /// # Errors
    /// [`LookupError`].
    pub async fn lookup(
        &self,
        network: Option<NetworkName>,
        name: &str,
        kind: &str,
    ) -> Result<Looked, LookupError> {
        let request = lookup::request(name, kind)?;
        let (done, answer) = oneshot::channel();
        let command = Command::Lookup { network, request, done };
        self.commands.send(command).map_err(|_| LookupError::Ended)?;
        lookup::read(&answer.await.map_err(|_| LookupError::Ended)?)
    }

    /// Which zones of the operator's are served as they were because their files cannot be read, a line each.
    pub fn zone_problems(&self) -> Vec<String> {
        self.shared.zones.problems()
    }

    /// What it did so far.
    pub fn stats(&self) -> Stats {
        self.shared.counters.read()
    }

    /// Sends a command and waits until it is done: the thread never blocks, so that takes no time.
    fn told<T>(&self, command: impl FnOnce(mpsc::Sender<T>) -> Command) -> io::Result<T> {
        let gone = || io::Error::other("the resolver's thread has ended; restart the agent");
        let (done, answer) = mpsc::channel();
        self.commands.send(command(done)).map_err(|_| gone())?;
        answer.recv().map_err(|_| gone())
    }
}

impl Drop for Resolver {
    fn drop(&mut self) {
        let _ = self.commands.send(Command::End);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
