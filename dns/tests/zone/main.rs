//! What is answered, by questions and answers as hickory-proto writes and reads them.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on stops")]

mod services;

use std::net::IpAddr;
use std::str::FromStr;

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query};
use hickory_proto::rr::{Name, RecordType};
use zeugma_dns::wire::{DATAGRAM_BYTES, Question};
use zeugma_dns::zone::{Audience, Member, Network, Outcome, Snapshot, Upstreams, render};
use zeugma_model::AttachmentId;

fn network(name: &str, subnets: &[&str]) -> Network {
    Network {
        name: name.parse().unwrap(),
        domain: "zeugma.internal".to_owned(),
        subnets: subnets.iter().map(|subnet| subnet.parse().unwrap()).collect(),
        upstreams: Upstreams::default(),
    }
}

fn attachment(network: &str, container: &str) -> AttachmentId {
    AttachmentId {
        network: network.parse().unwrap(),
        container: container.parse().unwrap(),
        ifname: "eth0".parse().unwrap(),
    }
}

/// A member whose container is named as the first of its names.
fn member(network: &str, names: &[&str], aliases: &[&str], addresses: &[&str]) -> Member {
    let parsed = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect();
    Member {
        attachment: attachment(network, names[0]),
        names: parsed(names),
        aliases: parsed(aliases),
        addresses: addresses.iter().map(|address| address.parse().unwrap()).collect(),
    }
}

/// Two networks; `web` is on both.
fn two_networks() -> Snapshot {
    let inner = Upstreams { internal: true, ..Upstreams::default() };
    Snapshot::default()
        .with_network(network("front", &["10.88.0.0/24", "fd88::/64"]))
        .with_network(Network { upstreams: inner, ..network("back", &["10.89.0.0/24"]) })
        .with_member(member("front", &["web", "0123456789ab"], &["www"], &["10.88.0.5", "fd88::5"]))
        .with_member(member("front", &["shop"], &["www", "web", "a.dotted.alias"], &["10.88.0.6"]))
        .with_member(member("back", &["db"], &[], &["10.89.0.7"]))
        .with_member(member("back", &["web"], &[], &["10.89.0.5"]))
}

fn request(id: u16, name: &str, kind: &str) -> Vec<u8> {
    let mut message = Message::new(id, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_ascii(name).unwrap(), RecordType::from_str(kind).unwrap()));
    let mut edns = Edns::new();
    edns.set_max_payload(1232);
    message.edns = Some(edns);
    message.to_vec().unwrap()
}

/// The answer as lines: code, flags, sections.
fn ask(snapshot: &Snapshot, (network, source): (&str, &str), id: u16, name: &str, kind: &str) -> String {
    let request = request(id, name, kind);
    let question = Question::parse(&request).unwrap();
    let audience = Audience::Network(network.parse().unwrap());
    let Some(view) = snapshot.view(&audience, source.parse().unwrap()) else { return "a stranger".into() };
    let outcome = view.answer(&question);
    if let Outcome::Forward(_) = outcome {
        return "forwarded".into();
    }
    let mut buffer = [0; DATAGRAM_BYTES];
    let (length, _) = render(&question, &outcome, id.into(), &mut buffer, question.datagram_limit());
    text(&Message::from_vec(&buffer[..length]).unwrap())
}

fn text(message: &Message) -> String {
    let sections = [&message.answers, &message.authorities, &message.additionals];
    let records = sections.map(|section| section.iter().map(|r| format!("; {r}")).collect::<String>());
    let flags = [(message.metadata.authoritative, " aa"), (message.metadata.truncation, " tc")];
    let flags: String = flags.into_iter().filter(|(set, _)| *set).map(|(_, name)| name).collect();
    let authority = if records[1].is_empty() { String::new() } else { format!(" | {}", &records[1][2..]) };
    let additional = if records[2].is_empty() { String::new() } else { format!(" + {}", &records[2][2..]) };
    format!("{}{flags}{}{authority}{additional}", message.metadata.response_code, records[0])
}

const WEB: (&str, &str) = ("front", "10.88.0.5");
const SHOP: (&str, &str) = ("front", "10.88.0.6");

fn check(asker: (&str, &str), name: &str, kind: &str, expected: &str) {
    assert_eq!(ask(&two_networks(), asker, 0, name, kind), expected, "{name} {kind}");
}

#[test]
fn names_answer_bare_in_the_domain_and_in_the_network() {
    let answer = |name: &str| format!("No Error aa; {name} 5 IN A 10.88.0.6");
    for name in ["shop.", "shop.zeugma.internal.", "shop.front."] {
        check(WEB, name, "A", &answer(name));
    }
    check(WEB, "web.", "AAAA", "No Error aa; web. 5 IN AAAA fd88::5");
    check(WEB, "a.dotted.alias.front.", "A", "No Error aa; a.dotted.alias.front. 5 IN A 10.88.0.6");
}

#[test]
fn the_questions_case_is_kept() {
    check(WEB, "ShOp.Zeugma.INTERNAL.", "A", "No Error aa; ShOp.Zeugma.INTERNAL. 5 IN A 10.88.0.6");
}

#[test]
fn shared_aliases_take_turns() {
    let turn = |id| ask(&two_networks(), WEB, id, "www.", "A");
    assert_eq!(turn(0), "No Error aa; www. 5 IN A 10.88.0.6; www. 5 IN A 10.88.0.5");
    assert_eq!(turn(1), "No Error aa; www. 5 IN A 10.88.0.5; www. 5 IN A 10.88.0.6");
}

#[test]
fn an_own_name_is_nobody_elses_alias() {
    check(SHOP, "web.", "A", "No Error aa; web. 5 IN A 10.88.0.5");
    let dump = two_networks().dump();
    let web = dump[1].names.iter().find(|name| name.name == "web").unwrap();
    assert_eq!(web.attachments, [attachment("front", "web")]);
    assert_eq!(web.refused, [attachment("front", "shop")]);
    let without = two_networks().without_member(&attachment("front", "web"));
    assert_eq!(ask(&without, SHOP, 0, "web.", "A"), "No Error aa; web. 5 IN A 10.88.0.6");
}

#[test]
fn a_name_without_such_a_record_is_no_missing_name() {
    let soa = "1 IN SOA zeugma.internal. nobody.invalid. 1 3600 1200 604800 1";
    let root = "1 IN SOA . nobody.invalid. 1 3600 1200 604800 1";
    check(WEB, "shop.zeugma.internal.", "AAAA", &format!("No Error aa | zeugma.internal. {soa}"));
    check(WEB, "shop.zeugma.internal.", "SRV", &format!("No Error aa | zeugma.internal. {soa}"));
    check(WEB, "none.zeugma.internal.", "A", &format!("Non-Existent Domain aa | zeugma.internal. {soa}"));
    check(WEB, "alias.zeugma.internal.", "A", &format!("No Error aa | zeugma.internal. {soa}"));
    check(WEB, "zeugma.internal.", "A", &format!("No Error aa | zeugma.internal. {soa}"));
    for empty in ["internal.", "front.", "shop.", "alias."] {
        check(WEB, empty, "AAAA", &format!("No Error aa | . {root}"));
    }
}

#[test]
fn single_labels_and_what_is_nowhere_never_leave() {
    let root = "Non-Existent Domain aa | . 1 IN SOA . nobody.invalid. 1 3600 1200 604800 1";
    for name in ["none.", "com.", "x.onion.", "a.b.invalid."] {
        check(WEB, name, "A", root);
    }
    check(WEB, "db.localhost.", "A", "No Error aa; db.localhost. 5 IN A 127.0.0.1");
    check(WEB, "example.com.", "A", "forwarded");
    check(WEB, "none.front.", "A", "forwarded");
}

#[test]
fn localhost_is_no_containers_name() {
    let taker = member("front", &["localhost", "shop"], &["LocalHost", "db.localhost"], &["10.88.0.6"]);
    let snapshot = Snapshot::default().with_network(network("front", &["10.88.0.0/24"])).with_member(taker);
    for name in ["localhost.", "db.localhost."] {
        let expected = format!("No Error aa; {name} 5 IN A 127.0.0.1");
        assert_eq!(ask(&snapshot, WEB, 0, name, "A"), expected);
    }
    let names: Vec<_> = snapshot.dump()[0].names.iter().map(|name| name.name.clone()).collect();
    assert_eq!(names, ["shop"]);
}

#[test]
fn the_domain_itself_has_soa_and_ns() {
    let soa = "zeugma.internal. nobody.invalid. 1 3600 1200 604800 1";
    check(WEB, "zeugma.internal.", "SOA", &format!("No Error aa; zeugma.internal. 5 IN SOA {soa}"));
    check(WEB, "zeugma.internal.", "NS", "No Error aa; zeugma.internal. 5 IN NS zeugma.internal.");
}

#[test]
fn addresses_have_names_where_they_are_seen_and_never_leave() {
    let pointer = "5.0.88.10.in-addr.arpa. 5 IN PTR web.zeugma.internal.";
    check(SHOP, "5.0.88.10.in-addr.arpa.", "PTR", &format!("No Error aa; {pointer}"));
    let soa = |owner: &str, own: &str| format!("{owner} 1 IN SOA {own} nobody.invalid. 1 3600 1200 604800 1");
    let zone = "0.88.10.in-addr.arpa.";
    check(SHOP, "9.0.88.10.in-addr.arpa.", "PTR", &format!("Non-Existent Domain aa | {}", soa(zone, zone)));
    let hidden = "0.89.10.in-addr.arpa.";
    check(
        SHOP,
        "7.0.89.10.in-addr.arpa.",
        "PTR",
        &format!("Non-Existent Domain aa | {}", soa(hidden, hidden)),
    );
    check(
        WEB,
        "7.0.89.10.in-addr.arpa.",
        "PTR",
        "No Error aa; 7.0.89.10.in-addr.arpa. 5 IN PTR db.zeugma.internal.",
    );
    check(SHOP, "1.1.168.192.in-addr.arpa.", "PTR", "forwarded");
}

#[test]
fn everything_is_refused_politely() {
    let answer = "No Error aa; web. 5 IN HINFO RFC8482 ";
    check(WEB, "web.", "ANY", answer);
    check(WEB, "example.com.", "ANY", &answer.replace("web.", "example.com."));
    check(WEB, "web.", "AXFR", "Query Refused");
}

#[test]
fn a_member_sees_all_networks_of_its_container_its_own_first() {
    check(WEB, "db.", "A", "No Error aa; db. 5 IN A 10.89.0.7");
    check(WEB, "web.", "A", "No Error aa; web. 5 IN A 10.88.0.5");
    check(WEB, "web.back.", "A", "No Error aa; web.back. 5 IN A 10.89.0.5");
    check(("back", "10.89.0.5"), "web.", "A", "No Error aa; web. 5 IN A 10.89.0.5");
    check(
        ("back", "10.89.0.7"),
        "shop.zeugma.internal.",
        "A",
        "Non-Existent Domain aa | zeugma.internal. 1 IN SOA zeugma.internal. nobody.invalid. 1 3600 1200 604800 1",
    );
}

#[test]
fn the_host_sees_the_network_and_strangers_nothing() {
    check(("front", "10.88.0.1"), "shop.", "A", "No Error aa; shop. 5 IN A 10.88.0.6");
    check(("front", "192.0.2.1"), "shop.", "A", "a stranger");
    check(("none", "10.88.0.1"), "shop.", "A", "a stranger");
}

#[test]
fn internal_networks_do_not_forward() {
    let none = "Non-Existent Domain aa | . 1 IN SOA . nobody.invalid. 1 3600 1200 604800 1";
    check(("back", "10.89.0.7"), "example.com.", "A", none);
    check(("back", "10.89.0.5"), "example.com.", "A", "forwarded");
}

#[test]
fn what_does_not_fit_says_so() {
    let many = (0..100).fold(two_networks(), |snapshot, number| {
        let name = format!("c{number}");
        snapshot.with_member(member("front", &[&name], &["crowd"], &[&format!("10.88.0.{}", number + 100)]))
    });
    assert_eq!(ask(&many, WEB, 0, "crowd.", "A"), "No Error aa tc");
}

#[test]
fn a_container_that_asks_inside_its_namespace_sees_its_networks() {
    let snapshot = two_networks();
    let sees = |container: &str, name: &str| {
        let audience = Audience::Container(attachment("front", container));
        let request = request(0, name, "A");
        let view = snapshot.view(&audience, IpAddr::from([127, 0, 0, 1])).unwrap();
        matches!(view.answer(&Question::parse(&request).unwrap()), Outcome::V4(_))
    };
    assert!(sees("web", "db.") && sees("web", "shop.") && !sees("shop", "db."));
}

mod incremental {
    use std::collections::BTreeMap;

    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    const NETWORKS: [&str; 2] = ["front", "back"];

    /// A change: network, container, and what its member is to be; none: gone.
    type Change = (usize, u8, Option<(Vec<u8>, Vec<u8>, Vec<u8>)>);

    fn change() -> impl Strategy<Value = Change> {
        let few = || vec(0..6_u8, 0..3);
        (0..2_usize, 0..5_u8, proptest::option::of((few(), few(), few())))
    }

    /// Dotted names are among them, so that places on the way come and go.
    fn member_of((network, container, what): &Change) -> Option<Member> {
        let (names, aliases, addresses) = what.as_ref()?;
        let name = |number: &u8| ["a", "b", "A", "x.a", "y.x.a", "c"][usize::from(*number)].parse().unwrap();
        Some(Member {
            attachment: attachment(NETWORKS[*network], &format!("c{container}")),
            names: names.iter().map(name).collect(),
            aliases: aliases.iter().map(name).collect(),
            addresses: addresses.iter().map(|last| IpAddr::from([10, 88, 0, *last])).collect(),
        })
    }

    fn empty() -> Snapshot {
        NETWORKS.iter().fold(Snapshot::default(), |snapshot, name| {
            snapshot.with_network(network(name, &["10.88.0.0/24"]))
        })
    }

    /// All that can be asked.
    fn behaviour(snapshot: &Snapshot) -> Vec<String> {
        let mut answers = vec![format!("{:?}", snapshot.dump())];
        let names = [
            "a.",
            "b.",
            "c.",
            "x.a.",
            "y.x.a.",
            "x.a.zeugma.internal.",
            "b.front.",
            "1.0.88.10.in-addr.arpa.",
        ];
        for (network, source) in [("front", "10.88.0.1"), ("back", "10.88.0.2"), ("back", "10.88.0.200")] {
            for (name, kind) in names.iter().flat_map(|name| [(name, "A"), (name, "PTR")]) {
                answers.push(ask(snapshot, (network, source), 0, name, kind));
            }
        }
        answers
    }

    proptest! {
        #[test]
        fn changes_lead_where_a_new_beginning_leads(changes in vec(change(), 0..40)) {
            let mut left = BTreeMap::new();
            let mut changed = empty();
            for change in &changes {
                let id = attachment(NETWORKS[change.0], &format!("c{}", change.1));
                match member_of(change) {
                    Some(member) => {
                        changed = changed.with_member(member.clone());
                        left.insert(id, member);
                    }
                    None => {
                        changed = changed.without_member(&id);
                        left.remove(&id);
                    }
                }
            }
            let anew = left.into_values().fold(empty(), |snapshot, member| snapshot.with_member(member));
            prop_assert_eq!(behaviour(&changed), behaviour(&anew));
        }
    }
}
