//! `zeugma doctor` finds what is broken, names it and says how to mend it; and says nothing about a host on which all is
//! well.

use std::fs;
use std::os::unix::fs::symlink;

use anyhow::{Context, Result, ensure};
use netns_fixtures::{Attachment, Host, World, run};
use serde_json::{Value, json};
use zeugma_tests::agent::Agent;
use zeugma_tests::stage::{Stage, bridge, network, portmap, with};
use zeugma_tests::{PLUGINS, bin_dir};

/// A container that publishes port 8080, on a host with a plugin directory.
struct Patient<'a> {
    stage: Stage<'a>,
    container: Attachment,
}

impl<'a> Patient<'a> {
    fn new(world: &'a World, keys: Value) -> Result<Patient<'a>> {
        world.shadow("/var/lib")?;
        let stage = Stage::new(world)?;
        let chain = network("net", &[with(bridge(0), keys), portmap()])?;
        let container = stage.publishing(&["8080:80"])?;
        chain.add(&stage.host, &container)?;
        let patient = Patient { stage, container };
        patient.ensure_healthy()?;
        Ok(patient)
    }

    /// Exit code and findings.
    fn findings(&self) -> Result<(Option<i32>, Vec<Value>)> {
        doctor(&self.stage.host)
    }

    fn ensure_healthy(&self) -> Result<()> {
        let (code, findings) = self.findings()?;
        ensure!(code == Some(0) && findings.is_empty(), "{code:?} {findings:?}");
        Ok(())
    }

    /// Demands that a check finds nothing.
    fn ensure_silent(&self, check: &str) -> Result<()> {
        let (_, findings) = self.findings()?;
        ensure!(findings.iter().all(|finding| finding["check"] != check), "{findings:?}");
        Ok(())
    }

    /// Demands one finding of a check about an object, with a remedy that has these words, and its exit code.
    fn ensure_found(&self, check: &str, object: &str, remedy: &str, code: i32) -> Result<Value> {
        let (status, findings) = self.findings()?;
        let of_check = findings.iter().filter(|finding| finding["check"] == check);
        let of_check: Vec<&Value> = of_check.collect();
        let [finding] = of_check[..] else { anyhow::bail!("{check}: {findings:?}") };
        let has = |key: &str, words: &str| finding[key].as_str().is_some_and(|text| text.contains(words));
        ensure!(has("object", object) && has("remedy", remedy), "{finding}");
        ensure!(status == Some(code), "exit code {status:?}");
        Ok(finding.clone())
    }
}

fn doctor(host: &Host) -> Result<(Option<i32>, Vec<Value>)> {
    let plugins = host.run_dir().join("bin");
    if !plugins.exists() {
        fs::create_dir_all(&plugins)?;
        fs::copy(bin_dir().join("zeugma-cni"), plugins.join("zeugma-cni"))?;
        PLUGINS.iter().try_for_each(|name| symlink("zeugma-cni", plugins.join(format!("zeugma-{name}"))))?;
    }
    let doctor = host.command(bin_dir().join("zeugma")).args(["doctor", "--json", "--bin-dir"]).arg(&plugins);
    let told = doctor.output()?;
    let findings = serde_json::from_str(&told.stdout).with_context(|| format!("{told:?}"))?;
    Ok((told.status.code(), findings))
}

#[test]
fn a_chain_of_others_that_drops_is_found_until_it_lets_the_bridge_pass() {
    run(|world| {
        let patient = Patient::new(world, json!({}))?;
        let host = &patient.stage.host;
        host.nft("table ip filter { chain FORWARD { type filter hook forward priority 0; policy drop; }; }")?;
        let found = patient.ensure_found("filter", "ip filter FORWARD", "FORWARD -i br0", 1)?;
        let what = found["problem"].as_str().unwrap_or_default();
        ensure!(what.contains("published port 8080/tcp") && what.contains("to the outside"), "{what}");
        ensure!(patient.container.container().ping("192.0.2.2").is_err(), "it drops nothing");
        host.nft(
            "add rule ip filter FORWARD iifname br0 accept; add rule ip filter FORWARD oifname br0 accept",
        )?;
        patient.ensure_healthy()?;
        patient.container.container().ping("192.0.2.2")
    });
}

#[test]
fn a_rejecting_end_of_a_chain_is_found_as_a_policy_is() {
    run(|world| {
        let patient = Patient::new(world, json!({}))?;
        let rules =
            "ct state established accept; iifname lo accept; jump zones; reject with icmpx admin-prohibited";
        let zones = "chain zones { ip saddr 10.0.0.0/16 accept; };";
        let table = format!(
            "table inet wall {{ {zones} chain fw {{ type filter hook forward priority 10; {rules}; }}; }}"
        );
        patient.stage.host.nft(&table)?;
        patient.ensure_found("filter", "inet wall fw", "br0", 1)?;
        patient.stage.host.nft("add rule inet wall zones meta oifname { br0, eth0 } accept")?;
        patient.ensure_healthy()
    });
}

#[test]
fn forwarding_that_somebody_turned_off_is_found() {
    run(|world| {
        let patient = Patient::new(world, json!({}))?;
        patient.stage.host.set_sysctl("net.ipv4.ip_forward", "0")?;
        patient.ensure_found("forwarding", "net.ipv4.ip_forward", "sysctl -w net.ipv4.ip_forward=1", 1)?;
        patient.stage.host.set_sysctl("net.ipv4.ip_forward", "1")?;
        patient.ensure_healthy()
    });
}

#[test]
fn containers_that_send_more_than_the_wire_carries_are_found() {
    run(|world| {
        let patient = Patient::new(world, json!({"mtu": 1500}))?;
        patient.stage.host.ip("link set eth0 mtu 1400")?;
        patient.ensure_found("mtu", "br0", "\"mtu\": 1400", 0)?;
        patient.stage.host.ip("link set eth0 mtu 1500")?;
        patient.ensure_healthy()
    });
}

#[test]
fn a_program_at_a_published_port_is_found_with_its_name() {
    run(|world| {
        let patient = Patient::new(world, json!({}))?;
        let server = patient.stage.host.spawn(["nc", "-l", "-k", "0.0.0.0", "8080"])?;
        let listens = || patient.ensure_found("port", "0.0.0.0:8080/tcp", "another port", 0);
        ensure!(
            netns_fixtures::eventually(zeugma_tests::agent::SOON, || listens().is_ok()),
            "{:?}",
            listens()
        );
        let what = listens()?["problem"].to_string();
        ensure!(what.contains("nc (process") && what.contains("net/c0"), "{what}");
        drop(server);
        patient.ensure_healthy()
    });
}

#[test]
fn a_container_that_died_without_del_is_found_until_del() {
    run(|world| {
        let patient = Patient::new(world, json!({}))?;
        patient.container.container().remove()?;
        patient.ensure_found("record", "net/c0", "zeugma network disconnect net c0", 0)?;
        let chain = network("net", &[bridge(0), portmap()])?;
        chain.del(&patient.stage.host, &patient.container)?;
        let (code, findings) = patient.findings()?;
        ensure!(
            code == Some(0) && findings.iter().all(|finding| finding["check"] == "leftover"),
            "{findings:?}"
        );
        Ok(())
    });
}

#[test]
fn what_somebody_deleted_is_found_until_a_repair() {
    run(|world| {
        let patient = Patient::new(world, json!({}))?;
        let host = &patient.stage.host;
        host.run(["nft", "flush", "set", "inet", "zeugma", "masquerade_ip"])?;
        patient.ensure_found("repair", "the host", "zeugma repair", 1)?;
        host.command(bin_dir().join("zeugma")).arg("repair").run()?;
        patient.ensure_healthy()
    });
}

#[test]
fn a_list_whose_plugin_is_missing_or_whose_agent_is_away_is_found() {
    run(|world| {
        let patient = Patient::new(world, json!({}))?;
        let lists = patient.stage.host.run_dir().join("net.d");
        fs::create_dir_all(&lists)?;
        let list = json!({"cniVersion": "1.0.0", "name": "net", "plugins": [{"type": "zeugma-bridge", "bridge": "br0"},
            {"type": "zeugma-resolver"}, {"type": "strange"}]});
        fs::write(lists.join("10-net.conflist"), list.to_string())?;
        patient.ensure_found("plugins", "bin/strange", "take it out of the list", 1)?;
        patient.ensure_found("agent", "zeugma agent", "start it", 1)?;
        fs::remove_file(lists.join("10-net.conflist"))?;
        patient.ensure_healthy()
    });
}

#[test]
fn a_list_whose_network_is_gone_is_found_until_it_is_removed() {
    run(|world| {
        let patient = Patient::new(world, json!({}))?;
        let host = &patient.stage.host;
        let _agent = Agent::start(host)?;
        let create = ["network", "create", "kept", "--subnet", "10.97.0.0/24"];
        host.command(bin_dir().join("zeugma")).args(create).run()?;
        patient.ensure_silent("list")?;
        let lists = host.run_dir().join("net.d");
        let old = lists.join("zeugma-old.conflist");
        fs::write(&old, fs::read_to_string(lists.join("zeugma-kept.conflist"))?.replace("kept", "old"))?;
        let found = patient.ensure_found("list", "zeugma-old.conflist", "zeugma network create old", 0)?;
        ensure!(found["problem"].to_string().contains("the catalogue has no network old"), "{found}");
        fs::remove_file(old)?;
        patient.ensure_silent("list")
    });
}
