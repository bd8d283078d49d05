//! `bridge` with `vlan`, `vlanTrunk` and `preserveDefaultVlan`: containers meet within their VLAN and nowhere else.

use anyhow::{Context, Result, ensure};
use netns_fixtures::{Attachment, Chain, Host, run};
use serde_json::{Value, json};
use zeugma_tests::stage::{Stage, address, network, refusal, with};

/// A network of containers in one VLAN N: 10.N.0.0/24 and 2001:db8:N::/64 on `br0`.
fn access(vlan: u16, keys: Value) -> Result<Chain> {
    let ranges =
        json!([[{"subnet": format!("10.{vlan}.0.0/24")}], [{"subnet": format!("2001:db8:{vlan}::/64")}]]);
    let bridge = json!({
        "type": "bridge", "bridge": "br0", "isDefaultGateway": true, "vlan": vlan,
        "ipam": {"type": "host-local", "ranges": ranges},
    });
    network(&format!("vlan{vlan}"), &[with(bridge, keys)])
}

/// A network of containers that tag their frames themselves.
fn trunk() -> Result<Chain> {
    let ranges = json!([{"id": 10}, {"minID": 100, "maxID": 103}, {"id": 102}]);
    network("trunk", &[json!({"type": "bridge", "bridge": "br0", "vlanTrunk": ranges})])
}

/// A container in a network, and the name of its port.
fn attached(stage: &Stage<'_>, chain: &Chain) -> Result<(Attachment, Value, String)> {
    let container = stage.container()?;
    let result = chain.add(&stage.host, &container)?;
    let interfaces = result["interfaces"].as_array().context("a result with interfaces")?;
    let names = interfaces.iter().filter_map(|interface| interface["name"].as_str());
    let port = names.clone().find(|name| name.starts_with("veth")).context("a port of the host")?.to_owned();
    Ok((container, result, port))
}

/// The VLANs of a port as in `10 PVID Egress Untagged`.
fn vlans(host: &Host, port: &str) -> Result<Vec<String>> {
    let shown = host.run(["bridge", "-j", "vlan", "show", "dev", port])?.stdout;
    let shown: Value = serde_json::from_str(&shown)?;
    let vlans = shown[0]["vlans"].as_array().with_context(|| format!("no VLANs of {port}: {shown}"))?;
    let text = |vlan: &Value| {
        let flags = vlan["flags"].as_array().into_iter().flatten().filter_map(Value::as_str);
        let id = vlan["vlan"].to_string();
        std::iter::once(id.as_str()).chain(flags).collect::<Vec<_>>().join(" ")
    };
    Ok(vlans.iter().map(text).collect())
}

fn filters(host: &Host) -> Result<bool> {
    Ok(host.ip_json("-d link show br0")?[0]["linkinfo"]["info_data"]["vlan_filtering"] == 1)
}

fn is_there(host: &Host, link: &str) -> bool {
    host.ip(&format!("link show {link}")).is_ok()
}

#[test]
fn containers_of_one_vlan_reach_one_another_and_their_gateway() {
    run(|world| {
        let (stage, red) = (Stage::new(world)?, access(10, json!({}))?);
        let (one, ..) = attached(&stage, &red)?;
        let (_, there, port) = attached(&stage, &red)?;
        for family in [4, 6] {
            one.container().ping(&address(&there, family)?)?;
        }
        for gateway in ["10.10.0.1", "2001:db8:10::1"] {
            one.container().ping(gateway)?;
        }
        assert!(there["interfaces"].to_string().contains("\"br0.10\""), "{there}");
        assert!(filters(&stage.host)?);
        assert_eq!(vlans(&stage.host, &port)?, ["10 PVID Egress Untagged"]);
        Ok(())
    });
}

#[test]
fn a_container_reaches_no_other_vlan_even_with_an_address_of_it() {
    run(|world| {
        let stage = Stage::new(world)?;
        let (_, there, _) = attached(&stage, &access(10, json!({}))?)?;
        let (blue, _, port) = attached(&stage, &access(20, json!({}))?)?;
        let inside = blue.container();
        inside.ping("10.20.0.1")?;
        inside.ip("addr flush dev eth0")?;
        inside.ip("addr add 10.10.0.99/24 dev eth0")?;
        ensure!(inside.ping(&address(&there, 4)?).is_err(), "VLAN 20 reaches VLAN 10");
        let join = ["bridge", "vlan", "add", "dev", &port, "vid", "10", "pvid", "untagged"];
        stage.host.run(join)?;
        inside.ping(&address(&there, 4)?).context("the test itself")
    });
}

#[test]
fn a_trunk_carries_tagged_frames_of_its_vlans_and_of_no_other() {
    run(|world| {
        let stage = Stage::new(world)?;
        let (_, there, _) = attached(&stage, &access(10, json!({}))?)?;
        let (_, elsewhere, _) = attached(&stage, &access(11, json!({}))?)?;
        let (container, _, port) = attached(&stage, &trunk()?)?;
        let expected = ["1 PVID Egress Untagged", "10", "100", "101", "102", "103"];
        assert_eq!(vlans(&stage.host, &port)?, expected);
        let inside = container.container();
        for vlan in [10, 11] {
            inside.ip(&format!("link add link eth0 name eth0.{vlan} type vlan id {vlan}"))?;
            inside.ip(&format!("link set eth0.{vlan} up"))?;
            inside.ip(&format!("addr add 10.{vlan}.0.77/24 dev eth0.{vlan}"))?;
        }
        inside.ping(&address(&there, 4)?)?;
        ensure!(inside.ping(&address(&elsewhere, 4)?).is_err(), "VLAN 11 passes a trunk that lacks it");
        Ok(())
    });
}

#[test]
fn the_default_vlan_is_preserved_when_asked_for() {
    run(|world| {
        let (stage, chain) = (Stage::new(world)?, access(30, json!({"preserveDefaultVlan": true}))?);
        let (container, _, port) = attached(&stage, &chain)?;
        assert_eq!(vlans(&stage.host, &port)?, ["1 Egress Untagged", "30 PVID Egress Untagged"]);
        container.container().ping("10.30.0.1")
    });
}

#[test]
fn check_sees_a_port_that_joined_another_vlan() {
    run(|world| {
        let (stage, red) = (Stage::new(world)?, access(10, json!({}))?);
        let (container, _, port) = attached(&stage, &red)?;
        red.check(&stage.host, &container)?;
        stage.host.run(["bridge", "vlan", "add", "dev", &port, "vid", "1"])?;
        let error = refusal(red.check(&stage.host, &container));
        assert!(error.msg.contains("is still in VLAN 1"), "{error}");
        stage.host.run(["bridge", "vlan", "del", "dev", &port, "vid", "1"])?;
        red.check(&stage.host, &container)
    });
}

#[test]
fn a_vlan_s_gateway_and_the_bridge_go_with_their_last_port() {
    run(|world| {
        let (stage, red, trunk) = (Stage::new(world)?, access(10, json!({}))?, trunk()?);
        let (access, ..) = attached(&stage, &red)?;
        let (trunked, ..) = attached(&stage, &trunk)?;
        red.del(&stage.host, &access)?;
        red.gc(&stage.host, &[])?;
        ensure!(is_there(&stage.host, "br0.10"), "a trunk still leads to the gateway that went");
        trunk.del(&stage.host, &trunked)?;
        red.gc(&stage.host, &[])?;
        ensure!(!is_there(&stage.host, "br0.10") && !is_there(&stage.host, "br0"), "links stay");
        Ok(())
    });
}

#[test]
fn a_bridge_of_others_starts_to_filter_and_stays() {
    run(|world| {
        let (stage, red) = (Stage::new(world)?, access(10, json!({}))?);
        stage.host.ip("link add br0 type bridge")?;
        stage.host.ip("link set br0 up")?;
        assert!(!filters(&stage.host)?);
        let (container, ..) = attached(&stage, &red)?;
        assert!(filters(&stage.host)?);
        container.container().ping("10.10.0.1")?;
        red.del(&stage.host, &container)?;
        red.gc(&stage.host, &[])?;
        ensure!(!is_there(&stage.host, "br0.10"), "the gateway of the VLAN stays");
        ensure!(is_there(&stage.host, "br0"), "the bridge of another is gone");
        Ok(())
    });
}
