//! Runs a fuzz target of `fuzz/` with the corpus of its crate as seeds. What it finds belongs into that corpus.
//!
//! cargo-fuzz needs a nightly compiler only for sanitizers. The parsers have no unsafe code, so none is used:
//! panics, overflows, hangs and memory are what is watched.

use std::fs;

use anyhow::{Context, Result, bail};

use crate::shell;

/// A target, and the crate that has its entry and its corpus.
const TARGETS: [(&str, &str); 22] = [
    ("args", "crates/skel"),
    ("dhcp_reply", "crates/dhcp"),
    ("dns_answer", "dns"),
    ("dns_message", "dns"),
    ("host_resolv_conf", "dns"),
    ("ipam", "ipam"),
    ("journal", "crates/journal"),
    ("lab", "crates/cli"),
    ("lease", "ipam"),
    ("names", "crates/model"),
    ("netconf", "crates/cni"),
    ("netfilter", "crates/kernel"),
    ("overlay", "crates/kernel"),
    ("overlay_state", "crates/journal"),
    ("peers_file", "crates/agent"),
    ("plugins", "plugins"),
    ("resolv_conf", "ipam"),
    ("result", "crates/cni"),
    ("route", "crates/kernel"),
    ("rows", "crates/catalogue"),
    ("uapi", "crates/wireguard"),
    ("wireguard", "crates/kernel"),
];

/// Fuzzes `name` for so many seconds; without a name it lists the targets.
pub(crate) fn run(name: Option<&str>, seconds: u32) -> Result<()> {
    let Some(name) = name else {
        TARGETS.iter().for_each(|(name, place)| println!("{name:16} {place}/tests/corpus/{name}"));
        return Ok(());
    };
    let Some((_, place)) = TARGETS.iter().find(|(known, _)| *known == name) else {
        bail!("there is no fuzz target {name:?}: `cargo xtask fuzz` lists them");
    };
    if shell::which("cargo-fuzz").is_none() {
        shell::run(&mut shell::cargo(["install", "cargo-fuzz", "--locked"]))?;
    }
    let own = format!("fuzz/corpus/{name}");
    fs::create_dir_all(shell::workspace_root().join(&own)).with_context(|| format!("cannot create {own}"))?;
    let seeds = format!("{place}/tests/corpus/{name}");
    let words = ["fuzz", "run", "--release", "--sanitizer", "none", name, &own, &seeds];
    let limits = [format!("-max_total_time={seconds}"), "-timeout=10".into(), "-print_final_stats=1".into()];
    shell::run(shell::cargo(words).arg("--").args(limits)).with_context(|| {
        format!("{name} has a finding: mend it, and put the input from fuzz/artifacts/{name} into {seeds}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_target_is_known_and_has_a_corpus() {
        let root = shell::workspace_root();
        let listing = fs::read_dir(root.join("fuzz/fuzz_targets")).unwrap();
        let mut files: Vec<String> =
            listing.map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
        files.sort();
        assert_eq!(files, TARGETS.map(|(name, _)| format!("{name}.rs")));
        for (name, place) in TARGETS {
            let corpus = root.join(place).join("tests/corpus").join(name);
            assert!(corpus.read_dir().unwrap().count() > 2, "{}", corpus.display());
        }
    }
}
