//! What a container receives and sends is limited: measured with iperf3, both ways, in both families.

use std::path::Path;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use netns_fixtures::{Attachment, Call, Chain, Host, Residue, Running, eventually, run};
use serde_json::{Value, json};
use zeugma_tests::bin_dir;
use zeugma_tests::stage::{Stage, address, bridge, command, network, object, refusal, with};

const MEGA: u64 = 1_000_000;

/// `bandwidth` as runtimes configure it.
fn bandwidth() -> Value {
    json!({"type": "bandwidth", "capabilities": {"bandwidth": true}})
}

/// Limits in Mbit/s, with a burst of a tenth of a second; 0 is none.
fn limits(ingress: u64, egress: u64) -> Value {
    json!({"bandwidth": {
        "ingressRate": ingress * MEGA, "ingressBurst": ingress * MEGA / 10,
        "egressRate": egress * MEGA, "egressBurst": egress * MEGA / 10,
    }})
}

fn chain() -> Result<Chain> {
    network("net", &[bridge(0), bandwidth()])
}

/// A container with a server to be measured, and its addresses.
struct Place {
    attachment: Attachment,
    addresses: [String; 2],
    _server: Running,
}

impl Place {
    fn new(stage: &Stage<'_>, chain: &Chain, attachment: Attachment) -> Result<Place> {
        let result = chain.add(&stage.host, &attachment)?;
        let addresses = [address(&result, 4)?, address(&result, 6)?];
        let server = attachment.container().spawn(["iperf3", "-s"])?;
        let listening = || attachment.container().run(["ss", "-Hltn", "sport", "=", ":5201"]);
        let is_up = || listening().is_ok_and(|listeners| !listeners.stdout.trim().is_empty());
        ensure!(eventually(Duration::from_secs(10), is_up), "no iperf3: {}", server.log());
        Ok(Place { attachment, addresses, _server: server })
    }

    fn limited(stage: &Stage<'_>, chain: &Chain, limits: Value) -> Result<Place> {
        Place::new(stage, chain, stage.container()?.with(limits))
    }

    /// What arrives in Mbit/s, after a second in which the burst is used up.
    fn receives(&self, from: &Host, family: u8) -> Result<f64> {
        measured(from, &self.addresses[usize::from(family == 6)], &[])
    }

    fn sends(&self, to: &Host, family: u8) -> Result<f64> {
        measured(to, &self.addresses[usize::from(family == 6)], &["-R"])
    }
}

fn measured(client: &Host, server: &str, direction: &[&str]) -> Result<f64> {
    let line = ["-c", server, "-J", "-O", "1", "-t", "2", "--connect-timeout", "2000"];
    let said = client.command("iperf3").args(line).args(direction).run()?.stdout;
    let said: Value = serde_json::from_str(&said)?;
    let bits = said["end"]["sum_received"]["bits_per_second"].as_f64();
    Ok(bits.with_context(|| format!("iperf3 measured nothing: {said}"))? / MEGA as f64)
}

/// iperf3 counts what waited for a receiver that had no CPU as received later, so that one figure of a busy machine
/// may be too high or too low: a figure within bounds is awaited, which a wrong limit never shows.
fn ensure_rate(wanted: f64, measure: impl Fn() -> Result<f64>) -> Result<()> {
    let mut seen = Vec::new();
    for _ in 0..8 {
        let rate = measure()?;
        println!("{rate:.1} of {wanted} Mbit/s");
        if (wanted * 0.9..=wanted * 1.1).contains(&rate) {
            return Ok(());
        }
        seen.push(rate);
    }
    anyhow::bail!("through a limit of {wanted} Mbit/s came {seen:.1?}")
}

/// Runs all of them at once.
fn at_once(stories: &[&(dyn Fn() -> Result<()> + Sync)]) -> Result<()> {
    thread::scope(|scope| {
        let running: Vec<_> = stories.iter().map(|story| scope.spawn(story)).collect();
        running.into_iter().try_for_each(|story| story.join().expect("a story does not panic"))
    })
}

#[test]
fn rates_are_as_asked_in_both_directions_and_families() {
    run(|world| {
        let stage = Stage::new(world)?;
        let chain = chain()?;
        let asking = stage.container()?;
        chain.add(&stage.host, &asking)?;
        let asking = asking.container();
        let place = || Place::limited(&stage, &chain, limits(20, 40));
        let (one, two, three, four) = (place()?, place()?, place()?, place()?);
        at_once(&[
            &|| ensure_rate(20.0, || one.receives(asking, 4)).context("ingress, IPv4"),
            &|| ensure_rate(20.0, || two.receives(asking, 6)).context("ingress, IPv6"),
            &|| ensure_rate(40.0, || three.sends(asking, 4)).context("egress, IPv4"),
            &|| ensure_rate(40.0, || four.sends(asking, 6)).context("egress, IPv6"),
        ])
    });
}

#[test]
fn a_limit_is_for_its_direction_and_its_container_only() {
    run(|world| {
        let stage = Stage::new(world)?;
        let chain = chain()?;
        let place = |ingress, egress| Place::limited(&stage, &chain, limits(ingress, egress));
        let (free, receiver, sender) = (place(0, 0)?, place(10, 0)?, place(0, 10)?);
        let ensure_free = |rate: f64| -> Result<()> {
            ensure!(rate > 100.0, "only {rate:.1} Mbit/s where nothing is limited");
            Ok(())
        };
        ensure_free(receiver.sends(&stage.host, 4)?).context("the other direction of ingress")?;
        ensure_free(sender.receives(&stage.host, 4)?).context("the other direction of egress")?;
        ensure_free(free.receives(&stage.host, 6)?).context("another container")
    });
}

#[test]
fn subnets_may_be_left_out_or_be_the_only_ones() {
    run(|world| {
        let stage = Stage::new(world)?;
        let subnets = json!(["192.0.2.0/24", "2001:db8:1::/64"]);
        let of = |number, key: &str| {
            network(&format!("net{number}"), &[bridge(number), with(bandwidth(), json!({key: subnets}))])
        };
        let (unshaped, shaped) = (of(1, "unshapedSubnets")?, of(2, "shapedSubnets")?);
        let left_out = Place::limited(&stage, &unshaped, limits(20, 20))?;
        let only = Place::limited(&stage, &shaped, limits(20, 20))?;
        stage.client.ip("route add 10.88.0.0/16 via 192.0.2.1")?;
        stage.client.ip("route add 2001:db8:88::/48 via 2001:db8:1::1")?;
        unshaped.check(&stage.host, &left_out.attachment)?;
        // The host asks from the gateway's address, which is in none of the subnets.
        let ensure_free = |rate: f64| ensure_above(rate, 60.0);
        ensure_free(left_out.receives(&stage.client, 4)?)?;
        ensure_free(left_out.receives(&stage.client, 6)?)?;
        ensure_free(only.receives(&stage.host, 4)?)?;
        at_once(&[
            &|| ensure_rate(20.0, || left_out.receives(&stage.host, 4)).context("not left out"),
            &|| ensure_rate(20.0, || only.receives(&stage.client, 6)).context("one of the only ones"),
        ])?;
        ensure_rate(20.0, || only.sends(&stage.client, 4)).context("one of the only ones, sending")
    });
}

fn ensure_above(rate: f64, least: f64) -> Result<()> {
    ensure!(rate > least, "only {rate:.1} Mbit/s where nothing is limited");
    Ok(())
}

/// A pair of links that somebody else made, a container's and the host's: it outlives the DEL of `bandwidth`.
struct Pair<'a> {
    stage: Stage<'a>,
    container: Attachment,
    before: Residue,
}

impl<'a> Pair<'a> {
    fn new(world: &'a netns_fixtures::World) -> Result<Pair<'a>> {
        let stage = Stage::new(world)?;
        let container = stage.container()?;
        world.link((&stage.host, "outer", "10.9.0.1/24"), (container.container(), "eth0", "10.9.0.2/24"))?;
        let before = stage.residue()?;
        Ok(Pair { stage, container, before })
    }

    fn previous(&self) -> Value {
        let sandbox = self.container.container().path();
        json!({
            "cniVersion": "1.1.0", "ips": [{"address": "10.9.0.2/24", "interface": 1}],
            "interfaces": [{"name": "outer"}, {"name": "eth0", "sandbox": sandbox}],
        })
    }

    fn call(&self, verb: &str, keys: Value, previous: Option<Value>) -> Result<Value> {
        let chain = network("net", &[])?;
        let plugin = object(&with(json!({"type": "bandwidth"}), keys));
        let config = chain.config(&self.stage.host, &plugin, Some(&self.container), previous.as_ref());
        let said = command(&self.stage.host, &[], verb, Some(&self.container), &config).output()?.stdout;
        Ok(serde_json::from_str(&said).unwrap_or_default())
    }

    /// Queues of a link as `tc` shows them: kinds, and rates in bytes per second.
    fn queues(&self, link: &str) -> Result<Vec<(String, u64)>> {
        let queues = self.stage.host.tc_json(&format!("qdisc show dev {link}"))?;
        let queues = queues.as_array().into_iter().flatten();
        let rate = |queue: &Value| queue["options"]["rate"].as_u64().unwrap_or_default();
        Ok(queues.map(|queue| (queue["kind"].as_str().unwrap_or_default().into(), rate(queue))).collect())
    }
}

/// Flat keys: 8 and 16 Mbit/s.
fn flat() -> Value {
    json!({
        "ingressRate": 8 * MEGA, "ingressBurst": MEGA, "egressRate": 16 * MEGA, "egressBurst": MEGA,
    })
}

#[test]
fn del_takes_everything_off_links_that_stay() {
    run(|world| {
        let pair = Pair::new(world)?;
        let result = pair.call("ADD", flat(), Some(pair.previous()))?;
        let ifb = result["interfaces"][2].clone();
        let name = ifb["name"].as_str().context("no ifb in the result")?;
        assert_eq!(pair.queues("outer")?, [("tbf".into(), MEGA), ("ingress".into(), 0)]);
        assert_eq!(pair.queues(name)?, [("tbf".into(), 2 * MEGA)]);
        assert_eq!(pair.stage.host.ip_json(&format!("link show {name}"))?[0]["address"], ifb["mac"]);
        pair.container.container().ping("10.9.0.1")?;
        // The record is enough: no namespace, no prevResult, no limits in the configuration.
        pair.container.container().remove()?;
        pair.call("DEL", json!({}), None)?;
        pair.call("DEL", json!({}), None)?;
        assert!(pair.stage.host.ip_json("link show type ifb")?.as_array().is_some_and(Vec::is_empty));
        Ok(())
    });
}

#[test]
fn del_with_the_container_alive_leaves_the_host_as_it_was() {
    run(|world| {
        let pair = Pair::new(world)?;
        pair.call("ADD", flat(), Some(pair.previous()))?;
        pair.call("DEL", flat(), Some(pair.previous()))?;
        pair.stage.ensure_unchanged(&pair.before)?;
        pair.container.container().ping("10.9.0.1")
    });
}

#[test]
fn a_second_add_stands_for_the_first() {
    run(|world| {
        let pair = Pair::new(world)?;
        pair.call("ADD", flat(), Some(pair.previous()))?;
        let other = json!({"ingressRate": 24 * MEGA, "ingressBurst": MEGA});
        let result = pair.call("ADD", other.clone(), Some(pair.previous()))?;
        assert_eq!(result["interfaces"].as_array().map(Vec::len), Some(2), "{result}");
        assert_eq!(pair.queues("outer")?, [("tbf".into(), 3 * MEGA)]);
        assert_eq!(pair.call("CHECK", other, Some(pair.previous()))?, Value::Null);
        pair.call("DEL", json!({}), None)?;
        pair.stage.ensure_unchanged(&pair.before)
    });
}

#[test]
fn a_second_add_that_is_refused_leaves_the_first_limits() {
    run(|world| {
        let pair = Pair::new(world)?;
        pair.call("ADD", flat(), Some(pair.previous()))?;
        let before = pair.stage.residue()?;
        let tiny = json!({"ingressRate": 8 * MEGA, "ingressBurst": 800});
        let error = pair.call("ADD", tiny, Some(pair.previous()))?;
        assert_eq!(error["code"], 7, "{error}");
        let elsewhere = with(pair.previous(), json!({"interfaces": [{"name": "nowhere"}]}));
        let error = pair.call("ADD", flat(), Some(elsewhere))?;
        assert_eq!(error["code"], 7, "{error}");
        assert_eq!(pair.queues("outer")?, [("tbf".into(), MEGA), ("ingress".into(), 0)]);
        assert_eq!(pair.call("CHECK", flat(), Some(pair.previous()))?, Value::Null);
        pair.stage.ensure_unchanged(&before)
    });
}

#[test]
fn without_a_record_the_ifb_is_found_by_its_name() {
    run(|world| {
        let pair = Pair::new(world)?;
        let result = pair.call("ADD", flat(), Some(pair.previous()))?;
        std::fs::remove_dir_all(pair.stage.host.run_dir().join("attachments"))?;
        pair.call("DEL", json!({}), None)?;
        let name = result["interfaces"][2]["name"].as_str().context("no ifb in the result")?;
        assert!(pair.stage.host.ip(&format!("link show {name}")).is_err(), "{name} is still there");
        Ok(())
    });
}

#[test]
fn a_queue_of_somebody_else_s_is_left_alone() {
    run(|world| {
        let pair = Pair::new(world)?;
        pair.stage.host.run(["tc", "qdisc", "add", "dev", "outer", "root", "handle", "7:", "bfifo"])?;
        let before = pair.stage.residue()?;
        let error = pair.call("ADD", flat(), Some(pair.previous()))?;
        assert_eq!(error["code"], 5, "{error}");
        pair.stage.ensure_unchanged(&before)
    });
}

#[test]
fn check_sees_other_rates_and_missing_redirections() {
    run(|world| {
        let pair = Pair::new(world)?;
        pair.call("ADD", flat(), Some(pair.previous()))?;
        let check = || pair.call("CHECK", flat(), Some(pair.previous()));
        assert_eq!(check()?, Value::Null);
        let change = "tc qdisc change dev outer root handle 1: tbf rate 9mbit burst 125000 limit 150000";
        pair.stage.host.run(change.split(' '))?;
        assert_eq!(check()?["code"], 110);
        pair.call("ADD", flat(), Some(pair.previous()))?;
        assert_eq!(check()?, Value::Null);
        pair.stage.host.run(["tc", "filter", "del", "dev", "outer", "ingress"])?;
        assert_eq!(check()?["code"], 110);
        Ok(())
    });
}

/// One call of the plugin in another directory than ours.
fn call_of(dir: &str, verb: &str, pair: &Pair<'_>) -> Result<()> {
    let previous = with(pair.previous(), json!({"cniVersion": "1.0.0"}));
    let config = with(flat(), json!({"cniVersion": "1.0.0", "name": "net", "prevResult": previous}));
    let call = Call::new(dir, "bandwidth", verb, &config).of(&pair.container);
    call.run(&pair.stage.host).map(drop).with_context(|| format!("{verb} of {dir}"))
}

#[test]
fn either_program_takes_over_the_other_s_containers() {
    const REFERENCE: &str = "/usr/lib/cni";
    if !Path::new(REFERENCE).join("bandwidth").exists() {
        eprintln!("SKIPPED: no {REFERENCE}/bandwidth (Debian: containernetworking-plugins)");
        return;
    }
    let ours = bin_dir().to_string_lossy().into_owned();
    for (first, second) in [(REFERENCE, ours.as_str()), (ours.as_str(), REFERENCE)] {
        run(|world| {
            let pair = Pair::new(world)?;
            call_of(first, "ADD", &pair)?;
            call_of(second, "CHECK", &pair)?;
            call_of(second, "DEL", &pair)?;
            let ifbs = pair.stage.host.ip_json("link show type ifb")?;
            ensure!(ifbs == json!([]), "{second} left {ifbs}");
            Ok(())
        });
    }
}

#[test]
fn the_burst_that_kubernetes_asks_for_is_what_check_finds() {
    run(|world| {
        let pair = Pair::new(world)?;
        let long = json!({"ingressRate": MEGA, "ingressBurst": i32::MAX});
        pair.call("ADD", long.clone(), Some(pair.previous()))?;
        assert_eq!(pair.queues("outer")?, [("tbf".into(), MEGA / 8)]);
        assert_eq!(pair.call("CHECK", long, Some(pair.previous()))?, Value::Null);
        Ok(())
    });
}

#[test]
fn behind_every_plugin_and_in_every_version_the_host_s_end_is_found() {
    let ptp = || with(bridge(0), json!({"type": "ptp"}));
    for (version, first) in [("1.1.0", ptp()), ("0.2.0", ptp()), ("0.2.0", bridge(0))] {
        run(|world| {
            let stage = Stage::new(world)?;
            let plugins = [first.clone(), bandwidth()];
            let list = json!({"cniVersion": version, "name": "net", "plugins": plugins});
            let chain = Chain::new(bin_dir(), list)?;
            chain.add(&stage.host, &stage.container()?.with(limits(20, 20)))?;
            let queues = stage.host.tc_json("qdisc show")?.to_string();
            ensure!(queues.matches(r#""kind":"tbf""#).count() == 2, "{queues}");
            Ok(())
        });
    }
}

#[test]
fn gc_clears_the_ifb_of_a_container_that_is_gone() {
    run(|world| {
        let stage = Stage::new(world)?;
        let chain = chain()?;
        let (gone, kept) = (stage.container()?.with(limits(8, 8)), stage.container()?.with(limits(8, 8)));
        chain.add(&stage.host, &kept)?;
        let before = stage.residue()?;
        chain.add(&stage.host, &gone)?;
        gone.container().remove()?;
        chain.gc(&stage.host, &[&kept])?;
        stage.ensure_unchanged(&before)?;
        chain.check(&stage.host, &kept)
    });
}

#[test]
fn two_interfaces_of_a_container_on_one_network_are_limited_each() {
    run(|world| {
        let stage = Stage::new(world)?;
        let chain = chain()?;
        let first = stage.container()?.with(limits(8, 8));
        let second = first.container().attachment(first.id(), "eth1").with(limits(16, 16));
        chain.add(&stage.host, &first)?;
        let result = chain.add(&stage.host, &second)?;
        chain.del(&stage.host, &first)?;
        chain.check(&stage.host, &second).with_context(|| format!("after DEL of eth0: {result}"))
    });
}

#[test]
fn without_limits_nothing_is_made_and_without_prev_result_it_is_told() {
    run(|world| {
        let pair = Pair::new(world)?;
        let previous = pair.previous();
        let result = pair.call("ADD", json!({}), Some(previous.clone()))?;
        assert_eq!(result["interfaces"].as_array().map(Vec::len), Some(2), "{result}");
        pair.stage.ensure_unchanged(&pair.before)?;
        let error = pair.call("ADD", json!({}), None)?;
        assert_eq!(error["code"], 7, "{error}");
        assert!(error["msg"].as_str().is_some_and(|msg| msg.contains("chained")), "{error}");
        Ok(())
    });
}

#[test]
fn an_interface_without_other_end_on_the_host_is_refused_by_name() {
    run(|world| {
        let pair = Pair::new(world)?;
        pair.container.container().ip("link add eth1 type bridge")?;
        let eth1 = pair.container.container().attachment(pair.container.id(), "eth1").with(limits(8, 8));
        let config = with(flat(), json!({"type": "bandwidth", "prevResult": pair.previous()}));
        let config = with(config, json!({"cniVersion": "1.1.0", "name": "net"}));
        let said = command(&pair.stage.host, &[], "ADD", Some(&eth1), &config).output()?.stdout;
        let error: Value = serde_json::from_str(&said)?;
        assert!(
            error["code"] == 7 && error["msg"].as_str().is_some_and(|msg| msg.contains("bridge")),
            "{error}"
        );
        let short = json!({"ingressRate": 8 * MEGA, "ingressBurst": 8000});
        let error = pair.call("ADD", short, Some(pair.previous()))?;
        assert!(
            error["code"] == 7 && error["msg"].as_str().is_some_and(|msg| msg.contains("at least")),
            "{error}"
        );
        pair.stage.ensure_unchanged(&pair.before)
    });
}

#[test]
fn status_says_whether_the_kernel_can_and_makes_nothing() {
    run(|world| {
        let stage = Stage::new(world)?;
        let before = stage.residue()?;
        chain()?.status(&stage.host)?;
        stage.ensure_unchanged(&before)?;
        let half = network("net", &[with(bandwidth(), json!({"egressRate": 8 * MEGA}))])?;
        assert_eq!(refusal(half.status(&stage.host)).code, 7);
        Ok(())
    });
}
