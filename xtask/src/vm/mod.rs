//! The tests that need another kernel than the machine's: Debian's, booted in qemu without hardware help.
//!
//! In the machine run the test binaries of `tests/vm`, for what a kernel may lack, and those of `tests` and
//! `crates/kernel` that walk the whole path through nftables, for a second kernel version. What a test needs there is
//! in `image`.

mod image;
mod kernel;
mod machine;
mod report;

use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, bail, ensure};
use cargo_metadata::{Artifact, Message, TargetKind};

use crate::{packages, shell};
use report::Report;

/// The package whose test targets all run in the machine, and its first process there.
pub(crate) const PACKAGE: &str = "zeugma-vm-tests";
const INIT: &str = "zeugma-vm-init";
/// The packages of tests that run here and there, and which of their targets do, behind the end of the manifest's path.
const SHARED_PACKAGES: [&str; 2] = ["zeugma-tests", "zeugma-kernel"];
const SHARED: [(&str, &str); 8] = [
    ("tests/Cargo.toml", "bridge"),
    ("tests/Cargo.toml", "firewall"),
    ("tests/Cargo.toml", "macvlan"),
    ("tests/Cargo.toml", "neighbours"),
    ("tests/Cargo.toml", "ports"),
    ("tests/Cargo.toml", "ptp"),
    ("kernel/Cargo.toml", "overlay"),
    ("kernel/Cargo.toml", "services"),
];

/// What cargo built for the machine.
struct Built {
    init: PathBuf,
    tests: Vec<Test>,
}

/// A test binary, by the name of its target.
struct Test {
    name: String,
    file: PathBuf,
}

/// Runs them with the executables of `bin_dir`; the runner's result lines.
///
/// Fails when a test fails, when one did not run, and when the machine does not boot or hangs.
pub(crate) fn run(bin_dir: &Path, filter: Option<&str>) -> Result<Vec<String>> {
    packages::ensure_vm()?;
    let built = build()?;
    let target = shell::target_dir()?.join("vm");
    let kernel = kernel::fetched(&target)?;
    let initramfs = image::Image::begin(&target)?
        .with_system(&built.init)?
        .with_modules(&kernel)?
        .with_plugins(bin_dir)?
        .with_reference()?
        .with_tests(&built.tests, filter)?
        .packed()?;
    println!("\nin a virtual machine, {}:", kernel.release);
    let names: Vec<&str> = built.tests.iter().map(|test| test.name.as_str()).collect();
    let mut report = Report::of(&names, filter.is_some());
    let console = target.join("console");
    let mut said = Vec::new();
    let outcome = machine::run(&kernel.image, &initramfs, &console, |line| {
        said.push(line.to_owned());
        report.take(line).iter().for_each(|line| println!("{line}"));
    });
    std::fs::write(target.join("output"), said.join("\n"))?;
    let is_done = report.is_done();
    let (results, mut faults) = report.end();
    faults.extend(outcome.err().map(|error| format!("{error:#}")));
    faults.extend((!is_done).then(|| machine::tail(&console)));
    if !faults.is_empty() {
        println!("\n{}", crate::test::closing(&results));
        bail!("in the virtual machine:\n  {}", faults.join("\n  "));
    }
    Ok(results)
}

/// Runs the tests whose names contain `filter`, and returns what they said in lines that begin with `word`.
pub(crate) fn said(bin_dir: &Path, filter: &str, word: &str) -> Result<Vec<String>> {
    run(bin_dir, Some(filter))?;
    let output = std::fs::read_to_string(shell::target_dir()?.join("vm/output"))?;
    let lines = output.lines().filter_map(|line| line.strip_prefix(word));
    Ok(lines.map(|line| line.trim().to_owned()).collect())
}

/// Compiles the test binaries and their first process, and asks cargo where they are.
fn build() -> Result<Built> {
    let mut cargo = shell::cargo(["test", "--no-run", "--message-format", "json-render-diagnostics"]);
    cargo.args(["--package", PACKAGE, "--bins", "--test", "*"]);
    cargo.args(SHARED_PACKAGES.iter().flat_map(|package| ["--package", package]));
    let mut child = cargo.stdout(Stdio::piped()).spawn().context("cannot start cargo")?;
    let stdout = child.stdout.take().expect("stdout was piped the line above");
    let mut artifacts = Vec::new();
    for message in Message::parse_stream(BufReader::new(stdout)) {
        if let Message::CompilerArtifact(artifact) = message.context("cargo's messages cannot be read")? {
            artifacts.push(artifact);
        }
    }
    let status = child.wait()?;
    ensure!(status.success(), "the tests for the virtual machine do not compile: {status}");
    let init = artifacts.iter().find(|artifact| artifact.target.name == INIT && !artifact.profile.test);
    let init = init.and_then(executable).with_context(|| format!("cargo built no {INIT}"))?;
    let mut tests: Vec<Test> = artifacts.iter().filter_map(test).collect();
    // What can be tested nowhere else comes first.
    let is_shared = |test: &Test| SHARED.iter().any(|(_, name)| *name == test.name);
    tests.sort_by_key(|test| (is_shared(test), test.name.clone()));
    let twin = tests.windows(2).find(|pair| pair[0].name == pair[1].name);
    ensure!(
        twin.is_none(),
        "two tests for the virtual machine are called {}",
        twin.map_or("", |twin| &twin[0].name)
    );
    let missing = SHARED.iter().find(|(_, name)| tests.iter().all(|test| test.name != *name));
    ensure!(missing.is_none(), "there is no test {missing:?}; see xtask/src/vm");
    Ok(Built { init, tests })
}

fn executable(artifact: &Artifact) -> Option<PathBuf> {
    artifact.executable.clone().map(Into::into)
}

/// The artifact, if it is a test binary that runs in the machine.
fn test(artifact: &Artifact) -> Option<Test> {
    let name = &artifact.target.name;
    let is_own = artifact.manifest_path.ends_with("vm/Cargo.toml");
    let is_test = artifact.target.kind.contains(&TargetKind::Test);
    let is_shared =
        |(manifest, test): &(&str, &str)| name == test && artifact.manifest_path.ends_with(manifest);
    let runs_there = is_own || SHARED.iter().any(is_shared);
    let file = executable(artifact).filter(|_| is_test && runs_there)?;
    Some(Test { name: name.clone(), file })
}
