//! What is said of files that are wrong: the place, the object and the remedy.

use super::check::topology;
use super::wires;

const TWO: &str = "machines:\n- name: one\n- {name: two, agent: false}\n";

/// `more` stands behind two machines, of which `one` has an agent: its first line is 4.
fn check(more: &str, line: usize, column: usize, words: &str) {
    let text = format!("{TWO}{more}");
    let complaints = topology(&text, "lab").unwrap_err();
    let is_it = |(at, message): &((usize, usize), String)| *at == (line, column) && message.contains(words);
    assert!(complaints.iter().any(is_it), "{line}:{column} {words}\n{complaints:#?}\n{text}");
}

#[test]
fn the_least_lab_is_a_machine() {
    let lab = topology("machines: [{name: one}]", "mine").unwrap();
    assert_eq!((lab.name.as_str(), lab.machines.len()), ("mine", 1));
    assert!(topology("machines: []", "mine").is_err());
    assert!(topology("machines: [{name: one}]", "no name").is_err());
}

#[test]
fn words_that_nobody_knows_are_named_with_their_place() {
    check("container: []\n", 4, 1, "unknown field `container`");
    check("links:\n- {ends: [one, two], speed: 1}\n", 5, 22, "unknown field `speed`");
    check("links:\n- ends:\n  - one\n  - {machine: two, ip: 192.0.2.1}\n", 7, 20, "unknown field `ip`");
    check("networks:\n- {name: front, subnet: 10.1.0.0/24}\n", 5, 17, "unknown field `subnet`");
    check("store: zookeeper\n", 4, 8, "unknown variant");
}

#[test]
fn names_that_are_taken_or_too_long_are_told() {
    check("containers:\n- name: two\n", 5, 9, "container two: the name is taken at 3:10: choose another");
    check("links:\n- {switch: one, ends: []}\n", 5, 12, "switch one: the name is taken at 2:9");
    check("containers:\n- name: store\n", 5, 9, "choose another");
    let long = "x".repeat(64);
    check(&format!("containers:\n- name: {long}\n"), 5, 9, "has 64 bytes: take 63 at most");
    check("networks:\n- name: front\n- name: front\n", 6, 3, "network front is there twice: leave one");
}

#[test]
fn links_lead_to_machines_that_there_are() {
    check("links:\n- ends: [one, tow]\n", 5, 15, "there is no machine tow: there are one, two");
    check("links:\n- ends: [one]\n", 5, 3, "a link has two ends");
    check("links:\n- ends: [one, two, one]\n", 5, 3, "such as `switch: lan`");
    check("links:\n- {ends: [one, two], mtu: 10}\n", 5, 27, "take 68 to 65535");
    let twice = "links:\n- ends: [{machine: one, interface: eth1}, two]\n- ends: [{machine: one, interface: eth1}, two]\n";
    check(twice, 6, 10, "machine one has an interface eth1 at 5:10 already: name another");
}

#[test]
fn addresses_are_addresses_and_of_one_machine() {
    let end = |address: &str| {
        format!(
            "links:\n- subnets: [192.0.2.0/24]\n  ends:\n  - one\n  - {{machine: two, addresses: [{address}]}}\n"
        )
    };
    check(&end("x"), 8, 32, "\"x\" is no address");
    check(&end("198.51.100.1"), 8, 32, "198.51.100.1 is not in a subnet of the link, which are 192.0.2.0/24");
    check(&end("192.0.2.1"), 8, 32, "machine two: 192.0.2.1 is machine one's at 7:5 already: take another");
    check(
        "links:\n- ends: [{machine: one, addresses: [192.0.2.1]}, two]\n",
        5,
        37,
        "write it as 192.0.2.1/24",
    );
    check(
        "links:\n- {ends: [one, two], subnets: [192.0.2.1/24]}\n",
        5,
        32,
        "has host bits: take 192.0.2.0/24",
    );
    check(
        "links:\n- {switch: lan, ends: [one, two, one], subnets: [192.0.2.0/30]}\n",
        5,
        34,
        "no address left",
    );
}

#[test]
fn containers_are_on_machines_and_networks_that_there_are() {
    let on = |keys: &str| {
        format!(
            "networks: [{{name: front, subnets: [{{subnet: 10.1.0.0/24}}]}}]\ncontainers:\n- {{name: web, {keys}}}\n"
        )
    };
    check(&on("machine: three"), 6, 24, "container web: there is no machine three: there are one, two");
    check(&on("machine: two, networks: [front]"), 6, 24, "machine two has no agent");
    check(&on("networks: [back]"), 6, 26, "there is no network back: there are front");
    check(
        &on("networks: [{name: front, addresses: [10.2.0.9]}]"),
        6,
        52,
        "10.2.0.9 is not in a subnet of network front, which are 10.1.0.0/24",
    );
    check(&on("publish: ['80']"), 6, 25, "write HOST:CONTAINER");
    check(&on("publish: ['80:80']"), 6, 10, "is on no network");
    check(&on("replicas: 0"), 6, 25, "take 1 to 500");
    check(
        "services: [{name: web, networks: [back], ports: [{port: 80}]}]\n",
        4,
        12,
        "there is no network back",
    );
}

#[test]
fn what_is_left_out_is_filled_in() {
    let text = "machines: [{name: a}, {name: b, agent: false, routes: [{to: default, via: 192.0.2.1}]}]\n\
        links:\n- {ends: [a, b], subnets: [192.0.2.0/24, 'fd00::/64'], mtu: 1400, rate: 1gbit}\n- ends: [a, b]\n\
        networks: [{name: front}]\ncontainers: [{name: web, replicas: 2, networks: [front], command: sleep 1}]\n";
    let lab = topology(text, "lab").unwrap();
    let names: Vec<_> = lab.containers.iter().map(|one| (one.name.as_str(), one.machine.as_str())).collect();
    assert_eq!(names, [("web-1", "a"), ("web-2", "a")]);
    assert_eq!(lab.containers[0].command.as_ref().unwrap().0, ["sh", "-c", "sleep 1"]);
    let expected = "link add name eth0 mtu 1400 netns /a type veth peer name eth0 mtu 1400 netns /b\n\
        link add name eth1 netns /a type veth peer name eth1 netns /b\n";
    assert_eq!(wires::links(&lab, |name| format!("/{name}")), expected);
    let expected = "address add 192.0.2.2/24 dev eth0\naddress add fd00::2/64 dev eth0 nodad\nlink set eth0 up\n\
        link set eth1 up\nroute add 0.0.0.0/0 via 192.0.2.1\n";
    assert_eq!(wires::machine(&lab, &lab.machines[1]), expected);
    let (link, end) = lab.ends_of("a").next().unwrap();
    assert_eq!(
        wires::queue(link, end).unwrap(),
        "qdisc add dev eth0 root tbf rate 1gbit burst 256kb latency 50ms\n"
    );
}
