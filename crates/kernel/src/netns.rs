//! Network namespaces as files.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::sched::{CloneFlags, setns};
use nix::sys::statfs::fstatfs;

use crate::Error;

/// `NSFS_MAGIC` of linux/magic.h.
const NSFS: i64 = 0x6e73_6673;

/// An open network namespace.
#[derive(Debug)]
pub struct Netns {
    file: File,
    id: NetnsId,
    /// The host's: the one that the calling thread was in when it opened this one.
    home: File,
}

/// What tells a namespace from every other one that exists at the time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct NetnsId {
    /// The device of nsfs.
    pub device: u64,
    /// The namespace's inode.
    pub inode: u64,
}

impl Netns {
    /// Opens the namespace at `path`.
    ///
    /// # Errors
    /// [`Error::NoNetns`], [`Error::NotNetns`].
    pub fn open(path: &Path) -> Result<Self, Error> {
        let file = File::open(path).map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => Error::NoNetns { path: path.into() },
            _ => Error::System { action: "open the network namespace", source },
        })?;
        let magic = fstatfs(&file).map_err(|errno| system("look at the network namespace", errno))?;
        if magic.filesystem_type().0 as i64 != NSFS {
            return Err(Error::NotNetns { path: path.into() });
        }
        let about = file
            .metadata()
            .map_err(|source| Error::System { action: "look at the network namespace", source })?;
        let home = File::open("/proc/thread-self/ns/net")
            .map_err(|source| Error::System { action: "remember the host's network namespace", source })?;
        Ok(Self { id: NetnsId { device: about.dev(), inode: about.ino() }, file, home })
    }

    /// Its identity.
    pub fn id(&self) -> NetnsId {
        self.id
    }

    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    /// The host's namespace.
    pub(crate) fn home(&self) -> &File {
        &self.home
    }

    /// Runs `action` with the calling thread inside the namespace, and comes back.
    pub(crate) fn inside<T>(&self, action: impl FnOnce() -> T) -> Result<T, Error> {
        setns(&self.file, CloneFlags::CLONE_NEWNET)
            .map_err(|errno| system("enter the network namespace", errno))?;
        let outcome = action();
        // What was done inside cannot be told from what was not if the way back fails: a second try may find memory.
        setns(&self.home, CloneFlags::CLONE_NEWNET)
            .or_else(|_| setns(&self.home, CloneFlags::CLONE_NEWNET))
            .map_err(|errno| system("return to the host's network namespace", errno))?;
        Ok(outcome)
    }
}

fn system(action: &'static str, errno: nix::Error) -> Error {
    Error::System { action, source: errno.into() }
}
