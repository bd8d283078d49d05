//! `sbr`: answers leave by the interface that the question came in by, and nothing of it is left behind.

use std::collections::BTreeSet;
use std::thread;

use anyhow::{Context, Result, ensure};
use netns_fixtures::{Attachment, Call, Chain, Host, run};
use serde_json::{Value, json};
use zeugma_tests::bin_dir;
use zeugma_tests::stage::{Stage, address, bridge, network, object, refusal, with};

fn sbr(keys: Value) -> Value {
    with(json!({"type": "sbr"}), keys)
}

/// Network N with `sbr` behind its bridge.
fn routed(number: u8, keys: Value) -> Result<Chain> {
    network(&format!("net{number}"), &[bridge(number), sbr(keys)])
}

/// `eth0` on a network that is the default way out, and `eth1`, not attached yet, of the same container.
fn two_legged(stage: &Stage<'_>) -> Result<Attachment> {
    let eth0 = stage.container()?;
    network("net0", &[bridge(0)])?.add(&stage.host, &eth0)?;
    Ok(eth0.container().attachment(eth0.id(), "eth1"))
}

/// A client that reaches the containers' own addresses, and a host that lets nobody send by the wrong bridge.
fn strict(stage: &Stage<'_>) -> Result<()> {
    for (subnet, via) in [("10.88.0.0/16", "192.0.2.1"), ("2001:db8:88::/48", "2001:db8:1::1")] {
        stage.client.ip(&format!("route add {subnet} via {via}"))?;
    }
    stage.host.nft("add table inet strict")?;
    stage.host.nft("add chain inet strict forward { type filter hook forward priority 10; }")?;
    for foreign in ["ip saddr != 10.88.0.0/24", "ip6 saddr != 2001:db8:88:0::/64"] {
        stage.host.nft(&format!("add rule inet strict forward iifname br0 {foreign} drop"))?;
    }
    Ok(())
}

/// One verb of the plugin alone, behind what `chain` did.
fn alone(stage: &Stage<'_>, chain: &Chain, verb: &str, of: &Attachment, keys: Value) -> Result<Value> {
    let previous = chain.cached(&stage.host, of);
    let config = chain.config(&stage.host, &object(&sbr(keys)), Some(of), previous.as_ref());
    Call::new(bin_dir(), "sbr", verb, &config).of(of).run(&stage.host)
}

/// The routing rules beside the kernel's own: source and table.
fn rules(container: &Host) -> Result<BTreeSet<(String, String)>> {
    let mut found = BTreeSet::new();
    for family in ["-4", "-6"] {
        for rule in container.ip_json(&format!("{family} rule"))?.as_array().context("a list")? {
            let word = |key: &str| rule[key].as_str().unwrap_or_default().to_owned();
            found.insert((word("src"), word("table")));
        }
    }
    found.retain(|(from, _)| from != "all");
    Ok(found)
}

/// What `ip` prints of a table's routes by `eth1`.
fn table(container: &Host, table: &str) -> Result<Vec<String>> {
    let mut lines = Vec::new();
    for family in ["-4", "-6"] {
        let shown = container.ip(&format!("{family} route show table {table} dev eth1"));
        // `ip` fails for a table that does not exist.
        let shown = shown.map(|finished| finished.stdout).unwrap_or_default();
        lines.extend(shown.lines().map(|line| line.trim_end().to_owned()));
    }
    Ok(lines)
}

#[test]
fn answers_leave_by_the_interface_that_the_question_came_in_by() {
    run(|world| {
        let stage = Stage::new(world)?;
        strict(&stage)?;
        for (keys, answered) in [(None, false), (Some(json!({})), true)] {
            let eth1 = two_legged(&stage)?;
            let chain = match keys {
                Some(keys) => routed(1, keys)?,
                None => network("net1", &[bridge(1)])?,
            };
            let result = chain.add(&stage.host, &eth1)?;
            let _server = eth1.container().tcp_echo("[::]:80", "web")?;
            for (family, of_eth1) in
                [(4, format!("{}:80", address(&result, 4)?)), (6, format!("[{}]:80", address(&result, 6)?))]
            {
                let answer = stage.client.ask_tcp(&of_eth1);
                ensure!(answer.is_ok() == answered, "IPv{family} with sbr {answered}: {answer:?}");
            }
        }
        Ok(())
    });
}

#[test]
fn the_other_interface_answers_as_before() {
    run(|world| {
        let stage = Stage::new(world)?;
        strict(&stage)?;
        let eth0 = stage.container()?;
        let result = network("net0", &[bridge(0)])?.add(&stage.host, &eth0)?;
        routed(1, json!({}))?.add(&stage.host, &eth0.container().attachment(eth0.id(), "eth1"))?;
        let _server = eth0.container().tcp_echo("[::]:80", "web")?;
        stage.client.ask_tcp(&format!("{}:80", address(&result, 4)?))?;
        stage.client.ask_tcp(&format!("[{}]:80", address(&result, 6)?))?;
        Ok(())
    });
}

#[test]
fn routes_move_from_main_into_a_table_for_each_address() {
    run(|world| {
        let (stage, chain) = (Stage::new(world)?, routed(1, json!({}))?);
        let eth1 = two_legged(&stage)?;
        let result = chain.add(&stage.host, &eth1)?;
        let container = eth1.container();
        let from =
            |family, table: &str| Ok::<_, anyhow::Error>((address(&result, family)?, table.to_owned()));
        assert_eq!(rules(container)?, BTreeSet::from([from(4, "100")?, from(6, "101")?]));
        assert_eq!(
            table(container, "100")?,
            ["default via 10.88.1.1 proto 122", "10.88.1.0/24 proto 122 scope link src 10.88.1.2"]
        );
        assert_eq!(
            table(container, "101")?,
            [
                "2001:db8:88:1::/64 proto 122 metric 256 pref medium",
                "fe80::/64 proto 122 metric 256 pref medium",
                "default via 2001:db8:88:1::1 proto 122 metric 1024 pref medium",
            ]
        );
        assert_eq!(table(container, "main")?, ["fe80::/64 proto kernel metric 256 pref medium"]);
        Ok(())
    });
}

#[test]
fn a_container_may_have_several_and_they_take_different_tables() {
    run(|world| {
        let stage = Stage::new(world)?;
        let eth0 = stage.container()?;
        let legs: Vec<(Chain, Attachment)> = (1..=4)
            .map(|number| {
                let leg = eth0.container().attachment(eth0.id(), &format!("eth{number}"));
                Ok((routed(number, json!({}))?, leg))
            })
            .collect::<Result<_>>()?;
        thread::scope(|scope| {
            let adds: Vec<_> =
                legs.iter().map(|(chain, leg)| scope.spawn(|| chain.add(&stage.host, leg))).collect();
            adds.into_iter().try_for_each(|add| add.join().expect("ADD does not panic").map(drop))
        })?;
        let rules = rules(eth0.container())?;
        let tables: BTreeSet<&String> = rules.iter().map(|(_, table)| table).collect();
        assert_eq!((rules.len(), tables.len()), (8, 8), "{rules:?}");
        legs.iter().try_for_each(|(chain, leg)| chain.check(&stage.host, leg))
    });
}

#[test]
fn an_asked_table_gets_rules_and_its_routes_stay() {
    run(|world| {
        let stage = Stage::new(world)?;
        let (plain, eth1) = (network("net1", &[bridge(1)])?, two_legged(&stage)?);
        plain.add(&stage.host, &eth1)?;
        let container = eth1.container();
        container.ip("route add default via 10.88.1.1 dev eth1 table 4000")?;
        let (before, inside) = (table(container, "main")?, container.residue()?);
        let verb = |verb| alone(&stage, &plain, verb, &eth1, json!({"table": 4000}));
        verb("ADD")?;
        assert!(rules(container)?.iter().all(|(_, table)| table == "4000"));
        assert_eq!((rules(container)?.len(), table(container, "main")?), (2, before));
        verb("CHECK")?;
        verb("DEL")?;
        container.ensure_unchanged(&inside)
    });
}

#[test]
fn a_second_add_is_refused_and_leaves_the_first_one_whole() {
    for keys in [json!({}), json!({"table": 4000})] {
        run(|world| {
            let (stage, chain) = (Stage::new(world)?, routed(1, keys.clone())?);
            let eth1 = two_legged(&stage)?;
            chain.add(&stage.host, &eth1)?;
            let before = (stage.residue()?, eth1.container().residue()?);
            let error = refusal(alone(&stage, &chain, "ADD", &eth1, keys.clone()));
            ensure!(error.code == 113 && error.msg.contains("DEL first"), "{error}");
            eth1.container().ensure_unchanged(&before.1)?;
            stage.ensure_unchanged(&before.0)
        });
    }
}

#[test]
fn gateways_replace_those_of_the_result() {
    run(|world| {
        let gateways = json!({"gateways": ["10.88.1.77", "2001:db8:88:1::77"]});
        let (stage, chain) = (Stage::new(world)?, routed(1, gateways)?);
        let eth1 = two_legged(&stage)?;
        chain.add(&stage.host, &eth1)?;
        for (list, gateway) in [("100", "10.88.1.77"), ("101", "2001:db8:88:1::77")] {
            let mut defaults = table(eth1.container(), list)?;
            defaults.retain(|line| line.starts_with("default"));
            ensure!(defaults.len() == 1 && defaults[0].contains(gateway), "{defaults:?}");
        }
        chain.check(&stage.host, &eth1)
    });
}

#[test]
fn source_hints_keep_the_way_to_the_subnet_in_main() {
    run(|world| {
        let (stage, chain) = (Stage::new(world)?, routed(1, json!({"addSourceHints": true}))?);
        let eth1 = two_legged(&stage)?;
        let result = chain.add(&stage.host, &eth1)?;
        assert_eq!(
            table(eth1.container(), "main")?,
            [
                "10.88.1.0/24 proto kernel scope link src 10.88.1.2",
                "2001:db8:88:1::/64 proto 122 src 2001:db8:88:1::2 metric 256 pref medium",
                "fe80::/64 proto kernel metric 256 pref medium",
            ]
        );
        // A neighbour on eth1's subnet is reached from eth1's own address by who has not chosen one.
        let neighbour = stage.container()?;
        let there = network("net1", &[bridge(1)])?.add(&stage.host, &neighbour)?;
        let _server = neighbour.container().tcp_echo("[::]:80", "web")?;
        for (family, to) in
            [(4, format!("{}:80", address(&there, 4)?)), (6, format!("[{}]:80", address(&there, 6)?))]
        {
            let answer = eth1.container().ask_tcp(&to)?;
            assert_eq!(answer, format!("web {}", address(&result, family)?));
        }
        chain.check(&stage.host, &eth1)
    });
}

#[test]
fn del_takes_rules_and_tables_away_while_the_interface_is_there() {
    run(|world| {
        let (stage, chain) = (Stage::new(world)?, routed(1, json!({}))?);
        let eth1 = two_legged(&stage)?;
        chain.add(&stage.host, &eth1)?;
        alone(&stage, &chain, "DEL", &eth1, json!({}))?;
        assert_eq!(rules(eth1.container())?, BTreeSet::new());
        for emptied in ["100", "101"] {
            assert_eq!(table(eth1.container(), emptied)?, [""; 0]);
        }
        alone(&stage, &chain, "DEL", &eth1, json!({}))?;
        chain.del(&stage.host, &eth1)
    });
}

#[test]
fn del_with_a_vanished_namespace_succeeds_and_creates_nothing() {
    run(|world| {
        let (stage, chain) = (Stage::new(world)?, routed(1, json!({}))?);
        chain.add(&stage.host, &stage.container()?)?;
        let before = stage.residue()?;
        let eth0 = stage.container()?;
        chain.add(&stage.host, &eth0)?;
        eth0.container().remove()?;
        for _ in 0..2 {
            alone(&stage, &chain, "DEL", &eth0, json!({}))?;
            ensure!(!eth0.container().path().exists(), "DEL made {}", eth0.container().path().display());
        }
        chain.del(&stage.host, &eth0)?;
        stage.ensure_unchanged(&before)
    });
}

#[test]
fn del_takes_over_the_rules_that_the_reference_made() {
    run(|world| {
        let stage = Stage::new(world)?;
        let (plain, eth1) = (network("net1", &[bridge(1)])?, two_legged(&stage)?);
        let result = plain.add(&stage.host, &eth1)?;
        let container = eth1.container();
        container.ip("rule add from 10.88.9.9 lookup 100")?;
        let before = rules(container)?;
        for (family, from) in [("-4", address(&result, 4)?), ("-6", address(&result, 6)?)] {
            container.ip(&format!("{family} rule add from {from} lookup 100"))?;
        }
        assert_eq!(rules(container)?.len(), 3);
        // The bridge plugin was the reference's, too.
        std::fs::remove_dir_all(stage.host.run_dir().join("attachments"))?;
        alone(&stage, &plain, "DEL", &eth1, json!({}))?;
        assert_eq!(rules(container)?, before);
        Ok(())
    });
}

#[test]
fn del_without_a_record_leaves_rules_where_our_plugins_attached() {
    run(|world| {
        let stage = Stage::new(world)?;
        let (plain, eth1) = (network("net1", &[bridge(1)])?, two_legged(&stage)?);
        let result = plain.add(&stage.host, &eth1)?;
        let container = eth1.container();
        container.ip(&format!("rule add from {} lookup 177", address(&result, 4)?))?;
        let before = rules(container)?;
        let refused = alone(&stage, &plain, "ADD", &eth1, json!({"gateways": ["203.0.113.1"]}));
        assert_eq!(refusal(refused).code, 5);
        alone(&stage, &plain, "DEL", &eth1, json!({}))?;
        assert_eq!(rules(container)?, before, "DEL after a refused ADD");
        alone(&stage, &plain, "ADD", &eth1, json!({}))?;
        alone(&stage, &plain, "DEL", &eth1, json!({}))?;
        alone(&stage, &plain, "DEL", &eth1, json!({}))?;
        assert_eq!(rules(container)?, before, "a second DEL");
        Ok(())
    });
}

#[test]
fn gc_clears_rules_of_a_namespace_that_lives_and_records_of_one_that_does_not() {
    run(|world| {
        let (stage, chain) = (Stage::new(world)?, routed(1, json!({}))?);
        let before = stage.residue()?;
        let (alive, gone) = (two_legged(&stage)?, two_legged(&stage)?);
        let rules_of = || rules(alive.container());
        for leg in [&alive, &gone] {
            chain.add(&stage.host, leg)?;
        }
        gone.container().remove()?;
        chain.gc(&stage.host, &[&alive])?;
        assert_eq!(rules_of()?.len(), 2);
        chain.gc(&stage.host, &[])?;
        assert_eq!(rules_of()?.len(), 0);
        network("net0", &[bridge(0)])?.gc(&stage.host, &[])?;
        let records = |line: &str| line.contains("attachments") || line.contains("lease");
        let diff =
            before.without(|line| !records(line)).diff(&stage.residue()?.without(|line| !records(line)));
        ensure!(diff.is_empty(), "left behind:\n{diff}");
        Ok(())
    });
}

#[test]
fn check_notices_a_lost_rule_and_a_lost_route() {
    run(|world| {
        let (stage, chain) = (Stage::new(world)?, routed(1, json!({}))?);
        for damage in [
            "rule del pref 32765",
            "-6 rule del pref 32765",
            "route flush table 100",
            "-6 route flush table 101",
        ] {
            let eth1 = two_legged(&stage)?;
            chain.add(&stage.host, &eth1)?;
            chain.check(&stage.host, &eth1)?;
            eth1.container().ip(damage)?;
            let error = refusal(alone(&stage, &chain, "CHECK", &eth1, json!({})));
            assert_eq!(error.code, 110, "{damage}: {error}");
        }
        Ok(())
    });
}

#[test]
fn a_gateway_that_cannot_be_reached_changes_nothing() {
    run(|world| {
        let stage = Stage::new(world)?;
        let (plain, eth1) = (network("net1", &[bridge(1)])?, two_legged(&stage)?);
        plain.add(&stage.host, &eth1)?;
        let before = (stage.residue()?, eth1.container().residue()?);
        let error = refusal(alone(&stage, &plain, "ADD", &eth1, json!({"gateways": ["203.0.113.1"]})));
        ensure!(error.code == 5 && error.msg.contains("203.0.113.1"), "{error}");
        eth1.container().ensure_unchanged(&before.1)?;
        stage.ensure_unchanged(&before.0)
    });
}

#[test]
fn what_makes_no_sense_is_refused_without_a_trace() {
    run(|world| {
        let stage = Stage::new(world)?;
        let (plain, eth0) = (network("net1", &[bridge(1)])?, stage.container()?);
        plain.add(&stage.host, &eth0)?;
        let before = eth0.container().residue()?;
        for (keys, word) in [
            (json!({"table": 0}), "table"),
            (json!({"gateways": ["10.88.1.1", "10.88.1.2"]}), "same family"),
            (json!({"gateways": ["10.88.1.1/24"]}), "10.88.1.1/24"),
        ] {
            let error = refusal(alone(&stage, &plain, "ADD", &eth0, keys));
            ensure!(error.code == 7 && error.msg.contains(word), "{error}");
        }
        eth0.container().ensure_unchanged(&before)?;
        let bare = network(
            "bare",
            &[
                with(bridge(2), json!({"ipam": {}, "isDefaultGateway": false, "ipMasq": false})),
                sbr(json!({})),
            ],
        )?;
        let error = refusal(bare.add(&stage.host, &stage.container()?));
        ensure!(error.code == 7 && error.msg.contains("no address on eth0"), "{error}");
        Ok(())
    });
}
