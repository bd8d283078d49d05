//! Records in, changes out: what the journal asks of the resolver. No files and no sockets.

use std::time::{Duration, SystemTime};

use zeugma_journal::{Entry, Listen, NetnsRef, Record, Resolver};
use zeugma_model::{Identity, Pod};

use super::listeners::{Step, conflict, step};
use super::*;

fn id(network: &str, container: &str) -> AttachmentId {
    AttachmentId {
        network: network.parse().unwrap(),
        container: container.parse().unwrap(),
        ifname: "eth0".parse().unwrap(),
    }
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// A container at an address, asking at a gateway.
fn record(address: &str, gateway: &str) -> Record {
    let resolver = Resolver {
        listen: Listen::Gateway(vec![ip(gateway)]),
        domain: "zeugma.internal".into(),
        names: Vec::new(),
        internal: false,
        servers: Vec::new(),
        forward: BTreeMap::new(),
    };
    Record {
        plugin: "resolver".into(),
        addresses: vec![address.parse().unwrap()],
        resolver: Some(resolver),
        ..Record::default()
    }
}

/// A container that asks inside its namespace.
fn inside(address: &str, inode: u64) -> Record {
    let netns = NetnsRef { path: "/run/netns/c".into(), device: 4, inode, cookie: None };
    let mut record = Record { netns: Some(netns), ..record(address, "10.88.0.1") };
    record.resolver.as_mut().unwrap().listen = Listen::Container(5300);
    record
}

fn seen_at(id: &AttachmentId, records: &[Record], second: u64) -> Seen {
    let entries: Vec<_> =
        records.iter().map(|record| Entry { path: "/".into(), record: record.clone() }).collect();
    Seen::of(id, &entries, SystemTime::UNIX_EPOCH + Duration::from_secs(second))
}

fn seen(id: &AttachmentId, record: &Record) -> Seen {
    seen_at(id, std::slice::from_ref(record), 0)
}

fn wish(id: &AttachmentId, record: &Record) -> Wish {
    match seen(id, record) {
        Seen::Wish(wish) => *wish,
        other => panic!("{other:?}"),
    }
}

/// The changes in short: `+` and `-` members, `net` and `-net` networks.
fn story(changes: &Changes) -> Vec<String> {
    let word = |change: &Change| match change {
        Change::Network(network) => {
            let subnets: Vec<_> = network.subnets.iter().map(ToString::to_string).collect();
            format!("{} {} {}", network.name, network.domain, subnets.join(" "))
        }
        Change::NetworkGone(name) => format!("-{name}"),
        Change::Member(member) => format!("+{}", member.attachment.container),
        Change::MemberGone(id) => format!("-{}", id.container),
    };
    changes.zone.iter().map(word).collect()
}

#[test]
fn a_container_goes_by_its_name_its_host_name_and_its_id() {
    let mut told = record("10.88.0.2/24", "10.88.0.1");
    told.identity = Identity {
        aliases: vec!["shared".parse().unwrap()],
        pod: Some(Pod { name: "web".into(), ..Pod::default() }),
        ..Identity::default()
    };
    told.resolver.as_mut().unwrap().names = vec!["host".parse().unwrap(), "web".parse().unwrap()];
    let names = |container: &str| -> Vec<String> {
        wish(&id("net", container), &told).member.names.iter().map(ToString::to_string).collect()
    };
    assert_eq!(names("0123456789abcdef"), ["web", "host", "0123456789ab", "0123456789abcdef"]);
    assert_eq!(names("c0"), ["web", "host", "c0"]);
    // Longer than a label may be.
    assert_eq!(names(&"a".repeat(64)), ["web", "host", "aaaaaaaaaaaa"]);
    assert_eq!(wish(&id("net", "c0"), &told).member.aliases, ["shared".parse().unwrap()]);
}

#[test]
fn a_network_comes_with_its_first_member_and_goes_with_its_last() {
    let mut desired = Desired::default();
    let (one, two) = (id("net", "one"), id("net", "two"));
    let (first, second) = (record("10.88.0.2/24", "10.88.0.1"), record("10.88.0.3/24", "10.88.0.1"));
    let mut see = |id, seen| story(&desired.see(id, seen));
    assert_eq!(see(&one, seen(&one, &first)), ["net zeugma.internal 10.88.0.0/24", "+one"]);
    assert_eq!(see(&two, seen(&two, &second)), ["+two"]);
    assert_eq!(see(&two, seen(&two, &second)), [""; 0], "nothing changed");
    assert_eq!(see(&one, Seen::Gone), ["-one"]);
    assert_eq!(see(&two, Seen::Silent), ["-net"]);
    assert_eq!(see(&two, Seen::Gone), [""; 0]);
    assert_eq!((desired.networks(), desired.names(), desired.attachments().len()), (0, 0, 0));
}

#[test]
fn the_newest_member_says_what_holds_for_the_network() {
    let mut desired = Desired::default();
    let (old, new) = (id("net", "z-old"), id("net", "a-new"));
    let first = record("10.88.0.2/24", "10.88.0.1");
    let mut changed = record("10.88.0.3/24", "10.88.0.1");
    changed.resolver.as_mut().unwrap().domain = "corp".into();
    let mut see = |id, seen| story(&desired.see(id, seen));
    see(&old, seen_at(&old, std::slice::from_ref(&first), 1));
    assert_eq!(
        see(&new, seen_at(&new, std::slice::from_ref(&changed), 2)),
        ["net corp 10.88.0.0/24", "+a-new"]
    );
    assert_eq!(see(&new, Seen::Gone), ["net zeugma.internal 10.88.0.0/24", "-a-new"]);
}

#[test]
fn a_gateway_outside_of_the_subnets_may_ask_as_well() {
    let mut desired = Desired::default();
    let id = id("ptp", "c0");
    let changes = desired.see(&id, seen(&id, &record("10.1.0.2/32", "10.1.0.1")));
    assert_eq!(story(&changes), ["ptp zeugma.internal 10.1.0.2/32 10.1.0.1/32", "+c0"]);
}

#[test]
fn a_gateway_s_address_is_listened_on_until_the_last_container_goes() {
    let mut desired = Desired::default();
    let (one, two) = (id("net", "one"), id("net", "two"));
    let gateway = Place::Gateway(ip("10.88.0.1"));
    let network = Audience::Network(one.network.clone());
    for id in [&one, &two] {
        let changes = desired.see(id, seen(id, &record("10.88.0.2/24", "10.88.0.1")));
        assert_eq!(changes.places, BTreeSet::from([gateway.clone()]));
    }
    assert_eq!(step(desired.askers(&gateway), None), Step::Open(network.clone()));
    desired.see(&one, Seen::Gone);
    assert_eq!(step(desired.askers(&gateway), Some(&network)), Step::Keep);
    desired.see(&two, Seen::Gone);
    assert_eq!(step(desired.askers(&gateway), Some(&network)), Step::Close);
    assert_eq!(step(desired.askers(&gateway), None), Step::Keep);
}

#[test]
fn of_two_networks_with_one_address_the_first_keeps_it_and_that_is_said() {
    let mut desired = Desired::default();
    let (late, early) = (id("a-late", "one"), id("b-early", "two"));
    let gateway = Place::Gateway(ip("10.88.0.1"));
    let ours = Audience::Network(early.network.clone());
    desired.see(&early, seen(&early, &record("10.88.0.2/24", "10.88.0.1")));
    assert_eq!(conflict(&gateway, desired.askers(&gateway)), None);
    desired.see(&late, seen(&late, &record("10.88.0.3/24", "10.88.0.1")));
    assert_eq!(step(desired.askers(&gateway), Some(&ours)), Step::Keep);
    let said = conflict(&gateway, desired.askers(&gateway)).unwrap();
    assert!(said.starts_with("10.88.0.1:53: the networks a-late, b-early have"), "{said}");
    desired.see(&early, Seen::Gone);
    let other = Audience::Network(late.network.clone());
    assert_eq!(step(desired.askers(&gateway), Some(&ours)), Step::Replace(other));
}

#[test]
fn two_networks_of_one_container_share_its_sockets() {
    let mut desired = Desired::default();
    let (one, two) = (id("one", "c"), id("two", "c"));
    for id in [&one, &two] {
        desired.see(id, seen(id, &inside("10.88.0.2/24", 77)));
    }
    let place = Place::Container { device: 4, inode: 77, port: 5300 };
    let first = Audience::Container(one.clone());
    assert_eq!(step(desired.askers(&place), None), Step::Open(first.clone()));
    assert_eq!(conflict(&place, desired.askers(&place)), None);
    assert_eq!(desired.netns(&first).unwrap().inode, 77);
    desired.see(&one, Seen::Gone);
    assert_eq!(step(desired.askers(&place), Some(&first)), Step::Replace(Audience::Container(two)));
}

#[test]
fn the_host_may_ask_on_the_bridges_of_networks_with_names() {
    let mut desired = Desired::default();
    let bridge = Record { bridge: Some("br0".parse().unwrap()), ..Record::default() };
    let (one, two) = (id("one", "c0"), id("two", "c0"));
    let mut corp = record("10.89.0.2/24", "10.89.0.1");
    corp.resolver.as_mut().unwrap().domain = "corp".into();
    desired.see(&one, seen_at(&one, &[bridge.clone(), record("10.88.0.2/24", "10.88.0.1")], 0));
    desired.see(&two, seen_at(&two, &[bridge, corp], 0));
    let link = |servers: &[&str], domains: &[&str]| HostLink {
        bridge: "br0".parse().unwrap(),
        servers: servers.iter().copied().map(ip).collect(),
        domains: domains.iter().map(ToString::to_string).collect(),
    };
    let both = link(&["10.88.0.1", "10.89.0.1"], &["zeugma.internal", "corp"]);
    assert_eq!(desired.host_links(), [both]);
    desired.see(&one, Seen::Gone);
    assert_eq!(desired.host_links(), [link(&["10.89.0.1"], &["corp"])]);
    desired.see(&two, Seen::Gone);
    assert_eq!(desired.host_links(), []);
}

#[test]
fn stored_sockets_are_found_again_by_their_names() {
    let places = [
        Place::Gateway(ip("10.88.0.1")),
        Place::Gateway(ip("2001:db8::1")),
        Place::Container { device: 4, inode: 4_026_532_248, port: 5300 },
    ];
    for place in places {
        let name = place.stored_name("udp");
        assert!(!name.contains(':'), "{name}");
        assert_eq!(Place::of_stored_name(&name), Some(("udp", place)));
    }
    for strange in ["", "udp", "udp.gateway.x", "udp.container.1.2", "udp.container.1.2.70000", "udp.else.1"]
    {
        assert_eq!(Place::of_stored_name(strange), None, "{strange}");
    }
}

/// What can be asked of it, as text: equal for equal states.
fn told(desired: &Desired) -> String {
    let places: Vec<_> = desired
        .places
        .keys()
        .map(|place| format!("{place} {:?}", desired.askers(place).collect::<Vec<_>>()))
        .collect();
    let networks: Vec<_> = desired.networks.values().map(|members| members.told.clone()).collect();
    format!(
        "{:?} {} {places:?} {networks:?} {:?}",
        desired.attachments.keys().collect::<Vec<_>>(),
        desired.names,
        desired.host_links()
    )
}

/// What the zone has after these changes: networks and members.
fn applied(changes: Vec<Change>, zone: &mut BTreeMap<String, String>) {
    for change in changes {
        match change {
            Change::Network(network) => drop(zone.insert(network.name.to_string(), format!("{network:?}"))),
            Change::NetworkGone(name) => {
                zone.retain(|key, _| *key != name.to_string() && !key.starts_with(&format!("{name}/")));
            }
            Change::Member(member) => {
                drop(zone.insert(member.attachment.to_string(), format!("{member:?}")));
            }
            Change::MemberGone(id) => drop(zone.remove(&id.to_string())),
        }
    }
}

/// Network, container, and what the journal has of it: nothing, no names, or names in one of some versions.
fn step_of((network, container, version): (u8, u8, u8)) -> (AttachmentId, Seen) {
    let id = id(&format!("net{network}"), &format!("c{container}"));
    let seen = match version {
        0 => Seen::Gone,
        1 => Seen::Silent,
        2 => seen_at(&id, &[inside("10.88.0.2/24", container.into())], version.into()),
        _ => {
            let mut record =
                record(&format!("10.88.{network}.{version}/24"), &format!("10.88.{}.1", network % 2));
            record.resolver.as_mut().unwrap().domain = format!("v{version}.test");
            record.identity.aliases = vec!["shared".parse().unwrap()];
            let bridge =
                Record { bridge: Some(format!("br{network}").parse().unwrap()), ..Record::default() };
            seen_at(&id, &[bridge, record], (version / 2).into())
        }
    };
    (id, seen)
}

proptest::proptest! {
    /// However it came to be so: what is desired is what the journal says now.
    #[test]
    fn only_the_last_that_was_seen_of_an_attachment_counts(
        steps in proptest::collection::vec((0_u8..3, 0_u8..4, 0_u8..7), 0..60)
    ) {
        let (mut desired, mut zone, mut last) = (Desired::default(), BTreeMap::new(), BTreeMap::new());
        for (id, seen) in steps.into_iter().map(step_of) {
            applied(desired.see(&id, seen.clone()).zone, &mut zone);
            last.insert(id, seen);
        }
        let (mut at_once, mut expected) = (Desired::default(), BTreeMap::new());
        for (id, seen) in &last {
            applied(at_once.see(id, seen.clone()).zone, &mut expected);
        }
        proptest::prop_assert_eq!(told(&desired), told(&at_once));
        proptest::prop_assert_eq!(zone, expected);
        for (id, seen) in last {
            proptest::prop_assert_eq!(desired.see(&id, seen), Changes::default(), "again");
            desired.see(&id, Seen::Gone);
        }
        proptest::prop_assert_eq!(told(&desired), told(&Desired::default()));
    }
}
