//! Hands a directory of CNI executables to the black-box suite in `tests`, which prints the table.
//!
//! The promises themselves are there, not here.

use std::path::PathBuf;

use anyhow::{Result, ensure};
use zeugma_tests::conformance;

use crate::{dist, packages};

/// Runs the suite against `bin_dir`, or against what we build.
pub(crate) fn run(bin_dir: Option<PathBuf>) -> Result<()> {
    packages::ensure_root("`cargo xtask conformance`")?;
    packages::ensure_all()?;
    let bin_dir = match bin_dir {
        Some(dir) => std::path::absolute(dir)?,
        None => dist::run(None)?,
    };
    let report = conformance::run(&bin_dir);
    println!("{report}");
    println!("{}", conformance::table(&conformance::matrix(&bin_dir))?);
    ensure!(report.failures().is_empty(), "{} breaks promises; they are named above", bin_dir.display());
    Ok(())
}
