//! `resolver`: what the record, the result and the agent are told, in both modes. Who answers is in agent's tests.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use netns_fixtures::{Attachment, Call, Chain, Host, Outcome, run};
use nix::sys::socket::{Backlog, listen};
use serde_json::{Value, json};
use zeugma_tests::agent::{Agent, dig, ensure_told};
use zeugma_tests::bin_dir;
use zeugma_tests::stage::{Stage, address, bridge, network, object, refusal, with};

fn resolver() -> Value {
    json!({"type": "resolver", "capabilities": {"aliases": true, "dns": true}})
}

fn inside() -> Value {
    with(resolver(), json!({"mode": "container"}))
}

/// The records that `resolver` has of an attachment.
fn records(host: &Host, network: &str, of: &Attachment) -> Result<Vec<Value>> {
    let place: PathBuf = ["attachments", network, of.id(), of.ifname()].iter().collect();
    let files = fs::read_dir(host.run_dir().join(place)).into_iter().flatten().flatten();
    let ours = files.map(|file| file.path()).filter(|path| path.to_string_lossy().ends_with("-resolver"));
    ours.map(|path| Ok(serde_json::from_slice(&fs::read(path)?)?)).collect()
}

fn record(host: &Host, network: &str, of: &Attachment) -> Result<Value> {
    records(host, network, of)?.into_iter().next().context("resolver has no record")
}

/// ADD of `resolver` alone behind a bridge, with all that it says.
fn added(stage: &Stage<'_>, chain: &Chain, of: &Attachment, plugin: &Value) -> Result<Outcome> {
    let previous = match chain.cached(&stage.host, of) {
        Some(result) => result,
        None => chain.add(&stage.host, of)?,
    };
    let config = chain.config(&stage.host, &object(plugin), Some(of), Some(&previous));
    Call::new(bin_dir(), "resolver", "ADD", &config).of(of).output(&stage.host)
}

/// An agent that takes every call, says `answer`, and tells what it heard.
fn agent(host: &Host, answer: &'static str) -> Result<std::sync::mpsc::Receiver<String>> {
    let listener = UnixListener::bind(host.run_dir().join("agent.sock"))?;
    let (sender, heard) = std::sync::mpsc::channel();
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut request = vec![0; 4096];
            let length = stream.read(&mut request).unwrap_or(0);
            let text = String::from_utf8_lossy(&request[..length]).into_owned();
            let _ = stream.write_all(answer.as_bytes());
            if sender.send(text).is_err() {
                return;
            }
        }
    });
    Ok(heard)
}

const FINE: &str = "HTTP/1.1 200 OK\r\ncontent-length: 16\r\n\r\n{\"generation\":1}";

#[test]
fn the_result_names_the_gateways_and_our_domain_first() {
    run(|world| {
        let stage = Stage::new(world)?;
        let chain = network("net", &[bridge(0), resolver()])?;
        let result = chain.add(&stage.host, &stage.container()?)?;
        let dns = json!({
            "nameservers": ["10.88.0.1", "2001:db8:88::1"],
            "domain": "zeugma.internal", "search": ["zeugma.internal"],
        });
        ensure!(result["dns"] == dns, "{result}");
        ensure!(result["ips"].as_array().map(Vec::len) == Some(2), "the rest was lost: {result}");
        Ok(())
    });
}

#[test]
fn the_record_says_who_the_container_is_and_where_it_asks() {
    run(|world| {
        let stage = Stage::new(world)?;
        let keys =
            json!({"domain": "blue.example", "internal": true, "names": ["web"], "servers": ["192.0.2.53"]});
        let chain = network("net", &[bridge(0), with(resolver(), keys)])?;
        let container = stage.container()?.with(json!({"aliases": {"net": ["www"]}}));
        let container = container.args("IgnoreUnknown=1;K8S_POD_NAME=shop;NERDCTL_CNI_DHCP_HOSTNAME=till");
        chain.add(&stage.host, &container)?;
        let record = record(&stage.host, "net", &container)?;
        let told = json!({
            "listen": {"gateway": ["10.88.0.1", "2001:db8:88::1"]}, "domain": "blue.example",
            "names": ["till", "web"], "internal": true, "servers": ["192.0.2.53:53"],
        });
        ensure!(record["resolver"] == told, "{record}");
        ensure!(record["identity"]["aliases"] == json!(["www"]), "{record}");
        ensure!(record["identity"]["pod"]["name"] == "shop" && record["phase"] == "done", "{record}");
        ensure!(record["addresses"] == json!(["10.88.0.2/24", "2001:db8:88::2/64"]), "{record}");
        Ok(())
    });
}

#[test]
fn servers_of_the_runtime_win_over_those_of_the_ipam() {
    run(|world| {
        let stage = Stage::new(world)?;
        let chain = network("net", &[bridge(0)])?;
        let container = stage.container()?;
        let mut result = chain.add(&stage.host, &container)?;
        result["dns"] =
            json!({"nameservers": ["192.0.2.53", "10.88.0.1"], "search": ["lan"], "options": ["rotate"]});
        chain.remember(&stage.host, &container, result);
        let dns = json!({"servers": ["192.0.2.54"], "searches": ["svc.local"], "options": ["ndots:5"]});
        for (container, servers, searched, options) in [
            (
                container.clone(),
                json!(["192.0.2.53:53"]),
                json!(["zeugma.internal", "lan"]),
                json!(["rotate"]),
            ),
            (
                container.with(json!({"dns": dns})),
                json!(["192.0.2.54:53"]),
                json!(["zeugma.internal", "lan", "svc.local"]),
                json!(["rotate", "ndots:5"]),
            ),
        ] {
            let result = added(&stage, &chain, &container, &resolver())?.result()?;
            let record = record(&stage.host, "net", &container)?;
            ensure!(record["resolver"]["servers"] == servers, "{record}");
            ensure!(result["dns"]["search"] == searched && result["dns"]["options"] == options, "{result}");
        }
        Ok(())
    });
}

#[test]
fn podman_s_dnsname_is_the_same_plugin() {
    run(|world| {
        let stage = Stage::new(world)?;
        let dnsname =
            json!({"type": "dnsname", "domainName": "dns.podman", "capabilities": {"aliases": true}});
        let chain = network("net", &[bridge(0), dnsname])?;
        let container = stage.container()?;
        let result = chain.add(&stage.host, &container)?;
        ensure!(result["dns"]["search"] == json!(["dns.podman"]), "{result}");
        chain.check(&stage.host, &container)?;
        ensure!(record(&stage.host, "net", &container)?["plugin"] == "resolver", "another record");
        chain.del(&stage.host, &container)?;
        ensure!(records(&stage.host, "net", &container)?.is_empty(), "the record is left");
        Ok(())
    });
}

#[test]
fn the_agent_hears_of_add_and_del() {
    run(|world| {
        let stage = Stage::new(world)?;
        let heard = agent(&stage.host, FINE)?;
        let chain = network("net", &[bridge(0), resolver()])?;
        let container = stage.container()?;
        chain.add(&stage.host, &container)?;
        chain.del(&stage.host, &container)?;
        for verb in ["ADD", "DEL"] {
            let request = heard.recv_timeout(Duration::from_secs(10)).with_context(|| verb)?;
            ensure!(request.starts_with("POST /v1/sync HTTP/1.1\r\n"), "{request}");
            let (_, body) = request.split_once("\r\n\r\n").context("no body")?;
            let id: Value = serde_json::from_str(body)?;
            ensure!(id == json!({"network": "net", "container": "c0", "ifname": "eth0"}), "{id}");
        }
        Ok(())
    });
}

#[test]
fn add_succeeds_whatever_the_agent_does_and_says_so_in_a_line() {
    run(|world| {
        let stage = Stage::new(world)?;
        let chain = network("net", &[bridge(0)])?;
        let container = stage.container()?;
        let said = |word: &str| -> Result<()> {
            let outcome = added(&stage, &chain, &container, &resolver())?;
            outcome.result()?;
            let stderr = &outcome.finished.stderr;
            ensure!(stderr.lines().count() == 1 && stderr.contains(word), "{word}: {stderr:?}");
            Ok(())
        };
        said("no agent runs")?;
        let socket = stage.host.run_dir().join("agent.sock");
        let silent = UnixListener::bind(&socket)?;
        said("nothing came within 200ms")?;
        drop(silent);
        said("no agent runs")?;
        for (answer, word) in
            [("HTTP/1.1 500 No\r\n\r\n", "HTTP/1.1 500"), ("nonsense\r\n\r\n", "nonsense"), ("", "")]
        {
            fs::remove_file(&socket)?;
            let _heard = agent(&stage.host, answer)?;
            said(word)?;
        }
        Ok(())
    });
}

#[test]
fn an_agent_that_accepts_nobody_holds_up_no_add() {
    run(|world| {
        let stage = Stage::new(world)?;
        let (chain, container) = (network("net", &[bridge(0)])?, stage.container()?);
        let path = stage.host.run_dir().join("agent.sock");
        let stuck = UnixListener::bind(&path)?;
        // A queue that one connection fills: whoever connects then waits until that one is accepted.
        listen(&stuck, Backlog::new(0)?)?;
        let _first = UnixStream::connect(&path)?;
        let outcome = added(&stage, &chain, &container, &resolver())?;
        outcome.result()?;
        ensure!(outcome.finished.stderr.contains("nothing came within 200ms"), "{}", outcome.finished.stderr);
        Ok(())
    });
}

#[test]
fn check_wants_the_record_and_no_agent() {
    run(|world| {
        let stage = Stage::new(world)?;
        let (chain, container) = (network("net", &[bridge(0), resolver()])?, stage.container()?);
        chain.add(&stage.host, &container)?;
        chain.check(&stage.host, &container)?;
        let folder = stage.host.run_dir().join("attachments/net/c0/eth0");
        fs::remove_file(folder.join("01-resolver"))?;
        let error = refusal(chain.check(&stage.host, &container));
        ensure!(error.code == 110 && error.msg.contains("net/c0/eth0"), "{error}");
        Ok(())
    });
}

#[test]
fn del_and_gc_leave_nothing_and_may_be_repeated() {
    run(|world| {
        let stage = Stage::new(world)?;
        for plugin in [resolver(), inside()] {
            let chain = network("net", &[bridge(0), plugin])?;
            let (first, second) = (stage.container()?, stage.container()?);
            chain.add(&stage.host, &first)?;
            chain.del(&stage.host, &first)?;
            let before = stage.residue()?;
            chain.add(&stage.host, &first)?;
            chain.add(&stage.host, &second)?;
            chain.gc(&stage.host, &[&first])?;
            ensure!(records(&stage.host, "net", &second)?.is_empty(), "GC left a record");
            ensure!(records(&stage.host, "net", &first)?.len() == 1, "GC took a valid one");
            chain.del(&stage.host, &first)?;
            chain.del(&stage.host, &first)?;
            chain.del(&stage.host, &second.without_netns())?;
            stage.ensure_unchanged(&before)?;
        }
        Ok(())
    });
}

#[test]
fn a_second_add_stands_for_the_first() {
    run(|world| {
        let stage = Stage::new(world)?;
        let (chain, container) = (network("net", &[bridge(0)])?, stage.container()?);
        let table = || container.container().nft_table("inet zeugma_resolver");
        for plugin in [resolver(), inside(), inside(), resolver()] {
            added(&stage, &chain, &container, &plugin)?.result()?;
            ensure!(records(&stage.host, "net", &container)?.len() == 1, "more than one record");
            ensure!(table().is_ok() == (plugin == inside()), "{plugin}");
        }
        Ok(())
    });
}

#[test]
fn status_warns_of_a_missing_agent_and_fails_where_one_is_required() {
    run(|world| {
        let stage = Stage::new(world)?;
        let status = |keys| -> Result<Outcome> {
            let plugin = object(&with(resolver(), keys));
            let config = network("net", &[])?.config(&stage.host, &plugin, None, None);
            Call::new(bin_dir(), "resolver", "STATUS", &config).output(&stage.host)
        };
        let warned = status(json!({}))?;
        warned.result()?;
        ensure!(
            warned.finished.stderr.contains("start it with `zeugma agent`"),
            "{}",
            warned.finished.stderr
        );
        let error = refusal(status(json!({"requireAgent": true}))?.result());
        ensure!(error.code == 51 && error.msg.contains("no agent runs"), "{error}");
        let _heard = agent(&stage.host, FINE)?;
        let fine = status(json!({"requireAgent": true}))?;
        fine.result()?;
        ensure!(fine.finished.stderr.is_empty(), "{}", fine.finished.stderr);
        Ok(())
    });
}

#[test]
fn what_makes_no_sense_is_refused() {
    run(|world| {
        let stage = Stage::new(world)?;
        let (chain, container) = (network("net", &[bridge(0)])?, stage.container()?);
        for (keys, code, word) in [
            (json!({"mode": "host"}), 7, "\"host\""),
            (json!({"servers": ["dns.example"]}), 7, "dns.example"),
            (json!({"names": ["a b"]}), 7, "a b"),
            (json!({"internal": "yes"}), 6, "internal"),
        ] {
            let error = refusal(added(&stage, &chain, &container, &with(resolver(), keys))?.result());
            ensure!(error.code == code && error.msg.contains(word), "{error}");
        }
        let config = json!({"cniVersion": "1.1.0", "name": "net", "type": "resolver"});
        let error = refusal(Call::new(bin_dir(), "resolver", "ADD", &config).of(&container).run(&stage.host));
        ensure!(error.code == 7 && error.msg.contains("chained"), "{error}");
        Ok(())
    });
}

/// A bridge whose gateway is somebody else's.
fn far_gateway() -> Value {
    with(
        bridge(0),
        json!({"isDefaultGateway": false, "ipMasq": false, "ipam": {
            "type": "host-local", "ranges": [[{"subnet": "10.88.0.0/24", "gateway": "10.88.0.254"}]],
        }}),
    )
}

#[test]
fn where_the_gateway_is_not_the_host_s_the_container_asks_itself() {
    run(|world| {
        let stage = Stage::new(world)?;
        let (chain, container) = (network("net", &[far_gateway()])?, stage.container()?);
        let result = added(&stage, &chain, &container, &resolver())?.result()?;
        ensure!(result["dns"]["nameservers"] == json!(["127.0.0.11"]), "{result}");
        let forced = with(resolver(), json!({"mode": "gateway"}));
        let error = refusal(added(&stage, &chain, &container, &forced)?.result());
        ensure!(error.code == 7 && error.msg.contains("isGateway"), "{error}");
        Ok(())
    });
}

/// The port at which the resolver of the container is to listen.
fn port(host: &Host, network: &str, of: &Attachment) -> Result<u64> {
    let record = record(host, network, of)?;
    record["resolver"]["listen"]["container"].as_u64().with_context(|| record.to_string())
}

#[test]
fn questions_to_127_0_0_11_arrive_at_the_port_and_answers_come_from_53() {
    run(|world| {
        let stage = Stage::new(world)?;
        let (chain, container) = (network("net", &[bridge(0), inside()])?, stage.container()?);
        chain.add(&stage.host, &container)?;
        let here = container.container();
        let resolver = format!("127.0.0.11:{}", port(&stage.host, "net", &container)?);
        let _servers = (here.udp_echo(&resolver, "resolver")?, here.tcp_echo(&resolver, "resolver")?);
        // Port 53 of every other address is the container's own.
        let _own = (here.udp_echo("0.0.0.0:53", "own")?, here.tcp_echo("0.0.0.0:53", "own")?);
        ensure!(here.ask_udp("127.0.0.11:53")?.starts_with("resolver "));
        ensure!(here.ask_tcp("127.0.0.11:53")?.starts_with("resolver "));
        for address in ["127.0.0.1:53", "10.88.0.2:53"] {
            ensure!(here.ask_udp(address)?.starts_with("own ") && here.ask_tcp(address)?.starts_with("own "));
        }
        ensure!(stage.host.ask_udp("10.88.0.2:53")? == "own 10.88.0.1", "the host asks the container");
        ensure!(stage.host.ask_tcp("10.88.0.2:53")? == "own 10.88.0.1", "the host asks the container");
        Ok(())
    });
}

#[test]
fn networks_of_a_container_share_its_port_until_the_last_is_left() {
    run(|world| {
        let stage = Stage::new(world)?;
        let chains = [network("one", &[bridge(0), inside()])?, network("two", &[bridge(1), inside()])?];
        let eth0 = stage.container()?;
        let eth1 = eth0.container().attachment(eth0.id(), "eth1");
        chains[0].add(&stage.host, &eth0)?;
        chains[1].add(&stage.host, &eth1)?;
        ensure!(port(&stage.host, "one", &eth0)? == port(&stage.host, "two", &eth1)?, "two ports");
        let table = || eth0.container().nft_table("inet zeugma_resolver");
        chains[0].del(&stage.host, &eth0)?;
        ensure!(table().is_ok(), "the other network's way is gone");
        chains[1].check(&stage.host, &eth1)?;
        chains[1].del(&stage.host, &eth1)?;
        ensure!(table().is_err(), "the table is left");
        Ok(())
    });
}

#[test]
fn check_wants_the_rules_in_the_container() {
    run(|world| {
        let stage = Stage::new(world)?;
        let (chain, container) = (network("net", &[bridge(0), inside()])?, stage.container()?);
        chain.add(&stage.host, &container)?;
        chain.check(&stage.host, &container)?;
        container.container().nft("flush ruleset")?;
        let error = refusal(chain.check(&stage.host, &container));
        ensure!(error.code == 110 && error.msg.contains("zeugma_resolver"), "{error}");
        chain.del(&stage.host, &container)
    });
}

#[test]
fn a_container_on_two_networks_finds_names_of_both() {
    run(|world| {
        let stage = Stage::new(world)?;
        let agent = Agent::start(&stage.host)?;
        let (one, two) = (network("one", &[bridge(0), inside()])?, network("two", &[bridge(1), inside()])?);
        let asking = stage.container()?;
        one.add(&stage.host, &asking)?;
        two.add(&stage.host, &asking.container().attachment(asking.id(), "eth1"))?;
        for (chain, network) in [(&one, "one"), (&two, "two")] {
            let other = stage.container()?;
            let expected = [address(&chain.add(&stage.host, &other)?, 4)?];
            for name in [format!("{}.zeugma.internal", other.id()), format!("{}.{network}", other.id())] {
                ensure_told(asking.container(), "127.0.0.11", &name, &expected)?;
            }
        }
        one.del(&stage.host, &asking)?;
        ensure!(dig(asking.container(), "127.0.0.11", "c0.two")?.len() == 1, "{}", agent.process.log());
        Ok(())
    });
}

#[test]
fn a_query_on_the_command_line_says_what_a_container_is_told() {
    run(|world| {
        let stage = Stage::new(world)?;
        let _agent = Agent::start(&stage.host)?;
        let (chain, container) = (network("net", &[bridge(0), resolver()])?, stage.container()?);
        let expected = address(&chain.add(&stage.host, &container)?, 4)?;
        ensure_told(container.container(), "10.88.0.1", "c0.net", std::slice::from_ref(&expected))?;
        let zeugma =
            |words: &[&str]| stage.host.command(bin_dir().join("zeugma")).arg("dns").args(words).output();
        let found = zeugma(&["query", "c0", "--network", "net", "--json"])?;
        let answer: Value = serde_json::from_str(&found.stdout)?;
        ensure!(found.status.code() == Some(0) && answer["records"][0]["data"] == expected, "{found:?}");
        for (words, code) in
            [(&["query", "c0.zeugma.internal"][..], 0), (&["query", "c9", "--network", "net"], 1)]
        {
            let asked = zeugma(words)?;
            ensure!(asked.status.code() == Some(code), "{words:?}: {asked:?}");
        }
        let dump = zeugma(&["dump"])?;
        ensure!(
            dump.stdout.contains("network net: domain zeugma.internal") && dump.stdout.contains(&expected),
            "{dump:?}"
        );
        Ok(())
    });
}
