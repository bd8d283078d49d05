//! `cargo xtask check`: everything that can be said about the tree without running what it builds.
//!
//! One file per question; here is only the order.

mod deny;
mod layers;
mod length;

use anyhow::Result;

use crate::{packages, shell};

/// Runs every check; the first one that fails ends it.
pub(crate) fn run(install: bool) -> Result<()> {
    packages::ensure_build()?;
    shell::run(&mut shell::cargo(["fmt", "--all", "--check"]))?;
    layers::check()?;
    length::check()?;
    deny::check(install)?;
    shell::run(&mut shell::cargo([
        "clippy",
        "--workspace",
        "--all-targets",
        "--quiet",
        "--",
        "-D",
        "warnings",
    ]))?;
    shell::run(
        shell::cargo([
            "doc",
            "--workspace",
            "--no-deps",
            "--document-private-items",
            "--quiet",
        ])
        .env("RUSTDOCFLAGS", "-D warnings"),
    )?;
    println!("check: all passed");
    Ok(())
}

/// Prints the length report alone.
pub(crate) fn metrics() -> Result<()> {
    length::check()
}
