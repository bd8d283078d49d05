//! What a test needs of the machine, and how long it waits for a promise. Not for what a
//! test checks.

use std::fmt::Debug;
use std::io::Write;
use std::path::Path;
use std::time::Duration;

use anyhow::{Result, anyhow};

use crate::Plugins;

/// True, and loud about it, when one of `programs` or the directory of plugins is missing.
///
/// With `ZEUGMA_REQUIRE_RUNTIMES=1` in the environment that is a panic. The skips that can
/// happen are listed in this crate's `SKIPS.md`.
pub fn skip_without(programs: &[&str]) -> bool {
    let Some(missing) = missing(programs) else {
        return false;
    };
    let required = std::env::var_os("ZEUGMA_REQUIRE_RUNTIMES").is_some_and(|value| value == "1");
    assert!(!required, "{missing}, and ZEUGMA_REQUIRE_RUNTIMES=1 forbids to skip");
    skipped(&missing);
    true
}

/// Says so on the real stderr: the test harness swallows what `eprintln!` says in a test that passes.
pub fn skipped(reason: &str) {
    // A closed stderr is no reason to fail a test.
    let _ = writeln!(std::io::stderr(), "SKIPPED: {reason}");
}

fn missing(programs: &[&str]) -> Option<String> {
    if let Err(error) = Plugins::find() {
        return Some(format!("{error:#}"));
    }
    let base = ["unshare", "nsenter", "ip", "nft", "conntrack", "busybox", "buildah", "runc"];
    let absent: Vec<_> = base.iter().chain(programs).filter(|program| !installed(program)).copied().collect();
    (!absent.is_empty()).then(|| format!("not installed: {}", absent.join(", ")))
}

fn installed(program: &str) -> bool {
    let path = std::env::var("PATH").unwrap_or_default();
    path.split(':').chain(["/usr/sbin", "/sbin"]).any(|dir| Path::new(dir).join(program).exists())
}

/// Asks again until `attempt` succeeds, for at most ten seconds; then the last failure is the error.
pub fn eventually<T: Debug>(what: &str, mut attempt: impl FnMut() -> Result<T>) -> Result<T> {
    let mut last = attempt();
    netns_fixtures::eventually(Duration::from_secs(10), || {
        if last.is_err() {
            last = attempt();
        }
        last.is_ok()
    });
    last.map_err(|error| anyhow!("{what}, not within ten seconds: {error:#}"))
}
