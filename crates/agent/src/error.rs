//! Why the agent cannot begin. Once it runs, what goes wrong is logged and tried again.

use std::io;
use std::path::PathBuf;

use crate::overlay::KeyError;

/// A failure of the agent as a whole.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is one already.
    #[error(
        "another agent runs with the run directory {run_dir}: stop it first (systemctl stop zeugma-agent), or set ZEUGMA_RUN_DIR"
    )]
    Running {
        /// Where both would work.
        run_dir: PathBuf,
    },
    /// The run directory or a file in it.
    #[error(transparent)]
    Journal(#[from] zeugma_journal::Error),
    /// What the service manager handed over, or a limit.
    #[error(transparent)]
    Kernel(#[from] zeugma_kernel::Error),
    /// Others than the agent's user may write where its socket is to be.
    #[error(
        "the run directory {path} is writable for others than its owner: chown it to root and chmod 755 it"
    )]
    OpenDirectory {
        /// The directory.
        path: PathBuf,
    },
    /// The API's socket cannot be made.
    #[error("cannot {action} {path}: {source}")]
    Socket {
        /// What was tried.
        action: &'static str,
        /// The socket.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The system gives no event loop.
    #[error("cannot start the event loop: {0}")]
    Runtime(#[source] io::Error),
    /// A zone of the operator's.
    #[error(transparent)]
    Zone(#[from] zeugma_dns::server::ZoneError),
    /// The system gives no thread for services.
    #[error("cannot start the thread that programs services: {0}")]
    Services(#[source] io::Error),
    /// The system gives the resolver no thread.
    #[error("cannot start the resolver: {0}")]
    Resolver(#[source] io::Error),
    /// The WireGuard key of this node.
    #[error(transparent)]
    Key(#[from] KeyError),
}
