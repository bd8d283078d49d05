//! What is written down and no longer so, and where it is written.

use std::collections::BTreeSet;

use super::{Found, counted, problem, warning};
use crate::doctor::observed::{Agent, Listed, Observed};

/// Below that, a file of ours may not be written whole.
const LEAST_FREE: u64 = 16 << 20;
const LEAST_FILES: u64 = 1000;

/// What could not be looked at.
pub(super) fn unseen(observed: &Observed) -> Vec<Found> {
    let told = |why: &String| {
        warning("doctor", format!("did not see everything: {why}"), "run it as root on the host itself")
    };
    observed.unseen.iter().map(told).collect()
}

/// What containers need and is not there.
pub(super) fn repair(observed: &Observed) -> Vec<Found> {
    let (steps, failures) = &observed.repair;
    // Those that forwarding is about are told by that check.
    let missing: Vec<&String> = steps.iter().filter(|step| !step.contains("sysctl -w ")).collect();
    let mut found = Vec::new();
    if let Some(first) = missing.first() {
        let is = if missing.len() == 1 { "is" } else { "are" };
        let things = counted(missing.len(), "thing");
        let what = format!("{things} that attached containers need {is} missing, the first: {first}");
        found.push(problem("the host", what, "zeugma repair; the agent does so by itself"));
    }
    found.extend(failures.iter().map(|why| problem("the host", why, "attach the container again")));
    found
}

/// Containers that are gone, and nobody said so.
pub(super) fn records(observed: &Observed) -> Vec<Found> {
    let gone = observed.attached.iter().filter(|one| !one.is_alive);
    let told = gone.map(|one| {
        let path = one.netns.as_ref().map_or_else(String::new, |netns| netns.path.display().to_string());
        let what =
            format!("its namespace {path} is gone, and no DEL was called: its addresses and ports are kept");
        let remedy = format!(
            "zeugma network disconnect {} {}, or let the runtime clean up (GC)",
            one.id.network, one.id.container
        );
        warning(one.shown(), what, remedy)
    });
    told.collect()
}

/// Addresses of containers that are not attached.
pub(super) fn leases(observed: &Observed) -> Vec<Found> {
    let told = observed.orphans.iter().map(|file| {
        let what = "a lease of a container that is not attached: its address is not given out";
        warning(
            file.display(),
            what,
            format!("rm {}, once you are sure that the container is gone", file.display()),
        )
    });
    told.collect()
}

/// Bridges and states of networks that nobody knows any more.
pub(super) fn leftovers(observed: &Observed) -> Vec<Found> {
    let mut found = Vec::new();
    let used: BTreeSet<u32> = observed.links.values().filter_map(|link| link.state.master).collect();
    let named: BTreeSet<_> = observed.lists.iter().filter_map(|list| list.bridge.as_ref()).collect();
    let kept: BTreeSet<_> = observed.attached.iter().filter_map(|one| one.bridge.as_ref()).collect();
    let overlays: BTreeSet<_> = observed.overlays.iter().map(|overlay| &overlay.bridge).collect();
    for (name, link) in observed.links.iter().filter(|(_, link)| link.state.kind == "bridge") {
        let is_ours = link.state.alias.as_deref().is_some_and(|alias| alias.starts_with("zeugma"));
        let is_known = named.contains(name) || kept.contains(name) || overlays.contains(name);
        if is_ours && !is_known && !used.contains(&link.state.index) {
            let what = "a bridge of ours without ports, and no list names it";
            found.push(warning(name, what, format!("ip link delete {name}")));
        }
    }
    let networks: BTreeSet<_> = observed.lists.iter().map(|list| &list.network).collect();
    let is_answered = matches!(observed.agent, Agent::Answers(..));
    for overlay in
        observed.overlays.iter().filter(|overlay| is_answered && !networks.contains(&overlay.network))
    {
        let what = "its state is written down, and no list names the network: nobody can attach to it";
        found.push(warning(
            format!("overlay {}", overlay.network),
            what,
            "create the network again, or remove it: zeugma network rm",
        ));
    }
    found
}

/// Lists that zeugma wrote of networks that are gone.
pub(super) fn lists(observed: &Observed) -> Vec<Found> {
    let Some(networks) = &observed.networks else { return Vec::new() };
    let is_gone = |list: &&Listed| list.is_ours && !networks.contains(&list.network);
    let told = observed.lists.iter().filter(is_gone).map(|list| {
        let (network, file) = (&list.network, list.path.display());
        let on_it: Vec<String> =
            observed.living().filter(|one| one.id.network == *network).map(|one| one.shown()).collect();
        if let Some(first) = on_it.first() {
            let on_it = counted(on_it.len(), "container");
            let what =
                format!("the catalogue has no network {network}, with {on_it} attached, the first: {first}");
            return warning(file, what, "the list goes with the last of them");
        }
        let what =
            format!("the catalogue has no network {network}: its addresses may be given to another network");
        let remedy = format!("rm {file}, or create the network again: zeugma network create {network}");
        warning(file, what, remedy)
    });
    told.collect()
}

/// Where state and leases are written.
pub(super) fn disks(observed: &Observed) -> Vec<Found> {
    let mut found = Vec::new();
    for (path, disk) in &observed.disks {
        let object = path.display();
        if disk.is_read_only {
            found.push(problem(
                object,
                "is read-only",
                "mount it writable: leases and networks are written there",
            ));
        } else if disk.free < LEAST_FREE || disk.free_files.is_some_and(|files| files < LEAST_FILES) {
            found.push(problem(
                object,
                format!("{} MiB are free", disk.free >> 20),
                "make room: ADD fails when a record cannot be written",
            ));
        } else if disk.is_volatile && *path == observed.state_dir {
            let what = "is in memory: networks, services and keys are lost with the next boot";
            found.push(warning(object, what, "have it on a disk: ZEUGMA_STATE_DIR"));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use zeugma_kernel::Disk;

    use super::super::tests::{healthy, link, told};
    use crate::doctor::observed::Listed;

    #[test]
    fn what_a_repair_would_do_is_one_finding_without_sysctls() {
        let mut observed = healthy();
        observed.repair.0 = vec!["host: sysctl -w net.ipv4.ip_forward=1".into()];
        assert!(told(&observed, "repair").is_empty());
        observed.repair.0 = vec!["ip link add br0".into(), "nft add element".into()];
        assert!(
            told(&observed, "repair")[0]
                .contains("2 things that attached containers need are missing, the first: ip link add br0"),
            "{:?}",
            told(&observed, "repair")
        );
        observed.repair.0.pop();
        assert!(told(&observed, "repair")[0].contains("1 thing that attached containers need is missing"));
    }

    #[test]
    fn a_container_that_is_gone_is_told_with_its_way_out() {
        let mut observed = healthy();
        observed.attached[0].is_alive = false;
        assert!(told(&observed, "record")[0].contains("zeugma network disconnect net c"));
    }

    #[test]
    fn a_bridge_of_ours_that_nobody_knows_is_left_over() {
        let mut observed = healthy();
        let mut bridge = link(1500);
        (bridge.state.kind, bridge.state.alias) = ("bridge".into(), Some("zeugma".into()));
        observed.links.insert("br7".parse().unwrap(), bridge.clone());
        observed.links.insert("br0".parse().unwrap(), bridge);
        assert_eq!(told(&observed, "leftover").len(), 1);
        assert!(told(&observed, "leftover")[0].contains("ip link delete br7"));
    }

    #[test]
    fn a_list_of_ours_is_told_when_its_network_is_gone() {
        let mut observed = healthy();
        let list = |name: &str, is_ours| Listed {
            network: name.parse().unwrap(),
            path: format!("/zeugma-{name}.conflist").into(),
            types: Vec::new(),
            is_ours,
            bridge: None,
            tunnel: None,
        };
        observed.lists = vec![list("net", true), list("gone", true), list("other", false)];
        assert!(told(&observed, "list").is_empty(), "nobody knows which networks there are");
        observed.networks = Some(["net", "gone"].map(|name| name.parse().unwrap()).into());
        assert!(told(&observed, "list").is_empty());
        observed.networks = Some(["net".parse().unwrap()].into());
        let found = told(&observed, "list");
        assert!(
            found.len() == 1 && found[0].starts_with("/zeugma-gone.conflist: the catalogue has no network")
        );
        assert!(found[0].contains("rm /zeugma-gone.conflist, or create"), "{found:?}");
        observed.networks = Some(BTreeSet::new());
        let found = told(&observed, "list");
        assert!(found[0].contains("with 1 container attached, the first: net/c"), "{found:?}");
    }

    #[test]
    fn disks_are_told_when_they_are_full_fixed_or_forgetful() {
        let fine = Disk { is_volatile: false, is_read_only: false, free: 1 << 30, free_files: Some(1 << 20) };
        let mut observed = healthy();
        let volatile = Disk { is_volatile: true, ..fine };
        let mut check = |disk: Disk, words: &str| {
            observed.state_dir = "/var/lib/zeugma".into();
            observed.disks = vec![("/var/lib/zeugma".into(), disk), ("/run/zeugma".into(), volatile)];
            let told = told(&observed, "disk");
            assert!(
                told.iter().any(|line| line.contains(words)) || words.is_empty() && told.is_empty(),
                "{told:?}"
            );
        };
        check(fine, "");
        check(Disk { is_read_only: true, ..fine }, "read-only");
        check(Disk { free: 1 << 20, ..fine }, "1 MiB are free");
        check(Disk { free_files: Some(3), ..fine }, "make room");
        check(Disk { is_volatile: true, ..fine }, "in memory");
    }
}
