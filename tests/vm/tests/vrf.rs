//! `vrf`: interfaces get into a VRF with all that they have, and it goes with the last of them.

use std::thread;

use anyhow::{Context, Result, ensure};
use netns_fixtures::{Attachment, Call, Chain, Host, run};
use serde_json::{Value, json};
use zeugma_tests::bin_dir;
use zeugma_tests::stage::{Stage, bridge, network, object, refusal, with};

fn vrf(keys: Value) -> Value {
    with(json!({"type": "vrf", "vrfname": "blue"}), keys)
}

/// Network N with `vrf` behind its bridge.
fn domain(number: u8, keys: Value) -> Result<Chain> {
    network(&format!("net{number}"), &[bridge(number), vrf(keys)])
}

/// The container's next interface.
fn leg(of: &Attachment, number: u8) -> Attachment {
    of.container().attachment(of.id(), &format!("eth{number}"))
}

/// One verb of the plugin alone, behind what `chain` did.
fn alone(stage: &Stage<'_>, chain: &Chain, verb: &str, of: &Attachment, keys: Value) -> Result<Value> {
    let previous = chain.cached(&stage.host, of);
    let config = chain.config(&stage.host, &object(&vrf(keys)), Some(of), previous.as_ref());
    Call::new(bin_dir(), "vrf", verb, &config).of(of).run(&stage.host)
}

/// The table of a VRF; none when there is no such VRF.
fn table(container: &Host, vrf: &str) -> Option<u64> {
    let link = container.ip_json(&format!("-d link show {vrf}")).ok()?;
    link[0]["linkinfo"]["info_data"]["table"].as_u64()
}

/// The interface that packets to `address` leave by, asked with `how`.
fn way(container: &Host, how: &str, address: &str) -> Result<String> {
    let route = container.ip_json(&format!("route get {how} {address}"))?;
    Ok(route[0]["dev"].as_str().context("a route by an interface")?.to_owned())
}

fn ping_in(container: &Host, vrf: &str, address: &str) -> Result<()> {
    container.run(["ping", "-n", "-q", "-c", "1", "-W", "2", "-I", vrf, address]).map(drop)
}

/// The interface's lasting addresses, and its routes, as `ip` prints them: those of the VRF, or of main.
fn belongings(container: &Host, ifname: &str, of: &str) -> Result<Vec<String>> {
    let mut lines = Vec::new();
    for family in ["-4", "-6"] {
        let addresses = container.ip(&format!("{family} -o addr show dev {ifname} scope global"))?.stdout;
        lines.extend(addresses.lines().filter_map(|line| line.split_whitespace().nth(3).map(str::to_owned)));
        let routes = container.ip(&format!("{family} route show {of} dev {ifname}"))?.stdout;
        lines.extend(routes.lines().map(|line| line.trim_end().to_owned()));
    }
    Ok(lines)
}

#[test]
fn the_domains_of_a_container_do_not_see_one_another() {
    run(|world| {
        let (stage, chain) = (Stage::new(world)?, domain(1, json!({}))?);
        let eth0 = stage.container()?;
        network("net0", &[bridge(0)])?.add(&stage.host, &eth0)?;
        chain.add(&stage.host, &leg(&eth0, 1))?;
        let container = eth0.container();
        for far in ["192.0.2.2", "2001:db8:1::2"] {
            assert_eq!(way(container, "", far)?, "eth0");
            assert_eq!(way(container, "vrf blue", far)?, "eth1");
        }
        for gateway in ["10.88.1.1", "2001:db8:88:1::1"] {
            ping_in(container, "blue", gateway)?;
            assert_eq!(way(container, "", gateway)?, "eth0");
        }
        chain.check(&stage.host, &leg(&eth0, 1))
    });
}

#[test]
fn addresses_and_routes_come_along() {
    run(|world| {
        let stage = Stage::new(world)?;
        let gateway = json!({"type": "ptp", "ipam": bridge(1)["ipam"].clone()});
        for before in [bridge(1), gateway] {
            let (plain, eth0) = (network("net1", &[before])?, stage.container()?);
            plain.add(&stage.host, &eth0)?;
            eth0.container().ip("route add 198.51.100.0/24 dev eth0 proto static scope link mtu 1300")?;
            let had = belongings(eth0.container(), "eth0", "")?;
            alone(&stage, &plain, "ADD", &eth0, json!({}))?;
            let has = belongings(eth0.container(), "eth0", "vrf blue")?;
            ensure!(had.iter().all(|line| has.contains(line)), "{had:#?} became {has:#?}");
            assert_eq!(belongings(eth0.container(), "eth0", "table main")?.len(), 2);
            ping_in(eth0.container(), "blue", "10.88.1.1")?;
            plain.del(&stage.host, &eth0)?;
        }
        Ok(())
    });
}

#[test]
fn the_vrf_goes_with_its_last_member() {
    run(|world| {
        let stage = Stage::new(world)?;
        let (one, two, eth1) =
            (domain(1, json!({}))?, domain(2, json!({"table": 0}))?, leg(&stage.container()?, 1));
        let eth2 = leg(&eth1, 2);
        one.add(&stage.host, &eth1)?;
        two.add(&stage.host, &eth2)?;
        assert_eq!(table(eth1.container(), "blue"), Some(1));
        ping_in(eth1.container(), "blue", "10.88.2.1")?;
        one.del(&stage.host, &eth1)?;
        two.check(&stage.host, &eth2)?;
        alone(&stage, &two, "DEL", &eth2, json!({}))?;
        assert_eq!(table(eth1.container(), "blue"), None);
        alone(&stage, &two, "DEL", &eth2, json!({}))?;
        two.del(&stage.host, &eth2)
    });
}

#[test]
fn vrfs_made_at_once_take_different_tables() {
    run(|world| {
        let stage = Stage::new(world)?;
        let eth0 = stage.container()?;
        let legs: Vec<(Chain, Attachment)> = (1..=4)
            .map(|number| {
                Ok((domain(number, json!({"vrfname": format!("vrf{number}")}))?, leg(&eth0, number)))
            })
            .collect::<Result<_>>()?;
        thread::scope(|scope| {
            let adds: Vec<_> =
                legs.iter().map(|(chain, leg)| scope.spawn(|| chain.add(&stage.host, leg))).collect();
            adds.into_iter().try_for_each(|add| add.join().expect("ADD does not panic").map(drop))
        })?;
        let mut tables: Vec<_> =
            (1..=4).map(|number| table(eth0.container(), &format!("vrf{number}"))).collect();
        tables.sort();
        assert_eq!(tables, [Some(1), Some(2), Some(3), Some(4)]);
        Ok(())
    });
}

#[test]
fn what_is_in_the_way_is_refused_and_nothing_changes() {
    run(|world| {
        let stage = Stage::new(world)?;
        let (plain, eth0) = (network("net1", &[bridge(1)])?, stage.container()?);
        plain.add(&stage.host, &eth0)?;
        eth0.container().ip("link add blue type vrf table 42")?;
        eth0.container().ip("link add red type vrf table 43")?;
        let had = belongings(eth0.container(), "eth0", "")?;
        for (keys, code) in [(json!({"table": 7}), 121), (json!({"vrfname": "lo"}), 122)] {
            let error = refusal(alone(&stage, &plain, "ADD", &eth0, keys));
            assert_eq!(error.code, code, "{error}");
            assert_eq!(belongings(eth0.container(), "eth0", "")?, had);
        }
        eth0.container().ip("link set eth0 master red")?;
        let error = refusal(alone(&stage, &plain, "ADD", &eth0, json!({})));
        ensure!(error.code == 123 && error.msg.contains("red"), "{error}");
        Ok(())
    });
}

#[test]
fn a_route_that_the_vrf_refuses_puts_everything_back() {
    run(|world| {
        let stage = Stage::new(world)?;
        let (plain, eth0) = (network("net1", &[bridge(1)])?, stage.container()?);
        plain.add(&stage.host, &eth0)?;
        let container = eth0.container();
        // Its source belongs to a link outside the VRF.
        container.ip("addr add 2001:db8:f::1/128 dev lo nodad")?;
        container.ip("route add 2001:db8:99::/64 via 2001:db8:88:1::9 dev eth0 src 2001:db8:f::1")?;
        let (had, host) = (belongings(container, "eth0", "")?, stage.residue()?);
        let error = refusal(alone(&stage, &plain, "ADD", &eth0, json!({})));
        ensure!(error.code == 5 && error.msg.contains("2001:db8:99::/64"), "{error}");
        assert_eq!(belongings(container, "eth0", "")?, had);
        assert_eq!(table(container, "blue"), None);
        stage.ensure_unchanged(&host)
    });
}

#[test]
fn check_notices_who_left() {
    run(|world| {
        let stage = Stage::new(world)?;
        for damage in ["link set eth0 nomaster", "link set blue down", "link del blue"] {
            let (chain, eth0) = (domain(1, json!({}))?, stage.container()?);
            chain.add(&stage.host, &eth0)?;
            alone(&stage, &chain, "CHECK", &eth0, json!({}))?;
            eth0.container().ip(damage)?;
            let error = refusal(alone(&stage, &chain, "CHECK", &eth0, json!({})));
            assert_eq!(error.code, 110, "{damage}: {error}");
        }
        Ok(())
    });
}

#[test]
fn a_vrf_of_somebody_else_stays_unless_the_reference_made_it() {
    run(|world| {
        let stage = Stage::new(world)?;
        let (plain, eth0) = (network("net1", &[bridge(1)])?, stage.container()?);
        plain.add(&stage.host, &eth0)?;
        let container = eth0.container();
        container.ip("link add blue type vrf table 42")?;
        alone(&stage, &plain, "ADD", &eth0, json!({}))?;
        alone(&stage, &plain, "DEL", &eth0, json!({}))?;
        assert_eq!(table(container, "blue"), Some(42));
        // No record, and the interface is in it: not by the reference where a plugin of ours attached it.
        container.ip("link set eth0 master blue")?;
        let refused = alone(&stage, &plain, "ADD", &eth0, json!({}));
        assert_eq!(refusal(refused).code, 123);
        alone(&stage, &plain, "DEL", &eth0, json!({}))?;
        assert_eq!(table(container, "blue"), Some(42));
        std::fs::remove_dir_all(stage.host.run_dir().join("attachments"))?;
        alone(&stage, &plain, "DEL", &eth0, json!({}))?;
        assert_eq!(table(container, "blue"), None);
        Ok(())
    });
}

#[test]
fn gc_takes_out_who_is_not_valid() {
    run(|world| {
        let (stage, chain) = (Stage::new(world)?, network("net1", &[vrf(json!({}))])?);
        let (plain, eth0) = (network("net1", &[bridge(1)])?, stage.container()?);
        plain.add(&stage.host, &eth0)?;
        alone(&stage, &plain, "ADD", &eth0, json!({}))?;
        chain.gc(&stage.host, &[&eth0])?;
        assert_eq!(table(eth0.container(), "blue"), Some(1));
        chain.gc(&stage.host, &[])?;
        assert_eq!(table(eth0.container(), "blue"), None);
        Ok(())
    });
}

#[test]
fn status_is_ready_and_makes_nothing() {
    run(|world| {
        let stage = Stage::new(world)?;
        let links = stage.host.ip_json("link show")?;
        network("net1", &[vrf(json!({}))])?.status(&stage.host)?;
        assert_eq!(stage.host.ip_json("link show")?, links);
        Ok(())
    });
}
