//! What a network leaves behind: looked for with `ip`, `nft`, `conntrack` and in the files, not asked of us.
//!
//! What stays by design is named: the constant skeleton of our table, and empty directories and locks.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Result, ensure};
use serde_json::Value;

use crate::netns::ip_exec;
use crate::shell;

/// Everything found, one line a thing.
pub(crate) type Found = BTreeSet<String>;

/// Looks at the host and at both containers.
pub(crate) fn observe() -> Result<Found> {
    let mut found = Found::new();
    for netns in ["web", "db"] {
        found.extend(lines(&format!("{netns}: "), &ip_exec(netns, "ip -br link")?));
    }
    for what in ["link", "address", "route", "neigh"] {
        let listed = shell::read(&mut shell::command("ip", ["-o", what, "show"]))?;
        // Counters of a lifetime change by themselves; neighbours of the uplink come and go with traffic.
        let stable = listed.lines().filter(|line| what != "neigh" || !line.contains("uplink"));
        found.extend(stable.map(|line| format!("{what} {}", stable_words(line))));
    }
    found.extend(elements()?);
    found.extend(connections()?);
    for dir in ["/run/zeugma", "/var/lib/cni"] {
        files(Path::new(dir), &mut found)?;
    }
    Ok(found)
}

/// Fails with what was not there before, and says what was looked at.
pub(crate) fn prove_gone(before: &Found) -> Result<()> {
    let after = observe()?;
    let left: Vec<_> = after.difference(before).map(String::as_str).collect();
    ensure!(left.is_empty(), "left behind:\n   {}", left.join("\n   "));
    println!(
        "   nothing is left: links, addresses, routes, neighbours, ruleset elements, live connections, leases, journal"
    );
    Ok(())
}

/// Live connections of the containers' addresses. Closed ones, pings, unanswered multicast and answered questions to
/// the resolver the kernel forgets by itself.
fn connections() -> Result<Vec<String>> {
    let listed = shell::read(&mut shell::command("conntrack", ["-L"]))?;
    let is_live = |line: &&str| {
        line.contains("=10.88.0.")
            && !line.contains("_WAIT")
            && !line.contains("UNREPLIED")
            && !line.contains("dport=53 ")
            && !line.starts_with("icmp")
    };
    Ok(listed.lines().filter(is_live).map(|line| format!("conntrack {line}")).collect())
}

fn lines(prefix: &str, text: &str) -> Vec<String> {
    text.lines().map(|line| format!("{prefix}{line}")).collect()
}

fn stable_words(line: &str) -> String {
    line.split_whitespace().filter(|word| !word.starts_with("valid_lft")).collect::<Vec<_>>().join(" ")
}

/// Elements of all sets and maps, and rules outside of our constant table.
fn elements() -> Result<Vec<String>> {
    let listed = shell::read(&mut shell::command("nft", ["-j", "list", "ruleset"]))?;
    let ruleset: Value = serde_json::from_str(&listed)?;
    let objects = ruleset["nftables"].as_array().cloned().unwrap_or_default();
    let interesting = |object: &Value| {
        let (kind, body) = object.as_object()?.iter().next()?;
        let ours = body["table"] == "zeugma" || (kind == "table" && body["name"] == "zeugma");
        match kind.as_str() {
            "set" | "map" => body.get("elem").map(|elem| format!("elements of {}: {elem}", body["name"])),
            "metainfo" => None,
            _ if ours => None,
            _ => Some(format!("nft {object}")),
        }
    };
    Ok(objects.iter().filter_map(interesting).collect())
}

/// Files below `dir` that say something of a container.
fn files(dir: &Path, found: &mut Found) -> Result<()> {
    let Ok(entries) = std::fs::read_dir(dir) else {
        return Ok(());
    };
    for entry in entries {
        let path = entry?.path();
        if path.is_dir() {
            files(&path, found)?;
        } else if !stays(&path) {
            found.insert(format!("file {}", path.display()));
        }
    }
    Ok(())
}

/// Locks, the stamps of an (empty) index and of the last deletion, and the allocator's place in its range, which is kept so that an
/// address is not reused at once.
fn stays(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let lock = name == "lock" || path.parent().is_some_and(|dir| dir.ends_with("locks"));
    lock || ["stamp", "deleted"].contains(&name.as_ref()) || name.starts_with("last_reserved_ip")
}
