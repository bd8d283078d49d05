//! Namespaces that last, for labs: all of them belong to one process, the holder, and end with it, however it ends.
//!
//! The holder is the first process of a PID namespace, so the kernel ends everything that runs in the lab together with
//! it; each place is a thread of it, whose namespaces last as long as it does. Nothing of this is visible on the host,
//! and nothing has to be undone. What stands in a lab is not known here.

mod enter;
mod ground;
mod place;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use nix::mount::{MsFlags, mount};

pub use enter::{end_with_parent, enter};
pub use ground::{Ground, spawn_holder};
pub use place::Place;

/// The namespaces of a place, as /proc calls them.
const KINDS: [&str; 3] = ["net", "uts", "mnt"];
/// In the holder: a link for each place to the directory that its thread's namespaces are in.
///
/// A mount that pins a mount namespace would do without the thread. But the kernel (6.18) numbers namespaces by processor,
/// and refuses to mount one whose number is lower than that of the namespace it is mounted in, for fear of a loop.
const PLACES: &str = "/run/places";
/// In the holder: what machines changed of the host's directories.
const LAYERS: &str = "/run/layers";
/// In a machine: the containers' network namespaces, where `ip netns` and runtimes have them.
const NETNS: &str = "/run/netns";

/// The link of a place, as the holder sees it.
fn link(name: &str) -> PathBuf {
    Path::new(PLACES).join(name)
}

/// Makes `target` stand for what `source` is.
fn bind(source: &Path, target: &Path) -> Result<()> {
    let nothing = None::<&str>;
    mount(Some(source), target, nothing, MsFlags::MS_BIND, nothing)
        .with_context(|| format!("show {} as {}", source.display(), target.display()))
}

/// An empty directory in memory.
fn tmpfs(target: &str) -> Result<()> {
    mount(Some("lab"), target, Some("tmpfs"), MsFlags::empty(), Some("mode=755"))
        .with_context(|| format!("mount a tmpfs on {target}"))
}
