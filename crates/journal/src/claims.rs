//! Which ports of the host are claimed by whom: `ports/<protocol>-<port>`, a line per claim.
//!
//! The kernel's maps refuse the same key twice, but not `0.0.0.0:80` beside `192.0.2.1:80`; this index finds
//! those in one look. Read and written under the lock `ports` only.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use zeugma_model::{AttachmentId, Protocol};

use crate::{Error, Lock, NetnsRef, files, run_dir};

/// Somebody's claim on a port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    /// An address of the host, or the unspecified one of a family for all of that family.
    pub address: IpAddr,
    /// Whose.
    pub owner: AttachmentId,
    /// The owner's namespace.
    pub netns: Option<NetnsRef>,
}

impl Claim {
    /// Whether the owner is gone.
    pub fn is_dead(&self) -> bool {
        self.netns.as_ref().is_some_and(|netns| !netns.is_alive())
    }
}

/// A line for each claim.
pub(crate) fn parse(bytes: &[u8]) -> Result<Vec<Claim>, serde_json::Error> {
    bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).map(serde_json::from_slice).collect()
}

pub(crate) fn render(claims: &[Claim]) -> Result<Vec<u8>, serde_json::Error> {
    let mut content = Vec::new();
    for claim in claims {
        serde_json::to_writer(&mut content, claim)?;
        content.push(b'\n');
    }
    Ok(content)
}

/// All claims of the host, locked.
pub struct Claims {
    root: PathBuf,
    _lock: Lock,
}

impl Claims {
    /// Waits until nobody else looks at claims.
    ///
    /// # Errors
    /// [`Error::Busy`] after ten seconds.
    pub fn lock() -> Result<Self, Error> {
        let lock = Lock::exclusive("ports")?;
        Ok(Self { root: run_dir().join("ports"), _lock: lock })
    }

    /// The claims on a port.
    pub fn on(&self, protocol: Protocol, port: u16) -> Result<Vec<Claim>, Error> {
        read(&self.root, protocol, port)
    }

    /// The claims on a port as they stand, without waiting: for one who only looks.
    pub fn glance(protocol: Protocol, port: u16) -> Result<Vec<Claim>, Error> {
        read(&run_dir().join("ports"), protocol, port)
    }

    /// Writes down the claims on a port; none of them: the file goes.
    pub fn set(&self, protocol: Protocol, port: u16, claims: &[Claim]) -> Result<(), Error> {
        let path = self.path(protocol, port);
        if claims.is_empty() {
            return files::remove(&path);
        }
        let content = render(claims).map_err(|source| Error::Record { path: path.clone(), source })?;
        // Under the lock one name serves all: what a killed process leaves there is the next one's to overwrite.
        files::replace_from(&self.root.with_extension("partial"), &path, &content)
    }

    /// Takes an owner's claims on a port back.
    pub fn release(&self, protocol: Protocol, port: u16, owner: &AttachmentId) -> Result<(), Error> {
        let mut claims = self.on(protocol, port)?;
        let before = claims.len();
        claims.retain(|claim| claim.owner != *owner);
        if claims.len() == before { Ok(()) } else { self.set(protocol, port, &claims) }
    }

    /// Whether nobody claims any port.
    pub fn is_empty(&self) -> bool {
        std::fs::read_dir(&self.root).map_or(true, |mut entries| entries.next().is_none())
    }

    fn path(&self, protocol: Protocol, port: u16) -> PathBuf {
        path(&self.root, protocol, port)
    }
}

fn path(root: &Path, protocol: Protocol, port: u16) -> PathBuf {
    root.join(format!("{protocol}-{port}"))
}

/// Files are renamed into place: one is read whole or not at all.
fn read(root: &Path, protocol: Protocol, port: u16) -> Result<Vec<Claim>, Error> {
    let path = path(root, protocol, port);
    let bytes = files::read(&path)?.unwrap_or_default();
    parse(&bytes).map_err(|source| Error::Record { path, source })
}
