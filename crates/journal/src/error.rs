//! Why the journal could not be read or written.

use std::io;
use std::path::PathBuf;

/// A failure of the journal.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file or directory below the run directory.
    #[error("cannot {action} {path}: {source}; {}", remedy(action))]
    File {
        /// What was tried.
        action: &'static str,
        /// Which file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// Somebody holds a lock for too long.
    #[error("{path} is locked by another plugin for more than {seconds} s: try again later")]
    Busy {
        /// The lock's file.
        path: PathBuf,
        /// How long was waited.
        seconds: u64,
    },
    /// A record is no JSON of the right shape.
    #[error("the journal record {path} cannot be read: {source}; remove it after checking what it names")]
    Record {
        /// Which file.
        path: PathBuf,
        /// The decoder's words.
        source: serde_json::Error,
    },
}

fn remedy(action: &str) -> &'static str {
    match action {
        "read" => "remove it after checking what it is",
        _ => "is the run directory writable?",
    }
}

impl Error {
    pub(crate) fn file(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { action, path, source }
    }
}
