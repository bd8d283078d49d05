//! A writable layer over a directory of the machine: what is there is seen, and what is written goes somewhere else.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use nix::mount::{MsFlags, mount};

/// Lays it over `path`, in the calling thread's mount namespace. Writes go to `layer`, which is made.
///
/// # Errors
/// When the kernel has no overlayfs, or `path` is no directory.
pub(crate) fn writable_layer(path: &str, layer: &Path) -> Result<()> {
    let (upper, work) = (layer.join("upper"), layer.join("work"));
    fs::create_dir_all(&upper)?;
    fs::create_dir_all(&work)?;
    let options = format!("lowerdir={path},upperdir={},workdir={}", upper.display(), work.display());
    mount(Some("overlay"), path, Some("overlay"), MsFlags::empty(), Some(options.as_str()))
        .with_context(|| format!("lay a writable layer over {path}"))
}
