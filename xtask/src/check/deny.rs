//! Licences, bans and advisories by cargo-deny, and that each direct dependency has its reason in deny.toml.
//!
//! A machine without network still checks: advisories that cannot be fetched are said loudly, not a failure.

use std::collections::BTreeSet;
use std::fs;
use std::process::Output;

use anyhow::{Context, Result, bail};
use cargo_metadata::MetadataCommand;

use crate::shell;

/// How a reason is written in deny.toml: `# why NAME: reason`.
const WHY: &str = "# why ";

/// Gets cargo-deny when it is missing.
pub(crate) fn install() -> Result<()> {
    if shell::which("cargo-deny").is_some() {
        return Ok(());
    }
    shell::run(&mut shell::cargo(["install", "cargo-deny", "--locked"]))
}

/// The reasons, and what cargo-deny says where it is installed.
pub(crate) fn check() -> Result<()> {
    check_reasons()?;
    if shell::which("cargo-deny").is_none() {
        eprintln!("SKIPPED: cargo-deny is not installed (`cargo xtask check --install` installs it):");
        eprintln!("SKIPPED: licences, bans and advisories were NOT checked");
        return Ok(());
    }
    shell::run(&mut shell::cargo(["deny", "--log-level", "error", "check", "licenses", "bans", "sources"]))?;
    check_advisories()
}

fn check_advisories() -> Result<()> {
    let output = shell::cargo(["deny", "--log-level", "error", "check", "advisories"]).output()?;
    let said = text(&output);
    if output.status.success() {
        println!("advisories: ok");
    } else if is_unreachable(&said) {
        eprintln!(
            "SKIPPED: the advisory database cannot be fetched; advisories were NOT checked:\n{}",
            said.trim()
        );
    } else {
        bail!("cargo deny check advisories failed:\n{said}");
    }
    Ok(())
}

fn text(output: &Output) -> String {
    [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes).into_owned()).concat()
}

/// cargo-deny has one exit code for "cannot fetch" and "found something": a finding has an advisory's number.
fn is_unreachable(said: &str) -> bool {
    said.contains("advisory database") && !said.contains("ID: ")
}

/// Every external dependency that a manifest of ours names has a reason, and every reason a dependency.
fn check_reasons() -> Result<()> {
    let metadata = MetadataCommand::new().current_dir(shell::workspace_root()).no_deps().exec()?;
    let external = metadata.workspace_packages().into_iter().flat_map(|package| package.dependencies.clone());
    let used: BTreeSet<String> = external.filter(|dep| dep.path.is_none()).map(|dep| dep.name).collect();
    let config =
        fs::read_to_string(shell::workspace_root().join("deny.toml")).context("cannot read deny.toml")?;
    let wrong = reasons_amiss(&config, &used);
    if wrong.is_empty() { Ok(()) } else { bail!("deny.toml:\n  {}", wrong.join("\n  ")) }
}

fn reasons_amiss(config: &str, used: &BTreeSet<String>) -> Vec<String> {
    let reason = |line: &str| Some(line.strip_prefix(WHY)?.split_once(": ")?.0.to_owned());
    let given: BTreeSet<String> = config.lines().filter_map(reason).collect();
    let missing =
        used.difference(&given).map(|name| format!("{name} is used without a line `{WHY}{name}: …`"));
    let stale = given.difference(used).map(|name| format!("{name} has a reason but nothing uses it"));
    missing.chain(stale).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_dependency_has_a_reason_and_each_reason_a_dependency() {
        let used = BTreeSet::from(["serde".to_owned(), "libc".to_owned()]);
        let amiss = reasons_amiss("# why serde: the wire\n# why clap: flags\n[bans]\n", &used);
        assert_eq!(
            amiss,
            ["libc is used without a line `# why libc: …`", "clap has a reason but nothing uses it"]
        );
    }

    #[test]
    fn a_finding_is_not_taken_for_a_missing_network() {
        assert!(is_unreachable("failed to fetch advisory database https://…"));
        assert!(!is_unreachable("error[vulnerability]: …\n ID: RUSTSEC-2024-0001\n advisory database"));
    }
}
