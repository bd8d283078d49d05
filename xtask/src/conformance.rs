//! Hands a directory of CNI executables to the black-box suite in `tests`, which prints the table; writes the page
//! docs/conformance.md.
//!
//! The promises themselves are there, not here.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use zeugma_tests::conformance::{self, Plugin};

use crate::{dist, packages, shell, vm};

/// Where Debian's containernetworking-plugins are.
const REFERENCE: &str = "/usr/lib/cni";
/// Above the tables.
const ABOUT: &str = "Written by `cargo xtask conformance --write`, which drives every plugin through every verb in \
    every version of the specification, in network namespaces of its own. `yes`: it did what the verb is for, and the \
    result has the shape of the version. `-`: the specification has no such verb in that version (CHECK before 0.4.0, \
    GC and STATUS before 1.1.0), or no chains (before 0.3.0), and a verb too new is refused with code 1. Empty: the \
    executable does not claim the version. `ipvlan`, `vlan`, `dummy` and `vrf` were driven on Debian's kernel in a \
    virtual machine where this machine's kernel has no such links. What is promised beyond this table, and tested: \
    `cargo xtask conformance`.";

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
    ensure!(report.failures().is_empty(), "{} breaks promises; they are named above", bin_dir.display());
    Ok(())
}

/// Writes the matrix of ours and of the reference.
pub(crate) fn write() -> Result<()> {
    packages::ensure_root("`cargo xtask conformance --write`")?;
    packages::ensure_all()?;
    let bin_dir = dist::run(None)?;
    let in_machine = vm::said(&bin_dir, "every_verb_of_ours", "MATRIX ours")?;
    let of_reference = vm::said(&bin_dir, "the_reference_is_driven", "MATRIX reference")?;
    let ours = section("zeugma", &bin_dir, &in_machine)?;
    let theirs =
        section("The reference (Debian's containernetworking-plugins)", Path::new(REFERENCE), &of_reference)?;
    let page = format!("# Conformance\n\n{ABOUT}\n\n{ours}\n{theirs}");
    fs::write(shell::workspace_root().join("docs/conformance.md"), page)?;
    println!("written: docs/conformance.md");
    Ok(())
}

/// A maker's table: what this kernel can make, and the rows that came out of the machine.
fn section(title: &str, bin_dir: &Path, in_machine: &[String]) -> Result<String> {
    let here: Vec<Plugin> =
        Plugin::ALL.iter().copied().filter(|plugin| !Plugin::OF_SOME_KERNELS.contains(plugin)).collect();
    let rows = conformance::matrix(bin_dir, &here);
    let mut text = format!("## {title}\n\n{}\n", conformance::head());
    rows.iter().flat_map(conformance::lines).try_for_each(|line| writeln!(text, "{line}"))?;
    let (table, failed): (Vec<&String>, Vec<&String>) =
        in_machine.iter().partition(|line| line.starts_with('|'));
    table.iter().try_for_each(|line| writeln!(text, "{line}"))?;
    let failures: Vec<String> = rows.iter().flat_map(conformance::failures).collect();
    let all = failures.iter().chain(failed);
    text.push('\n');
    all.into_iter().try_for_each(|line| writeln!(text, "{line}"))?;
    Ok(text)
}
