//! `macvlan`: containers with Ethernet addresses of their own on the wire of a host interface.

use anyhow::{Result, ensure};
use netns_fixtures::{Chain, run};
use serde_json::{Value, json};
use zeugma_tests::stage::{Stage, network, refusal, with};

fn macvlan(keys: Value) -> Value {
    let plain = json!({
        "type": "macvlan", "master": "eth0", "capabilities": {"mac": true},
        "ipam": {"type": "host-local", "ranges": [
            [{"subnet": "192.0.2.0/24", "rangeStart": "192.0.2.100"}],
            [{"subnet": "2001:db8:1::/64", "rangeStart": "2001:db8:1::100"}],
        ]},
    });
    with(plain, keys)
}

fn chain(keys: Value) -> Result<Chain> {
    network("net", &[macvlan(keys)])
}

#[test]
fn a_container_is_on_the_wire_of_its_master() {
    run(|world| {
        let stage = Stage::new(world)?;
        let (container, chain) = (stage.container()?, chain(json!({}))?);
        let result = chain.add(&stage.host, &container)?;
        let _server = stage.client.tcp_echo("[::]:7000", "outside")?;
        assert_eq!(container.container().ask_tcp("192.0.2.2:7000")?, "outside 192.0.2.100");
        assert_eq!(container.container().ask_tcp("[2001:db8:1::2]:7000")?, "outside 2001:db8:1::100");
        let inside = &container.container().ip_json("-d link show eth0")?[0];
        assert_eq!(inside["linkinfo"]["info_data"]["mode"], "bridge");
        assert_eq!(result["interfaces"][0]["mac"], inside["address"]);
        assert_eq!(
            (&result["interfaces"][0]["mtu"], result["interfaces"].as_array().map(Vec::len)),
            (&json!(1500), Some(1))
        );
        chain.check(&stage.host, &container)?;
        Ok(())
    });
}

#[test]
fn the_default_route_s_interface_is_the_master_unless_one_is_named() {
    run(|world| {
        let stage = Stage::new(world)?;
        let (container, chain) = (stage.container()?, chain(json!({"master": ""}))?);
        chain.add(&stage.host, &container)?;
        container.container().ping("192.0.2.2")?;
        chain.del(&stage.host, &container)?;
        stage.host.ip("route del default")?;
        let error = refusal(chain.add(&stage.host, &container));
        ensure!(error.code == 114 && error.msg.contains("no default route"), "{error}");
        Ok(())
    });
}

#[test]
fn modes_queue_mtu_and_mac_are_those_asked_for() {
    run(|world| {
        let stage = Stage::new(world)?;
        for mode in ["bridge", "private", "vepa", "passthru"] {
            let container = stage.container()?.with(json!({"mac": "02:11:22:33:44:55"}));
            let chain = chain(json!({"mode": mode, "mtu": 1400, "bcqueuelen": 77}))?;
            let result = chain.add(&stage.host, &container)?;
            let inside = &container.container().ip_json("-d link show eth0")?[0];
            assert_eq!(inside["linkinfo"]["info_data"]["mode"], mode);
            assert_eq!(inside["linkinfo"]["info_data"]["bcqueuelen"], 77);
            assert_eq!((&inside["mtu"], &inside["address"]), (&json!(1400), &json!("02:11:22:33:44:55")));
            assert_eq!(result["interfaces"][0]["mac"], "02:11:22:33:44:55");
            chain.del(&stage.host, &container)?;
        }
        Ok(())
    });
}

#[test]
fn a_master_inside_the_container_can_carry_it() {
    run(|world| {
        let stage = Stage::new(world)?;
        let container = stage.container()?;
        let chain = chain(json!({"linkInContainer": true, "master": "net0"}))?;
        let peer = world.host("peer")?;
        world.link((container.container(), "net0", ""), (&peer, "eth0", "192.0.2.9/24"))?;
        chain.add(&stage.host, &container)?;
        container.container().ping("192.0.2.9")?;
        Ok(())
    });
}

#[test]
fn what_does_not_fit_is_refused_and_leaves_nothing() {
    run(|world| {
        let stage = Stage::new(world)?;
        let before = stage.residue()?;
        let container = stage.container()?;
        for (keys, code, words) in [
            (json!({"mtu": 1501}), 7, "mtu 1501 is out of range: use 68 to 1500"),
            (json!({"master": "nowhere"}), 114, "there is no interface nowhere in the host's namespace"),
            (json!({"mode": "macsec"}), 7, "invalid mode \"macsec\""),
        ] {
            let error = refusal(chain(keys)?.add(&stage.host, &container));
            ensure!(error.code == code && error.msg.contains(words), "{error}");
        }
        stage.ensure_unchanged(&before)
    });
}

#[test]
fn an_address_of_a_group_or_none_is_refused_by_name() {
    run(|world| {
        let stage = Stage::new(world)?;
        for mac in ["01:00:5e:00:00:01", "00:00:00:00:00:00", "ff:ff:ff:ff:ff:ff"] {
            let container = stage.container()?.with(json!({"mac": mac}));
            let error = refusal(chain(json!({}))?.add(&stage.host, &container));
            ensure!(error.code == 7 && error.msg.contains(mac), "{error}");
        }
        Ok(())
    });
}

#[test]
fn a_failing_ipam_leaves_no_link_and_the_next_add_succeeds() {
    run(|world| {
        let stage = Stage::new(world)?;
        let container = stage.container()?;
        let full = json!({"ipam": {"type": "host-local", "subnet": "10.5.0.0/30", "rangeStart": "10.5.0.2", "rangeEnd": "10.5.0.2", "gateway": "10.5.0.2"}});
        refusal(chain(full)?.add(&stage.host, &container));
        assert_eq!(container.container().ip_json("link show type macvlan")?, json!([]));
        chain(json!({}))?.add(&stage.host, &container)?;
        Ok(())
    });
}

#[test]
fn del_gc_and_a_namespace_that_is_gone_leave_nothing() {
    run(|world| {
        let stage = Stage::new(world)?;
        let before = stage.residue()?;
        let (one, other, third, chain) =
            (stage.container()?, stage.container()?, stage.container()?, chain(json!({}))?);
        for container in [&one, &other, &third] {
            chain.add(&stage.host, container)?;
        }
        chain.del(&stage.host, &one)?;
        assert_eq!(one.container().ip_json("link show type macvlan")?, json!([]));
        chain.gc(&stage.host, &[&third])?;
        assert_eq!(other.container().ip_json("link show type macvlan")?, json!([]));
        third.container().ping("192.0.2.2")?;
        chain.del(&stage.host, &third)?;
        stage.ensure_unchanged(&before)
    });
}
