//! Why a zone of the operator's is not served.

use std::io;
use std::path::PathBuf;

/// What is wrong with a zone, or with how it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum ZoneError {
    /// The flag.
    #[error("{0:?} is no zone: write ORIGIN=FILE, such as corp.example=/etc/zeugma/corp.zone")]
    Form(String),
    /// Two files for one zone.
    #[error("the zone {0} has two files: write the records into one of them")]
    Twice(String),
    /// The file cannot be read.
    #[error("cannot read the zone file {path}: {source}; create it, or leave its zone out")]
    Read {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The file is longer than anybody would write.
    #[error(
        "the zone file {path} is longer than {limit} bytes: leave records out, or forward to a name server"
    )]
    Long {
        /// The file.
        path: PathBuf,
        /// What it may have.
        limit: u64,
    },
    /// An entry of the file.
    #[error("zone file {path}, line {line}: {reason}")]
    Entry {
        /// The file.
        path: PathBuf,
        /// Where the entry begins, from 1.
        line: usize,
        /// What is wrong with it, and what to do.
        reason: String,
    },
    /// No zone without one: absences are answered with it.
    #[error(
        "the zone file {path} has no SOA record for {origin}: begin it with `@ 60 SOA ns admin 1 60 60 60 60`"
    )]
    NoSoa {
        /// The file.
        path: PathBuf,
        /// Whose it has to be.
        origin: String,
    },
}
