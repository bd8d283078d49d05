//! What can go wrong with the catalogue, and what to do about it. A conflict is no error but an outcome.

use std::path::PathBuf;

use crate::{Key, Kind, LeaseId, Transaction};

/// The cause as another library states it.
pub type Cause = Box<dyn std::error::Error + Send + Sync>;

/// Why something was not read or written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The name cannot be one.
    #[error(
        "{name:?} is no name in {kind}: take 1 to {} bytes without whitespace or control characters",
        Key::NAME_LIMIT
    )]
    Name {
        /// Of what.
        kind: Kind,
        /// What was given.
        name: String,
    },
    /// The transaction is larger than any store takes.
    #[error(
        "a transaction of {keys} keys and {bytes} bytes is too large: split it into ones of at most {} keys and {} bytes",
        Transaction::KEY_LIMIT,
        Transaction::BYTE_LIMIT
    )]
    TooLarge {
        /// Conditions or writes, whichever are more.
        keys: usize,
        /// Of all values.
        bytes: usize,
    },
    /// The lease has ended, and all its keys are gone: register again under a new one.
    #[error("lease {lease} has ended and its keys are gone: register again under a new lease")]
    LeaseEnded {
        /// Which.
        lease: LeaseId,
    },
    /// The value cannot be written as JSON.
    #[error("{key} cannot be written as JSON: {source}")]
    Encode {
        /// Where it was to go.
        key: Key,
        /// What serde says.
        source: serde_json::Error,
    },
    /// The value is not what this kind holds.
    #[error("{key} holds something else than is expected there: {source}; write it anew or delete it")]
    Decode {
        /// Where it is.
        key: Key,
        /// What serde says.
        source: serde_json::Error,
    },
    /// The value has a version that this zeugma does not read.
    #[error(
        "{key} is of version {found}, and this zeugma reads up to {known}: use one as new as what wrote it"
    )]
    Version {
        /// Where it is.
        key: Key,
        /// Its version.
        found: u32,
        /// The latest that is known here.
        known: u32,
    },
    /// Another process has the file.
    #[error("{} is in use by another process: only one zeugma agent can own a catalogue", path.display())]
    Owned {
        /// The file.
        path: PathBuf,
    },
    /// The file is of a later zeugma.
    #[error(
        "{} has format {found}, and this zeugma reads up to {known}: use the zeugma that wrote it, or move the file away",
        path.display()
    )]
    Format {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: u64,
        /// The latest that is known here.
        known: u64,
    },
    /// The file cannot be opened, read or written.
    #[error("cannot {doing} {}: {source}; look at the disk and at who may write there", path.display())]
    File {
        /// What was tried.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// What the database or the kernel says.
        source: Cause,
    },
    /// The store does not answer. What was to be written was not.
    #[error("{subject}: {store} does not answer: {source}; look whether it runs and can be reached")]
    Unavailable {
        /// What was asked for.
        subject: String,
        /// Who does not answer.
        store: String,
        /// What the way to it says.
        source: Cause,
    },
    /// The store was asked to write and did not answer: it may have done so.
    #[error("{subject}: {store} did not say whether it was written: {source}; read it again")]
    Unacknowledged {
        /// What was asked for.
        subject: String,
        /// Who did not answer.
        store: String,
        /// What the way to it says.
        source: Cause,
    },
    /// The store refuses: credentials, certificates, permissions, its own limits.
    #[error("{subject}: {store} refuses: {source}; look at the credentials and at what they permit")]
    Refused {
        /// What was asked for.
        subject: String,
        /// Who refuses.
        store: String,
        /// What it says.
        source: Cause,
    },
    /// The settings of a store make no sense.
    #[error("{option}: {why}")]
    Settings {
        /// Which one.
        option: &'static str,
        /// What is wrong and what would be right.
        why: String,
    },
    /// The process is ending.
    #[error("the catalogue is being closed")]
    Closed,
}
