//! Services of the agent: who has the label serves, under one name and one address, whatever happens to the agent.
//! What becomes of each packet is promised in `crates/kernel/tests/services`.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};

use anyhow::{Context, Result, ensure};
use netns_fixtures::{Attachment, Chain, Host, Running, Server, eventually, run};
use serde_json::{Value, json};
use zeugma_tests::agent::{Agent, SOON, command, ensure_told};
use zeugma_tests::stage::{Stage, address, bridge, network, with};

/// A network whose containers have the label `app` = `app`, and names.
fn labelled(number: u8, app: &str) -> Result<Chain> {
    let labels = json!({"args": {"cni": {"labels": [{"key": "app", "value": app}]}}});
    network(&format!("net{number}"), &[with(bridge(number), labels), json!({"type": "resolver"})])
}

/// A container that answers at port 8080 with its name, in both families.
struct Serving {
    attachment: Attachment,
    addresses: [String; 2],
    _servers: Vec<Server>,
}

impl Serving {
    fn new(stage: &Stage<'_>, chain: &Chain) -> Result<Serving> {
        let attachment = stage.container()?;
        let result = chain.add(&stage.host, &attachment)?;
        let addresses = [address(&result, 4)?, address(&result, 6)?];
        let (inside, name) = (attachment.container(), attachment.id().to_owned());
        let mut servers = Vec::new();
        for address in [at(&addresses[0], 8080), at(&addresses[1], 8080)] {
            servers.push(inside.tcp_echo(&address, &name)?);
        }
        Ok(Serving { attachment, addresses, _servers: servers })
    }
}

fn at(address: &str, port: u16) -> String {
    if address.contains(':') { format!("[{address}]:{port}") } else { format!("{address}:{port}") }
}

/// The service `web` with these keys besides; returns its virtual addresses.
fn create(agent: &Agent, keys: Value) -> Result<Vec<String>> {
    let service = json!({"name": "web", "networks": ["net0"], "ports": [{"port": 80, "target": 8080}]});
    let (code, written) = agent.put("/v1/services/web", &with(service, keys))?;
    ensure!(code < 300, "{code} {written}");
    let vips = written["vips"].as_array().context("virtual addresses")?;
    Ok(vips.iter().filter_map(Value::as_str).map(str::to_owned).collect())
}

fn selected(agent: &Agent) -> Result<Vec<String>> {
    create(agent, json!({"selector": {"app": "web"}}))
}

/// Who answers, as soon as everything got round.
fn ensure_serving(client: &Host, vip: &str, names: &[&str]) -> Result<()> {
    let names: BTreeSet<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let ask = || {
        client.ask_tcp(&at(vip, 80)).ok().map(|text| text.split(' ').next().unwrap_or_default().to_owned())
    };
    let all = || (0..60).filter_map(|_| ask()).collect::<BTreeSet<_>>();
    let mut seen = all();
    ensure!(
        eventually(SOON, || {
            let is_so = seen == names;
            if !is_so {
                seen = all();
            }
            is_so
        }),
        "{} asks {vip}: {seen:?} and not {names:?}",
        client.name()
    );
    Ok(())
}

fn ensure_refused(client: &Host, vip: &str) -> Result<()> {
    let is_refused = || client.ask_tcp(&at(vip, 80)).is_err_and(|error| error.is_refused());
    ensure!(eventually(SOON, is_refused), "{} asks {vip}: {:?}", client.name(), client.ask_tcp(&at(vip, 80)));
    Ok(())
}

#[test]
fn who_has_the_label_serves_from_add_to_del() {
    run(|world| {
        let stage = Stage::new(world)?;
        let agent = Agent::start(&stage.host)?;
        let (web, other) = (labelled(0, "web")?, labelled(1, "db")?);
        let one = Serving::new(&stage, &web)?;
        let elsewhere = Serving::new(&stage, &other)?;
        for vip in selected(&agent)? {
            stage.client.ip(&format!(
                "route add {vip} via {}",
                if vip.contains(':') { "2001:db8:1::1" } else { "192.0.2.1" }
            ))?;
            for client in [&stage.host, &stage.client, elsewhere.attachment.container()] {
                ensure_serving(client, &vip, &["c0"])?;
            }
            let two = Serving::new(&stage, &web)?;
            ensure_serving(&stage.host, &vip, &["c0", two.attachment.id()])?;
            ensure_serving(two.attachment.container(), &vip, &["c0", two.attachment.id()])?;
            web.del(&stage.host, &two.attachment)?;
            ensure_serving(&stage.host, &vip, &["c0"])?;
        }
        web.del(&stage.host, &one.attachment)?;
        let view = agent.get("/v1/services/web")?.1;
        ensure!(eventually(SOON, || agent.status().is_ok_and(|now| now["endpoints"] == 0)), "{view}");
        ensure_refused(&stage.client, &selected(&agent)?[0])
    });
}

#[test]
fn the_name_leads_to_the_address_and_tasks_to_who_serves() {
    run(|world| {
        let stage = Stage::new(world)?;
        let agent = Agent::start(&stage.host)?;
        let chain = labelled(0, "web")?;
        let one = Serving::new(&stage, &chain)?;
        let vips = selected(&agent)?;
        let client = one.attachment.container();
        ensure_told(client, "10.88.0.1", "web.zeugma.internal", &vips[..1])?;
        ensure_told(client, "10.88.0.1", "web.zeugma.internal AAAA", &vips[1..])?;
        ensure_told(client, "10.88.0.1", "tasks.web.zeugma.internal", &one.addresses[..1])?;
        ensure!(agent.delete("/v1/services/web")?.0 == 200);
        ensure_told(client, "10.88.0.1", "web.zeugma.internal", &[])
    });
}

#[test]
fn a_service_without_endpoints_refuses_at_once_and_leaves_nothing_when_it_goes() {
    run(|world| {
        let stage = Stage::new(world)?;
        let is_traffic = |line: &str| line.starts_with("conntrack");
        let before = stage.residue()?.without(is_traffic);
        let agent = Agent::start(&stage.host)?;
        for vip in selected(&agent)? {
            ensure_refused(&stage.host, &vip)?;
            stage.host.ping(&vip)?;
        }
        ensure!(agent.delete("/v1/services/web")?.0 == 200);
        ensure!(agent.get("/v1/services/web")?.0 == 404);
        let diff = before.diff(&stage.residue()?.without(is_traffic));
        ensure!(diff.is_empty(), "{diff}");
        Ok(())
    });
}

#[test]
fn an_endpoint_that_was_added_serves_until_it_is_removed() {
    run(|world| {
        let stage = Stage::new(world)?;
        let agent = Agent::start(&stage.host)?;
        let _server = stage.client.tcp_echo("192.0.2.2:8080", "outside")?;
        let vip = create(&agent, json!({}))?.swap_remove(0);
        ensure_refused(&stage.host, &vip)?;
        ensure!(agent.put("/v1/services/web/endpoints/192.0.2.2", &json!({}))?.0 < 300);
        // It is there when the answer is: nobody has to wait.
        let answer = stage.host.ask_tcp(&at(&vip, 80))?;
        ensure!(answer.starts_with("outside "), "{answer}");
        ensure!(agent.delete("/v1/services/web/endpoints/192.0.2.2")?.0 == 200);
        ensure_refused(&stage.host, &vip)
    });
}

/// The table as nft lists it, and the number of the ruleset's generation.
fn programmed(host: &Host) -> Result<(String, String)> {
    let generation = host.command("nft").args(["--handle", "list", "ruleset"]).run()?.stdout;
    Ok((host.nft_table("inet zeugma_services")?, generation))
}

#[test]
fn traffic_goes_on_without_the_agent_and_the_next_one_changes_nothing() {
    run(|world| {
        let stage = Stage::new(world)?;
        let agent = Agent::start(&stage.host)?;
        let chain = labelled(0, "web")?;
        let (_one, _two) = (Serving::new(&stage, &chain)?, Serving::new(&stage, &chain)?);
        let vip = selected(&agent)?.swap_remove(0);
        ensure_serving(&stage.host, &vip, &["c0", "c1"])?;
        stage.host.run(["kill", "-9", &agent.process.pid().to_string()])?;
        ensure!(eventually(SOON, || !agent.process.is_running()));
        let before = programmed(&stage.host)?;
        ensure_serving(&stage.host, &vip, &["c0", "c1"])?;
        let monitor = stage.host.spawn(["nft", "monitor"])?;
        let next = Agent::start(&stage.host)?;
        let metrics = || next.page("/metrics").map_or(String::new(), |(_, text)| text);
        ensure!(eventually(SOON, || metrics().contains("zeugma_agent_services_ready 1")), "{}", metrics());
        assert_eq!(programmed(&stage.host)?, before);
        ensure!(!monitor.log().contains("zeugma_services"), "{}", monitor.log());
        ensure_serving(&stage.host, &vip, &["c0", "c1"])
    });
}

#[test]
fn a_flushed_ruleset_is_mended() {
    run(|world| {
        let stage = Stage::new(world)?;
        let agent = Agent::start(&stage.host)?;
        let _one = Serving::new(&stage, &labelled(0, "web")?)?;
        let vip = selected(&agent)?.swap_remove(0);
        ensure_serving(&stage.host, &vip, &["c0"])?;
        for damage in ["flush ruleset", "delete table inet zeugma_services"] {
            stage.host.nft(damage)?;
            ensure_serving(&stage.host, &vip, &["c0"])?;
        }
        Ok(())
    });
}

#[test]
fn an_established_connection_outlives_its_endpoints_service() {
    run(|world| {
        let stage = Stage::new(world)?;
        let agent = Agent::start(&stage.host)?;
        let chain = labelled(0, "web")?;
        let one = stage.container()?;
        let inside = address(&chain.add(&stage.host, &one)?, 4)?;
        let listener = one.container().enter(|| Ok(TcpListener::bind(at(&inside, 8080))?))?;
        let vip = selected(&agent)?.swap_remove(0);
        let connect = || stage.host.enter(|| Ok(TcpStream::connect(at(&vip, 80))?));
        let mut client = None;
        ensure!(eventually(SOON, || {
            client = connect().ok();
            client.is_some()
        }));
        let (mut client, (mut server, _)) = (client.context("a connection")?, listener.accept()?);
        let _two = Serving::new(&stage, &chain)?;
        ensure_serving_any(&stage.host, &vip, "c1")?;
        ensure!(agent.delete("/v1/services/web")?.0 == 200);
        client.write_all(b"still here")?;
        let mut heard = [0; 10];
        server.read_exact(&mut heard)?;
        ensure!(&heard == b"still here");
        Ok(())
    });
}

/// Whether this one is among those who answer.
fn ensure_serving_any(client: &Host, vip: &str, name: &str) -> Result<()> {
    let answers = || client.ask_tcp(&at(vip, 80)).is_ok_and(|text| text.starts_with(name));
    ensure!(eventually(SOON, answers), "{name} does not serve");
    Ok(())
}

#[test]
fn names_do_not_wait_for_a_catalogue_that_cannot_be_opened() {
    run(|world| {
        let stage = Stage::new(world)?;
        let file = stage.host.state_dir();
        std::fs::write(&file, "no directory")?;
        let agent = Agent::start(&stage.host)?;
        let told = || agent.status().map(|status| status["problems"].to_string()).unwrap_or_default();
        ensure!(eventually(SOON, || told().contains("the catalogue does not answer")), "{}", told());
        std::fs::remove_file(&file)?;
        ensure!(eventually(SOON, || told() == "null"), "{}", told());
        selected(&agent).map(drop)
    });
}

#[test]
fn a_range_that_the_host_has_otherwise_is_told() {
    run(|world| {
        let stage = Stage::new(world)?;
        let flags = ["--service-range", "192.0.2.128/25"];
        let agent = Agent::run(&stage.host, command(&stage.host).args(flags))?;
        let vips = selected(&agent)?;
        ensure!(vips.len() == 1 && vips[0].starts_with("192.0.2."), "{vips:?}");
        let told = || agent.status().map(|status| status["problems"].to_string()).unwrap_or_default();
        ensure!(eventually(SOON, || told().contains("overlaps 192.0.2.0/24 of eth0")), "{}", told());
        Ok(())
    });
}

/// An etcd of one member on a host, at its address towards the others.
fn etcd(stage: &Stage<'_>, host: &Host, url: &str) -> Result<Running> {
    let mut etcd = host.command("etcd").arg("--data-dir").arg(stage.world.dir().join("etcd"));
    etcd = etcd.args(["--listen-client-urls", url, "--advertise-client-urls", url]);
    let peer = "http://127.0.0.1:2380";
    etcd = etcd.args(["--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer]);
    etcd.args(["--initial-cluster", &format!("default={peer}")]).spawn()
}

fn node(host: &Host, name: &str, url: &str) -> Result<Agent> {
    Agent::run(host, command(host).args(["--node", name, "--etcd", url]))
}

#[test]
fn nodes_that_share_an_etcd_serve_one_anothers_containers_even_when_it_is_away() {
    run(|world| {
        let stage = Stage::new(world)?;
        let (a, b, url) = (&stage.host, &stage.client, "http://192.0.2.1:2379");
        b.ip("route add 10.88.0.0/24 via 192.0.2.1")?;
        let running = etcd(&stage, a, url)?;
        let (here, there) = (node(a, "a", url)?, node(b, "b", url)?);
        let chain = labelled(0, "web")?;
        let _one = Serving::new(&stage, &chain)?;
        let mut made = selected(&here);
        ensure!(
            eventually(SOON, || {
                made = selected(&here);
                made.is_ok()
            }),
            "{made:?} {}",
            running.log()
        );
        let vip = made?.swap_remove(0);
        ensure_serving(a, &vip, &["c0"])?;
        ensure_serving(b, &vip, &["c0"])?;
        let (code, view) = there.get("/v1/services/web")?;
        ensure!(code == 200 && view["endpoints"][0]["node"] == "a", "{view}");
        drop(running);
        let problems = || there.status().map(|status| status["catalogue"].to_string()).unwrap_or_default();
        ensure!(eventually(SOON, || problems().contains("degraded_since")), "{}", problems());
        ensure_serving(b, &vip, &["c0"])?;
        ensure!(there.put("/v1/services/other", &json!({"name": "other"}))?.0 >= 500);
        let _again = etcd(&stage, a, url)?;
        ensure!(eventually(SOON, || !problems().contains("degraded_since")), "{}", problems());
        let _two = Serving::new(&stage, &chain)?;
        ensure_serving(b, &vip, &["c0", "c1"])
    });
}

#[test]
fn who_fails_its_health_check_gets_nobody_until_it_answers() {
    run(|world| {
        let stage = Stage::new(world)?;
        let agent = Agent::start(&stage.host)?;
        let chain = labelled(0, "web")?;
        let _one = Serving::new(&stage, &chain)?;
        let silent = stage.container()?;
        let inside = address(&chain.add(&stage.host, &silent)?, 4)?;
        let health = json!({"probe": {"tcp": {"port": 8080}}, "interval_seconds": 1, "threshold": 1});
        let vip = create(&agent, json!({"selector": {"app": "web"}, "health": health}))?.swap_remove(0);
        ensure_serving(&stage.host, &vip, &["c0"])?;
        let _server = silent.container().tcp_echo(&at(&inside, 8080), "late")?;
        ensure_serving(&stage.host, &vip, &["c0", "late"])
    });
}

#[test]
fn a_published_port_leads_to_the_service_from_outside() {
    run(|world| {
        let stage = Stage::new(world)?;
        let agent = Agent::start(&stage.host)?;
        let _one = Serving::new(&stage, &labelled(0, "web")?)?;
        create(&agent, json!({"selector": {"app": "web"}, "published": [{"published": 8088, "port": 80}]}))?;
        for address in ["192.0.2.1:8088", "[2001:db8:1::1]:8088"] {
            let answers = || stage.client.ask_tcp(address).is_ok_and(|text| text.starts_with("c0 "));
            ensure!(eventually(SOON, answers), "{address}: {:?}", stage.client.ask_tcp(address));
        }
        let taken =
            json!({"name": "late", "ports": [{"port": 80}], "published": [{"published": 8088, "port": 80}]});
        agent.put("/v1/services/late", &taken)?;
        agent.put("/v1/services/late/endpoints/192.0.2.2", &json!({}))?;
        let told = || agent.status().map(|status| status["problems"].to_string()).unwrap_or_default();
        ensure!(eventually(SOON, || told().contains("8088/tcp is published by service web")), "{}", told());
        agent.delete("/v1/services/web")?;
        ensure!(eventually(SOON, || told() == "null"), "{}", told());
        Ok(())
    });
}

/// Every connection to the host would be refused otherwise.
#[test]
fn the_host_and_its_containers_keep_their_addresses() {
    run(|world| {
        let stage = Stage::new(world)?;
        let agent = Agent::start(&stage.host)?;
        let _own = stage.host.tcp_echo("192.0.2.1:22", "host")?;
        let _one = Serving::new(&stage, &labelled(0, "web")?)?;
        let service = |vip: &str| json!({"name": "web", "vips": [vip], "ports": [{"port": 80}]});
        let (code, told) = agent.put("/v1/services/web", &service("192.0.2.1"))?;
        ensure!(code == 409 && told.to_string().contains("an address of this host"), "{code} {told}");
        // In the subnet of a container whose network nobody wrote into the catalogue.
        let (code, told) = agent.put("/v1/services/web", &service("10.88.0.200"))?;
        ensure!(code < 300 && told["problems"].to_string().contains("not programmed here"), "{code} {told}");
        // One that the host gets later.
        ensure!(
            agent.put("/v1/services/late", &with(service("198.51.100.1"), json!({"name": "late"})))?.0 < 300
        );
        stage.host.ip("address add 198.51.100.1/32 dev lo")?;
        let answers = |address| eventually(SOON, || stage.host.ask_tcp(address).is_ok());
        ensure!(answers("192.0.2.1:22"));
        let _late = stage.host.tcp_echo("198.51.100.1:22", "host")?;
        ensure!(answers("198.51.100.1:22"), "{:?}", stage.host.ask_tcp("198.51.100.1:22"));
        Ok(())
    });
}

#[test]
fn routes_and_forwarding_that_somebody_takes_away_come_back() {
    run(|world| {
        let stage = Stage::new(world)?;
        let agent = Agent::start(&stage.host)?;
        let _one = Serving::new(&stage, &labelled(0, "web")?)?;
        selected(&agent)?;
        let held =
            || stage.host.ip_json("route show proto 123").is_ok_and(|routes| routes[0]["dst"].is_string());
        ensure!(held());
        stage.host.ip("route flush proto 123")?;
        stage.host.run(["sysctl", "-w", "net.ipv4.ip_forward=0"])?;
        ensure!(!held());
        let forwards = || {
            stage
                .host
                .run(["sysctl", "-n", "net.ipv4.ip_forward"])
                .is_ok_and(|value| value.stdout.trim() == "1")
        };
        ensure!(eventually(SOON, || held() && forwards()));
        Ok(())
    });
}
