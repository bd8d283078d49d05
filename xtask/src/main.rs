//! The repository's own chores, `cargo xtask <chore>`: check, test, dist, demo, conformance, fuzz,
//! bench, metrics.
//!
//! Nothing here is shipped. A chore says what it runs, and fails when what it ran failed.

mod bench;
mod check;
mod cni;
mod conformance;
mod demo;
mod dist;
mod elf;
mod fuzz;
mod netns;
mod packages;
mod shell;
mod test;
mod vm;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "The repository's own chores")]
struct Cli {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Subcommand)]
enum Chore {
    /// Format, lints, documentation, dependency directions, licences, lengths.
    Check {
        /// Installs cargo-deny when it is missing (it takes some minutes).
        #[arg(long)]
        install: bool,
    },
    /// The report of file and function lengths alone.
    Metrics,
    /// Builds the static executables and lays out a plugin directory.
    Dist {
        /// Where to; without it, `bin` in the target directory.
        #[arg(long)]
        out: Option<PathBuf>,
    },
    /// Installs what the tests need from Debian, builds, and runs all tests (as root).
    Test {
        /// Only the crates whose tests need neither privileges nor packages.
        #[arg(long)]
        quick: bool,
        /// Only the tests that run on Debian's kernel in a virtual machine.
        #[arg(long, conflicts_with = "quick")]
        vm: bool,
        /// Only tests whose name contains this.
        filter: Option<String>,
    },
    /// Writes the option tables of the user pages out of the types.
    Docs,
    /// Two containers, a bridge, a published port, an outside client: shown, then removed.
    Demo {
        /// Plugins of another maker, by plain names; without it, ours.
        #[arg(long)]
        bin_dir: Option<PathBuf>,
    },
    /// Drives the CNI executables of a directory through the promises and prints a table.
    Conformance {
        /// A directory of CNI executables with plain names; without it, ours.
        #[arg(long)]
        bin_dir: Option<PathBuf>,
        /// Writes docs/conformance.md: plugin × verb × version, ours and the reference's.
        #[arg(long, conflicts_with = "bin_dir")]
        write: bool,
    },
    /// Fuzzes a parser; without a name, lists the targets. Installs cargo-fuzz when it is missing.
    Fuzz {
        /// A target.
        name: Option<String>,
        /// How long.
        #[arg(long, default_value_t = 600)]
        seconds: u32,
    },
    /// Measures ours beside the peers.
    Bench(bench::Options),
}

fn main() -> ExitCode {
    match run(Cli::parse().chore) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(chore: Chore) -> Result<()> {
    match chore {
        Chore::Check { install } => check::run(install),
        Chore::Metrics => check::metrics(),
        Chore::Dist { out } => dist::run(out.as_deref()).map(drop),
        Chore::Test { quick: true, filter, .. } => test::quick(filter.as_deref()),
        Chore::Test { vm: true, filter, .. } => test::vm(filter.as_deref()),
        Chore::Test { filter, .. } => test::all(filter.as_deref()),
        Chore::Docs => docs(),
        Chore::Demo { bin_dir } => demo::run(bin_dir.as_deref()),
        Chore::Conformance { write: true, .. } => conformance::write(),
        Chore::Conformance { bin_dir, .. } => conformance::run(bin_dir),
        Chore::Fuzz { name, seconds } => fuzz::run(name.as_deref(), seconds),
        Chore::Bench(options) => bench::run(&options),
    }
}

/// The tests that compare the pages, allowed to write them.
fn docs() -> Result<()> {
    let mut tests =
        shell::cargo(["test", "--package", "zeugma-plugins", "--package", "zeugma-ipam", "--lib", "pages"]);
    let status = tests.env("ZEUGMA_WRITE_PAGES", "1").status()?;
    anyhow::ensure!(status.success(), "a page could not be written: see above");
    Ok(())
}
