//! Builds what is shipped, `zeugma-cni` and `zeugma`, both static, and lays out a plugin directory by
//! `zeugma install` itself.
//!
//! Packages and archives are not made here.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use crate::{elf, packages, shell};

/// Package and executable of everything that is shipped.
const SHIPPED: [(&str, &str); 2] = [("zeugma-plugins", "zeugma-cni"), ("zeugma-cli", "zeugma")];

/// Static, and not position independent: a process that lives a millisecond feels every page that the
/// dynamic relocations of its start would touch (decision 0007).
const FLAGS: &str = " -C target-feature=+crt-static -C relocation-model=static";

/// Builds, verifies, installs into `out` (`bin` of the target directory when not given) and returns that
/// directory: `zeugma-cni`, `zeugma`, and the links under plain and `zeugma-` names.
pub(crate) fn run(out: Option<&Path>) -> Result<PathBuf> {
    let target = shell::target_dir()?;
    let built = build(&target)?;
    let out = match out {
        Some(dir) => std::path::absolute(dir)?,
        None => target.join("bin"),
    };
    for (_, executable) in SHIPPED {
        verify(&built.join(executable))?;
    }
    lay_out(&built, &out)?;
    Ok(out)
}

/// Compiles with `--target` even though it is the host: otherwise `+crt-static` would reach procedural macros,
/// which have to be dynamic.
fn build(target: &Path) -> Result<PathBuf> {
    let host = host_triple()?;
    let mut args = vec!["build", "--release", "--target", &host];
    args.extend(SHIPPED.iter().flat_map(|(package, _)| ["--package", package]));
    if packages::has_protoc() {
        args.extend(["--features", "zeugma-cli/etcd"]);
    } else {
        println!("without etcd, as there is no protoc: install protobuf-compiler and libprotobuf-dev for it");
    }
    let mut flags = std::env::var("RUSTFLAGS").unwrap_or_default();
    flags.push_str(FLAGS);
    shell::run(shell::cargo(args).env("RUSTFLAGS", flags.trim()).env_remove("CARGO_ENCODED_RUSTFLAGS"))?;
    Ok(target.join(&host).join("release"))
}

fn host_triple() -> Result<String> {
    let version = shell::read(&mut shell::command("rustc", ["-vV"]))?;
    let host = version.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(host.context("`rustc -vV` names no host")?.to_owned())
}

fn verify(file: &Path) -> Result<()> {
    ensure!(elf::is_static(file)?, "{} wants a dynamic loader; it has to be static", file.display());
    let bytes = std::fs::metadata(file)?.len();
    println!("{}: static, {:.2} MB", file.display(), mb(bytes));
    Ok(())
}

/// Megabytes of 10^6 bytes, for reading.
#[expect(clippy::cast_precision_loss, reason = "a size for reading, two digits of it")]
pub(crate) fn mb(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

fn lay_out(built: &Path, out: &Path) -> Result<()> {
    std::fs::create_dir_all(out)?;
    // Replaced by rename: a test may be running the one from before.
    let draft = out.join(".zeugma.draft");
    std::fs::copy(built.join("zeugma"), &draft)?;
    std::fs::rename(&draft, out.join("zeugma"))?;
    let out = out.to_str().context("the directory's path is not UTF-8")?;
    let from = built.join("zeugma-cni");
    let from = from.to_str().context("the target directory's path is not UTF-8")?;
    let zeugma = format!("{out}/zeugma");
    shell::run(&mut shell::command(&zeugma, ["install", "--replace", "--from", from, "--bin-dir", out]))
}
