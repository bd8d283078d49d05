//! `zeugma trace` names what a packet meets and where it ends, and the kernel says the same.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use netns_fixtures::{Attachment, Host, Server, World, run};
use serde_json::{Value, json};
use zeugma_tests::agent::Agent;
use zeugma_tests::bin_dir;
use zeugma_tests::overlays::{Overlay, Pair};
use zeugma_tests::stage::{Stage, bridge, firewall, network, portmap, with};

/// `c0` and `c1` on one bridge, `c2` on another; both bridges have an ingress policy. `c0` publishes port 8080.
struct Scene<'a> {
    stage: Stage<'a>,
    containers: Vec<Attachment>,
    _servers: Vec<Server>,
}

impl<'a> Scene<'a> {
    fn new(world: &'a World) -> Result<Scene<'a>> {
        let stage = Stage::new(world)?;
        let chain = |name: &str, number: u8| {
            let ipam =
                json!({"type": "host-local", "ranges": [[{"subnet": format!("10.88.{number}.0/24")}]]});
            network(name, &[with(bridge(number), json!({"ipam": ipam})), portmap(), firewall("same-bridge")])
        };
        let (near, far) = (chain("near", 0)?, chain("far", 1)?);
        let containers = vec![stage.publishing(&["8080:80"])?, stage.container()?, stage.container()?];
        let mut servers = Vec::new();
        for (container, chain) in containers.iter().zip([&near, &near, &far]) {
            chain.add(&stage.host, container)?;
            servers.push(container.container().tcp_echo("0.0.0.0:80", container.id())?);
        }
        Ok(Scene { stage, containers, _servers: servers })
    }

    /// Exit code and answer.
    fn trace(&self, line: &str) -> Result<(Option<i32>, Value)> {
        trace(&self.stage.host, line)
    }

    /// What the steps say, a line each.
    fn ensure_delivered(&self, line: &str, to: &str) -> Result<String> {
        let (code, told) = self.trace(line)?;
        ensure!(code == Some(0) && told["outcome"] == "delivered", "{told:#}");
        ensure!(told["to"].as_str().is_some_and(|text| text.contains(to)), "{told:#}");
        Ok(steps(&told))
    }
}

fn steps(told: &Value) -> String {
    let steps = told["steps"].as_array().into_iter().flatten();
    let line = |step: &Value| {
        format!("{}: {}\n", step["at"].as_str().unwrap_or(""), step["what"].as_str().unwrap_or(""))
    };
    steps.map(line).collect()
}

fn trace(host: &Host, line: &str) -> Result<(Option<i32>, Value)> {
    let trace =
        host.command(bin_dir().join("zeugma")).args(["trace", "--json"]).args(line.split_whitespace());
    let told = trace.output()?;
    let value = serde_json::from_str(&told.stdout).with_context(|| format!("{told:?}"))?;
    Ok((told.status.code(), value))
}

#[test]
fn a_packet_is_followed_to_its_container_over_bridge_and_published_port() {
    run(|world| {
        let scene = Scene::new(world)?;
        let steps = scene.ensure_delivered("c0 c1:80", "near/c1 at 10.88.0.3:80/tcp")?;
        ensure!(steps.contains("bridge br0: from port veth"), "{steps}");
        let steps = scene.ensure_delivered("192.0.2.2 192.0.2.1:8080", "near/c0 at 10.88.0.2:80/tcp")?;
        ensure!(
            steps.contains("published_any_ip has port 8080/tcp → 10.88.0.2:80 (near/c0/eth0)"),
            "{steps}"
        );
        ensure!(scene.stage.client.ask_tcp("192.0.2.1:8080").is_ok(), "it does not arrive");
        let steps = scene.ensure_delivered("c1 192.0.2.2:7", "the wire of eth0")?;
        ensure!(steps.contains("masqueraded: it goes on from 192.0.2.1"), "{steps}");
        let (code, told) = scene.trace("c0 c1:81")?;
        ensure!(
            code == Some(1) && told["by"].to_string().contains("nobody listens at 10.88.0.3:81/tcp"),
            "{told:#}"
        );
        Ok(())
    });
}

#[test]
fn what_is_dropped_says_by_whom_and_what_to_do() {
    run(|world| {
        let scene = Scene::new(world)?;
        let (code, told) = scene.trace("c0 c2:80")?;
        ensure!(
            code == Some(1) && told["by"].to_string().contains("isolated has both br0 and br1"),
            "{told:#}"
        );
        ensure!(scene.containers[0].container().ask_tcp("10.88.1.2:80").is_err(), "it arrives");
        scene
            .stage
            .host
            .nft("table ip wall { chain fw { type filter hook forward priority 0; policy drop; }; }")?;
        let (_, told) = scene.trace("c1 192.0.2.2:7")?;
        ensure!(
            told["by"] == "ip wall fw" && told["remedy"].to_string().contains("zeugma doctor"),
            "{told:#}"
        );
        Ok(())
    });
}

#[test]
fn a_virtual_address_leads_to_its_endpoints() {
    run(|world| {
        let scene = Scene::new(world)?;
        let _agent = Agent::start(&scene.stage.host)?;
        let zeugma = |line: &str| {
            scene.stage.host.command(bin_dir().join("zeugma")).args(line.split_whitespace()).run()
        };
        zeugma("service create web --port 80:80 --vip 10.96.0.1")?;
        zeugma("endpoint add web 10.88.0.3")?;
        let steps = scene.ensure_delivered("c2 web:80", "near/c1 at 10.88.0.3:80/tcp")?;
        ensure!(steps.contains("vip-ip: service web → one of 10.88.0.3:80"), "{steps}");
        ensure!(scene.containers[2].container().ask_tcp("10.96.0.1:80").is_ok(), "it does not arrive");
        let (code, told) = scene.trace("c2 10.96.0.1:81")?;
        ensure!(
            code == Some(1) && told["by"].to_string().contains("no service has 10.96.0.1:81/tcp"),
            "{told:#}"
        );
        Ok(())
    });
}

/// Chains and verdicts of what was met.
fn met(told: &Value) -> Vec<String> {
    let met = told["live"].as_array().into_iter().flatten();
    met.map(|one| {
        format!("{} {}", one["chain"].as_str().unwrap_or(""), one["verdict"].as_str().unwrap_or(""))
    })
    .collect()
}

#[test]
fn the_kernel_confirms_what_a_packet_meets_and_nothing_is_left() {
    run(|world| {
        let scene = Scene::new(world)?;
        let before = scene.stage.host.nft_ruleset()?;
        let (_, told) = scene.trace("host 192.0.2.1:8080 --live --probe")?;
        let said = met(&told);
        ensure!(said.contains(&"inet zeugma output goto published".to_owned()), "{told:#}");
        let rule =
            told["live"].as_array().into_iter().flatten().find(|one| one["chain"] == "inet zeugma published");
        let rule = rule.context("no published")?["rule"].to_string();
        ensure!(rule.contains("dnat ip to meta l4proto . th dport map @published_any_ip"), "{rule}");
        let (_, told) = scene.trace("c0 c2:80 --live --probe")?;
        ensure!(met(&told).contains(&"inet zeugma forward drop".to_owned()), "{told:#}");
        ensure!(scene.stage.host.nft_ruleset()? == before, "something is left");
        Ok(())
    });
}

#[test]
fn a_rule_of_the_administrator_is_named_as_the_kernel_meets_it() {
    run(|world| {
        let scene = Scene::new(world)?;
        let host = &scene.stage.host;
        host.nft("add rule inet zeugma admin ip saddr 10.88.0.3 tcp dport 7 drop")?;
        let (code, told) = scene.trace("c1 192.0.2.2:7 --live --probe")?;
        ensure!(
            code == Some(1) && told["by"] == "inet zeugma admin: a rule of the administrator",
            "{told:#}"
        );
        ensure!(told["remedy"].to_string().contains("nft -a list chain inet zeugma admin"), "{told:#}");
        ensure!(met(&told).contains(&"inet zeugma admin drop".to_owned()), "{told:#}");
        scene.ensure_delivered("c0 192.0.2.2:7", "the wire of eth0")?;
        // Of a translated packet the original port is not known beforehand.
        host.nft("add rule inet zeugma admin meta l4proto tcp ct original proto-dst 8080 drop")?;
        let (_, told) = scene.trace("192.0.2.2 192.0.2.1:8080")?;
        ensure!(steps(&told).contains("inet zeugma admin: has rules"), "{told:#}");
        Ok(())
    });
}

/// `near`, a container of an encrypted overlay; a route of somebody's leads to a part of the other host's block past the
/// tunnel.
fn past_the_tunnel(world: &World) -> Result<Pair<'_>> {
    let (pair, front) = (Pair::new(world)?, Overlay::new("front", 90).with(json!({"backend": "wireguard"})));
    pair.join(&front)?;
    pair.container(&front, 1, "near")?;
    pair.hosts[0].ip("route add 10.90.2.0/25 via 192.0.2.2")?;
    Ok(pair)
}

#[test]
fn what_would_leave_an_encrypted_overlay_in_clear_is_dropped_by_sealed() {
    run(|world| {
        let pair = past_the_tunnel(world)?;
        let (code, told) = trace(&pair.hosts[0], "near 10.90.2.9:80 --live --probe")?;
        let expected =
            "inet zeugma sealed: overlay front is encrypted, and 10.90.2.9 would leave in clear by eth0";
        ensure!(code == Some(1) && told["by"] == expected, "{told:#}");
        ensure!(told["remedy"].to_string().contains("ip route get 10.90.2.9"), "{told:#}");
        ensure!(met(&told).contains(&"inet zeugma leaving drop".to_owned()), "{told:#}");
        let (_, told) = trace(&pair.hosts[0], "near 10.90.2.200:80 --live --probe")?;
        ensure!(
            told["outcome"] == "delivered" && !met(&told).iter().any(|one| one.ends_with("drop")),
            "{told:#}"
        );
        Ok(())
    });
}

#[test]
fn who_comes_with_an_address_of_an_overlay_by_another_way_is_dropped_by_claimed() {
    run(|world| {
        let pair = past_the_tunnel(world)?;
        let [host, stranger] = &pair.hosts;
        stranger.ip("address add 10.90.2.9/32 dev lo")?;
        stranger.ip("route replace 10.90.1.0/24 via 192.0.2.1 src 10.90.2.9")?;
        let words = ["trace", "10.90.2.9", "near", "--live", "--timeout", "60"];
        let waiting = host.command(bin_dir().join("zeugma")).args(words).spawn()?;
        let is_told = || {
            let _ = stranger.command("ping").args(["-c1", "-W1", "10.90.1.2"]).output();
            waiting.log().contains("ip saddr @claimed_ip drop => drop")
        };
        ensure!(netns_fixtures::eventually(Duration::from_secs(30), is_told), "{}", waiting.log());
        let expected = "dropped by inet zeugma claimed: 10.90.2.9 is of overlay front, and comes in by eth0";
        ensure!(waiting.log().contains(expected), "{}", waiting.log());
        Ok(())
    });
}

#[test]
fn a_trace_that_is_killed_leaves_nothing_and_waits_for_others_packets() {
    run(|world| {
        let scene = Scene::new(world)?;
        let host = &scene.stage.host;
        let before = host.nft_ruleset()?;
        let words = ["trace", "192.0.2.2", "192.0.2.1:8080", "--live", "--timeout", "60"];
        let waiting = host.command(bin_dir().join("zeugma")).args(words).spawn()?;
        let is_there = || host.nft_ruleset().is_ok_and(|rules| rules.contains("zeugma-trace"));
        ensure!(netns_fixtures::eventually(Duration::from_secs(20), is_there), "{}", waiting.log());
        scene.stage.client.ask_tcp("192.0.2.1:8080")?;
        let is_told =
            || waiting.log().contains("inet zeugma prerouting: in eth0 fib daddr type local goto published");
        ensure!(netns_fixtures::eventually(Duration::from_secs(20), is_told), "{}", waiting.log());
        let killed = host.command(bin_dir().join("zeugma")).args(words).spawn()?;
        ensure!(netns_fixtures::eventually(Duration::from_secs(20), is_there), "{}", killed.log());
        drop(killed);
        let is_gone = || host.nft_ruleset().is_ok_and(|rules| rules == before);
        ensure!(netns_fixtures::eventually(Duration::from_secs(20), is_gone), "something is left");
        Ok(())
    });
}
