//! `bridge`: what its options do to links, addresses and packets, and what it refuses without a trace.

use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use netns_fixtures::{Attachment, Chain, Host, Residue, eventually, run};
use serde_json::{Value, json};
use zeugma_tests::stage::{Stage, address, bridge, network, refusal, with};

fn chain(keys: Value) -> Result<Chain> {
    network("net", &[with(bridge(0), keys)])
}

fn host_local(subnet: &str) -> Value {
    json!({"ipam": {"type": "host-local", "subnet": subnet}})
}

fn link(host: &Host, ifname: &str) -> Result<Value> {
    Ok(host.ip_json(&format!("-d link show {ifname}"))?[0].clone())
}

/// The host's end, by the result.
fn port(stage: &Stage<'_>, result: &Value) -> Result<Value> {
    link(&stage.host, result["interfaces"][1]["name"].as_str().context("a host interface")?)
}

/// Attaches a container with `keys` and returns the stage's host port and the result.
fn attached(stage: &Stage<'_>, keys: Value) -> Result<(Attachment, Value, Value)> {
    let (chain, container) = (chain(keys)?, stage.container()?);
    let result = chain.add(&stage.host, &container)?;
    let port = port(stage, &result)?;
    Ok((container, result, port))
}

#[test]
fn a_default_gateway_is_the_way_out_in_both_families() {
    run(|world| {
        let stage = Stage::new(world)?;
        let (container, ..) = attached(&stage, json!({}))?;
        let _server = stage.client.tcp_echo("[::]:7000", "outside")?;
        assert_eq!(container.container().ask_tcp("192.0.2.2:7000")?, "outside 192.0.2.1");
        assert_eq!(container.container().ask_tcp("[2001:db8:1::2]:7000")?, "outside 2001:db8:1::1");
        Ok(())
    });
}

#[test]
fn a_gateway_that_is_not_the_default_gives_no_default_route() {
    run(|world| {
        let stage = Stage::new(world)?;
        let (container, ..) = attached(&stage, json!({"isDefaultGateway": false, "isGateway": true}))?;
        container.container().ping("10.88.0.1")?;
        assert_eq!(container.container().ip_json("-4 route show default")?, json!([]));
        assert_eq!(container.container().ip_json("-6 route show default")?, json!([]));
        Ok(())
    });
}

fn ensure_hairpin(keys: Value, expected: bool) {
    run(|world| {
        let stage = Stage::new(world)?;
        let (_, _, port) = attached(&stage, keys)?;
        assert_eq!(port["linkinfo"]["info_slave_data"]["hairpin"], json!(expected));
        Ok(())
    });
}

#[test]
fn hairpin_is_on_unless_switched_off_or_promiscuous() {
    ensure_hairpin(json!({}), true);
    ensure_hairpin(json!({"hairpinMode": true}), true);
    ensure_hairpin(json!({"hairpinMode": false}), false);
    ensure_hairpin(json!({"promiscMode": true}), false);
}

#[test]
fn a_promiscuous_bridge_receives_everything() {
    run(|world| {
        let stage = Stage::new(world)?;
        attached(&stage, json!({"promiscMode": true}))?;
        let flags = link(&stage.host, "br0")?["flags"].clone();
        assert!(flags.as_array().is_some_and(|flags| flags.contains(&json!("PROMISC"))), "{flags}");
        Ok(())
    });
}

#[test]
fn isolated_ports_reach_the_gateway_and_not_one_another() {
    run(|world| {
        let stage = Stage::new(world)?;
        let (one, _, port) = attached(&stage, json!({"portIsolation": true}))?;
        let (_, there, _) = attached(&stage, json!({"portIsolation": true}))?;
        assert_eq!(port["linkinfo"]["info_slave_data"]["isolated"], json!(true));
        one.container().ping("10.88.0.1")?;
        assert!(one.container().ping(&address(&there, 4)?).is_err());
        Ok(())
    });
}

#[test]
fn macspoofchk_lets_only_the_container_s_own_address_through() {
    run(|world| {
        let stage = Stage::new(world)?;
        let chain = chain(json!({"macspoofchk": true}))?;
        let container = stage.container()?;
        chain.add(&stage.host, &container)?;
        let inside = container.container();
        inside.ping("10.88.0.1")?;
        inside.ip("link set eth0 address 02:00:00:00:00:77")?;
        ensure!(inside.ping("10.88.0.1").is_err(), "a spoofed source address gets through");
        stage.host.nft("flush chain bridge zeugma prerouting")?;
        // Neighbours are asked again a second after the request that was dropped.
        let gets_through = || inside.ping("10.88.0.1").is_ok();
        ensure!(eventually(Duration::from_secs(10), gets_through), "the test itself");
        chain.del(&stage.host, &container)?;
        assert!(!stage.host.nft_table("bridge zeugma")?.contains(container.id()));
        Ok(())
    });
}

fn ensure_mtu(prepare: &str, keys: Value, expected: u32) {
    run(|world| {
        let stage = Stage::new(world)?;
        prepare
            .split(';')
            .filter(|line| !line.is_empty())
            .try_for_each(|line| stage.host.ip(line).map(drop))?;
        let (container, result, port) = attached(&stage, keys)?;
        assert_eq!(link(container.container(), "eth0")?["mtu"], json!(expected));
        assert_eq!(port["mtu"], json!(expected));
        assert_eq!(result["interfaces"][2]["mtu"], json!(expected));
        Ok(())
    });
}

#[test]
fn the_mtu_is_the_given_one_or_the_bridge_s_or_the_underlay_s() {
    ensure_mtu("", json!({"mtu": 1290}), 1290);
    ensure_mtu("link set eth0 mtu 9000", json!({}), 9000);
    ensure_mtu("link add br0 type bridge;link set br0 mtu 1300", json!({}), 1300);
    ensure_mtu("route del default", json!({}), 1500);
}

#[test]
fn a_bridge_with_another_address_is_left_alone() {
    run(|world| {
        let stage = Stage::new(world)?;
        attached(&stage, host_local("10.88.0.0/24"))?;
        let before = stage.residue()?;
        let error = refusal(
            network("two", &[with(bridge(0), host_local("10.99.0.0/24"))])?
                .add(&stage.host, &stage.container()?),
        );
        assert_eq!(error.code, 112, "{error}");
        assert!(error.msg.contains("10.88.0.1/24"), "{error}");
        stage.ensure_unchanged(&before)
    });
}

#[test]
fn force_address_replaces_the_bridge_s_address() {
    run(|world| {
        let stage = Stage::new(world)?;
        attached(&stage, host_local("10.88.0.0/24"))?;
        let keys = with(host_local("10.99.0.0/24"), json!({"forceAddress": true}));
        network("two", &[with(bridge(0), keys)])?.add(&stage.host, &stage.container()?)?;
        let addresses = stage.host.ip_json("-4 addr show br0")?[0]["addr_info"].clone();
        assert_eq!(addresses.as_array().map(Vec::len), Some(1), "{addresses}");
        assert_eq!(addresses[0]["local"], "10.99.0.1");
        Ok(())
    });
}

#[test]
fn without_ipam_it_is_a_plain_switch() {
    run(|world| {
        let stage = Stage::new(world)?;
        let chain = network("net", &[json!({"type": "bridge", "bridge": "br0"})])?;
        let (one, two) = (stage.container()?, stage.container()?);
        let result = chain.add(&stage.host, &one)?;
        assert_eq!(result["ips"].as_array().map_or(0, Vec::len), 0);
        chain.add(&stage.host, &two)?;
        one.container().ip("addr add 10.5.0.1/24 dev eth0")?;
        two.container().ip("addr add 10.5.0.2/24 dev eth0")?;
        one.container().ping("10.5.0.2")?;
        chain.check(&stage.host, &one)?;
        chain.del(&stage.host, &one)
    });
}

#[test]
fn a_disabled_container_interface_stays_down() {
    run(|world| {
        let stage = Stage::new(world)?;
        let down = json!({"type": "bridge", "bridge": "br0", "disableContainerInterface": true});
        let container = stage.container()?;
        network("net", &[down])?.add(&stage.host, &container)?;
        assert_eq!(link(container.container(), "eth0")?["operstate"], "DOWN");
        let both = chain(json!({"disableContainerInterface": true}))?;
        assert_eq!(refusal(both.add(&stage.host, &stage.container()?)).code, 7);
        Ok(())
    });
}

#[test]
fn duplicate_address_detection_only_when_asked_for() {
    run(|world| {
        let stage = Stage::new(world)?;
        for (asked, expected) in [(true, "1"), (false, "0")] {
            let (container, ..) = attached(&stage, json!({"enabledad": asked}))?;
            let dad = container.container().sysctl("net.ipv6.conf.eth0.accept_dad")?;
            assert_eq!(dad, expected, "enabledad {asked}");
        }
        Ok(())
    });
}

fn ensure_mac(stage: &Stage<'_>, keys: Value, container: &Attachment, expected: &str) -> Result<()> {
    let chain = network("net", &[with(bridge(0), keys)])?;
    let result = chain.add(&stage.host, container)?;
    assert_eq!(link(container.container(), "eth0")?["address"], expected);
    assert_eq!(result["interfaces"][2]["mac"], expected);
    Ok(())
}

#[test]
fn a_mac_asked_for_by_capability_precedes_args_and_cni_args() {
    const MACS: [&str; 3] = ["02:00:00:00:00:01", "02:00:00:00:00:02", "02:00:00:00:00:03"];
    run(|world| {
        let stage = Stage::new(world)?;
        let args = json!({"args": {"cni": {"mac": MACS[1]}}});
        let cni_args = format!("MAC={}", MACS[2]);
        let container = || Ok::<_, anyhow::Error>(stage.container()?.args(&cni_args));
        ensure_mac(&stage, args.clone(), &container()?.with(json!({"mac": MACS[0]})), MACS[0])?;
        ensure_mac(&stage, args, &container()?, MACS[1])?;
        ensure_mac(&stage, json!({}), &container()?, MACS[2])
    });
}

#[test]
fn the_bridge_keeps_its_mac_whatever_ports_come_and_go() {
    run(|world| {
        let stage = Stage::new(world)?;
        let (chain, first) = (chain(json!({}))?, stage.container()?);
        let result = chain.add(&stage.host, &first)?;
        let mac = link(&stage.host, "br0")?["address"].clone();
        assert_eq!(result["interfaces"][0]["mac"], mac);
        let lowest = stage.world.host("lowest")?;
        stage.world.link((&stage.host, "low", ""), (&lowest, "eth0", ""))?;
        stage.host.ip("link set low address 00:00:00:00:00:01 master br0")?;
        chain.del(&stage.host, &first)?;
        assert_eq!(link(&stage.host, "br0")?["address"], mac);
        Ok(())
    });
}

#[test]
fn sixteen_first_adds_at_once_all_succeed() {
    run(|world| {
        let stage = Stage::new(world)?;
        let chain = chain(json!({}))?;
        let containers = (0..16).map(|_| stage.container()).collect::<Result<Vec<_>>>()?;
        let results: Vec<Result<Value>> = thread::scope(|scope| {
            let adding: Vec<_> =
                containers.iter().map(|one| scope.spawn(|| chain.add(&stage.host, one))).collect();
            adding.into_iter().map(|add| add.join().expect("ADD does not panic")).collect()
        });
        let mut addresses =
            results.into_iter().map(|result| address(&result?, 4)).collect::<Result<Vec<_>>>()?;
        addresses.sort();
        addresses.dedup();
        assert_eq!(addresses.len(), 16);
        containers.iter().try_for_each(|container| container.container().ping("10.88.0.1"))
    });
}

/// ADD on a host that has what `prepare` makes is refused and changes nothing.
fn ensure_refused(prepare: &str, keys: Value, container_has: &str, code: u64) {
    run(|world| {
        let stage = Stage::new(world)?;
        let container = stage.container()?;
        stage.host.nft("table inet other {}")?;
        for (host, lines) in [(&stage.host, prepare), (container.container(), container_has)] {
            lines.split(';').filter(|line| !line.is_empty()).try_for_each(|line| host.ip(line).map(drop))?;
        }
        let before = (stage.residue()?, container.container().residue()?);
        let error = refusal(chain(keys)?.add(&stage.host, &container));
        assert_eq!(error.code, code, "{error}");
        ensure_same(&before, &(forwarding_aside(&stage.residue()?), container.container().residue()?))
    });
}

/// Forwarding is never turned off again, and the constant ruleset stays.
fn forwarding_aside(residue: &Residue) -> Residue {
    residue.clone().without(|line| line.contains("forward") || line.contains("zeugma"))
}

fn ensure_same(before: &(Residue, Residue), after: &(Residue, Residue)) -> Result<()> {
    let diff = forwarding_aside(&before.0).diff(&after.0) + &before.1.diff(&after.1);
    ensure!(diff.is_empty(), "not as before:\n{diff}");
    Ok(())
}

#[test]
fn a_route_that_the_kernel_refuses_leaves_nothing() {
    let keys = with(host_local("10.88.0.0/24"), json!({"ipMasq": false}));
    let routes = json!([{"dst": "198.51.100.0/24", "gw": "203.0.113.1"}]);
    let mut keys = keys;
    keys["ipam"]["routes"] = routes;
    ensure_refused("", keys, "", 5);
}

#[test]
fn a_link_of_another_kind_is_no_bridge() {
    ensure_refused("link add br0 type veth peer name other", json!({}), "", 111);
}

#[test]
fn an_interface_that_is_there_is_not_replaced() {
    ensure_refused("", json!({}), "link add eth0 type veth peer name other", 113);
}

#[test]
fn hairpin_and_promiscuous_mode_exclude_one_another() {
    ensure_refused("", json!({"hairpinMode": true, "promiscMode": true}), "", 7);
}

#[test]
fn unknown_masquerade_backends_are_refused() {
    ensure_refused("", json!({"ipMasqBackend": "ipvs"}), "", 7);
    ensure_refused("", json!({"bridge": "a-name-that-is-too-long"}), "", 7);
}

#[test]
fn a_second_add_does_not_free_the_first_one_s_address() {
    run(|world| {
        let stage = Stage::new(world)?;
        let (chain, container) = (chain(json!({}))?, stage.container()?);
        chain.add(&stage.host, &container)?;
        let before = stage.residue()?;
        assert_eq!(refusal(chain.add(&stage.host, &container)).code, 113);
        stage.ensure_unchanged(&before)?;
        container.container().ping("10.88.0.1")
    });
}

#[test]
fn gc_removes_our_empty_bridge_and_no_other_s() {
    run(|world| {
        let stage = Stage::new(world)?;
        stage.host.ip("link add br1 type bridge")?;
        for number in [0, 1] {
            let chain = network(&format!("net{number}"), &[bridge(number)])?;
            chain.add(&stage.host, &stage.container()?)?;
            chain.gc(&stage.host, &[])?;
        }
        assert!(link(&stage.host, "br0").is_err());
        assert!(link(&stage.host, "br1").is_ok());
        Ok(())
    });
}
