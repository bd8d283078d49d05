//! `cargo xtask demo`: two containers on a bridge, a port published to the outside, a name looked up, a service over both,
//! an encrypted network of two hosts; shown and removed again.
//!
//! It runs in namespaces of its own: "host", "outside" and the containers are all namespaces, and nothing of
//! the machine is touched. What it claims it has tried; one claim that fails makes the exit code 1.

mod overlay;
mod picture;
mod residue;
mod service;
mod story;

use std::path::Path;
use std::time::Instant;

use anyhow::{Result, bail};

use crate::{dist, netns, packages};

/// Where the process inside finds the plugins.
const BIN_DIR: &str = "ZEUGMA_DEMO_BIN_DIR";

/// Prepares on the machine, then tells the story inside.
pub(crate) fn run(bin_dir: Option<&Path>) -> Result<()> {
    if netns::is_inside() {
        let bin_dir = std::env::var(BIN_DIR)?;
        return story::tell(Path::new(&bin_dir));
    }
    packages::ensure_root("`cargo xtask demo`")?;
    packages::ensure_demo()?;
    let bin_dir = match bin_dir {
        Some(dir) => std::path::absolute(dir)?,
        None => dist::run(None)?,
    };
    let started = Instant::now();
    let status = netns::enter(&["demo"], &[(BIN_DIR, &bin_dir.to_string_lossy())])?;
    let seconds = started.elapsed().as_secs_f32();
    if !status.success() {
        bail!("demo: FAILED after {seconds:.1} s");
    }
    println!("demo: everything worked and nothing is left ({seconds:.1} s)");
    Ok(())
}
