//! The demo's steps in order, each tried for real.
//!
//! Addresses are read from the results of the plugins, not assumed.

use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use super::{overlay, picture, residue, service};
use crate::cni::{self, Chain, Container};
use crate::netns::{self, ip, ip_exec};
use crate::shell;

/// The host's address towards the outside (RFC 5737).
const HOST: &str = "192.0.2.1";
/// The outside client's.
const OUTSIDE: &str = "192.0.2.2";
/// The containers' network.
const SUBNET: &str = "10.88.0.0/24";
/// The port on the host, and the one in the container.
const PUBLISHED: (u32, u32) = (8080, 80);
/// Both containers, the one with the published port first.
const CONTAINERS: [&str; 2] = ["web", "db"];

/// Builds, tries, shows, removes.
pub(crate) fn tell(bin_dir: &Path) -> Result<()> {
    netns::settle()?;
    uplink()?;
    let agent = agent(bin_dir)?;
    let before = residue::observe()?;
    let network = network(bin_dir, agent.is_some());
    println!("\n1. ADD: two containers join the network \"{}\"", network.name);
    let results = attach(&network)?;
    let addresses = [address(&results[0])?, address(&results[1])?];
    let _servers = [
        serve("web", PUBLISHED.1, "hello from the container web\n")?,
        serve("db", PUBLISHED.1, "hello from the container db\n")?,
        serve("outside", 80, "")?,
    ];
    println!(
        "\n2. What there is now\n{}",
        picture::draw(&picture::Scene {
            host: HOST,
            outside: OUTSIDE,
            gateway: &gateway(&results[0])?,
            containers: [(CONTAINERS[0], &addresses[0]), (CONTAINERS[1], &addresses[1])],
            published: PUBLISHED,
        })
    );
    println!("3. Tried");
    try_everything(&addresses)?;
    if agent.is_some() {
        try_names(bin_dir, &addresses, &gateway(&results[0])?)?;
    }
    println!("\n4. The ruleset: one table, constant; what varies is elements of its sets and maps");
    println!("{}", ruleset());
    if agent.is_some() {
        println!("5. A service: one name, one address, one port of the host, two containers");
        let zeugma = bin_dir.join("zeugma");
        service::try_it(&zeugma, &addresses[1], HOST, &gateway(&results[0])?)?;
    }
    if agent.is_some() {
        println!("6. Two hosts, one encrypted network: a lab, each host with its agent, both with one etcd");
        overlay::try_it(bin_dir)?;
    }
    println!("7. DEL, then GC with no container left");
    detach(&network, &results)?;
    residue::prove_gone(&before)
}

/// The host's only way out: a cable to the outside client, which knows nothing of the containers' addresses.
fn uplink() -> Result<()> {
    ip("netns add outside")?;
    ip("link add uplink type veth peer name eth0 netns outside")?;
    ip(&format!("address add {HOST}/24 dev uplink"))?;
    ip("link set uplink up")?;
    ip_exec("outside", &format!("ip address add {OUTSIDE}/24 dev eth0"))?;
    ip_exec("outside", "ip link set eth0 up")?;
    for name in CONTAINERS {
        ip(&format!("netns add {name}"))?;
    }
    Ok(())
}

/// The agent that answers names, where it came with the plugins: other makers have none.
fn agent(bin_dir: &Path) -> Result<Option<Server>> {
    let zeugma = bin_dir.join("zeugma");
    if !zeugma.exists() {
        return Ok(None);
    }
    let mut command = shell::command(&zeugma.to_string_lossy(), ["agent", "--listen-metrics", "none"]);
    let child = command.stderr(Stdio::null()).spawn().context("cannot start the agent")?;
    let agent = Server(child);
    poll(|| shell::read(&mut shell::command(&zeugma.to_string_lossy(), ["dns", "dump"])))?;
    Ok(Some(agent))
}

fn network(bin_dir: &Path, has_names: bool) -> Chain {
    let bridge = json!({
        "type": "bridge", "bridge": "demo0", "isGateway": true, "ipMasq": true, "hairpinMode": true,
        "ipam": {
            "type": "host-local",
            "ranges": [[{ "subnet": SUBNET }]],
            "routes": [{ "dst": "0.0.0.0/0" }],
        },
    });
    let portmap = json!({ "type": "portmap", "capabilities": { "portMappings": true } });
    let mut plugins = vec![bridge, portmap, json!({ "type": "firewall" }), json!({ "type": "tuning" })];
    plugins.extend(has_names.then(|| json!({ "type": "resolver" })));
    Chain { bin_dir: bin_dir.to_owned(), version: "1.0.0", name: "demo".to_owned(), plugins }
}

fn ports_of(container: &str) -> Vec<Value> {
    if container == CONTAINERS[0] { vec![cni::port(PUBLISHED.0, PUBLISHED.1)] } else { Vec::new() }
}

fn attach(network: &Chain) -> Result<Vec<Value>> {
    let attach = |name: &&str| {
        let started = Instant::now();
        let result = network.add(&Container::named(name), &ports_of(name))?;
        let plugins: Vec<_> = network.plugins.iter().filter_map(|p| p["type"].as_str()).collect();
        let ms = started.elapsed().as_secs_f32() * 1e3;
        println!("   {name}: {} ({}, {ms:.1} ms)", address(&result)?, plugins.join(" + "));
        Ok(result)
    };
    CONTAINERS.iter().map(attach).collect()
}

fn detach(network: &Chain, results: &[Value]) -> Result<()> {
    for (name, result) in CONTAINERS.iter().zip(results) {
        let started = Instant::now();
        network.del(&Container::named(name), &ports_of(name), result)?;
        println!("   {name}: removed ({:.1} ms)", started.elapsed().as_secs_f32() * 1e3);
    }
    if !network.gc_everything()? {
        println!("   no GC: these plugins are older than CNI 1.1.0");
    }
    Ok(())
}

fn try_everything(addresses: &[String; 2]) -> Result<()> {
    let url = format!("http://{HOST}:{}/", PUBLISHED.0);
    let page = poll(|| ip_exec("outside", &format!("curl -sS --max-time 2 {url}")))?;
    ensure!(page.contains("container web"), "the published port answered {page:?}");
    println!("   outside: curl {url} -> {}", page.trim());
    for (from, to) in [(CONTAINERS[0], &addresses[1]), (CONTAINERS[1], &addresses[0])] {
        ip_exec(from, &format!("ping -c 1 -W 2 {to}"))?;
        println!("   {from}: ping {to} -> answered");
    }
    let seen = poll(|| ip_exec("db", &format!("curl -sS --max-time 2 http://{OUTSIDE}/cgi-bin/who")))?;
    ensure!(seen.trim() == HOST, "the outside saw {:?}, not the host's address", seen.trim());
    println!("   db: curl http://{OUTSIDE}/ -> answered; the outside saw {} (NAT)", seen.trim());
    let own = poll(|| ip_exec("web", &format!("curl -sS --max-time 2 {url}")))?;
    println!("   web: curl {url} (itself, through the host) -> {}", own.trim());
    Ok(())
}

/// A container asks at its gateway for the other one, and the host's side of it.
fn try_names(bin_dir: &Path, addresses: &[String; 2], gateway: &str) -> Result<()> {
    let name = format!("{}.zeugma.internal", CONTAINERS[1]);
    let said = poll(|| ip_exec(CONTAINERS[0], &format!("busybox nslookup -type=a {name} {gateway}")))?;
    ensure!(said.contains(&format!("Address: {}", addresses[1])), "the resolver answered {said:?}");
    println!("   {}: nslookup {name} {gateway} -> {}", CONTAINERS[0], addresses[1]);
    let zeugma = bin_dir.join("zeugma");
    let listed = shell::read(&mut shell::command(&zeugma.to_string_lossy(), ["ps"]))?;
    ensure!(addresses.iter().all(|address| listed.contains(address)), "zeugma ps lists {listed}");
    println!("   host: zeugma ps\n\n      {}", listed.trim_end().replace('\n', "\n      "));
    Ok(())
}

/// The table as nft prints it; other makers' plugins have none.
fn ruleset() -> String {
    shell::read(&mut shell::command("nft", ["list", "table", "inet", "zeugma"]))
        .unwrap_or_else(|_| "   (no table inet zeugma: these are not our plugins)\n".to_owned())
}

/// The first address of a result, without its prefix.
fn address(result: &Value) -> Result<String> {
    let found = result["ips"][0]["address"].as_str().context("the result has no address")?;
    Ok(found.split('/').next().unwrap_or(found).to_owned())
}

fn gateway(result: &Value) -> Result<String> {
    Ok(result["ips"][0]["gateway"].as_str().context("the result has no gateway")?.to_owned())
}

/// A server, ended with the value.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Serves `page` at `/` and the client's address, as the server sees it, at `/cgi-bin/who`.
fn serve(netns: &str, port: u32, page: &str) -> Result<Server> {
    let root = format!("/run/www-{netns}");
    std::fs::create_dir_all(format!("{root}/cgi-bin"))?;
    std::fs::write(format!("{root}/index.html"), page)?;
    let script = format!("{root}/cgi-bin/who");
    std::fs::write(&script, "#!/bin/sh\nprintf '\\r\\n%s\\n' \"$REMOTE_ADDR\"\n")?;
    std::fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
    let port = port.to_string();
    // On IPv4 alone: the address a client is seen with is then written as it is.
    let words =
        ["netns", "exec", netns, "busybox", "httpd", "-f", "-p", &format!("0.0.0.0:{port}"), "-h", &root];
    let child =
        shell::command("ip", words).stdout(Stdio::null()).spawn().context("cannot start the web server")?;
    Ok(Server(child))
}

/// Tries until it works, for as long as a server may take to listen.
pub(super) fn poll(mut attempt: impl FnMut() -> Result<String>) -> Result<String> {
    let deadline = Instant::now() + Duration::from_secs(5);
    loop {
        match attempt() {
            Ok(answer) => return Ok(answer),
            Err(error) if Instant::now() > deadline => bail!(error),
            Err(_) => std::thread::sleep(Duration::from_millis(20)),
        }
    }
}
