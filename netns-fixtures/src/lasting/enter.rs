//! The way into a place of a lab for a process from outside.

use std::fs::{self, File};
use std::path::PathBuf;

use anyhow::{Context, Result};
use nix::sched::{CloneFlags, setns};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;

use super::{KINDS, link};

/// Takes this process, which has one thread, into a place of the lab that process `holder` holds. Its children are
/// processes of the lab, which end with it.
///
/// # Errors
/// When there is no such place, or the kernel refuses.
pub fn enter(holder: i32, name: &str) -> Result<()> {
    let find = || format!("find the namespaces of {name}");
    let open = |path: PathBuf| File::open(&path).with_context(find);
    let root = PathBuf::from(format!("/proc/{holder}/root"));
    let target = fs::read_link(root.join(link(name).strip_prefix("/")?)).with_context(find)?;
    // The link is meant as the holder sees it.
    let inside = root.join(target.strip_prefix("/")?);
    let pid = open(format!("/proc/{holder}/ns/pid").into())?;
    let ipc = open(format!("/proc/{holder}/ns/ipc").into())?;
    // All are opened before the first is entered, whose files are others; mounts are the last.
    let files = KINDS.map(|kind| open(inside.join(kind)));
    let kinds = [CloneFlags::CLONE_NEWNET, CloneFlags::CLONE_NEWUTS, CloneFlags::CLONE_NEWNS];
    let refused = || format!("enter {name}: run as root, in the user namespace that the lab was set up in");
    setns(pid, CloneFlags::CLONE_NEWPID).with_context(refused)?;
    setns(ipc, CloneFlags::CLONE_NEWIPC).with_context(refused)?;
    files.into_iter().zip(kinds).try_for_each(|(file, kind)| setns(file?, kind).with_context(refused))
}

/// This process ends with the one that started it, which may have been killed.
///
/// # Errors
/// When the kernel refuses.
pub fn end_with_parent() -> Result<()> {
    set_pdeathsig(Signal::SIGKILL).context("ask to be ended with the parent")
}
