//! What somebody deletes of a container's network is put back: by `zeugma repair`, and by the agent without a word. Others'
//! tables, links and elements stay as they are.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use anyhow::{Context, Result, ensure};
use netns_fixtures::{Attachment, Chain, Finished, Host, Residue, Server, eventually, run};
use serde_json::{Value, json};
use zeugma_tests::agent::{Agent, SOON};
use zeugma_tests::bin_dir;
use zeugma_tests::stage::{Stage, bridge, firewall, network, portmap, with};

fn zeugma_repair(host: &Host, words: &[&str]) -> Result<Finished> {
    host.command(bin_dir().join("zeugma")).arg("repair").args(words).output()
}

/// The lines of the steps that were done.
fn mended(host: &Host) -> Result<String> {
    let finished = zeugma_repair(host, &[])?;
    ensure!(finished.status.success() && finished.stderr.is_empty(), "{finished:?}");
    Ok(finished.stdout)
}

/// A container that publishes a port, asked from outside.
struct Web<'a> {
    stage: Stage<'a>,
    chain: Chain,
    web: Attachment,
    _servers: [Server; 3],
    before: Residue,
}

impl<'a> Web<'a> {
    fn new(stage: Stage<'a>, plugins: &[Value]) -> Result<Web<'a>> {
        let chain = network("net", plugins)?;
        let web = stage.publishing(&["8080:80", "8053:53/udp"])?;
        chain.add(&stage.host, &web)?;
        let servers = [
            web.container().tcp_echo("[::]:80", "web")?,
            web.container().udp_echo("[::]:53", "web")?,
            stage.client.tcp_echo("[::]:7", "outside")?,
        ];
        let before = host_state(&stage)?;
        Ok(Web { stage, chain, web, _servers: servers, before })
    }

    /// From outside by both families and protocols, and from the container to the outside.
    fn works(&self) -> Result<()> {
        let client = &self.stage.client;
        for address in ["192.0.2.1:8080", "[2001:db8:1::1]:8080"] {
            client.ask_tcp(address).with_context(|| format!("tcp {address}"))?;
        }
        for address in ["192.0.2.1:8053", "[2001:db8:1::1]:8053"] {
            client.ask_udp(address).with_context(|| format!("udp {address}"))?;
        }
        let answer = self.web.container().ask_tcp("192.0.2.2:7").context("to the outside")?;
        ensure!(answer.contains("192.0.2.1"), "not masqueraded: {answer}");
        Ok(())
    }

    fn damage(&self, lines: &[&str]) -> Result<()> {
        let veth = self.veth()?;
        for line in lines {
            self.stage.host.run(line.replace("VETH", &veth).split_whitespace())?;
        }
        Ok(())
    }

    /// The host's end of the container's veth pair.
    fn veth(&self) -> Result<String> {
        let index = &self.web.container().ip_json("link show eth0")?[0]["link_index"];
        let links = self.stage.host.ip_json("link")?;
        let veth = links.as_array().into_iter().flatten().find(|link| link["ifindex"] == *index);
        Ok(veth.context("no veth")?["ifname"].as_str().unwrap_or_default().to_owned())
    }

    fn is_as_before(&self) -> Result<()> {
        let diff = self.before.diff(&host_state(&self.stage)?);
        ensure!(diff.is_empty(), "the host is not as before:\n{diff}");
        Ok(())
    }
}

/// What a host has, settings of bridge ports included; flows come and go.
fn host_state(stage: &Stage<'_>) -> Result<Residue> {
    let ports = stage.host.run(["bridge", "-d", "link"])?.stdout;
    let settings = ports.lines().filter(|line| line.contains("hairpin")).map(|line| format!("port {line}"));
    Ok(stage.residue()?.without(|line| line.starts_with("conntrack")).with_lines(settings))
}

/// Everything that a network may have on the host.
fn plugins() -> Vec<Value> {
    let limits = json!({"ingressRate": 800_000_000, "ingressBurst": 8_000_000, "egressRate": 800_000_000, "egressBurst": 8_000_000});
    let guarded = with(bridge(0), json!({"macspoofchk": true, "portIsolation": true}));
    vec![guarded, portmap(), firewall("same-bridge"), with(limits, json!({"type": "bandwidth"}))]
}

fn check(plugins: &[Value], damage: &[&str]) {
    run(|world| {
        let web = Web::new(Stage::new(world)?, plugins)?;
        ensure!(mended(&web.stage.host)?.is_empty(), "something to do after ADD");
        web.damage(damage)?;
        ensure!(web.is_as_before().is_err(), "no damage");
        let told = zeugma_repair(&web.stage.host, &["--dry-run"])?.stdout;
        ensure!(web.is_as_before().is_err(), "a dry run mended");
        let steps = mended(&web.stage.host)?;
        ensure!(!steps.is_empty() && steps == told, "{steps}\n{told}");
        web.is_as_before().with_context(|| steps.clone())?;
        web.works().with_context(|| steps.clone())?;
        ensure!(mended(&web.stage.host)?.is_empty(), "something to do after a repair");
        web.chain.check(&web.stage.host, &web.web)
    });
}

#[test]
fn a_flushed_ruleset_comes_back() {
    check(&plugins(), &["nft flush ruleset"]);
}

#[test]
fn a_deleted_table_comes_back() {
    check(&plugins(), &["nft delete table inet zeugma"]);
    check(&plugins(), &["nft delete table bridge zeugma"]);
}

#[test]
fn rules_chains_and_elements_come_back() {
    check(&plugins(), &["nft flush table inet zeugma"]);
    check(&plugins(), &["nft flush chain inet zeugma postrouting"]);
    check(&plugins(), &["nft insert rule inet zeugma forward drop"]);
    check(&plugins(), &["nft flush chain inet zeugma localhost", "nft delete chain inet zeugma localhost"]);
    check(
        &plugins(),
        &[
            "nft flush map inet zeugma published_any_ip",
            "nft flush set inet zeugma masquerade_ip",
            "nft flush set bridge zeugma allowed",
        ],
    );
}

#[test]
fn a_bridge_gets_its_addresses_back() {
    check(&plugins(), &["ip addr flush dev br0 scope global"]);
}

#[test]
fn a_veth_gets_back_to_its_bridge_with_its_settings() {
    check(&plugins(), &["ip link set VETH nomaster"]);
    check(&plugins(), &["bridge link set dev VETH isolated off hairpin off"]);
    check(&plugins(), &["ip link set VETH down"]);
}

#[test]
fn a_deleted_bridge_comes_back_with_all_that_was_on_it() {
    check(&plugins(), &["ip link del br0"]);
    check(&plugins(), &["ip link set br0 down"]);
}

#[test]
fn forwarding_and_the_way_from_localhost_come_back() {
    check(
        &plugins(),
        &[
            "sysctl -qw net.ipv4.ip_forward=0 net.ipv6.conf.all.forwarding=0 net.ipv4.conf.br0.route_localnet=0",
        ],
    );
}

#[test]
fn limits_come_back() {
    check(&plugins(), &["tc qdisc del dev VETH root", "tc qdisc del dev VETH ingress"]);
}

#[test]
fn routes_of_ptp_come_back() {
    let ranges = json!([[{"subnet": "10.77.0.0/24"}], [{"subnet": "2001:db8:77::/64"}]]);
    let ipam =
        json!({"type": "host-local", "ranges": ranges, "routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}]});
    let routed = [json!({"type": "ptp", "ipMasq": true, "ipam": ipam}), portmap()];
    check(&routed, &["ip route flush dev VETH"]);
    check(&routed, &["ip link set VETH down"]);
    check(&routed, &["ip addr flush dev VETH scope global", "nft flush ruleset"]);
}

/// A client that went on sending while the port was gone has made a flow that leads to the host.
#[test]
fn a_udp_client_that_asked_during_the_damage_is_answered_after_it() {
    run(|world| {
        let stage = Stage::new(world)?;
        let chain = network("net", &[bridge(0), portmap()])?;
        for count in [1, 20] {
            let ports: Vec<String> = (0..count).map(|port| format!("{}:53/udp", 7000 + port)).collect();
            let ports: Vec<&str> = ports.iter().map(String::as_str).collect();
            let web = stage.publishing(&ports)?;
            chain.add(&stage.host, &web)?;
            let _server = web.container().udp_echo("[::]:53", "web")?;
            stage.host.nft("flush ruleset")?;
            let source = 40000 + count;
            ensure!(stage.client.ask_udp_from(source, "192.0.2.1:7000").is_err());
            mended(&stage.host)?;
            ensure!(stage.client.ask_udp_from(source, "192.0.2.1:7000")?.starts_with("web"));
            chain.del(&stage.host, &web)?;
        }
        Ok(())
    });
}

#[test]
fn what_others_have_is_left_as_it_is() {
    run(|world| {
        let web = Web::new(Stage::new(world)?, &plugins())?;
        let host = &web.stage.host;
        host.nft("table inet other { chain c { type filter hook forward priority 5; counter; }; }")?;
        host.nft("table inet zeugma { chain mine { counter; }; set extra { type ipv4_addr; }; }")?;
        host.nft("add rule inet zeugma admin ip saddr 203.0.113.9 counter drop")?;
        host.nft("add element inet zeugma published_any_ip { tcp . 99 comment \"mine\" : 10.88.0.99 . 9 }")?;
        host.ip("link add br9 type bridge")?;
        host.ip("addr add 10.99.0.77/24 dev br0")?;
        let before = host_state(&web.stage)?;
        ensure!(mended(host)?.is_empty());
        host.nft("flush chain inet zeugma published")?;
        host.nft("delete chain inet zeugma localhost")?;
        host.ip("addr del 10.88.0.1/24 dev br0")?;
        mended(host)?;
        let diff = before.diff(&host_state(&web.stage)?);
        ensure!(diff.is_empty(), "{diff}");
        web.works()
    });
}

#[test]
fn what_cannot_be_mended_is_told_and_the_rest_is_mended() {
    run(|world| {
        let web = Web::new(Stage::new(world)?, &plugins())?;
        web.damage(&["ip link del VETH", "nft flush ruleset"])?;
        let finished = zeugma_repair(&web.stage.host, &[])?;
        ensure!(finished.status.code() == Some(1) && finished.stderr.contains("is gone"), "{finished:?}");
        ensure!(web.stage.host.nft_table("inet zeugma")?.contains("8080"), "{finished:?}");
        let json: Value = serde_json::from_str(&zeugma_repair(&web.stage.host, &["--json"])?.stdout)?;
        ensure!(json["steps"] == json!([]) && json["failures"][0].is_string(), "{json}");
        Ok(())
    });
}

/// The table as another version of zeugma would have it: its stamp, and what `edit` makes of the rest.
fn turn_into_version(host: &Host, version: u32, edit: impl Fn(String) -> String) -> Result<()> {
    const STAMP: &str = "zeugma ruleset ";
    let table = host.nft_table("inet zeugma")?;
    let (head, rest) = table.split_once(STAMP).context("the table has a stamp")?;
    let rest = rest.trim_start_matches(|digit: char| digit.is_ascii_digit());
    let other = edit(format!("{head}{STAMP}{version}{rest}"));
    host.nft(&format!("delete table inet zeugma\n{other}"))?;
    Ok(())
}

/// Takes a chain out of a listing.
fn without_chain(table: &str, chain: &str) -> String {
    let start = table.find(&format!("\tchain {chain} {{")).unwrap_or(table.len());
    let end = table[start..].find("\n\t}").map_or(table.len(), |end| start + end + 3);
    format!("{}{}", &table[..start], &table[end..])
}

#[test]
fn a_table_of_an_older_version_is_replaced_while_its_ports_are_in_use() {
    run(|world| {
        let web = Web::new(Stage::new(world)?, &plugins())?;
        let host = &web.stage.host;
        host.nft("add rule inet zeugma admin ip saddr 203.0.113.9 counter drop")?;
        let current = host.nft_table("inet zeugma")?;
        turn_into_version(host, 0, |table| {
            without_chain(&table, "localhost").replacen('{', "{\n\tset extra { type ipv4_addr; }\n", 1)
        })?;
        let ended = AtomicBool::new(false);
        let asked = thread::scope(|scope| {
            let asking = scope.spawn(|| -> Result<u32> {
                let mut asked = 0;
                while !ended.load(Ordering::Relaxed) || asked == 0 {
                    web.stage.client.ask_tcp("192.0.2.1:8080")?;
                    asked += 1;
                }
                Ok(asked)
            });
            let steps = mended(host);
            ended.store(true, Ordering::Relaxed);
            asking.join().expect("the asking thread ends").map(|asked| (asked, steps))
        });
        let (_, steps) = asked?;
        ensure!(steps?.contains("nft delete table inet zeugma"));
        ensure!(host.nft_table("inet zeugma")? == current, "{}", host.nft_table("inet zeugma")?);
        web.works()
    });
}

#[test]
fn a_table_of_a_newer_version_is_left_as_it_is() {
    run(|world| {
        let web = Web::new(Stage::new(world)?, &plugins())?;
        let host = &web.stage.host;
        turn_into_version(host, 999, |table| without_chain(&table, "localhost"))?;
        let before = host.nft_table("inet zeugma")?;
        let finished = zeugma_repair(host, &[])?;
        ensure!(finished.status.code() == Some(1) && finished.stderr.contains("newer"), "{finished:?}");
        ensure!(host.nft_table("inet zeugma")? == before);
        Ok(())
    });
}

#[test]
fn records_of_an_older_version_are_mended_as_far_as_they_go() {
    run(|world| {
        let web = Web::new(Stage::new(world)?, &[bridge(0), portmap()])?;
        let dir = web.stage.host.run_dir().join("attachments/net/c0/eth0");
        for entry in std::fs::read_dir(dir)? {
            let file = entry?.path();
            let mut record: Value = serde_json::from_slice(&std::fs::read(&file)?)?;
            record.as_object_mut().map(|record| record.remove("host"));
            std::fs::write(file, record.to_string())?;
        }
        web.damage(&["ip link set VETH nomaster", "nft flush ruleset"])?;
        mended(&web.stage.host)?;
        web.works()
    });
}

#[test]
fn the_agent_mends_without_a_word() {
    run(|world| {
        let stage = Stage::new(world)?;
        let agent = Agent::start(&stage.host)?;
        let web = Web::new(stage, &plugins())?;
        for damage in [
            &["nft flush ruleset"][..],
            &["nft delete table inet zeugma"],
            &["ip addr flush dev br0 scope global"],
            &["ip link set VETH nomaster"],
            &["nft flush map inet zeugma published_any_ip"],
            &["ip link del br0"],
        ] {
            web.damage(damage)?;
            let is_mended = || web.is_as_before().is_ok();
            ensure!(
                eventually(SOON, is_mended),
                "{damage:?} {:?} {}",
                web.is_as_before(),
                agent.process.log()
            );
            web.works().with_context(|| format!("{damage:?} {}", agent.process.log()))?;
        }
        ensure!(agent.status()?["repairs"].as_u64() >= Some(6), "{}", agent.status()?);
        let (code, answer) = agent.post("/v1/repair", "")?;
        ensure!(code == 200 && answer == json!({"steps": [], "failures": []}), "{answer}");
        Ok(())
    });
}

/// Attachments that come and go while the ruleset is flushed all the time.
#[test]
fn repairs_neither_undo_an_add_nor_resurrect_a_del() {
    const THREADS: usize = 4;
    const ROUNDS: usize = 25;
    run(|world| {
        let stage = Stage::new(world)?;
        let agent = Agent::start(&stage.host)?;
        let web = Web::new(stage, &[bridge(0), portmap()])?;
        let (stage, chain) = (&web.stage, &web.chain);
        let ended = AtomicBool::new(false);
        thread::scope(|scope| -> Result<()> {
            let flushing = scope.spawn(|| -> Result<()> {
                while !ended.load(Ordering::Relaxed) {
                    stage.host.nft("flush ruleset")?;
                    thread::yield_now();
                }
                Ok(())
            });
            let churning: Vec<_> = (0..THREADS)
                .map(|number| {
                    scope.spawn(move || -> Result<()> {
                        let port = format!("{}:80", 9000 + number);
                        let container = stage.publishing(&[&port])?;
                        for _ in 0..ROUNDS {
                            chain.add(&stage.host, &container)?;
                            chain.del(&stage.host, &container)?;
                        }
                        Ok(())
                    })
                })
                .collect();
            let churned: Vec<_> =
                churning.into_iter().map(|thread| thread.join().expect("no panic")).collect();
            ended.store(true, Ordering::Relaxed);
            flushing.join().expect("no panic")?;
            churned.into_iter().collect()
        })?;
        let is_mended = || web.is_as_before().is_ok();
        ensure!(eventually(SOON * 2, is_mended), "{:?} {}", web.is_as_before(), agent.process.log());
        web.works()
    });
}
