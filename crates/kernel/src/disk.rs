//! File systems: how much room is left, and whether they last.

use std::path::Path;

use nix::sys::statfs::{TMPFS_MAGIC, statfs};
use nix::sys::statvfs::FsFlags;

/// The file system that a path is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Disk {
    /// Whether it is in memory, and so empty after a boot.
    pub is_volatile: bool,
    /// Whether nothing can be written.
    pub is_read_only: bool,
    /// Bytes that root may still write.
    pub free: u64,
    /// Files that may still be made; none: it does not count them.
    pub free_files: Option<u64>,
}

/// The file system that holds `path`, or would when it is made; none when nothing can be told.
pub fn disk(path: &Path) -> Option<Disk> {
    let about = path.ancestors().find_map(|path| statfs(path).ok())?;
    Some(Disk {
        is_volatile: about.filesystem_type() == TMPFS_MAGIC,
        is_read_only: about.flags().contains(FsFlags::ST_RDONLY),
        free: about.blocks_free().saturating_mul(about.block_size() as u64),
        free_files: (about.files() > 0).then(|| about.files_free()),
    })
}
