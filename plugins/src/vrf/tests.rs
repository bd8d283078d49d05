//! The plans of `vrf`, as `--dry-run` would print them, and what it refuses.

use std::collections::BTreeSet;

use zeugma_kernel::{LinkState, RouteState};
use zeugma_model::IfName;
use zeugma_plan::AddressFlags;

use super::Error;
use super::config::Config;
use super::plan::{Observed, Whose, enslaved, missing, released};
use crate::routing::MAIN;

fn name(text: &str) -> IfName {
    text.parse().unwrap()
}

fn config(table: Option<u32>) -> Config {
    Config { name: name("blue"), table }
}

fn link(text: &str, index: u32, state: LinkState) -> (IfName, LinkState) {
    (name(text), LinkState { index, up: true, ..state })
}

fn vrf(table: u32, alias: Option<&str>) -> (IfName, LinkState) {
    let alias = alias.map(str::to_owned);
    link("blue", 9, LinkState { kind: "vrf".into(), vrf_table: Some(table), alias, ..LinkState::default() })
}

fn member(text: &str, index: u32, master: Option<u32>) -> (IfName, LinkState) {
    link(text, index, LinkState { kind: "veth".into(), master, ..LinkState::default() })
}

fn route(dst: &str, gw: &str, table: u32, protocol: u8) -> RouteState {
    RouteState {
        dst: dst.parse().ok(),
        gw: gw.parse().ok(),
        is_ipv6: dst.contains(':') || gw.contains(':'),
        table,
        priority: None,
        mtu: None,
        advmss: None,
        scope: 0,
        protocol,
        source: None,
        onlink: false,
        is_unicast: true,
        is_multipath: false,
    }
}

/// A container with an address of each family, default routes, a host route behind, and a table of its own.
fn container(links: Vec<(IfName, LinkState)>) -> Observed {
    let addresses = ["10.1.0.2/24", "2001:db8::2/64"];
    let addresses = addresses.map(|address| (address.parse().unwrap(), AddressFlags::default()));
    let routes = [
        route("default", "10.1.0.1", MAIN, 122),
        route("10.1.0.0/24", "", MAIN, 2),
        route("2001:db8::/64", "", MAIN, 2),
        route("default", "2001:db8::1", MAIN, 122),
        route("10.2.0.1/32", "", MAIN, 4),
        route("default", "10.1.0.9", 100, 122),
    ];
    Observed {
        links,
        addresses: addresses.into(),
        routes: routes.into(),
        tables: BTreeSet::from([1, 100, 254]),
    }
}

fn planned(config: &Config, links: Vec<(IfName, LinkState)>) -> Result<String, Error> {
    Ok(enslaved(config, &name("eth0"), &container(links))?.to_string())
}

fn eth0() -> (IfName, LinkState) {
    member("eth0", 2, None)
}

#[test]
fn what_the_kernel_drops_is_taken_along_into_a_free_table() {
    insta::assert_snapshot!(planned(&config(None), vec![eth0()]).unwrap());
}

#[test]
fn a_vrf_that_is_there_is_joined_under_its_table() {
    insta::assert_snapshot!(planned(&config(None), vec![eth0(), vrf(42, None)]).unwrap());
}

#[test]
fn undo_puts_everything_back_after_the_vrf_is_left() {
    let plan = enslaved(&config(Some(7)), &name("eth0"), &container(vec![eth0()])).unwrap();
    let done: Vec<usize> = (0..plan.steps().len()).collect();
    let undo: Vec<String> = plan.undo_of(&done).iter().map(ToString::to_string).collect();
    insta::assert_snapshot!(undo.join("\n"));
}

#[test]
fn what_is_in_the_way_is_named() {
    let refused = |table, links| planned(&config(table), links).unwrap_err();
    assert!(matches!(
        refused(Some(7), vec![eth0(), vrf(42, None)]),
        Error::OtherTable { has: 42, asked: 7, .. }
    ));
    assert!(matches!(refused(None, vec![eth0(), member("blue", 9, None)]), Error::NotAVrf { .. }));
    let Error::HasMaster { master, .. } = refused(None, vec![member("eth0", 2, Some(9)), vrf(42, None)])
    else {
        panic!("eth0 is in a VRF already");
    };
    assert_eq!(master, "blue");
}

fn left(whose: Whose, links: &[(IfName, LinkState)]) -> String {
    released(&name("blue"), &name("eth0"), whose, links).to_string()
}

#[test]
fn the_last_member_takes_the_vrf_along_if_it_is_ours() {
    const LEAVE: &str = "container: ip link set eth0 nomaster\n";
    const REMOVE: &str = "container: ip link del blue\n";
    let (inside, other) = (member("eth0", 2, Some(9)), member("eth1", 3, Some(9)));
    let (ours, foreign) = (vrf(7, Some("zeugma vrf")), vrf(7, None));
    let both = [LEAVE, REMOVE].concat();
    assert_eq!(left(Whose::Ours, &[inside.clone(), ours.clone()]), both);
    assert_eq!(left(Whose::Ours, &[inside.clone(), other, ours.clone()]), LEAVE);
    assert_eq!(left(Whose::Ours, &[inside.clone(), foreign.clone()]), LEAVE);
    assert_eq!(left(Whose::Ours, &[ours]), REMOVE);
    assert_eq!(left(Whose::Anyones, &[inside, foreign.clone()]), both);
    assert_eq!(left(Whose::Anyones, &[eth0(), foreign]), "");
    assert_eq!(left(Whose::Anyones, &[eth0(), member("blue", 9, None)]), "");
}

#[test]
fn check_names_what_is_gone() {
    let missing = |table, links: &[_]| missing(&config(table), &name("eth0"), links);
    let inside = member("eth0", 2, Some(9));
    assert_eq!(missing(Some(7), &[inside.clone(), vrf(7, None)]), None);
    assert_eq!(missing(None, std::slice::from_ref(&inside)).unwrap(), "the container has no VRF blue");
    assert_eq!(
        missing(Some(8), &[inside.clone(), vrf(7, None)]).unwrap(),
        "VRF blue has routing table 7, not 8"
    );
    assert_eq!(missing(None, &[eth0(), vrf(7, None)]).unwrap(), "eth0 is not in VRF blue");
    let (blue, down) = vrf(7, None);
    let down = (blue, LinkState { up: false, ..down });
    assert_eq!(missing(None, &[inside, down]).unwrap(), "VRF blue is down");
}
