//! Builds what is shipped, `zeugma-cni` and `zeugma`, both static, and lays out a plugin directory by
//! `zeugma install` itself.
//!
//! Packages and archives are not made here.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use crate::{elf, packages, shell};

/// Something that is shipped.
struct Shipped {
    package: &'static str,
    executable: &'static str,
    /// Cargo's, from the workspace's manifest.
    profile: &'static str,
}

/// All plugins.
const PLUGINS: Shipped = Shipped { package: "zeugma-plugins", executable: "zeugma-cni", profile: "release" };
/// The command line and the agent.
const NODE: Shipped = Shipped { package: "zeugma-cli", executable: "zeugma", profile: "node" };

/// Static, and not position independent: a process that lives a millisecond feels every page that the
/// dynamic relocations of its start would touch (decision 0007).
const FLAGS: &str = " -C target-feature=+crt-static -C relocation-model=static";

/// Builds, verifies, installs into `out` (`bin` of the target directory when not given) and returns that
/// directory: `zeugma-cni`, `zeugma`, and the links under plain and `zeugma-` names.
pub(crate) fn run(out: Option<&Path>) -> Result<PathBuf> {
    let target = shell::target_dir()?;
    let (plugins, node) = (build(&PLUGINS, &target)?, build(&NODE, &target)?);
    let out = match out {
        Some(dir) => std::path::absolute(dir)?,
        None => target.join("bin"),
    };
    verify(&plugins)?;
    verify(&node)?;
    lay_out(&plugins, &node, &out)?;
    Ok(out)
}

/// Compiles with `--target` even though it is the host: otherwise `+crt-static` would reach procedural macros,
/// which have to be dynamic.
fn build(shipped: &Shipped, target: &Path) -> Result<PathBuf> {
    let host = host_triple()?;
    let mut args =
        vec!["build", "--profile", shipped.profile, "--target", &host, "--package", shipped.package];
    if shipped.package == NODE.package {
        if packages::has_protoc() {
            args.extend(["--features", "etcd"]);
        } else {
            println!(
                "without etcd, as there is no protoc: install protobuf-compiler and libprotobuf-dev for it"
            );
        }
    }
    let mut flags = std::env::var("RUSTFLAGS").unwrap_or_default();
    flags.push_str(FLAGS);
    shell::run(shell::cargo(args).env("RUSTFLAGS", flags.trim()).env_remove("CARGO_ENCODED_RUSTFLAGS"))?;
    Ok(target.join(&host).join(shipped.profile).join(shipped.executable))
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

fn lay_out(plugins: &Path, node: &Path, out: &Path) -> Result<()> {
    std::fs::create_dir_all(out)?;
    // Replaced by rename: a test may be running the one from before.
    let draft = out.join(".zeugma.draft");
    std::fs::copy(node, &draft)?;
    std::fs::rename(&draft, out.join("zeugma"))?;
    let out = out.to_str().context("the directory's path is not UTF-8")?;
    let from = plugins.to_str().context("the target directory's path is not UTF-8")?;
    let zeugma = format!("{out}/zeugma");
    shell::run(&mut shell::command(&zeugma, ["install", "--replace", "--from", from, "--bin-dir", out]))
}
