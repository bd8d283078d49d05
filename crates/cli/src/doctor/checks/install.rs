//! Whether all of zeugma is there: plugins, agent, catalogue.

use std::collections::BTreeSet;

use zeugma_model::PLUGINS;

use super::{Found, problem, warning};
use crate::doctor::observed::{Agent, Listed, Observed, Place};

/// The plugin directory, as lists need it.
pub(super) fn plugins(observed: &Observed) -> Vec<Found> {
    let directory = observed.plugins.directory.display().to_string();
    let place = |name: &str| observed.plugins.files.get(name).copied().unwrap_or(Place::Missing);
    let install = format!("zeugma install --bin-dir {directory}");
    let mut found = Vec::new();
    let mut told = BTreeSet::new();
    for name in observed.lists.iter().flat_map(|list| &list.types).filter(|name| told.insert(*name)) {
        let lists = observed.lists.iter().filter(|list| list.types.contains(name)).collect::<Vec<_>>();
        found.extend(missing(&lists, name, place(name), &directory, &install));
    }
    let is_installed = place("zeugma-cni") == Place::Ours;
    let all = PLUGINS.iter().flat_map(|plugin| [(*plugin).to_owned(), format!("zeugma-{plugin}")]);
    for name in all.filter(|name| place(name) == Place::Dangling) {
        found.push(problem(format!("{directory}/{name}"), "a link that leads nowhere", &install));
    }
    let lacking: Vec<String> = PLUGINS.iter().map(|plugin| format!("zeugma-{plugin}")).collect();
    let lacking: Vec<&String> =
        lacking.iter().filter(|name| is_installed && place(name) == Place::Missing).collect();
    if let Some(first) = lacking.first() {
        let what = format!("lacks {first} and {} more: an older zeugma was installed", lacking.len() - 1);
        let what =
            if lacking.len() == 1 { format!("lacks {first}: an older zeugma was installed") } else { what };
        found.push(warning(&directory, what, &install));
    }
    if observed.plugins.is_other_build == Some(true) {
        let what = "is another build than the one beside this zeugma";
        found.push(warning(format!("{directory}/zeugma-cni"), what, &install));
    }
    found
}

fn missing(lists: &[&Listed], name: &str, place: Place, directory: &str, install: &str) -> Option<Found> {
    let object = format!("{directory}/{name}");
    let plain = name.strip_prefix("zeugma-").unwrap_or(name);
    let is_a_plugin_of_ours = PLUGINS.contains(&plain);
    let all = |lists: &[&Listed]| {
        let networks: Vec<&str> = lists.iter().map(|list| list.network.as_str()).collect();
        format!("network{} {}", if networks.len() == 1 { "" } else { "s" }, networks.join(", "))
    };
    let of_ours: Vec<&Listed> = lists.iter().copied().filter(|list| list.is_ours).collect();
    match place {
        Place::Missing => {
            let file = lists.first().map_or_else(String::new, |list| list.path.display().to_string());
            let what = format!("is missing, and nothing can be attached to {} ({file})", all(lists));
            let remedy = match (is_a_plugin_of_ours, plain == name) {
                (true, false) => install.to_owned(),
                (true, true) => format!("{install} --replace, or install the plugins of the CNI project"),
                (false, _) => "install the plugin, or take it out of the list".into(),
            };
            Some(problem(object, what, remedy))
        }
        Place::Foreign if !of_ours.is_empty() && is_a_plugin_of_ours => {
            let what = format!(
                "is another maker's, and {} want{} ours",
                all(&of_ours),
                if of_ours.len() == 1 { "s" } else { "" }
            );
            Some(problem(object, what, format!("{install} --replace")))
        }
        Place::Foreign | Place::Ours | Place::Dangling => None,
    }
}

/// The agent, where lists need it, and what it says of itself.
pub(super) fn agent(observed: &Observed) -> Vec<Found> {
    match &observed.agent {
        Agent::Silent(why) => {
            vec![problem("zeugma agent", why, "look at its log (journalctl -u zeugma-agent); start it again")]
        }
        Agent::Answers(status, overlays) => {
            // Those are told beside their networks.
            let told: BTreeSet<String> = overlays
                .iter()
                .flat_map(|view| view.problems.iter().map(|line| format!("network {}: {line}", view.network)))
                .collect();
            let mut found: Vec<Found> = status
                .problems
                .iter()
                .filter(|line| !line.starts_with("the catalogue does not answer") && !told.contains(*line))
                .map(|line| {
                    problem(
                        "zeugma agent",
                        line,
                        "as it says; zeugma dns dump and zeugma service ls show the rest",
                    )
                })
                .collect();
            let own = env!("CARGO_PKG_VERSION");
            if status.version != own {
                let what = format!("is version {}, and this zeugma is {own}", status.version);
                found.push(warning("zeugma agent", what, "start the agent again with this zeugma"));
            }
            found
        }
        Agent::Away => {
            let needs = |list: &&Listed| {
                list.types.iter().any(|name| {
                    let plain = name.strip_prefix("zeugma-").unwrap_or(name);
                    plain == "overlay" || plain == "resolver" || plain == "dnsname" && list.is_ours
                })
            };
            let users: Vec<String> =
                observed.lists.iter().filter(needs).map(|list| list.network.to_string()).collect();
            if users.is_empty() {
                return Vec::new();
            }
            let what = format!("does not run, and answers no names on {}", users.join(", "));
            vec![problem("zeugma agent", what, "start it: zeugma agent, as a service of the host's init")]
        }
    }
}

/// The catalogue's store.
pub(super) fn catalogue(observed: &Observed) -> Vec<Found> {
    let Agent::Answers(status, _) = &observed.agent else { return Vec::new() };
    let told = status.catalogue.why.iter().map(|why| {
        let what = format!(
            "does not answer: {why}; what was known before is still served, and nothing can be changed"
        );
        problem(
            &status.catalogue.store,
            what,
            "start it again; with etcd: etcdctl endpoint health, and whether a quorum is left",
        )
    });
    told.collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use zeugma_api::Status;

    use super::super::tests::{healthy, told};
    use super::*;

    fn list(types: &[&str], is_ours: bool) -> Listed {
        let types = types.iter().map(|name| (*name).to_owned()).collect();
        Listed {
            network: "front".parse().unwrap(),
            path: "/x.conflist".into(),
            types,
            is_ours,
            bridge: None,
            tunnel: None,
        }
    }

    #[test]
    fn what_lists_name_has_to_be_there_and_ours() {
        let mut observed = healthy();
        observed.plugins.directory = "/opt/cni/bin".into();
        observed.lists = vec![list(&["zeugma-bridge", "loopback"], false)];
        let all = told(&observed, "plugins");
        assert!(
            all[0].starts_with("/opt/cni/bin/zeugma-bridge: is missing")
                && all[0].ends_with("zeugma install --bin-dir /opt/cni/bin"),
            "{all:?}"
        );
        assert!(all[1].contains("--replace, or install the plugins of the CNI project"), "{all:?}");
        observed.plugins.files =
            [("bridge".to_owned(), Place::Foreign), ("vlan".to_owned(), Place::Dangling)].into();
        observed.lists = vec![list(&["bridge"], true)];
        let all = told(&observed, "plugins");
        assert!(
            all[0].contains("another maker's") && all[1].starts_with("/opt/cni/bin/vlan: a link"),
            "{all:?}"
        );
    }

    #[test]
    fn a_plugin_that_many_networks_want_is_told_once() {
        let mut observed = healthy();
        let back = Listed { network: "back".parse().unwrap(), ..list(&["bridge"], true) };
        observed.lists = vec![list(&["bridge"], true), back, list(&["bridge"], false)];
        observed.plugins.files = [("bridge".to_owned(), Place::Foreign)].into();
        let all = told(&observed, "plugins");
        assert!(
            all.len() == 1 && all[0].contains("another maker's, and networks front, back want ours"),
            "{all:?}"
        );
    }

    #[test]
    fn an_agent_that_is_away_is_missed_where_a_list_needs_it() {
        let mut observed = healthy();
        observed.lists = vec![list(&["zeugma-bridge"], true)];
        assert!(told(&observed, "agent").is_empty());
        observed.lists = vec![list(&["zeugma-bridge", "zeugma-resolver"], true)];
        assert!(told(&observed, "agent")[0].contains("does not run, and answers no names on front"));
    }

    #[test]
    fn a_silent_agent_s_log_is_that_of_its_unit() {
        let mut observed = healthy();
        observed.agent = Agent::Silent("it does not answer".into());
        let told = told(&observed, "agent").remove(0);
        let unit = told.split("journalctl -u ").nth(1).and_then(|rest| rest.split(')').next()).unwrap();
        let units = concat!(env!("CARGO_MANIFEST_DIR"), "/../../contrib/systemd");
        assert!(std::path::Path::new(units).join(format!("{unit}.service")).exists(), "{told}");
    }

    #[test]
    fn what_the_agent_says_is_told_and_its_catalogue_apart() {
        let mut observed = healthy();
        let status: Status = serde_json::from_value(json!({"version": env!("CARGO_PKG_VERSION"), "pid": 1,
            "generation": 1, "attachments": 0, "networks": 0, "repairs": 0,
            "catalogue": {"store": "etcd http://a:2379", "why": "refused"},
            "problems": ["two networks have 10.1.0.1", "the catalogue does not answer: refused"]}))
        .unwrap();
        observed.agent = Agent::Answers(Box::new(status), Vec::new());
        assert_eq!(told(&observed, "agent").len(), 1);
        assert!(told(&observed, "catalogue")[0].starts_with("etcd http://a:2379: does not answer: refused"));
        observed.is_clock_kept = false;
        assert_eq!(told(&observed, "clock").len(), 1);
    }
}
