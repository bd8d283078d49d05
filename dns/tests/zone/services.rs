//! What is answered about services.

use zeugma_dns::zone::{NamedPort, NamedService, Snapshot};
use zeugma_model::Protocol;

use super::*;

fn service(name: &str, networks: &[&str], addresses: &[&str], tasks: &[&str]) -> NamedService {
    let parsed = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect();
    let port = |name: &str, protocol, port, target| NamedPort { name: name.into(), protocol, port, target };
    NamedService {
        name: name.parse().unwrap(),
        networks: networks.iter().map(|name| name.parse().unwrap()).collect(),
        addresses: parsed(addresses),
        tasks: parsed(tasks),
        ports: vec![port("http", Protocol::Tcp, 80, 8080), port("dns", Protocol::Udp, 53, 5353)],
    }
}

const TASKS: [&str; 3] = ["10.88.0.11", "10.88.0.12", "fd88::11"];

/// On `front` the service `api` with virtual addresses and `peers` without; on `back` `api2`.
fn with_services() -> Snapshot {
    two_networks()
        .with_service(service("api", &["front"], &["10.96.0.1", "fd96::1"], &TASKS))
        .with_service(service("peers", &["front", "back"], &TASKS[..2], &TASKS[..2]))
        .with_service(service("api2", &["back"], &["10.96.0.2"], &["10.89.0.7"]))
}

fn check(asker: (&str, &str), name: &str, kind: &str, expected: &str) {
    assert_eq!(ask(&with_services(), asker, 0, name, kind), expected, "{name} {kind}");
}

const DOMAIN_SOA: &str =
    " aa | zeugma.internal. 1 IN SOA zeugma.internal. nobody.invalid. 1 3600 1200 604800 1";
const ROOT_SOA: &str = " aa | . 1 IN SOA . nobody.invalid. 1 3600 1200 604800 1";

#[test]
fn a_services_name_stands_for_its_virtual_addresses() {
    for name in ["api.", "api.zeugma.internal.", "API.front."] {
        check(WEB, name, "A", &format!("No Error aa; {name} 5 IN A 10.96.0.1"));
        check(WEB, name, "AAAA", &format!("No Error aa; {name} 5 IN AAAA fd96::1"));
    }
    check(WEB, "api.zeugma.internal.", "MX", &format!("No Error{DOMAIN_SOA}"));
    check(("front", "10.88.0.1"), "api.", "A", "No Error aa; api. 5 IN A 10.96.0.1");
    check(WEB, "api2.", "AAAA", &format!("No Error{ROOT_SOA}"));
}

#[test]
fn tasks_are_the_endpoints_and_take_turns() {
    let turn = |id, name| ask(&with_services(), WEB, id, name, "A");
    let name = "tasks.api.zeugma.internal.";
    assert_eq!(turn(0, name), format!("No Error aa; {name} 5 IN A 10.88.0.11; {name} 5 IN A 10.88.0.12"));
    assert_eq!(turn(1, name), format!("No Error aa; {name} 5 IN A 10.88.0.12; {name} 5 IN A 10.88.0.11"));
    check(WEB, "tasks.api.front.", "AAAA", "No Error aa; tasks.api.front. 5 IN AAAA fd88::11");
    check(WEB, "tasks.peers.", "AAAA", &format!("No Error{ROOT_SOA}"));
}

#[test]
fn without_virtual_addresses_the_name_stands_for_the_endpoints_in_turn() {
    let turn = |id| ask(&with_services(), WEB, id, "peers.", "A");
    assert_eq!(turn(0), "No Error aa; peers. 5 IN A 10.88.0.11; peers. 5 IN A 10.88.0.12");
    assert_eq!(turn(1), "No Error aa; peers. 5 IN A 10.88.0.12; peers. 5 IN A 10.88.0.11");
}

#[test]
fn a_service_without_endpoints_has_its_names() {
    let snapshot = two_networks().with_service(service("idle", &["front"], &[], &[]));
    for name in ["idle", "tasks.idle", "_http._tcp.idle", "_http._tcp.tasks.idle", "_udp.idle"] {
        for kind in ["A", "AAAA", "SRV"] {
            let answer = ask(&snapshot, WEB, 0, &format!("{name}.zeugma.internal."), kind);
            assert_eq!(answer, format!("No Error{DOMAIN_SOA}"), "{name} {kind}");
        }
    }
}

#[test]
fn a_named_port_of_a_virtual_address_is_one_srv_record_with_its_addresses() {
    let record = "5 IN SRV 0 0 80 api.zeugma.internal.";
    let known = "api.zeugma.internal. 5 IN A 10.96.0.1; api.zeugma.internal. 5 IN AAAA fd96::1";
    for name in ["_http._tcp.api.", "_HTTP._tcp.api.zeugma.internal.", "_http._tcp.api.front."] {
        check(WEB, name, "SRV", &format!("No Error aa; {name} {record} + {known}"));
    }
    let dns = "5 IN SRV 0 0 53 api.zeugma.internal.";
    check(WEB, "_dns._udp.api.", "SRV", &format!("No Error aa; _dns._udp.api. {dns} + {known}"));
}

#[test]
fn endpoints_have_srv_records_whose_targets_answer() {
    let name = |last| format!("10-88-0-{last}.tasks.peers.zeugma.internal.");
    for asked in ["_http._tcp.peers.", "_http._tcp.tasks.peers."] {
        let record = |last| format!("{asked} 5 IN SRV 0 1 8080 {}", name(last));
        let known = |last| format!("{} 5 IN A 10.88.0.{last}", name(last));
        let expected = format!("No Error aa; {}; {} + {}; {}", record(11), record(12), known(11), known(12));
        check(WEB, asked, "SRV", &expected);
    }
    check(WEB, &name(12), "A", &format!("No Error aa; {} 5 IN A 10.88.0.12", name(12)));
    check(WEB, &name(12), "AAAA", &format!("No Error{DOMAIN_SOA}"));
    check(WEB, &name(13), "A", &format!("Non-Existent Domain{DOMAIN_SOA}"));
    let v6 = "fd88-0-0-0-0-0-0-11.tasks.api.front.";
    check(WEB, v6, "AAAA", &format!("No Error aa; {v6} 5 IN AAAA fd88::11"));
}

#[test]
fn places_on_the_way_to_a_services_names_are_there_and_others_are_not() {
    for name in ["_tcp.api", "_udp.tasks.api", "_http._tcp.api"] {
        check(WEB, &format!("{name}.zeugma.internal."), "A", &format!("No Error{DOMAIN_SOA}"));
    }
    for name in
        ["_sctp.api", "_http._udp.api", "_web._tcp.api", "x.tasks.api", "10-88-0-13.tasks.api", "x.api"]
    {
        check(WEB, &format!("{name}.zeugma.internal."), "A", &format!("Non-Existent Domain{DOMAIN_SOA}"));
    }
    check(WEB, "x.api.", "A", "forwarded");
}

#[test]
fn who_is_on_none_of_a_services_networks_does_not_know_it() {
    for name in ["api2", "tasks.api2", "_http._tcp.api2", "10-89-0-7.tasks.api2"] {
        let name = format!("{name}.zeugma.internal.");
        check(SHOP, &name, "A", &format!("Non-Existent Domain{DOMAIN_SOA}"));
        assert_ne!(ask(&with_services(), WEB, 0, &name, "SRV"), format!("Non-Existent Domain{DOMAIN_SOA}"));
    }
    check(
        SHOP,
        "2.0.96.10.in-addr.arpa.",
        "PTR",
        "Non-Existent Domain aa | 0.96.10.in-addr.arpa. 1 IN SOA 0.96.10.in-addr.arpa. nobody.invalid. 1 3600 1200 604800 1",
    );
}

#[test]
fn a_virtual_address_has_the_services_name_and_a_member_none_of_a_services() {
    let pointer = |address: &str, name: &str| format!("No Error aa; {address} 5 IN PTR {name}");
    let address = "2.0.96.10.in-addr.arpa.";
    check(WEB, address, "PTR", &pointer(address, "api2.zeugma.internal."));
    let snapshot = two_networks().with_service(service("web", &["front"], &["10.96.0.3"], &["10.88.0.5"]));
    let address = "5.0.88.10.in-addr.arpa.";
    let answer = ask(&snapshot, WEB, 0, address, "PTR");
    assert_eq!(answer, pointer(address, "0123456789ab.zeugma.internal."));
}

#[test]
fn a_service_has_its_name_whoever_else_wants_it() {
    let snapshot = two_networks().with_service(service("WEB", &["front"], &["10.96.0.3"], &[]));
    let asked = |snapshot: &Snapshot| ask(snapshot, SHOP, 0, "web.", "A");
    assert_eq!(asked(&snapshot), "No Error aa; web. 5 IN A 10.96.0.3");
    assert_eq!(ask(&snapshot, ("back", "10.89.0.5"), 0, "web.", "A"), "No Error aa; web. 5 IN A 10.89.0.5");
    let dump = snapshot.dump();
    let web = dump[1].names.iter().find(|name| name.name == "web").unwrap();
    assert_eq!(web.refused, [attachment("front", "web"), attachment("front", "shop")]);
    assert_eq!((web.services.len(), web.attachments.len()), (1, 0));
    let without = snapshot.without_service(&"WEB".parse().unwrap());
    assert_eq!(asked(&without), "No Error aa; web. 5 IN A 10.88.0.5");
}

#[test]
fn nobody_gets_a_name_below_a_services() {
    let aliases = ["tasks.api", "_http._tcp.api", "_x._tcp.api", "10-88-0-99.tasks.api", "mine.api"];
    let thief = member("front", &["thief"], &aliases, &["10.88.0.66"]);
    let snapshot = with_services().with_member(thief);
    for name in &aliases[..4] {
        let answer = ask(&snapshot, WEB, 0, &format!("{name}.front."), "A");
        assert!(!answer.contains("10.88.0.66"), "{answer}");
    }
    assert!(ask(&snapshot, WEB, 0, "mine.api.", "A").contains("10.88.0.66"));
    let dump = snapshot.dump();
    let refused = dump[1].names.iter().filter(|name| !name.refused.is_empty() && name.attachments.is_empty());
    let refused: Vec<_> = refused.map(|name| &name.name[..]).collect();
    assert_eq!(refused, ["10-88-0-99.tasks.api", "_http._tcp.api", "_x._tcp.api", "tasks.api"]);
    assert!(
        dump[1]
            .names
            .iter()
            .filter(|name| refused.contains(&&name.name[..]))
            .all(|name| name.addresses.is_empty())
    );
}

#[test]
fn targets_lead_to_the_service_that_was_asked_for() {
    // `web` asks on `front`, where the name is a container's.
    let snapshot = two_networks().with_service(service("shop", &["back"], &["10.96.0.3"], &[]));
    let name = "_http._tcp.shop.back.";
    assert_eq!(
        ask(&snapshot, WEB, 0, name, "SRV"),
        format!("No Error aa; {name} 5 IN SRV 0 0 80 shop.back. + shop.back. 5 IN A 10.96.0.3")
    );
}

#[test]
fn services_are_known_before_their_networks_and_outlive_them() {
    let front = || network("front", &["10.88.0.0/24"]);
    let asked = |snapshot: &Snapshot| ask(snapshot, WEB, 0, "_http._tcp.api.", "SRV");
    let early = Snapshot::default().with_service(service("api", &["front"], &["10.96.0.1"], &[]));
    assert_eq!(asked(&early), "a stranger");
    let there = early.with_network(front()).with_member(member("front", &["web"], &[], &["10.88.0.5"]));
    let answer = asked(&there);
    assert!(answer.contains("10.96.0.1"));
    let gone = there.without_network(&"front".parse().unwrap());
    assert_eq!((asked(&gone).as_str(), gone.len(), gone.dump().len()), ("a stranger", 0, 0));
    let back = gone.with_network(front());
    assert_eq!(asked(&back), answer);
    assert!(ask(&back, WEB, 0, "web.", "A").starts_with("Non-Existent"));
    let nothing = back.without_service(&"api".parse().unwrap()).without_network(&"front".parse().unwrap());
    assert!(nothing.is_empty());
}

#[test]
fn a_service_takes_the_place_of_what_it_was() {
    let moved = with_services().with_service(service("api", &["back"], &["10.96.0.9"], &[]));
    assert_eq!(ask(&moved, WEB, 0, "api.", "A"), "No Error aa; api. 5 IN A 10.96.0.9");
    assert!(ask(&moved, SHOP, 0, "api.", "A").starts_with("Non-Existent"));
    assert_eq!(ask(&moved, WEB, 0, "1.0.96.10.in-addr.arpa.", "PTR"), "forwarded");
    assert_eq!(moved.dump_services().len(), 3);
}

#[test]
fn a_virtual_address_that_was_handed_on_keeps_its_new_name() {
    let next = with_services().with_service(service("next", &["front"], &["10.96.0.1"], &[]));
    let next = next.without_service(&"api".parse().unwrap());
    let pointer = ask(&next, WEB, 0, "1.0.96.10.in-addr.arpa.", "PTR");
    assert_eq!(pointer, "No Error aa; 1.0.96.10.in-addr.arpa. 5 IN PTR next.zeugma.internal.");
}

#[test]
fn of_services_that_differ_by_case_one_answers_whichever_came_first() {
    let upper = || service("API", &["front"], &["10.96.0.7"], &[]);
    let asked = |snapshot: &Snapshot| ask(snapshot, WEB, 0, "api.", "A");
    let both = with_services().with_service(upper());
    assert_eq!(asked(&both), "No Error aa; api. 5 IN A 10.96.0.7");
    let other_way = with_services().without_service(&"api".parse().unwrap()).with_service(upper());
    let other_way = other_way.with_service(service("api", &["front"], &["10.96.0.1"], &[]));
    assert_eq!(asked(&other_way), asked(&both));
    let left = both.without_service(&"API".parse().unwrap());
    assert_eq!(asked(&left), "No Error aa; api. 5 IN A 10.96.0.1");
}

#[test]
fn services_without_a_name_in_dns_answer_nothing_and_say_so() {
    let long = "a".repeat(64);
    let names = ["a..b", &long, "localhost", "db.localhost", "dotted.name"];
    let snapshot = names.iter().fold(two_networks(), |snapshot, name| {
        snapshot.with_service(service(name, &["front"], &["10.96.0.1"], &[]))
    });
    let nameless: Vec<_> = snapshot.dump_services().iter().map(|service| service.nameless).collect();
    assert_eq!(nameless, [true, true, true, false, true]);
    assert_eq!(ask(&snapshot, WEB, 0, "localhost.", "A"), "No Error aa; localhost. 5 IN A 127.0.0.1");
    let answer = ask(&snapshot, WEB, 0, "tasks.dotted.name.front.", "A");
    assert!(answer.starts_with("No Error aa |"), "{answer}");
    assert!(ask(&snapshot, WEB, 0, "name.", "A").starts_with("No Error"));
}

#[test]
fn many_endpoints_fill_a_datagram_and_their_addresses_what_is_left() {
    let tasks = |count: u8| {
        let tasks: Vec<_> = (0..count).map(|last| format!("10.88.1.{last}")).collect();
        let tasks: Vec<_> = tasks.iter().map(|task| &task[..]).collect();
        two_networks().with_service(service("many", &["front"], &tasks, &tasks))
    };
    let counts = |count| {
        let text = ask(&tasks(count), WEB, 0, "_http._tcp.many.", "SRV");
        (text.matches("IN SRV").count(), text.matches("IN A ").count(), text.contains(" tc"))
    };
    assert_eq!(counts(10), (10, 10, false));
    let (records, known, cut) = counts(18);
    assert!(records == 18 && (1..18).contains(&known) && !cut, "{records} {known} {cut}");
    assert_eq!(counts(40), (0, 0, true));
}

mod incremental {
    use std::collections::{BTreeMap, BTreeSet};

    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    const NETWORKS: [&str; 2] = ["front", "back"];
    /// Of services, and of members: names below a service's are among them, and two that differ by case.
    const NAMES: [&str; 6] = ["a", "A", "x.a", "tasks.a", "_http._tcp.a", "10-88-0-1.tasks.a"];

    #[derive(Debug, Clone)]
    enum Change {
        Network(usize, bool),
        /// A container named so and with an alias, or none.
        Member(usize, usize, Option<usize>),
        /// Networks by bit, endpoints, and whether they are its addresses; none: gone.
        Service(usize, Option<(u8, Vec<u8>, bool)>),
    }

    fn change() -> impl Strategy<Value = Change> {
        let what = proptest::option::of((0..4_u8, vec(0..3_u8, 0..3), any::<bool>()));
        prop_oneof![
            1 => (0..2_usize, any::<bool>()).prop_map(|(network, there)| Change::Network(network, there)),
            3 => (0..2_usize, 0..6_usize, proptest::option::of(0..6_usize))
                .prop_map(|(network, name, alias)| Change::Member(network, name, alias)),
            4 => (0..4_usize, what).prop_map(|(name, what)| Change::Service(name, what)),
        ]
    }

    fn service_of(number: usize, (networks, tasks, headless): &(u8, Vec<u8>, bool)) -> NamedService {
        let networks = (0..2).filter(|bit| networks >> bit & 1 == 1).map(|bit| NETWORKS[bit]);
        let tasks: Vec<_> = tasks.iter().map(|last| format!("10.88.0.{last}")).collect();
        let tasks: Vec<_> = tasks.iter().map(|task| &task[..]).collect();
        let address = format!("10.96.0.{number}");
        let addresses = if *headless { tasks.clone() } else { vec![&address[..]] };
        service(NAMES[number], &networks.collect::<Vec<_>>(), &addresses, &tasks)
    }

    /// What is left after all changes.
    #[derive(Default)]
    struct Left {
        networks: BTreeSet<usize>,
        members: BTreeMap<(usize, usize), Member>,
        services: BTreeMap<usize, NamedService>,
    }

    impl Left {
        fn change(&mut self, change: &Change) {
            match change {
                Change::Network(at, true) => drop(self.networks.insert(*at)),
                Change::Network(at, false) => {
                    self.networks.remove(at);
                    self.members.retain(|(network, _), _| network != at);
                }
                Change::Member(at, name, Some(alias)) => {
                    drop(self.members.insert((*at, *name), of(*at, *name, *alias)))
                }
                Change::Member(at, name, None) => drop(self.members.remove(&(*at, *name))),
                Change::Service(name, Some(what)) => {
                    drop(self.services.insert(*name, service_of(*name, what)))
                }
                Change::Service(name, None) => drop(self.services.remove(name)),
            }
        }

        fn anew(self) -> Snapshot {
            let networks =
                self.networks.into_iter().fold(Snapshot::default(), |s, at| s.with_network(settings(at)));
            let members = self.members.into_values().fold(networks, |s, member| s.with_member(member));
            self.services.into_values().fold(members, |s, service| s.with_service(service))
        }
    }

    fn of(at: usize, name: usize, alias: usize) -> Member {
        let plain = member(NETWORKS[at], &[&format!("c{name}")], &[NAMES[alias]], &["10.88.0.1"]);
        Member { names: vec![NAMES[name].parse().unwrap()], ..plain }
    }

    fn settings(at: usize) -> Network {
        network(NETWORKS[at], &["10.88.0.0/24"])
    }

    fn changed(snapshot: &Snapshot, change: &Change) -> Snapshot {
        match change {
            Change::Network(at, true) => snapshot.with_network(settings(*at)),
            Change::Network(at, false) => snapshot.without_network(&NETWORKS[*at].parse().unwrap()),
            Change::Member(at, name, Some(alias)) => snapshot.with_member(of(*at, *name, *alias)),
            Change::Member(at, name, None) => {
                snapshot.without_member(&attachment(NETWORKS[*at], &format!("c{name}")))
            }
            Change::Service(name, Some(what)) => snapshot.with_service(service_of(*name, what)),
            Change::Service(name, None) => snapshot.without_service(&NAMES[*name].parse().unwrap()),
        }
    }

    /// All that can be asked.
    fn behaviour(snapshot: &Snapshot) -> Vec<String> {
        let mut answers =
            vec![format!("{:?}{:?}{}", snapshot.dump(), snapshot.dump_services(), snapshot.len())];
        let others = ["_tcp.a", "_http._tcp.tasks.a", "_dns._udp.x.a", "tasks.x.a", "1.0.96.10.in-addr.arpa"];
        for (network, source) in [("front", "10.88.0.1"), ("back", "10.88.0.1"), ("back", "10.88.0.200")] {
            for name in NAMES.iter().chain(&others) {
                let below = ["A", "SRV", "PTR"].map(|kind| {
                    ask(snapshot, (network, source), 0, &format!("{name}.zeugma.internal."), kind)
                });
                let bare = ["A", "SRV", "PTR"]
                    .map(|kind| ask(snapshot, (network, source), 0, &format!("{name}."), kind));
                answers.extend(below.into_iter().chain(bare));
            }
        }
        answers
    }

    proptest! {
        #[test]
        fn changes_of_services_lead_where_a_new_beginning_leads(changes in vec(change(), 0..40)) {
            let (mut left, mut snapshot) = (Left::default(), Snapshot::default());
            for change in &changes {
                snapshot = changed(&snapshot, change);
                left.change(change);
            }
            prop_assert_eq!(behaviour(&snapshot), behaviour(&left.anew()));
        }
    }
}
