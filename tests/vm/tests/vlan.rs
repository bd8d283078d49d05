//! `vlan`: a container in an 802.1Q VLAN of a host interface.

use anyhow::{Result, ensure};
use netns_fixtures::{Chain, run};
use serde_json::{Value, json};
use zeugma_tests::stage::{Stage, network, refusal, with};

fn chain(keys: Value) -> Result<Chain> {
    let vlan = json!({
        "type": "vlan", "master": "eth0", "vlanId": 5,
        "ipam": {"type": "host-local", "ranges": [
            [{"subnet": "10.5.0.0/24", "rangeStart": "10.5.0.100"}],
            [{"subnet": "2001:db8:5::/64", "rangeStart": "2001:db8:5::100"}],
        ]},
    });
    network("net", &[with(vlan, keys)])
}

/// The outside client in VLAN 5, as 10.5.0.2 and 2001:db8:5::2.
fn tag_client(stage: &Stage<'_>) -> Result<()> {
    stage.client.ip("link add link eth0 name eth0.5 type vlan id 5")?;
    stage.client.ip("link set eth0.5 up")?;
    stage.client.ip("addr add 10.5.0.2/24 dev eth0.5")?;
    stage.client.ip("addr add 2001:db8:5::2/64 dev eth0.5 nodad").map(drop)
}

#[test]
fn frames_leave_with_the_tag_and_reach_that_vlan_only() {
    run(|world| {
        let (stage, chain, container) = (Stage::new(world)?, chain(json!({}))?, world.container("c")?);
        let container = container.attachment("c", "eth0");
        tag_client(&stage)?;
        let result = chain.add(&stage.host, &container)?;
        let _server = stage.client.tcp_echo("[::]:7000", "outside")?;
        assert_eq!(container.container().ask_tcp("10.5.0.2:7000")?, "outside 10.5.0.100");
        assert_eq!(container.container().ask_tcp("[2001:db8:5::2]:7000")?, "outside 2001:db8:5::100");
        let inside = &container.container().ip_json("-d link show eth0")?[0];
        assert_eq!(inside["linkinfo"]["info_data"]["id"], 5);
        assert_eq!(result["interfaces"][0]["mac"], inside["address"]);
        stage.client.ip("link del eth0.5")?;
        stage.client.ip("addr add 10.5.0.2/24 dev eth0")?;
        ensure!(container.container().ping("10.5.0.2").is_err(), "frames arrive without a tag");
        chain.check(&stage.host, &container)
    });
}

#[test]
fn the_mtu_is_the_master_s_unless_a_smaller_one_is_asked_for() {
    run(|world| {
        let stage = Stage::new(world)?;
        stage.host.ip("link set eth0 mtu 1400")?;
        for (keys, expected) in [(json!({}), 1400), (json!({"mtu": 1300}), 1300)] {
            let (chain, container) = (chain(keys)?, stage.container()?);
            let result = chain.add(&stage.host, &container)?;
            assert_eq!(container.container().ip_json("link show eth0")?[0]["mtu"], expected);
            assert_eq!(result["interfaces"][0]["mtu"], expected);
            chain.del(&stage.host, &container)?;
        }
        Ok(())
    });
}

#[test]
fn a_master_inside_the_container_can_carry_it() {
    run(|world| {
        let (stage, container) = (Stage::new(world)?, world.container("c")?);
        let peer = world.host("peer")?;
        world.link((&container, "net0", ""), (&peer, "eth0", ""))?;
        peer.ip("link add link eth0 name eth0.5 type vlan id 5")?;
        peer.ip("link set eth0.5 up")?;
        peer.ip("addr add 10.5.0.9/24 dev eth0.5")?;
        let chain = chain(json!({"linkInContainer": true, "master": "net0"}))?;
        chain.add(&stage.host, &container.attachment("c", "eth0"))?;
        container.ping("10.5.0.9")
    });
}

#[test]
fn what_does_not_fit_is_refused_and_leaves_nothing() {
    run(|world| {
        let (stage, container) = (Stage::new(world)?, world.container("c")?.attachment("c", "eth0"));
        let before = stage.residue()?;
        for (keys, code, word) in [
            (json!({"vlanId": 4095}), 7, "vlanId"),
            (json!({"mtu": 1501}), 7, "1501"),
            (json!({"master": "nowhere"}), 114, "nowhere"),
        ] {
            let error = refusal(chain(keys)?.add(&stage.host, &container));
            ensure!(error.code == code && error.msg.contains(word), "{error}");
        }
        stage.ensure_unchanged(&before)
    });
}

#[test]
fn del_and_gc_free_the_vlan_also_when_the_container_is_gone() {
    run(|world| {
        let (stage, chain) = (Stage::new(world)?, chain(json!({}))?);
        let before = stage.residue()?;
        let (one, two, three) = (stage.container()?, stage.container()?, stage.container()?);
        chain.add(&stage.host, &one)?;
        chain.del(&stage.host, &one)?;
        assert_eq!(one.container().ip_json("link show type vlan")?, json!([]));
        chain.add(&stage.host, &two)?;
        chain.gc(&stage.host, &[])?;
        chain.add(&stage.host, &three)?;
        three.container().remove()?;
        chain.del(&stage.host, &three)?;
        stage.ensure_unchanged(&before)
    });
}
