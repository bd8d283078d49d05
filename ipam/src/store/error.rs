//! What can go wrong with the lease directory.

use std::io;
use std::path::{Path, PathBuf};

/// The lease directory could not be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A file or directory could not be read, written or removed.
    #[error("cannot {what} {}: {source}; check that the directory can be written and the disk is not full", path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// On which file or directory.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// Another process holds the lock for too long.
    #[error("the lock of {} is held by another process for more than {seconds} s; try again, or find the holder with lslocks", directory.display())]
    Locked {
        /// The lease directory.
        directory: PathBuf,
        /// How long was waited.
        seconds: u64,
    },
}

impl StoreError {
    pub(super) fn io(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { what, path: path.into(), source }
    }
}
