//! What is promised of changes, checked on a table in memory.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use serde_json::{Value, json};
use zeugma_plan::nft::services::{Changes, Element, Forget};

use crate::{Programmed, Situation, Workload};

fn situation() -> Situation {
    Situation {
        node: "n1".parse().unwrap(),
        local: vec!["10.88.0.0/16".parse().unwrap(), "10.88.1.0/24".parse().unwrap()],
        inside: vec!["10.88.0.0/15".parse().unwrap()],
        overlays: vec![vec!["10.89.0.0/16".parse().unwrap()]],
        direct: vec![],
        ranges: vec!["10.96.0.0/16".parse().unwrap()],
    }
}

fn workload(service: Value, endpoints: Value) -> Workload {
    Workload {
        service: serde_json::from_value(service).unwrap(),
        endpoints: serde_json::from_value(endpoints).unwrap(),
    }
}

/// A service `s` at 10.96.0.1:53 with endpoints written as `10.88.0.1`, or `10.88.0.1 draining`.
fn dns(protocol: &str, endpoints: &[&str]) -> Workload {
    let endpoint = |text: &&str| {
        let (address, state) = text.split_once(' ').unwrap_or((text, "ready"));
        json!({"address": address, "state": state, "node": "n2"})
    };
    let service = json!({"name": "s", "vips": ["10.96.0.1"], "ports": [{"port": 53, "protocol": protocol}]});
    workload(service, endpoints.iter().map(endpoint).collect())
}

/// A table as the kernel keeps it: no key twice, nothing deleted that is not there.
#[derive(Default)]
struct Table(BTreeMap<Vec<u8>, Element>);

impl Table {
    fn apply(&mut self, changes: &Changes) {
        for element in &changes.delete {
            assert_eq!(self.0.remove(&key(element)).as_ref(), Some(element), "deleted but not there");
        }
        for element in &changes.add {
            let there = self.0.insert(key(element), element.clone());
            assert_eq!(there, None, "added but there");
        }
    }

    fn elements(&self) -> BTreeSet<Element> {
        self.0.values().cloned().collect()
    }
}

fn key(element: &Element) -> Vec<u8> {
    let mut key = element.set().name().into_bytes();
    element.put_key(&mut key);
    element.put_last_key(&mut key);
    key
}

fn synced(programmed: &mut Programmed, table: &mut Table, workloads: &[Workload]) -> usize {
    let (changes, conflicts) = programmed.sync(workloads, &situation());
    assert_eq!(conflicts, []);
    changes.iter().for_each(|changes| table.apply(changes));
    changes.iter().map(|changes| changes.add.len() + changes.delete.len()).sum()
}

/// A service of a small world: its number, addresses by number with states and nodes, and what it is like.
fn workloads() -> impl Strategy<Value = Vec<Workload>> {
    let endpoint = (0_u8..9, prop::sample::select(vec!["ready", "ready", "draining", "unhealthy"]), 1_u16..3);
    let service = (
        prop::collection::vec(endpoint, 0..7),
        prop::option::of(1_u32..90),
        any::<bool>(),
        prop::sample::select(vec!["any", "prefer-local", "local-only"]),
    );
    prop::collection::btree_map(0_u8..5, service, 0..5).prop_map(|services| {
        let made = services.into_iter().map(|(number, (endpoints, affinity, weighted, policy))| {
            let endpoints = endpoints.into_iter().flat_map(|(host, state, weight)| {
                [format!("10.88.0.{host}"), format!("fd00:88::{host}")].map(|address| {
                    let node = format!("n{}", host % 3);
                    let weight = if weighted { weight } else { 1 };
                    json!({"address": address, "state": state, "node": node, "weight": weight})
                })
            });
            let service = json!({
                "name": format!("s{number}"), "vips": [format!("10.96.0.{number}"), format!("fd00:96::{number}")],
                "ports": [{"port": 80}, {"port": 53, "protocol": "udp"}], "traffic": policy,
                "published": [{"published": 8000 + u16::from(number), "port": 80}],
                "affinity": affinity.map(|seconds| json!({"timeout_seconds": seconds})),
            });
            workload(service, endpoints.collect())
        });
        made.collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    #[test]
    fn changes_lead_from_any_state_to_any_other(one in workloads(), other in workloads()) {
        let (mut programmed, mut table) = (Programmed::default(), Table::default());
        synced(&mut programmed, &mut table, &one);
        synced(&mut programmed, &mut table, &other);
        let (mut fresh, mut expected) = (Programmed::default(), Table::default());
        synced(&mut fresh, &mut expected, &other);
        let slotless = |table: &Table| table.elements().into_iter().map(|element| match element {
            // Which endpoint has which slot depends on the past.
            Element::Endpoint(frontend, slot, _) => Element::Endpoint(frontend, slot, zeugma_plan::nft::services::Backend { address: frontend.address, port: 0 }),
            other => other,
        }).collect::<BTreeSet<_>>();
        prop_assert_eq!(slotless(&table), slotless(&expected));
        prop_assert_eq!(synced(&mut programmed, &mut table, &other), 0);
    }

    #[test]
    fn a_restart_changes_nothing_that_is_right(workloads in workloads(), lost in any::<prop::sample::Index>()) {
        let (mut programmed, mut table) = (Programmed::default(), Table::default());
        synced(&mut programmed, &mut table, &workloads);
        let before = table.elements();
        let mut again = Programmed::observed(before.iter().cloned().collect());
        prop_assert_eq!(synced(&mut again, &mut table, &workloads), 0);
        let lost = lost.get(&before.iter().cloned().collect::<Vec<_>>()).clone();
        table.0.remove(&key(&lost));
        let mut mended = Programmed::observed(table.0.values().cloned().collect());
        synced(&mut mended, &mut table, &workloads);
        prop_assert_eq!(table.elements(), before);
    }

    #[test]
    fn updates_and_removals_are_as_good_as_a_sync(one in workloads(), other in workloads()) {
        let (mut programmed, mut table) = (Programmed::default(), Table::default());
        synced(&mut programmed, &mut table, &one);
        for workload in &one {
            table.apply(&programmed.remove(&workload.service.name));
        }
        for workload in &other {
            table.apply(&programmed.update(workload, &situation()).0);
        }
        prop_assert_eq!(synced(&mut programmed, &mut table, &other), 0);
    }
}

fn lines(elements: &[Element]) -> Vec<String> {
    elements.iter().map(ToString::to_string).collect()
}

#[test]
fn a_service_reads_as_elements() {
    let service = json!({
        "name": "web", "vips": ["10.96.0.1", "fd00:96::1"], "ports": [{"port": 80, "target": 8080}],
        "published": [{"published": 8000, "port": 80}], "affinity": {"timeout_seconds": 60},
    });
    let endpoints = json!([
        {"address": "10.88.0.2", "node": "n1"}, {"address": "10.88.0.3"}, {"address": "fd00:88::2"},
    ]);
    let (changes, _) = Programmed::default().sync(&[workload(service, endpoints)], &situation());
    let mut lines = lines(&changes[0].add);
    lines.sort_unstable();
    insta::assert_snapshot!(lines.join("\n"));
}

#[test]
fn one_endpoint_more_is_three_elements_and_one_less_at_most_five() {
    let mut programmed = Programmed::default();
    let few = dns("tcp", &["10.88.0.1", "10.88.0.2", "10.88.0.3"]);
    let more = dns("tcp", &["10.88.0.1", "10.88.0.2", "10.88.0.3", "10.88.0.4"]);
    programmed.sync(std::slice::from_ref(&few), &situation());
    let (changes, _) = programmed.update(&more, &situation());
    let service =
        |slots| format!("services_ip {{ 10.96.0.1 . tcp . 53 comment \"s\" : 0 . {slots} . {slots} }}");
    assert_eq!(lines(&changes.delete), [service(3)]);
    assert_eq!(
        lines(&changes.add),
        [service(4), "endpoints_ip { 10.96.0.1 . tcp . 53 . 3 : 10.88.0.4 . 53 }".into()]
    );
    let (changes, _) = programmed.update(&dns("tcp", &["10.88.0.2", "10.88.0.3", "10.88.0.4"]), &situation());
    assert_eq!((changes.delete.len(), changes.add.len()), (3, 2));
}

/// What is kept when the endpoints of a UDP service change; none when nothing is forgotten.
fn forgotten(before: &[&str], after: &[&str]) -> Option<Vec<String>> {
    let mut programmed = Programmed::default();
    programmed.sync(&[dns("udp", before)], &situation());
    let (changes, _) = programmed.update(&dns("udp", after), &situation());
    let [Forget { keep, .. }] = &changes.forget[..] else { return None };
    Some(keep.iter().map(|backend| backend.address.to_string()).collect())
}

#[test]
fn flows_are_forgotten_when_their_endpoint_is_gone_and_not_before() {
    let kept = |addresses: &[&str]| Some(addresses.iter().map(ToString::to_string).collect::<Vec<_>>());
    assert_eq!(forgotten(&[], &["10.88.0.1"]), kept(&["10.88.0.1"]));
    assert_eq!(forgotten(&["10.88.0.1"], &[]), kept(&[]));
    assert_eq!(forgotten(&["10.88.0.1", "10.88.0.2"], &["10.88.0.2"]), kept(&["10.88.0.2"]));
    assert_eq!(forgotten(&["10.88.0.1"], &["10.88.0.1", "10.88.0.2"]), None);
    assert_eq!(forgotten(&["10.88.0.1", "10.88.0.2"], &["10.88.0.1 draining", "10.88.0.2"]), None);
    assert_eq!(forgotten(&["10.88.0.1 draining", "10.88.0.2"], &["10.88.0.2"]), kept(&["10.88.0.2"]));
    assert_eq!(
        forgotten(&["10.88.0.1", "10.88.0.2"], &["10.88.0.1 unhealthy", "10.88.0.2"]),
        kept(&["10.88.0.2"])
    );
    assert_eq!(
        forgotten(&["10.88.0.1 draining"], &["10.88.0.1 draining", "10.88.0.2"]),
        kept(&["10.88.0.1", "10.88.0.2"])
    );
}

/// With whom clients may stay when endpoints change; none when nobody has to leave.
fn staying(before: &[&str], after: &[&str]) -> Option<usize> {
    let sticky = |endpoints| {
        let mut workload = dns("tcp", endpoints);
        workload.service.affinity = serde_json::from_value(json!({"timeout_seconds": 60})).unwrap();
        workload
    };
    let mut programmed = Programmed::default();
    programmed.sync(&[sticky(before)], &situation());
    let (changes, _) = programmed.update(&sticky(after), &situation());
    changes.leave.first().map(|leave| leave.keep.len())
}

#[test]
fn clients_leave_whom_gets_no_new_flows() {
    assert_eq!(staying(&["10.88.0.1"], &["10.88.0.1", "10.88.0.2"]), None);
    assert_eq!(staying(&["10.88.0.1", "10.88.0.2"], &["10.88.0.2"]), Some(1));
    assert_eq!(staying(&["10.88.0.1", "10.88.0.2"], &["10.88.0.1 draining", "10.88.0.2"]), Some(1));
    assert_eq!(staying(&["10.88.0.1"], &[]), Some(0));
}

#[test]
fn flows_of_tcp_are_never_forgotten() {
    let mut programmed = Programmed::default();
    programmed.sync(&[dns("tcp", &["10.88.0.1"])], &situation());
    assert_eq!(programmed.update(&dns("tcp", &[]), &situation()).0.forget, []);
}

#[test]
fn an_address_and_port_belongs_to_one_service() {
    let mut programmed = Programmed::default();
    let first = dns("tcp", &["10.88.0.1"]);
    let mut second = first.clone();
    second.service.name = "t".parse().unwrap();
    programmed.update(&first, &situation());
    let (changes, conflicts) = programmed.update(&second, &situation());
    assert!(changes.is_empty());
    assert_eq!((conflicts[0].owner.as_str(), conflicts[0].refused.as_str()), ("s", "t"));
    let (changes, conflicts) = programmed.sync(&[second], &situation());
    let elements = lines(&changes[0].add);
    assert!(
        elements.contains(&"services_ip { 10.96.0.1 . tcp . 53 comment \"t\" : 0 . 1 . 1 }".into()),
        "{elements:?}"
    );
    assert_eq!(conflicts, []);
}

#[test]
fn local_only_leaves_other_nodes_out() {
    let service =
        json!({"name": "s", "vips": ["10.96.0.1"], "ports": [{"port": 80}], "traffic": "local-only"});
    let endpoints = json!([{"address": "10.88.0.2", "node": "n1"}, {"address": "10.89.0.2", "node": "n2"}]);
    let (changes, _) = Programmed::default().update(&workload(service, endpoints), &situation());
    let endpoints: Vec<String> =
        lines(&changes.add).into_iter().filter(|line| line.starts_with("endpoints")).collect();
    assert_eq!(endpoints, ["endpoints_ip { 10.96.0.1 . tcp . 80 . 0 : 10.88.0.2 . 80 }"]);
}

#[test]
fn what_cannot_be_read_stays_as_it_is_until_it_can() {
    let published = |name: &str, vip: &str, endpoint: &str| {
        let ports = json!([{"port": 80}]);
        let service = json!({"name": name, "vips": [vip], "ports": ports, "published": [{"published": 8080, "port": 80}]});
        workload(service, json!([{"address": endpoint, "node": "n1"}]))
    };
    let (kept, other) = (published("kept", "10.96.0.1", "10.88.0.1"), dns("udp", &["10.88.0.2"]));
    let (mut before, mut table) = (Programmed::default(), Table::default());
    synced(&mut before, &mut table, std::slice::from_ref(&kept));
    let elements = table.elements();
    let mut programmed = Programmed::observed(elements.iter().cloned().collect());
    assert_eq!(programmed.keep(&kept.service.name), Some(vec!["10.96.0.1".parse().unwrap()]));
    assert_eq!(programmed.keep(&"absent".parse().unwrap()), None);
    assert_eq!(synced(&mut programmed, &mut table, &[]), 0, "nothing of it is touched");
    let (changes, conflicts) = programmed.update(&kept, &situation());
    table.apply(&changes);
    assert_eq!((table.elements(), conflicts), (elements, vec![]));
    table.apply(&programmed.remove(&kept.service.name));
    let ground = |element: &Element| {
        !matches!(element, Element::Vip(_) | Element::Service(..) | Element::Endpoint(..) | Element::Port(..))
    };
    assert!(table.elements().iter().all(ground), "then it goes as a whole");
    synced(&mut programmed, &mut table, &[other]);
}

#[test]
fn whoever_begins_anew_forgets_what_the_one_before_did_not_get_to() {
    let (mut programmed, mut table) = (Programmed::default(), Table::default());
    let mut forgotten = |protocol: &str| {
        let two = dns(protocol, &["10.88.0.1", "10.88.0.2 draining"]);
        synced(&mut programmed, &mut table, std::slice::from_ref(&two));
        let mut next = Programmed::observed(table.0.values().cloned().collect());
        let sync = |next: &mut Programmed| next.sync(std::slice::from_ref(&two), &situation()).0;
        let changes = sync(&mut next);
        assert!(sync(&mut next).is_empty());
        changes.iter().flat_map(|changes| &changes.forget).map(|one| one.keep.len()).collect::<Vec<_>>()
    };
    assert_eq!(forgotten("udp"), [2]);
    assert_eq!(forgotten("tcp"), [0; 0]);
}

#[test]
fn a_container_that_was_added_without_its_node_may_be_a_client_of_itself() {
    let service = json!({"name": "s", "vips": ["10.96.0.1"], "ports": [{"port": 80}]});
    let endpoints = json!([{"address": "10.88.0.2"}, {"address": "192.0.2.7"}]);
    let situation = Situation { local: vec!["10.88.0.0/16".parse().unwrap()], ..situation() };
    let (changes, _) = Programmed::default().update(&workload(service, endpoints), &situation);
    let hairpins: Vec<String> =
        lines(&changes.add).into_iter().filter(|line| line.starts_with("hairpin")).collect();
    assert_eq!(hairpins, ["hairpin_ip { 10.88.0.2 . 10.88.0.2 }"]);
}
