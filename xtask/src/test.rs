//! Runs the tests by plain `cargo test` and closes with the runner's own result lines, summed.
//!
//! What a test needs of the machine is in `packages`; what it promises is in the test.

use std::env;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::{dist, packages, shell, vm};

/// Crates whose tests make namespaces or run the built executables.
const PRIVILEGED: [&str; 4] = ["zeugma-tests", "zeugma-runtime-tests", "netns-fixtures", "zeugma-kernel"];
/// The crate whose tests need a kernel that this machine may not have; `vm` runs them.
const ELSEWHERE: [&str; 2] = ["--exclude", vm::PACKAGE];

/// The catalogue's store in etcd is behind a feature, and its tests start an etcd in a namespace.
const ETCD: [&str; 7] = ["test", "--package", "zeugma-catalogue", "--features", "etcd", "--test", "etcd"];

/// Everything, as root, on whatever a fresh Debian machine lacks.
pub(crate) fn all(filter: Option<&str>) -> Result<()> {
    packages::ensure_root("`cargo xtask test`")?;
    packages::ensure_all()?;
    let bin_dir = dist::run(None)?;
    let mut tests = shell::cargo(["test", "--workspace", "--no-fail-fast"]);
    tests.args(ELSEWHERE);
    // A runtime that is missing here is a failure and no reason to skip: they were installed above.
    tests.args(filter).env("ZEUGMA_BIN_DIR", &bin_dir).env("ZEUGMA_REQUIRE_RUNTIMES", "1");
    let mut results = run(&mut tests)?;
    results.extend(run(shell::cargo(ETCD).args(filter))?);
    if filter.is_none() {
        results.extend(run(&mut rootless(&bin_dir))?);
        results.extend(vm::run(&bin_dir, None)?);
    }
    println!("\n{}", closing(&results));
    Ok(())
}

/// What needs another kernel, alone.
pub(crate) fn vm(filter: Option<&str>) -> Result<()> {
    let bin_dir = dist::run(None)?;
    println!("\n{}", closing(&vm::run(&bin_dir, filter)?));
    Ok(())
}

/// The fixtures and the conformance suite once more, as root of a user namespace and of nothing else.
fn rootless(bin_dir: &Path) -> Command {
    println!("\nrootless, in a user namespace:");
    let mut tests = shell::command("unshare", ["--user", "--map-root-user", "--net", "--mount", "--"]);
    tests.arg(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    tests.args(["test", "--package", "netns-fixtures", "--package", "zeugma-tests", "--no-fail-fast"]);
    tests.args(["--test", "worlds", "--test", "conformance"]).env("ZEUGMA_BIN_DIR", bin_dir);
    tests
}

/// The crates without privileges alone: nothing is installed and nothing of the machine is touched.
pub(crate) fn quick(filter: Option<&str>) -> Result<()> {
    let mut tests = shell::cargo(["test", "--workspace", "--no-fail-fast"]);
    tests.args(ELSEWHERE);
    tests.args(PRIVILEGED.iter().flat_map(|package| ["--exclude", package])).args(filter);
    println!("\n{}", closing(&run(&mut tests)?));
    Ok(())
}

/// Passes the runner's output on as it comes; returns its result lines.
fn run(tests: &mut Command) -> Result<Vec<String>> {
    let mut child = tests.stdout(Stdio::piped()).spawn().context("cannot start cargo test")?;
    let stdout = child.stdout.take().expect("stdout was piped the line above");
    let mut results = Vec::new();
    for line in BufReader::new(stdout).lines() {
        let line = line.context("the runner's output cannot be read")?;
        println!("{line}");
        if line.starts_with("test result:") {
            results.push(line);
        }
    }
    let status = child.wait()?;
    if !status.success() {
        println!("\n{}", closing(&results));
        bail!("tests failed: {status}");
    }
    Ok(results)
}

/// The sum over all of cargo's runners: `42 passed; 1 failed; 2 ignored in 7 runs`.
pub(crate) fn closing(results: &[String]) -> String {
    let sum = |word: &str| results.iter().filter_map(|line| count(line, word)).sum::<u64>();
    let (passed, failed, ignored) = (sum("passed"), sum("failed"), sum("ignored"));
    format!("{passed} passed; {failed} failed; {ignored} ignored in {} runs", results.len())
}

/// The number before `word` in `test result: ok. 5 passed; 0 failed; …`.
pub(crate) fn count(line: &str, word: &str) -> Option<u64> {
    let before = line.split(&format!(" {word}")).next().filter(|before| before.len() < line.len())?;
    before.rsplit(' ').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::closing;

    #[test]
    fn result_lines_are_summed() {
        let lines = [
            "test result: ok. 5 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.01s",
            "test result: FAILED. 7 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 3.01s",
        ];
        assert_eq!(closing(&lines.map(str::to_owned)), "12 passed; 2 failed; 1 ignored in 2 runs");
    }
}
