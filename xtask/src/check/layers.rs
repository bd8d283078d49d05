//! Proves from `cargo metadata` that dependencies point down and that what must stay pure is pure.
//!
//! The table below is the architecture; ARCHITECTURE.md says why it is so.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, bail};
use cargo_metadata::{DependencyKind, Metadata, MetadataCommand, PackageId};

use crate::shell;

/// A crate, its layer, and the crates of its own layer that it may use.
struct Place(&'static str, u8, &'static [&'static str]);

/// Every crate of the workspace. A crate may use each layer below its own, and sideways only what is named.
const PLACES: &[Place] = &[
    // Types of the domain and of the protocol.
    Place("zeugma-model", 0, &[]),
    Place("zeugma-protocol", 0, &["zeugma-model"]),
    // What the agent's socket speaks.
    Place("zeugma-api", 0, &["zeugma-model"]),
    // Tables of the user pages out of types; for tests, ships nothing.
    Place("zeugma-pages", 0, &[]),
    // Decisions, as values.
    Place("zeugma-plan", 1, &[]),
    Place("zeugma-services", 1, &["zeugma-plan"]),
    Place("zeugma-overlay", 1, &["zeugma-plan"]),
    // What touches something: the kernel, files, the environment.
    Place("zeugma-kernel", 2, &["zeugma-journal"]),
    Place("zeugma-journal", 2, &[]),
    // Decides without I/O, too, but dhcproto has a source of randomness, which reaches libc; ours is an argument.
    Place("zeugma-dhcp", 2, &[]),
    Place("zeugma-skel", 2, &[]),
    Place("zeugma-ipam", 2, &["zeugma-journal", "zeugma-skel"]),
    // firewalld's zones.
    Place("zeugma-firewalld", 2, &[]),
    // What the journal's records stand for on the host.
    Place("zeugma-upkeep", 2, &["zeugma-journal"]),
    // What the cluster shares: one trait, stores on disk and in etcd.
    Place("zeugma-catalogue", 2, &[]),
    // Configuration lists on disk, and what a runtime does with one.
    Place("zeugma-networks", 2, &["zeugma-journal", "zeugma-skel"]),
    // WireGuard in user space, and what is said to it.
    Place("zeugma-wireguard", 2, &["zeugma-kernel"]),
    // Names: the zone decides without I/O, the server beside it has the sockets.
    Place("zeugma-dns", 2, &["zeugma-kernel"]),
    // What is run.
    Place("zeugma-agent", 3, &[]),
    Place("zeugma-plugins", 3, &[]),
    // Its labs stand on the fixtures' lasting namespaces.
    Place("zeugma-cli", 3, &["zeugma-agent", "netns-fixtures"]),
    Place("netns-fixtures", 3, &[]),
    Place("fuzz-corpus", 3, &[]),
    Place("zeugma-tests", 3, &["netns-fixtures"]),
    Place("zeugma-runtime-tests", 3, &["netns-fixtures"]),
    Place("zeugma-vm-tests", 3, &["zeugma-tests", "netns-fixtures"]),
    Place("xtask", 3, &["zeugma-tests", "netns-fixtures"]),
];

/// Layers 0 and 1 decide without I/O: none of these may be anywhere below them.
const IMPURE: &[&str] = &["tokio", "nix", "rustix", "libc", "mio", "socket2"];
/// Only this crate speaks to the kernel's network.
const DOOR: &str = "zeugma-kernel";
/// An oracle is independent of what it judges, so these may not reach the door by any way.
const ORACLES: &[&str] = &["zeugma-tests", "zeugma-runtime-tests", "zeugma-vm-tests", "netns-fixtures"];
/// Tests of any layer may use these (a development dependency ships nothing): worlds to stand in, and corpora.
const FIXTURES: &[&str] = &["netns-fixtures", "fuzz-corpus"];

/// A dependency as the workspace's manifests state it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Edge {
    from: String,
    to: String,
    development: bool,
}

/// Fails with every violation, one a line.
pub(crate) fn check() -> Result<()> {
    let host = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let metadata = MetadataCommand::new()
        .current_dir(shell::workspace_root())
        .other_options(["--locked".to_owned(), "--filter-platform".to_owned(), host])
        .exec()
        .context("`cargo metadata` failed")?;
    let edges = edges(&metadata);
    let members: Vec<_> =
        metadata.workspace_packages().iter().map(|package| package.name.to_string()).collect();
    let mut wrong = violations(&members, &edges);
    wrong.extend(transitive_violations(&members, &closures(&metadata)?));
    if wrong.is_empty() {
        println!("layers: {} crates, {} dependencies, all point down", members.len(), edges.len());
        return Ok(());
    }
    bail!("dependency directions (the table is in xtask/src/check/layers.rs):\n  {}", wrong.join("\n  "))
}

/// What the manifests state, judged.
fn violations(members: &[String], edges: &[Edge]) -> Vec<String> {
    let unplaced = members.iter().filter(|name| place(name).is_none());
    let mut wrong: Vec<String> =
        unplaced.map(|name| format!("{name} has no place in the table; give it a layer")).collect();
    wrong.extend(edges.iter().filter_map(violation));
    wrong
}

fn violation(edge: &Edge) -> Option<String> {
    let Edge { from, to, development } = edge;
    if is_kernel_network(to) && from != DOOR {
        return Some(format!("{from} uses {to}; only {DOOR} may"));
    }
    let (Place(_, above, sideways), Place(_, below, _)) = (place(from)?, place(to)?);
    let fixture = *development && FIXTURES.contains(&to.as_str());
    let allowed = fixture || below < above || sideways.contains(&to.as_str());
    (!allowed)
        .then(|| format!("{from} (layer {above}) uses {to} (layer {below}), which the table does not allow"))
}

/// What is reached by any number of steps, judged. `reached` has each member's normal and build dependencies.
fn transitive_violations(members: &[String], reached: &BTreeMap<String, BTreeSet<String>>) -> Vec<String> {
    let mut wrong = Vec::new();
    for (name, below) in members.iter().filter_map(|name| reached.get_key_value(name)) {
        if place(name).is_some_and(|Place(_, layer, _)| *layer < 2) {
            let impure = below.iter().filter(|to| IMPURE.contains(&to.as_str()) || is_kernel_network(to));
            wrong.extend(impure.map(|to| format!("{name} has to be pure and reaches {to}")));
        }
        if ORACLES.contains(&name.as_str()) && below.contains(DOOR) {
            wrong.push(format!("{name} is an oracle and reaches {DOOR}"));
        }
    }
    wrong
}

fn is_kernel_network(name: &str) -> bool {
    name == "rtnetlink" || name.starts_with("netlink-")
}

fn place(name: &str) -> Option<&'static Place> {
    PLACES.iter().find(|Place(known, ..)| *known == name)
}

fn edges(metadata: &Metadata) -> Vec<Edge> {
    let of = |package: &cargo_metadata::Package| {
        let from = package.name.to_string();
        let edge = |to: &cargo_metadata::Dependency| Edge {
            from: from.clone(),
            to: to.name.clone(),
            development: to.kind == DependencyKind::Development,
        };
        package.dependencies.iter().map(edge).collect::<Vec<_>>()
    };
    metadata.workspace_packages().into_iter().flat_map(of).collect()
}

/// Names that each package reaches without development dependencies.
fn closures(metadata: &Metadata) -> Result<BTreeMap<String, BTreeSet<String>>> {
    let resolve = metadata.resolve.as_ref().context("`cargo metadata` resolved nothing")?;
    let direct: BTreeMap<&PackageId, Vec<&PackageId>> =
        resolve.nodes.iter().map(|n| (&n.id, shipped(n))).collect();
    let names: BTreeMap<&PackageId, &str> =
        metadata.packages.iter().map(|p| (&p.id, p.name.as_str())).collect();
    let closure = |id: &PackageId| {
        let (mut reached, mut open) = (BTreeSet::new(), vec![id]);
        while let Some(next) = open.pop() {
            open.extend(direct[next].iter().copied().filter(|to| reached.insert(*to)));
        }
        reached.into_iter().map(|id| names[id].to_owned()).collect()
    };
    Ok(metadata.workspace_packages().into_iter().map(|p| (p.name.to_string(), closure(&p.id))).collect())
}

fn shipped(node: &cargo_metadata::Node) -> Vec<&PackageId> {
    let is_shipped = |dep: &&cargo_metadata::NodeDep| {
        dep.dep_kinds.iter().any(|kind| kind.kind != DependencyKind::Development)
    };
    node.deps.iter().filter(is_shipped).map(|dep| &dep.pkg).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(from: &str, to: &str, development: bool, expected: &str) {
        let edge = Edge { from: from.to_owned(), to: to.to_owned(), development };
        let found = violation(&edge).unwrap_or_default();
        assert!(found.contains(expected) && found.is_empty() == expected.is_empty(), "{found:?}");
    }

    #[test]
    fn dependencies_point_down_or_sideways_as_listed() {
        check("zeugma-plugins", "zeugma-kernel", false, "");
        check("zeugma-protocol", "zeugma-model", false, "");
        check("zeugma-model", "zeugma-protocol", false, "does not allow");
        check("zeugma-plan", "zeugma-kernel", false, "layer 1) uses zeugma-kernel (layer 2)");
        check("zeugma-plugins", "xtask", false, "does not allow");
        check("zeugma-journal", "zeugma-kernel", false, "does not allow");
    }

    #[test]
    fn only_tests_may_look_up_and_only_at_the_fixtures() {
        check("zeugma-kernel", "netns-fixtures", true, "");
        check("zeugma-kernel", "netns-fixtures", false, "does not allow");
        check("zeugma-kernel", "zeugma-tests", true, "does not allow");
    }

    #[test]
    fn there_is_one_door() {
        check("zeugma-plugins", "rtnetlink", false, "only zeugma-kernel may");
        check("zeugma-plugins", "netlink-packet-route", true, "only zeugma-kernel may");
        check("zeugma-kernel", "netlink-packet-route", false, "");
    }

    #[test]
    fn purity_and_independence_hold_through_others() {
        let reached = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>();
        let members = ["zeugma-plan", "zeugma-tests", "zeugma-skel"].map(str::to_owned);
        let closures = BTreeMap::from([
            ("zeugma-plan".to_owned(), reached(&["zeugma-model", "libc"])),
            ("zeugma-tests".to_owned(), reached(&["zeugma-plugins", "zeugma-kernel"])),
            ("zeugma-skel".to_owned(), reached(&["libc"])),
        ]);
        let wrong = transitive_violations(&members, &closures);
        assert_eq!(
            wrong,
            [
                "zeugma-plan has to be pure and reaches libc",
                "zeugma-tests is an oracle and reaches zeugma-kernel"
            ]
        );
    }

    #[test]
    fn a_new_crate_needs_a_place() {
        assert_eq!(violations(&["zeugma-new".to_owned()], &[]).len(), 1);
    }
}
