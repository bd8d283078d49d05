//! Hands a directory of CNI executables to the black-box suite in `tests`, which prints the table.
//!
//! The promises themselves are there, not here.

use std::path::PathBuf;

use anyhow::Result;

use crate::{dist, packages, shell};

/// Runs the suite against `bin_dir`, or against what we build.
pub(crate) fn run(bin_dir: Option<PathBuf>) -> Result<()> {
    packages::ensure_root("`cargo xtask conformance`")?;
    packages::ensure_all()?;
    let bin_dir = match bin_dir {
        Some(dir) => std::path::absolute(dir)?,
        None => dist::run(None)?,
    };
    let mut suite = shell::cargo([
        "run",
        "--quiet",
        "--package",
        "zeugma-tests",
        "--bin",
        "conformance",
        "--",
    ]);
    shell::run(suite.arg("--bin-dir").arg(bin_dir))
}
