//! `ipvlan`: containers with addresses of their own behind the Ethernet address of a host interface.

use anyhow::{Result, ensure};
use netns_fixtures::{Chain, run};
use serde_json::{Value, json};
use zeugma_tests::stage::{Stage, network, refusal, with};

fn ipvlan(keys: Value) -> Value {
    let plain = json!({
        "type": "ipvlan", "master": "eth0",
        "ipam": {"type": "host-local", "ranges": [
            [{"subnet": "192.0.2.0/24", "rangeStart": "192.0.2.100"}],
            [{"subnet": "2001:db8:1::/64", "rangeStart": "2001:db8:1::100"}],
        ]},
    });
    with(plain, keys)
}

fn chain(keys: Value) -> Result<Chain> {
    network("net", &[ipvlan(keys)])
}

#[test]
fn containers_reach_the_wire_and_one_another_with_the_master_s_mac() {
    run(|world| {
        let (stage, chain) = (Stage::new(world)?, chain(json!({}))?);
        let (one, two) = (stage.container()?, stage.container()?);
        let result = chain.add(&stage.host, &one)?;
        chain.add(&stage.host, &two)?;
        let _server = stage.client.tcp_echo("[::]:7000", "outside")?;
        assert_eq!(one.container().ask_tcp("192.0.2.2:7000")?, "outside 192.0.2.100");
        assert_eq!(one.container().ask_tcp("[2001:db8:1::2]:7000")?, "outside 2001:db8:1::100");
        one.container().ping("192.0.2.101")?;
        let inside = &one.container().ip_json("-d link show eth0")?[0];
        assert_eq!(inside["address"], stage.host.ip_json("link show eth0")?[0]["address"]);
        assert_eq!(result["interfaces"][0]["mac"], inside["address"]);
        assert_eq!(inside["linkinfo"]["info_data"]["mode"], "l2");
        chain.check(&stage.host, &one)
    });
}

#[test]
fn modes_are_those_asked_for_and_one_per_master() {
    run(|world| {
        let stage = Stage::new(world)?;
        for mode in ["l2", "l3", "l3s"] {
            let (container, other) = (stage.container()?, stage.container()?);
            let asked = chain(json!({"mode": mode, "mtu": 1400}))?;
            asked.add(&stage.host, &container)?;
            let inside = &container.container().ip_json("-d link show eth0")?[0];
            assert_eq!(inside["linkinfo"]["info_data"]["mode"], mode);
            assert_eq!(inside["mtu"], 1400);
            let different = chain(json!({"mode": if mode == "l2" { "l3" } else { "l2" }}))?;
            let error = refusal(different.add(&stage.host, &other));
            ensure!(error.code == 116 && error.msg.contains(&format!("have mode {mode}")), "{error}");
            let unchanged = &container.container().ip_json("-d link show eth0")?[0];
            assert_eq!(unchanged["linkinfo"]["info_data"]["mode"], mode, "another network changed it");
            different.del(&stage.host, &other)?;
            asked.del(&stage.host, &container)?;
        }
        Ok(())
    });
}

#[test]
fn what_does_not_fit_is_refused_and_leaves_nothing() {
    run(|world| {
        let (stage, container) = (Stage::new(world)?, world.container("c")?.attachment("c", "eth0"));
        let before = stage.residue()?;
        for (keys, code, word) in [
            (json!({"mode": "l4"}), 7, "l4"),
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
fn del_gc_and_a_namespace_that_is_gone_leave_nothing() {
    run(|world| {
        let (stage, chain) = (Stage::new(world)?, chain(json!({}))?);
        let before = stage.residue()?;
        let (one, two, gone) = (stage.container()?, stage.container()?, stage.container()?);
        for container in [&one, &two, &gone] {
            chain.add(&stage.host, container)?;
        }
        chain.del(&stage.host, &one)?;
        assert_eq!(one.container().ip_json("link show type ipvlan")?, json!([]));
        gone.container().remove()?;
        chain.gc(&stage.host, &[&two])?;
        two.container().ping("192.0.2.2")?;
        chain.del(&stage.host, &two)?;
        stage.ensure_unchanged(&before)
    });
}
