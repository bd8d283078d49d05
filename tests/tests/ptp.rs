//! `ptp`: containers that reach one another and the world by way of the host's routes.

use anyhow::{Result, ensure};
use netns_fixtures::{Chain, run};
use serde_json::{Value, json};
use zeugma_tests::stage::{Stage, network, refusal, with};

fn chain(keys: Value) -> Result<Chain> {
    let ptp = json!({
        "type": "ptp", "ipMasq": true,
        "ipam": {
            "type": "host-local", "ranges": [[{"subnet": "10.66.0.0/24"}], [{"subnet": "2001:db8:66::/64"}]],
            "routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}],
        },
    });
    network("net", &[with(ptp, keys)])
}

#[test]
fn containers_reach_each_other_and_the_outside_in_both_families() {
    run(|world| {
        let stage = Stage::new(world)?;
        let (one, other, chain) = (stage.container()?, stage.container()?, chain(json!({}))?);
        chain.add(&stage.host, &one)?;
        chain.add(&stage.host, &other)?;
        let _server = stage.client.tcp_echo("[::]:7000", "outside")?;
        let _neighbour = other.container().tcp_echo("[::]:7000", "neighbour")?;
        let from = one.container();
        assert_eq!(from.ask_tcp("192.0.2.2:7000")?, "outside 192.0.2.1");
        assert_eq!(from.ask_tcp("[2001:db8:1::2]:7000")?, "outside 2001:db8:1::1");
        assert_eq!(from.ask_tcp("10.66.0.3:7000")?, "neighbour 10.66.0.2");
        assert_eq!(from.ask_tcp("[2001:db8:66::3]:7000")?, "neighbour 2001:db8:66::2");
        Ok(())
    });
}

#[test]
fn the_result_has_the_veth_the_container_and_the_mtu() {
    run(|world| {
        let stage = Stage::new(world)?;
        let (container, chain) = (stage.container()?, chain(json!({"mtu": 1400}))?);
        let result = chain.add(&stage.host, &container)?;
        let inside = &container.container().ip_json("link show eth0")?[0];
        assert_eq!(result["interfaces"][1]["name"], "eth0");
        assert_eq!(result["interfaces"][1]["mac"], inside["address"]);
        assert_eq!((&result["interfaces"][1]["mtu"], &inside["mtu"]), (&json!(1400), &json!(1400)));
        assert_eq!(result["ips"][0]["interface"], 1);
        chain.check(&stage.host, &container)?;
        Ok(())
    });
}

#[test]
fn check_misses_the_host_s_route() {
    run(|world| {
        let stage = Stage::new(world)?;
        let (container, chain) = (stage.container()?, chain(json!({}))?);
        chain.add(&stage.host, &container)?;
        stage.host.ip("route del 10.66.0.2")?;
        let error = refusal(chain.check(&stage.host, &container));
        assert_eq!(error.code, 110, "{error}");
        ensure!(error.msg.contains("the host has no route to 10.66.0.2"), "{error}");
        Ok(())
    });
}

#[test]
fn del_and_gc_leave_nothing_but_forwarding_and_the_constant_ruleset() {
    run(|world| {
        let stage = Stage::new(world)?;
        let (one, other, chain) = (stage.container()?, stage.container()?, chain(json!({}))?);
        chain.add(&stage.host, &one)?;
        chain.gc(&stage.host, &[])?;
        let before = stage.residue()?;
        chain.add(&stage.host, &one)?;
        chain.add(&stage.host, &other)?;
        chain.del(&stage.host, &one)?;
        chain.del(&stage.host, &one)?;
        chain.gc(&stage.host, &[])?;
        stage.ensure_unchanged(&before)
    });
}
