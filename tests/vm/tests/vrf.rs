//! `vrf`: interfaces of a container in domains of routing of their own.

use anyhow::{Result, ensure};
use netns_fixtures::{Attachment, Call, Chain, run};
use serde_json::{Value, json};
use zeugma_tests::bin_dir;
use zeugma_tests::stage::{Stage, bridge, network, object, refusal, with};

/// Bridge `brN` with 10.88.N.0/24 and the container's interface in a VRF.
fn chain(number: u8, vrf: &str, keys: Value) -> Result<Chain> {
    let vrf = with(json!({"type": "vrf", "vrfname": vrf}), keys);
    network(&format!("net{number}"), &[bridge(number), vrf])
}

/// Second interface of the same container.
fn eth1(container: &Attachment) -> Attachment {
    container.container().attachment(container.id(), "eth1")
}

fn vrfs(container: &Attachment) -> Result<Value> {
    container.container().ip_json("-d link show type vrf")
}

#[test]
fn each_domain_has_routes_of_its_own_and_the_main_table_has_none() {
    run(|world| {
        let (stage, one) = (Stage::new(world)?, world.container("c")?.attachment("c", "eth0"));
        let (red, blue) = (chain(0, "red", json!({}))?, chain(1, "blue", json!({}))?);
        red.add(&stage.host, &one)?;
        blue.add(&stage.host, &eth1(&one))?;
        let inside = one.container();
        for (vrf, link, gateway) in [("red", "eth0", "10.88.0.1"), ("blue", "eth1", "10.88.1.1")] {
            assert_eq!(inside.ip_json(&format!("link show {link}"))?[0]["master"], vrf);
            assert_eq!(inside.ip_json(&format!("route show vrf {vrf} default"))?[0]["gateway"], gateway);
            inside.run(["ping", "-n", "-q", "-c", "1", "-W", "2", "-I", vrf, gateway])?;
            let six = inside.ip_json(&format!("-6 route show vrf {vrf} default"))?;
            ensure!(six[0]["dev"] == link, "IPv6 has no default route in {vrf}: {six}");
        }
        assert_eq!(inside.ip_json("route show default")?, json!([]));
        red.check(&stage.host, &one)?;
        blue.check(&stage.host, &eth1(&one))
    });
}

#[test]
fn networks_share_a_vrf_that_goes_with_its_last_member() {
    run(|world| {
        let (stage, one) = (Stage::new(world)?, world.container("c")?.attachment("c", "eth0"));
        let (first, second) = (chain(0, "red", json!({"table": 77}))?, chain(1, "red", json!({}))?);
        first.add(&stage.host, &one)?;
        second.add(&stage.host, &eth1(&one))?;
        let there = vrfs(&one)?;
        assert_eq!(there[0]["linkinfo"]["info_data"]["table"], 77, "{there}");
        first.del(&stage.host, &one)?;
        ensure!(vrfs(&one)?[0]["ifname"] == "red", "it went before its last member");
        second.del(&stage.host, &eth1(&one))?;
        assert_eq!(vrfs(&one)?, json!([]));
        Ok(())
    });
}

#[test]
fn check_misses_an_interface_that_left() {
    run(|world| {
        let (stage, chain) = (Stage::new(world)?, chain(0, "red", json!({}))?);
        let container = stage.container()?;
        let result = chain.add(&stage.host, &container)?;
        // The plugin alone: the interface loses its routes with its VRF, which `bridge` notices first.
        let vrf = object(&json!({"type": "vrf", "vrfname": "red"}));
        let config = chain.config(&stage.host, &vrf, Some(&container), Some(&result));
        let check = || Call::new(bin_dir(), "vrf", "CHECK", &config).of(&container).run(&stage.host);
        check()?;
        container.container().ip("link set eth0 nomaster")?;
        let error = refusal(check());
        ensure!(error.msg.contains("red"), "{error}");
        Ok(())
    });
}

#[test]
fn a_vrf_of_others_with_another_table_is_refused_and_left_alone() {
    run(|world| {
        let (stage, chain) = (Stage::new(world)?, chain(0, "red", json!({"table": 77}))?);
        let container = stage.container()?;
        container.container().ip("link add red type vrf table 5")?;
        let before = container.container().residue()?;
        let error = refusal(chain.add(&stage.host, &container));
        ensure!(error.plugin == "vrf" && error.msg.contains('5'), "{error}");
        chain.del(&stage.host, &container)?;
        container.container().ensure_unchanged(&before)
    });
}

#[test]
fn gc_takes_interfaces_out_and_removes_the_vrf() {
    run(|world| {
        let (stage, chain) = (Stage::new(world)?, chain(0, "red", json!({}))?);
        let container = stage.container()?;
        chain.add(&stage.host, &container)?;
        chain.gc(&stage.host, &[&container])?;
        ensure!(vrfs(&container)?[0]["ifname"] == "red", "GC took a valid one");
        chain.gc(&stage.host, &[])?;
        assert_eq!(vrfs(&container)?, json!([]));
        Ok(())
    });
}
