//! What can go wrong with lists and with what they run.

use std::io;
use std::path::PathBuf;

use zeugma_model::NetworkName;
use zeugma_protocol::{EncodeError, UnknownVersion};
use zeugma_skel::delegate::DelegateError;

/// Why a list was not read, written or run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The directory or a file in it.
    #[error("cannot {doing} {}: {source}", path.display())]
    File {
        /// What was tried.
        doing: &'static str,
        /// With what.
        path: PathBuf,
        /// What the kernel says.
        source: io::Error,
    },
    /// A file could not be replaced or removed.
    #[error(transparent)]
    Written(#[from] zeugma_journal::Error),
    /// Another maker's network has the name.
    #[error(
        "{} has a network named {network} that zeugma did not make: remove that file, or choose another name",
        path.display()
    )]
    NameTaken {
        /// The name.
        network: NetworkName,
        /// Where it is.
        path: PathBuf,
    },
    /// Another maker's file has the name that ours would have.
    #[error("{} is not of zeugma's making and is left alone: move it away for network {network}", path.display())]
    FileTaken {
        /// The network.
        network: NetworkName,
        /// The file.
        path: PathBuf,
    },
    /// The list has no plugins, or one without a type.
    #[error("the list of network {0} has no plugins: see its file")]
    NoPlugins(NetworkName),
    /// Its version is none.
    #[error("network {network}: {source}")]
    Version {
        /// Which network.
        network: NetworkName,
        /// What is wrong with it.
        source: UnknownVersion,
    },
    /// A plugin failed, and in which verb.
    #[error("network {network}: {verb} failed: {source}")]
    Plugin {
        /// Which network.
        network: NetworkName,
        /// What it was to do.
        verb: &'static str,
        /// What became of it.
        source: Box<DelegateError>,
    },
    /// A result cannot be written in the list's version.
    #[error("network {network}: the result cannot be handed on: {source}")]
    Result {
        /// Which network.
        network: NetworkName,
        /// Why.
        source: EncodeError,
    },
}

impl Error {
    pub(crate) fn file(doing: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Error {
        let path = path.into();
        move |source| Error::File { doing, path, source }
    }
}
