//! Repairs decided, without a host: what is planned makes host and journal agree, and nothing else is planned.

mod host;

use std::collections::BTreeMap;

use proptest::prelude::*;
use zeugma_journal::{
    BridgeMade, Bucket, Claim, GatewayMade, HostSide, Limits, Phase, PortSet, Record, VlanSet,
};
use zeugma_model::{
    AttachmentId, Backend, HostAddress, Mac, NetworkName, OverlayState, PortMapping, Protocol, VlanId,
};
use zeugma_plan::nft::{SetId, TableFamily, VERSION};

use crate::{Attached, Desired, Gathered, LinkSeen, Observed, Problem, RulesetSeen, diff, overlay};
use host::{apply, born};

fn id(network: &str, container: &str) -> AttachmentId {
    AttachmentId {
        network: network.parse().unwrap(),
        container: container.parse().unwrap(),
        ifname: "eth0".parse().unwrap(),
    }
}

fn attached(id: &AttachmentId, record: Record) -> Attached {
    Attached { id: id.clone(), record: Record { phase: Phase::Done, ..record }, is_alive: true }
}

fn port(host: u16, protocol: Protocol) -> PortMapping {
    let (host_port, container_port) = (host.try_into().unwrap(), 80.try_into().unwrap());
    PortMapping { host_port, container_port, protocol, host_address: HostAddress::Any }
}

fn vlans(number: i64) -> VlanSet {
    VlanSet { leave: Some(VlanId::DEFAULT), tagged: Vec::new(), untagged: VlanId::new(number) }
}

/// Attachment `number` of a bridge network, with ports, a policy and limits; every third in a VLAN.
fn on_bridge(number: u8) -> Vec<Attached> {
    let id = id("net", &format!("c{number}"));
    let addresses = [format!("10.1.0.{number}/24"), format!("fd00::{number}/64")];
    let addresses: Vec<_> = addresses.iter().map(|address| address.parse().unwrap()).collect();
    let in_vlan = number.is_multiple_of(3);
    let (bridge, mac) = ("br0".parse().unwrap(), Mac([2, 0, 0, 0, 0, number]));
    let gateway = GatewayMade { name: "br0.10".parse().unwrap(), mac, mtu: 1500, vlans: vlans(10) };
    let host = HostSide {
        bridge: BridgeMade { ours: true, mac, mtu: 1500, vlan_filtering: in_vlan, promisc: false },
        port: PortSet {
            hairpin: true,
            isolated: number.is_multiple_of(2),
            vlans: in_vlan.then(|| vlans(10)),
        },
        gateway: in_vlan.then_some(gateway),
        addresses: ["10.1.0.254/24", "fd00::ff/64"].map(|address| address.parse().unwrap()).to_vec(),
    };
    let base = Record { addresses, masquerade: true, bridge: Some(bridge), ..Record::default() };
    let veth = Some(id.host_veth());
    let bucket = Some(Bucket { rate: 1_000_000.try_into().unwrap(), burst: 100_000 });
    let limits = Limits { ingress: bucket, egress: bucket, ..Limits::default() };
    vec![
        attached(
            &id,
            Record {
                plugin: "bridge".into(),
                host_veth: veth.clone(),
                host: Some(host),
                mac: Some(mac),
                guarded: true,
                ..base.clone()
            },
        ),
        attached(
            &id,
            Record {
                plugin: "portmap".into(),
                ports: vec![
                    port(8000 + u16::from(number), Protocol::Tcp),
                    port(9000 + u16::from(number), Protocol::Udp),
                ],
                ..base.clone()
            },
        ),
        attached(&id, Record { plugin: "firewall".into(), ingress: Some("same-bridge".into()), ..base }),
        attached(
            &id,
            Record {
                plugin: "bandwidth".into(),
                host_veth: veth,
                ifb: Some(id.ifb()),
                shaped: true,
                limits: Some(limits),
                ..Record::default()
            },
        ),
    ]
}

/// An attachment by `ptp`.
fn routed(number: u8) -> Attached {
    let id = id("ptp", &format!("p{number}"));
    let record = Record {
        plugin: "ptp".into(),
        host_veth: Some(id.host_veth()),
        addresses: vec![format!("10.2.0.{number}/24").parse().unwrap()],
        gateways: vec!["10.2.0.254".parse().unwrap()],
        masquerade: true,
        ..Record::default()
    };
    attached(&id, record)
}

/// An attachment of an encrypted overlay, with addresses of two blocks.
fn in_overlay(number: u8) -> Attached {
    let id = id("front", &format!("o{number}"));
    let (bridge, mac) = ("br-front".parse().unwrap(), Mac([2, 0, 0, 0, 1, number]));
    let host = HostSide {
        bridge: BridgeMade { ours: true, mac, mtu: 1420, vlan_filtering: false, promisc: false },
        port: PortSet { hairpin: true, isolated: false, vlans: None },
        gateway: None,
        addresses: ["10.90.1.1/24", "fd00:90:0:1::1/64"].map(|address| address.parse().unwrap()).to_vec(),
    };
    let record = Record {
        plugin: "overlay".into(),
        host_veth: Some(id.host_veth()),
        addresses: vec![format!("10.90.1.{number}/24").parse().unwrap()],
        bridge: Some(bridge),
        host: Some(host),
        mac: Some(mac),
        overlay: Some(overlay_state("front", Backend::Wireguard)),
        ..Record::default()
    };
    attached(&id, record)
}

fn overlay_state(network: &str, backend: Backend) -> OverlayState {
    let network: NetworkName = network.parse().unwrap();
    OverlayState {
        backend,
        subnets: ["10.90.0.0/16", "10.91.0.0/16", "fd00:90::/56"].map(|one| one.parse().unwrap()).to_vec(),
        blocks: vec!["10.90.1.0/24".parse().unwrap()],
        mtu: 1420,
        bridge: network.bridge(),
        tunnel: Some(network.wireguard()),
        masquerade: true,
        internal: false,
        reachable_from: vec!["10.99.0.0/16".parse().unwrap()],
        network,
    }
}

#[test]
fn an_overlay_stands_for_the_same_before_its_first_container() {
    let mut gathered = Gathered::default();
    gathered.overlay(&overlay_state("front", Backend::Wireguard));
    let mut alone = gathered.desired(&BTreeMap::new()).shared;
    let mut with_container = wanted(&[in_overlay(2)]).shared;
    with_container.sort();
    // But for whom it lets in, which changes.
    alone.retain(|element| !matches!(element.set, SetId::Reachable(_)));
    assert_eq!(alone, with_container);
}

#[test]
fn who_is_no_longer_let_into_an_overlay_stays_outside() {
    let wanted = |reachable_from: &[&str]| {
        let mut state = overlay_state("front", Backend::Vxlan);
        state.reachable_from = reachable_from.iter().map(|one| one.parse().unwrap()).collect();
        let mut gathered = gathered(&[in_overlay(2)]);
        gathered.overlay(&state);
        gathered.desired(&BTreeMap::new())
    };
    let mut host = whole(&wanted(&["10.96.0.0/14", "10.88.0.0/16"]));
    for allowed in [&["10.99.0.0/16", "10.88.0.0/16"][..], &[]] {
        let desired = wanted(allowed);
        let repair = diff(&desired, &host);
        apply(&mut host, &repair.plan);
        assert!(diff(&desired, &host).is_empty());
        let elements = host.ruleset.iter().flat_map(|ruleset| &ruleset.elements);
        let of_reachable = elements.filter(|element| matches!(element.set, SetId::Reachable(_)));
        // Two of the overlay's subnets are IPv4.
        assert_eq!(of_reachable.count(), 2 * allowed.len());
    }
    // Of an overlay without a state nobody knows, and all stays.
    let host = whole(&wanted(&["10.99.0.0/16"]));
    assert!(diff(&gathered(&[in_overlay(2)]).desired(&BTreeMap::new()), &host).is_empty());
}

#[test]
fn what_a_backend_promises_are_its_elements() {
    let text = |backend: Backend| {
        let elements = overlay(&overlay_state("front", backend));
        elements.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
    };
    let (sealed, plain, routed) = (text(Backend::Wireguard), text(Backend::Vxlan), text(Backend::HostGw));
    for element in [
        "network_ip { 10.90.0.0/16 . 10.91.0.0/16",
        "overlay_ip { 10.90.0.0/16",
        "masquerade_ip { 10.91.0.0/16",
        "reachable_ip { 10.99.0.0/16 . 10.90.0.0/16",
        "tunnels { \"wg-front\"",
    ] {
        assert!([&sealed, &plain, &routed].iter().all(|text| text.contains(element)), "{element}\n{sealed}");
    }
    let way = "ways_ip6 { \"wg-front\" . fd00:90::/56";
    assert!(sealed.contains(way) && plain.contains(way) && !routed.contains("ways_"), "{sealed}");
    assert!(sealed.contains("claimed_ip") && plain.contains("claimed_ip") && !routed.contains("claimed_"));
    assert!(sealed.contains("sealed_ip6") && !plain.contains("sealed_") && !routed.contains("sealed_"));
}

fn some(count: u8) -> Vec<Attached> {
    let overlays = (1..=count).map(in_overlay);
    (1..=count).flat_map(on_bridge).chain((1..=count).map(routed)).chain(overlays).collect()
}

fn gathered(all: &[Attached]) -> Gathered {
    let mut gathered = Gathered::default();
    all.iter().for_each(|one| gathered.take(one));
    gathered
}

fn wanted(all: &[Attached]) -> Desired {
    let gathered = gathered(all);
    assert!(gathered.contested().is_empty());
    gathered.desired(&BTreeMap::new())
}

/// The host as it is when all is well.
fn whole(desired: &Desired) -> Observed {
    let mut observed = born(desired);
    let plan = diff(desired, &observed).plan;
    apply(&mut observed, &plan);
    observed
}

/// Loses whatever `lose` says, by number.
fn lose(observed: &mut Observed, lose: &[bool]) {
    let mut choice = lose.iter().cycle();
    let mut is_lost = || *choice.next().unwrap_or(&false);
    let ruleset = observed.ruleset.get_or_insert_default();
    ruleset.elements.retain(|_| !is_lost());
    if is_lost() {
        *ruleset = RulesetSeen::default();
    }
    for (name, link) in &mut observed.links {
        link.up &= !is_lost();
        link.addresses.retain(|_| !is_lost());
        link.routes.retain(|_| !is_lost());
        if is_lost() {
            (link.master, link.limit, link.redirected_to) = (None, None, None);
        }
        assert!(!name.as_str().is_empty());
    }
    observed.links.retain(|name, _| !name.as_str().starts_with("br0") || !is_lost());
    observed.sysctls.values_mut().filter(|_| is_lost()).for_each(|value| *value = "0".into());
}

proptest! {
    #[test]
    fn a_repair_makes_host_and_journal_agree(count in 1u8..7, lost in prop::collection::vec(any::<bool>(), 1..40)) {
        let desired = wanted(&some(count));
        let well = whole(&desired);
        prop_assert!(diff(&desired, &well).is_empty());
        let mut host = well.clone();
        lose(&mut host, &lost);
        let repair = diff(&desired, &host);
        prop_assert!(repair.problems.is_empty(), "{:?}", repair.problems);
        apply(&mut host, &repair.plan);
        prop_assert!(diff(&desired, &host).is_empty(), "{}", diff(&desired, &host).plan);
    }

    #[test]
    fn a_table_of_an_older_version_keeps_what_others_put_into_it(count in 1u8..4) {
        let desired = wanted(&some(count));
        let mut host = whole(&desired);
        let foreign = crate::masquerade(&"theirs".parse().unwrap(), &["192.0.2.0/24".parse().unwrap()]);
        let ruleset = host.ruleset.as_mut().unwrap();
        ruleset.elements.extend(foreign.clone());
        ruleset.tables.get_mut(&TableFamily::Inet).unwrap().version = VERSION - 1;
        let repair = diff(&desired, &host);
        apply(&mut host, &repair.plan);
        prop_assert!(diff(&desired, &host).is_empty());
        prop_assert!(foreign.iter().all(|element| host.ruleset.as_ref().unwrap().elements.contains(element)));
    }
}

fn planned(all: &[Attached], change: impl Fn(&mut Observed)) -> String {
    let desired = wanted(all);
    let mut host = whole(&desired);
    change(&mut host);
    let repair = diff(&desired, &host);
    let problems: String = repair.problems.iter().map(|problem| format!("cannot: {problem}\n")).collect();
    format!("{}{problems}", repair.plan)
}

#[test]
fn a_bridge_that_is_gone_is_made_again_with_all_that_was_on_it() {
    insta::assert_snapshot!(
        "bridge",
        planned(&on_bridge(2), |host| {
            host.links.retain(|name, _| name.as_str() != "br0");
            host.links.values_mut().for_each(|link| link.master = None);
        })
    );
}

#[test]
fn a_veth_that_left_its_bridge_joins_it_with_its_settings() {
    insta::assert_snapshot!(
        "port",
        planned(&on_bridge(3), |host| {
            host.links.values_mut().for_each(|link| link.master = None);
        })
    );
}

#[test]
fn a_ruleset_that_is_gone_is_one_transaction_for_each_table() {
    insta::assert_snapshot!(
        "ruleset",
        planned(&on_bridge(1), |host| host.ruleset = Some(RulesetSeen::default()))
    );
}

#[test]
fn a_veth_that_is_gone_is_told_of_while_its_container_lives() {
    let text = planned(&[routed(1)], |host| host.links.clear());
    assert!(text.contains("is gone, with the container's end"), "{text}");
    let dead = Attached { is_alive: false, ..routed(1) };
    assert_eq!(planned(&[dead], |host| host.links.clear()), "");
}

#[test]
fn a_table_of_a_newer_version_is_left_alone() {
    let newer = |host: &mut Observed| {
        let ruleset = host.ruleset.get_or_insert_default();
        ruleset.elements.clear();
        ruleset.tables.get_mut(&TableFamily::Inet).unwrap().version = VERSION + 1;
    };
    let text = planned(&[routed(1)], newer);
    assert!(text.starts_with("cannot: table inet zeugma is of version"), "{text}");
}

#[test]
fn a_key_that_somebody_else_has_is_left_to_them() {
    let text = planned(&on_bridge(1), |host| {
        for element in &mut host.ruleset.get_or_insert_default().elements {
            if !element.data.is_empty() {
                element.owner = "theirs".into();
            }
        }
    });
    assert!(text.lines().count() == 4 && text.contains("taken by \"theirs\""), "{text}");
}

#[test]
fn of_two_claimants_the_first_has_the_port() {
    let publishing = |network: &str| {
        let id = id(network, "web");
        let addresses = vec![if network == "one" { "10.1.0.2/24" } else { "10.2.0.2/24" }.parse().unwrap()];
        let ports = vec![port(8080, Protocol::Tcp)];
        attached(&id, Record { plugin: "portmap".into(), addresses, ports, ..Record::default() })
    };
    let all = [publishing("one"), publishing("two")];
    let claim =
        |network| Claim { address: "0.0.0.0".parse().unwrap(), owner: id(network, "web"), netns: None };
    let key = (Protocol::Tcp, 8080);
    assert!(gathered(&all).contested().contains(&key));
    let desired = gathered(&all).desired(&BTreeMap::from([(key, vec![claim("two"), claim("one")])]));
    let plan = diff(&desired, &born(&desired)).plan;
    let mut host = born(&desired);
    apply(&mut host, &plan);
    let elements = &host.ruleset.as_ref().unwrap().elements;
    assert!(elements.len() == 1 && elements[0].owner == "two/web/eth0", "{elements:?}");
    // Where the other one has it, that is as good.
    let other = wanted(&all[..1]);
    let mut host = born(&desired);
    let plan = diff(&other, &host).plan;
    apply(&mut host, &plan);
    assert!(diff(&desired, &host).is_empty());
}

#[test]
fn what_an_isolated_network_shut_stays_shut() {
    let firewall = |container: &str, policy: &str| {
        let bridge = Some("br0".parse().unwrap());
        let ingress = Some(policy.to_owned());
        attached(
            &id("net", container),
            Record { plugin: "firewall".into(), bridge, ingress, ..Record::default() },
        )
    };
    let desired = wanted(&[firewall("a", "same-bridge"), firewall("b", "isolated")]);
    assert_eq!(desired.shared.len(), 1, "{:?}", desired.shared);
}

#[test]
fn calls_that_are_not_through_stand_for_nothing() {
    let mut half = on_bridge(1);
    half.iter_mut().for_each(|one| one.record.phase = Phase::Intent);
    assert_eq!(wanted(&half), Desired::default());
}

#[test]
fn a_bridge_that_we_did_not_make_is_not_made_again() {
    let mut all = on_bridge(1);
    all.truncate(1);
    all[0].record.host.as_mut().unwrap().bridge.ours = false;
    let desired = wanted(&all);
    let problems = diff(&desired, &born(&desired)).problems;
    assert_eq!(problems, [Problem::BridgeGone("br0".parse().unwrap())]);
}

#[test]
fn an_address_that_somebody_moved_is_told_and_left() {
    let desired = wanted(&on_bridge(1));
    let mut host = whole(&desired);
    let moved = "10.1.0.254/24".parse().unwrap();
    let bridge = "br0".parse().unwrap();
    host.links.get_mut(&bridge).unwrap().addresses.retain(|address| *address != moved);
    let other = LinkSeen { kind: "bridge".into(), addresses: vec![moved], ..LinkSeen::default() };
    host.links.insert("theirs".parse().unwrap(), other);
    let diff = diff(&desired, &host);
    assert!(diff.plan.is_empty(), "{}", diff.plan);
    let told: Vec<_> = diff.problems.iter().map(ToString::to_string).collect();
    assert_eq!(told, ["10.1.0.254 of br0 is on theirs: remove it there, and it is put back"]);
}

#[test]
fn a_bridge_that_somebody_else_made_in_place_of_ours_is_told_and_left() {
    let desired = wanted(&on_bridge(1));
    let mut host = whole(&desired);
    let theirs = LinkSeen { kind: "bridge".into(), ..LinkSeen::default() };
    host.links.insert("br0".parse().unwrap(), theirs);
    let diff = diff(&desired, &host);
    assert!(!diff.plan.to_string().contains("br0"), "{}", diff.plan);
    assert!(diff.problems[0].to_string().contains("br0"), "{:?}", diff.problems);
}
