//! Leases on disk, in the reference's format and under its lock, so that its binary and ours can take turns.
//!
//! `dataDir/<network>/<address>` holds the owner ([`lease`]), `last_reserved_ip.<set>` the round robin's place.
//! [`index`] answers "what has this attachment" without reading every lease. Its stamp holds the lease directory's
//! modification time, which every operation of ours sets last, to an odd number of nanoseconds: whoever creates or
//! removes a lease after that, another program or we before a crash, makes it differ, and the next
//! operation reads all leases once. So there is no order of crashes in which a lease is missed, and a file system
//! that keeps coarser times is only slower. Without a writable index everything works, at the reference's speed.
//!
//! Which address is next is decided in `alloc`.

mod boot;
mod error;
mod index;
mod lease;
mod lock;
mod locked;
mod scan;

use std::collections::BTreeSet;
use std::fs;
use std::io::ErrorKind;
use std::net::IpAddr;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use zeugma_model::NetworkName;

pub use error::StoreError;
pub(crate) use lease::{Owner, hash};
pub(crate) use locked::Locked;

/// How long an operation waits for the lock; runtimes give a plugin minutes.
const PATIENCE: Duration = Duration::from_secs(10);

/// The leases of one network.
#[derive(Debug, Clone)]
pub(crate) struct Store {
    /// `dataDir/<network>`.
    directory: PathBuf,
    index: index::Index,
    /// The journal's folder of the network: containers in it are of this boot.
    attachments: PathBuf,
    patience: Duration,
}

impl Store {
    /// Of `network` in `data_dir`; the index and the journal are in `run_dir`. Touches nothing.
    pub(crate) fn new(network: &NetworkName, data_dir: &Path, run_dir: &Path) -> Self {
        let mut folder = lease::hash(&data_dir.to_string_lossy());
        folder.truncate(16);
        Self {
            directory: data_dir.join(network.as_str()),
            index: index::Index { directory: run_dir.join("ipam").join(format!("{network}-{folder}")) },
            attachments: run_dir.join("attachments").join(network.as_str()),
            patience: PATIENCE,
        }
    }

    /// The lease directory.
    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Locks the leases; makes the directory when it is missing.
    pub(crate) fn lock_or_create(&self) -> Result<Locked, StoreError> {
        if let Some(locked) = self.lock()? {
            return Ok(locked);
        }
        let create = fs::DirBuilder::new().recursive(true).mode(0o755).create(&self.directory);
        create.map_err(StoreError::io("create", &self.directory))?;
        let gone = std::io::Error::from(ErrorKind::NotFound);
        self.lock()?.ok_or_else(|| StoreError::io("open", &self.directory)(gone))
    }

    /// Locks the leases; none when there is no lease directory, so no lease.
    pub(crate) fn lock(&self) -> Result<Option<Locked>, StoreError> {
        match lock::lock(&self.directory, self.patience) {
            Ok(Some(file)) => Locked::new(self.clone(), file).map(Some),
            Ok(None) => Err(StoreError::Locked {
                directory: self.directory.clone(),
                seconds: self.patience.as_secs(),
            }),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(StoreError::io("lock", &self.directory.join("lock"))(error)),
        }
    }

    /// Every address with a lease, by one listing of the directory; needs no lock.
    pub(crate) fn taken(&self) -> Result<BTreeSet<IpAddr>, StoreError> {
        scan::addresses(&self.directory)
    }

    /// Where the round robin of range set `set` stands; none when nothing readable says it.
    pub(crate) fn last_reserved(&self, set: usize) -> Option<IpAddr> {
        let text = fs::read_to_string(self.last_reserved_path(set)).ok()?;
        text.parse().ok()
    }

    fn last_reserved_path(&self, set: usize) -> PathBuf {
        self.directory.join(format!("last_reserved_ip.{set}"))
    }

    fn lease_path(&self, address: IpAddr) -> PathBuf {
        self.directory.join(address.to_string())
    }
}

pub(crate) fn fuzz_lease(bytes: &[u8]) {
    lease::fuzz(bytes);
    if let Ok(text) = std::str::from_utf8(bytes) {
        index::fuzz(text);
    }
}

#[cfg(test)]
mod tests;
