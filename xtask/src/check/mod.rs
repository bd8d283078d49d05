//! `cargo xtask check`: everything that can be said about the tree without running what it builds.
//!
//! One file per question; here is only the order.

mod deny;
mod layers;
mod length;

use anyhow::{Result, bail};

use crate::{packages, shell};

/// A question and its answer.
type Check = (&'static str, fn() -> Result<()>);

/// The quick ones first.
const CHECKS: [Check; 6] = [
    ("format", || shell::run(&mut shell::cargo(["fmt", "--all", "--check"]))),
    ("layers", layers::check),
    ("length", length::check),
    ("dependencies", deny::check),
    ("lints", lints),
    ("documentation", documentation),
];

/// Asks everything, also after a failure, and fails with what failed. `install` gets what is missing for it.
pub(crate) fn run(install: bool) -> Result<()> {
    packages::ensure_build()?;
    if install {
        deny::install()?;
    }
    let mut failed = Vec::new();
    for (name, check) in CHECKS {
        if let Err(error) = check() {
            eprintln!("{name}: {error:#}\n");
            failed.push(name);
        }
    }
    if !failed.is_empty() {
        bail!("check: failed are {}", failed.join(", "));
    }
    println!("check: all passed");
    Ok(())
}

/// Prints the length report alone.
pub(crate) fn metrics() -> Result<()> {
    length::check()
}

/// Without features, and what has one with it: both are what people build.
fn lints() -> Result<()> {
    let with_etcd = ["--package", "zeugma-catalogue", "--package", "zeugma-cli", "--features"];
    let with_etcd = [&with_etcd[..], &["zeugma-catalogue/etcd,zeugma-cli/etcd"]].concat();
    for what in [&["--workspace"][..], &with_etcd] {
        let mut clippy = shell::cargo(["clippy", "--all-targets", "--quiet"]);
        shell::run(clippy.args(what).args(["--", "-D", "warnings"]))?;
    }
    Ok(())
}

fn documentation() -> Result<()> {
    let args = ["doc", "--workspace", "--no-deps", "--document-private-items", "--quiet"];
    shell::run(shell::cargo(args).env("RUSTDOCFLAGS", "-D warnings"))
}
