//! Overlays decided, without a host: who is reached how, what it comes to, and that nothing else is changed.

mod blocks;
mod cluster;
mod problems;
mod random;

use cluster::Cluster;
use zeugma_model::Backend;

use crate::{Observed, Path, SeenKind, plan};

/// What a new host is told.
fn from_nothing(cluster: &Cluster) -> String {
    let desired = cluster.desired();
    let problems = desired.problems.iter().map(|(network, line)| format!("! {network}: {line}\n"));
    format!("{}{}", problems.collect::<String>(), plan(&desired, &cluster.with_wireguard()))
}

#[test]
fn vxlan() {
    insta::assert_snapshot!(from_nothing(&Cluster::of(Backend::Vxlan)));
}

#[test]
fn vxlan_where_there_is_no_ipv4() {
    insta::assert_snapshot!(from_nothing(&Cluster::of(Backend::Vxlan).over_v6()));
}

#[test]
fn wireguard() {
    insta::assert_snapshot!(from_nothing(&Cluster::of(Backend::Wireguard)));
}

#[test]
fn host_gw() {
    insta::assert_snapshot!(from_nothing(&Cluster::of(Backend::HostGw)));
}

#[test]
fn auto_makes_a_tunnel_to_those_that_are_not_on_link() {
    insta::assert_snapshot!(from_nothing(&Cluster::of(Backend::Auto)));
}

#[test]
fn a_change_of_one_peer_is_a_change_of_its_own_alone() {
    let mut cluster = Cluster::of(Backend::Vxlan);
    let before = Observed::default().after(&plan(&cluster.desired(), &Observed::default()));
    assert!(plan(&cluster.desired(), &before).is_empty());
    cluster.node("b").addresses = vec!["192.0.2.22".parse().unwrap()];
    cluster.leave("c");
    insta::assert_snapshot!(plan(&cluster.desired(), &before));
}

#[test]
fn a_device_that_is_not_as_it_is_to_be_is_made_again_and_a_foreign_one_is_left_alone() {
    let desired = Cluster::of(Backend::Vxlan).desired();
    let there = Observed::default().after(&plan(&desired, &Observed::default()));
    let mut learns = there.clone();
    let device = learns.links.values_mut().next().unwrap();
    let SeenKind::Vxlan { learning, .. } = &mut device.kind else { panic!("{device:?}") };
    *learning = true;
    let again = plan(&desired, &learns);
    assert_eq!((again.unlink.len(), again.link.len(), again.guard.len()), (1, 1, 0));
    assert_eq!(learns.after(&again), there);
    let mut foreign = there;
    foreign.links.values_mut().for_each(|link| link.alias = "somebody's".into());
    let told = plan(&desired, &foreign);
    assert!(told.unlink.is_empty() && told.link.is_empty() && told.set.is_empty());
    assert!(told.failures()[0].contains("somebody else's"), "{told}");
}

#[test]
fn a_device_that_was_not_marked_any_more_before_we_were_stopped_is_ours() {
    let desired = Cluster::of(Backend::Vxlan).desired();
    let mut there = Observed::default().after(&plan(&desired, &Observed::default()));
    there.links.values_mut().for_each(|link| link.alias.clear());
    assert_eq!(plan(&desired, &there).lines(), ["ip link set vx-net alias \"zeugma overlay net\""]);
}

#[test]
fn the_mtu_is_what_is_left_of_the_wire_s() {
    let check = |backend, is_v6: bool, expected| {
        let cluster = Cluster::of(backend);
        let cluster = if is_v6 { cluster.over_v6() } else { cluster };
        let overlay = &cluster.desired().overlays[&"net".parse().unwrap()];
        assert_eq!(overlay.mtu, expected, "{backend} {is_v6}");
    };
    check(Backend::Vxlan, false, 1450);
    check(Backend::Vxlan, true, 1430);
    check(Backend::Wireguard, false, 1440);
    check(Backend::Wireguard, true, 1420);
    check(Backend::HostGw, false, 1500);
    check(Backend::Auto, false, 1450);
}

#[test]
fn an_end_keeps_its_ethernet_address_which_no_other_has() {
    let cluster = Cluster::of(Backend::Vxlan);
    let mac = |desired: crate::Desired, node: &str| match desired.overlays[&"net".parse().unwrap()].peers
        [&node.parse().unwrap()]
        .path
    {
        Path::Vxlan { mac, .. } => mac,
        ref path => panic!("{path:?}"),
    };
    let (b, c) = (mac(cluster.desired(), "b"), mac(cluster.desired(), "c"));
    assert_ne!(b, c);
    assert_eq!(mac(cluster.seen_from("d").desired(), "b"), b);
    // printf '%032x%08x' 2 4096 | xxd -r -p | sha256sum | cut -c-12, and the bits of a local unicast address.
    assert_eq!(b.to_string(), "fe:2d:83:d5:45:af");
}
