//! What cannot be, and what people are told of it.

use serde_json::json;
use zeugma_model::{Backend, Network};

use super::Cluster;

/// Every line told contains the words; returns who is reached.
fn check(cluster: &Cluster, words: &[&str]) -> Vec<String> {
    let desired = cluster.desired();
    let lines: Vec<&str> = desired.problems.iter().map(|(_, line)| line.as_str()).collect();
    assert_eq!(lines.len(), words.len(), "{lines:#?}");
    for (line, words) in lines.iter().zip(words) {
        assert!(line.contains(words), "{line} has not: {words}");
    }
    let overlay = desired.overlays.get(&"net".parse().unwrap());
    overlay.iter().flat_map(|overlay| overlay.peers.keys()).map(ToString::to_string).collect()
}

#[test]
fn packets_go_by_the_block_that_was_claimed_first() {
    let mut cluster = Cluster::of(Backend::Vxlan);
    cluster.take("a", "10.9.2.0/24");
    cluster.take("b", "10.9.3.128/25");
    cluster.take("d", "10.10.0.0/24");
    assert_eq!(check(&cluster, &["10.10.0.0/24 of node d is in none of the subnets"]), ["b", "c", "d"]);
    let overlay = &cluster.desired().overlays[&"net".parse().unwrap()];
    assert!(overlay.peers.values().all(|peer| peer.blocks.len() == 2) && overlay.blocks.len() == 2);
}

#[test]
fn hosts_are_known_by_all_their_addresses_where_they_need_no_tunnel() {
    let hosts = |backend| {
        let desired = Cluster::of(backend).desired();
        let hosts = &desired.overlays[&"net".parse().unwrap()].hosts;
        hosts.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
    };
    let on_link = "192.0.2.2 192.0.2.3 2001:db8::2 2001:db8::3";
    assert_eq!(hosts(Backend::HostGw), on_link);
    let all = "192.0.2.2 192.0.2.3 198.51.100.4 2001:db8::2 2001:db8::3 2001:db8:d::4";
    assert_eq!(hosts(Backend::Auto), all);
    assert_eq!((hosts(Backend::Vxlan), hosts(Backend::Wireguard)), Default::default());
}

#[test]
fn clones_are_told_and_the_first_one_is_reached() {
    let mut cluster = Cluster::of(Backend::Vxlan);
    cluster.node("c").machine = cluster.node("b").machine;
    assert_eq!(check(&cluster, &["nodes b and c have the same machine ID"]), ["b", "d"]);
    // Seen from one of them, the other one is not reached.
    assert_eq!(check(&cluster.clone().seen_from("c"), &["same machine ID"]), ["a", "d"]);
    let mut cluster = Cluster::of(Backend::Wireguard);
    cluster.node("c").key = cluster.node("b").key;
    assert_eq!(check(&cluster, &["same WireGuard key"]), ["b", "d"]);
    let mut cluster = Cluster::of(Backend::HostGw);
    cluster.node("c").addresses = cluster.node("b").addresses.clone();
    let told = ["nodes b and c are both at 192.0.2.2", "node d is not on link with any IPv6 address"];
    assert_eq!(check(&cluster, &told), ["b"]);
}

#[test]
fn of_two_nodes_at_one_address_the_one_that_was_written_last_is_reached() {
    let reached = |backend, revisions: [(&str, u64); 3], told: &[&str]| {
        let mut cluster = Cluster::of(backend);
        cluster.node("c").addresses = vec!["192.0.2.2".parse().unwrap(), "198.51.100.4".parse().unwrap()];
        cluster.revisions = revisions.map(|(node, at)| (node.parse().unwrap(), at)).into();
        check(&cluster, told)
    };
    for backend in [Backend::Vxlan, Backend::Wireguard, Backend::Auto] {
        let [b, d] = ["nodes c and b are both at 192.0.2.2, where c is reached", "nodes c and d are both at"];
        assert_eq!(reached(backend, [("b", 7), ("c", 9), ("d", 8)], &[d, b]), ["c"]);
        // What a node has that is not reached itself is nobody else's loss.
        let c = "nodes b and c are both at 192.0.2.2, where b is reached: remove the one that is gone, `zeugma node rm";
        assert_eq!(reached(backend, [("b", 9), ("c", 8), ("d", 7)], &[c]), ["b", "d"]);
    }
}

#[test]
fn a_node_that_changed_its_name_is_not_its_own_peer() {
    let mut cluster = Cluster::of(Backend::Auto);
    cluster.node("d").addresses = vec!["192.0.2.1".parse().unwrap()];
    assert_eq!(
        check(
            &cluster,
            &["nodes a and d are both at 192.0.2.1, where a is reached: remove the one that is gone"]
        ),
        ["b", "c"]
    );
}

#[test]
fn who_cannot_be_reached_is_told() {
    let mut cluster = Cluster::of(Backend::Vxlan);
    cluster.node("b").addresses = vec!["2001:db8::2".parse().unwrap()];
    assert_eq!(check(&cluster, &["node b has no IPv4 address"]), ["c", "d"]);
    let mut cluster = Cluster::of(Backend::Wireguard);
    cluster.node("b").key = None;
    assert_eq!(check(&cluster, &["node b has no WireGuard key"]), ["c", "d"]);
    cluster.here.underlay.clear();
    let told =
        ["no address of a family", "no WireGuard key", "no address of a family", "no address of a family"];
    let told: Vec<&str> = told.into_iter().skip(1).chain(["this host has no address"]).collect();
    assert!(check(&cluster, &told).is_empty());
}

#[test]
fn a_network_with_the_address_of_a_host_would_seal_it_off_and_is_not_made() {
    let none = |cluster: &Cluster, told: &str| {
        assert!(check(cluster, &[told]).is_empty());
        assert!(cluster.desired().overlays.is_empty());
    };
    let mut cluster = Cluster::of(Backend::Vxlan);
    cluster.node("d").addresses = vec!["10.9.7.4".parse().unwrap()];
    none(&cluster, "its subnet 10.9.0.0/16 has 10.9.7.4, by which node d is reached");
    let mut cluster = Cluster::of(Backend::Vxlan);
    cluster.here.underlay[1].address = "fd00:9::1/64".parse().unwrap();
    none(&cluster, "its subnet fd00:9::/48 has fd00:9::1, by which node a is reached");
}

#[test]
fn a_node_without_blocks_or_without_an_entry_is_passed_over() {
    let mut cluster = Cluster::of(Backend::Vxlan);
    cluster.join("e", 1, &["192.0.2.1"]);
    cluster.leave("c");
    assert_eq!(check(&cluster, &[]), ["b", "d"]);
    cluster.leave("a");
    assert!(check(&cluster, &["this node, a, is not among the nodes yet"]).is_empty());
    let overlay = &cluster.desired().overlays[&"net".parse().unwrap()];
    assert!(overlay.subnets.len() == 2 && overlay.tunnel.is_none(), "packets leave in clear: {overlay:?}");
}

#[test]
fn what_is_another_network_s_is_told() {
    let mut cluster = Cluster::of(Backend::Vxlan);
    cluster.network("old", Backend::Vxlan, 4096);
    check(&cluster, &["network net has its VXLAN network identifier 4096, too"]);
    let old = &cluster.desired().overlays[&"old".parse().unwrap()];
    assert!(old.tunnel.is_none() && old.peers.is_empty() && !old.subnets.is_empty());
}

#[test]
fn an_mtu_that_does_not_fit_is_told_and_a_smaller_one_is_taken() {
    let with = |mtu: &str| {
        let mut cluster = Cluster::of(Backend::Vxlan);
        let network = json!({
            "name": "net", "driver": "overlay", "subnets": [{"subnet": "10.9.0.0/16"}],
            "options": {"backend": "vxlan", "vni": "4096", "mtu": mtu},
        });
        let network: Network = serde_json::from_value(network).unwrap();
        cluster.networks.insert(network.name.clone(), network);
        cluster.blocks.retain(|block| block.subnet.is_ipv4());
        cluster
    };
    let mtu = |cluster: &Cluster| cluster.desired().overlays[&"net".parse().unwrap()].mtu;
    check(&with("1450"), &[]);
    assert_eq!(mtu(&with("1400")), 1400);
    check(&with("1451"), &["MTU of 1451 does not fit into this host's packets, 1450 does"]);
    assert_eq!(mtu(&with("1451")), 1450);
    let mut narrow = Cluster::of(Backend::Vxlan);
    narrow.here.underlay.iter_mut().for_each(|underlay| underlay.mtu = 1300);
    check(&narrow, &["its MTU is 1250, and IPv6 needs 1280"]);
}
