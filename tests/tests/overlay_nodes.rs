//! Nodes of overlays: three machines with agents that share an etcd, how they come, go, move and lose one another, and
//! what becomes of the traffic between their containers. What a container gets is in `tests/overlay.rs`.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use netns_fixtures::{Host, World, eventually, run};
use serde_json::Value;
use zeugma_tests::agent::Agent;
use zeugma_tests::cluster::{Cluster, PEERS, Underlay};
use zeugma_tests::lab;

/// Longer than anything takes on a busy machine.
const WAIT: Duration = Duration::from_secs(40);
/// Others believe for two seconds that a node lives.
const FLAGS: [&str; 2] = ["--node-ttl", "2"];

fn three<'a>(world: &'a World, options: &str) -> Result<Cluster<'a>> {
    let cluster = Cluster::plan(world).flags(&FLAGS).build(&["a", "b", "c"])?;
    cluster.zeugma("a", &format!("network create front -d overlay --subnet 10.1.0.0/16 {options}"))?;
    Ok(cluster)
}

/// What one says, the other hears.
fn exchanged(from: &mut TcpStream, to: &mut TcpStream) -> Result<()> {
    to.set_read_timeout(Some(WAIT))?;
    from.write_all(b"word")?;
    let mut heard = [0; 4];
    to.read_exact(&mut heard)?;
    ensure!(heard == *b"word", "{heard:?}");
    Ok(())
}

/// The longest time in which nothing of a steady stream came, from before `meanwhile` until it has all come.
fn longest_gap(
    mut from: TcpStream,
    mut to: TcpStream,
    meanwhile: impl FnOnce() -> Result<()>,
) -> Result<Duration> {
    to.set_read_timeout(Some(WAIT))?;
    let (stop, stopped) = mpsc::channel::<()>();
    let sender = thread::spawn(move || -> Result<()> {
        while stopped.recv_timeout(Duration::from_millis(20)) == Err(RecvTimeoutError::Timeout) {
            from.write_all(b"word")?;
        }
        Ok(())
    });
    let receiver = thread::spawn(move || -> Result<Duration> {
        let (mut last, mut longest, mut heard) = (Instant::now(), Duration::ZERO, [0; 64]);
        loop {
            let count = to.read(&mut heard)?;
            longest = longest.max(last.elapsed());
            last = Instant::now();
            if count == 0 {
                return Ok(longest);
            }
        }
    });
    let outcome = meanwhile();
    drop(stop);
    let (sent, gap) = (sender.join().expect("sends"), receiver.join().expect("receives"));
    outcome.and(sent).and(gap)
}

/// A container on the overlay, as soon as the host has it, and its address.
fn container(cluster: &Cluster<'_>, host: &str, name: &str) -> Result<(Host, String)> {
    let (container, mut addresses) = cluster.container_soon(host, "front", name)?;
    Ok((container, addresses.swap_remove(0)))
}

fn reaches(from: &Host, address: &str) -> Result<()> {
    ensure!(eventually(WAIT, || from.ping(address).is_ok()), "{} does not reach {address}", from.name());
    Ok(())
}

/// The block that an address is of, in this test.
fn block(address: &str) -> String {
    format!("{}.0/24", address.rsplit_once('.').expect("an address").0)
}

fn nodes(cluster: &Cluster<'_>, on: &str) -> Result<Vec<Value>> {
    Ok(serde_json::from_str(&cluster.zeugma(on, "node ls --json")?)?)
}

fn is_alive(cluster: &Cluster<'_>, on: &str, node: &str) -> bool {
    let is_it = |view: &Value| view["node"]["name"] == node && view["alive"] == true;
    nodes(cluster, on).is_ok_and(|nodes| nodes.iter().any(is_it))
}

fn routes(host: &Host) -> String {
    host.run(["ip", "-j", "route"]).map(|done| done.stdout).unwrap_or_default()
}

#[test]
fn a_host_that_joins_reaches_every_container_and_its_own_are_reached() {
    run(|world| {
        let mut cluster = three(world, "")?;
        let (one, first) = container(&cluster, "a", "one")?;
        let (two, second) = container(&cluster, "b", "two")?;
        cluster.add_host("d")?;
        cluster.start_agent("d", &[])?;
        let (new, address) = container(&cluster, "d", "new")?;
        reaches(&new, &first)?;
        reaches(&new, &second)?;
        reaches(&one, &address)?;
        reaches(&two, &first)?;
        ensure!(
            nodes(&cluster, "c")?.len() == 4 && is_alive(&cluster, "c", "d"),
            "{:?}",
            nodes(&cluster, "c")?
        );
        Ok(())
    });
}

#[test]
fn a_node_that_is_lost_keeps_its_block_until_somebody_removes_it() {
    run(|world| {
        let mut cluster = three(world, "")?;
        let (one, _) = container(&cluster, "a", "one")?;
        let (_three, third) = container(&cluster, "c", "three")?;
        reaches(&one, &third)?;
        let refused = cluster.zeugma("a", "node rm c").unwrap_err().to_string();
        ensure!(refused.contains("node c lives"), "{refused}");
        cluster.kill_agent("c");
        ensure!(eventually(WAIT, || !is_alive(&cluster, "a", "c")), "c is said to live");
        reaches(&one, &third)?;
        let told = cluster.zeugma("a", "node rm c")?;
        ensure!(told.contains(&format!("{} of network front is free", block(&third))), "{told}");
        let is_routed = |host: &str| routes(cluster.host(host)).contains(&block(&third));
        ensure!(eventually(WAIT, || !is_routed("a") && !is_routed("b")), "{}", routes(cluster.host("a")));
        ensure!(one.ping(&third).is_err(), "packets to a removed node go on");
        Ok(())
    });
}

#[test]
fn a_node_is_reached_at_its_new_address_when_it_moves() {
    run(|world| {
        let cluster = three(world, "")?;
        let (one, first) = container(&cluster, "a", "one")?;
        let (two, second) = container(&cluster, "b", "two")?;
        reaches(&one, &second)?;
        let b = cluster.host("b");
        b.ip("addr add 192.0.2.77/24 dev eth0")?;
        b.ip("addr del 192.0.2.2/24 dev eth0")?;
        b.ip("addr replace 192.0.2.77/24 dev eth0")?;
        b.ip("route replace default via 192.0.2.254")?;
        reaches(&one, &second)?;
        reaches(&two, &first)?;
        let addresses = nodes(&cluster, "a")?[1]["node"]["addresses"].to_string();
        ensure!(addresses.contains("192.0.2.77") && !addresses.contains("192.0.2.2\""), "{addresses}");
        Ok(())
    });
}

#[test]
fn of_two_nodes_that_claim_a_block_one_gives_out_another_and_says_so() {
    run(|world| {
        let cluster = three(world, "")?;
        let (one, first) = container(&cluster, "a", "one")?;
        let (two, second) = container(&cluster, "b", "two")?;
        reaches(&one, &second)?;
        // As a store that was brought back from a copy may say.
        let (key, subnet) = (format!("/zeugma/node-blocks/front/{}", block(&first)), block(&first));
        let row = format!(r#"{{"version":1,"value":{{"network":"front","subnet":"{subnet}","node":"b"}}}}"#);
        cluster.etcdctl(&["put", &key, &row])?;
        let told = || cluster.agent("a").status().map(|status| status["problems"].to_string());
        ensure!(eventually(WAIT, || told().is_ok_and(|told| told.contains(&subnet))), "{:?}", told());
        let (_another, another) = container(&cluster, "a", "another")?;
        ensure!(block(&another) != subnet, "a gives out {another} of {subnet}");
        reaches(&two, &another)
    });
}

#[test]
fn an_agent_that_starts_while_etcd_is_away_keeps_hosts_together() {
    run(|world| {
        let mut cluster = three(world, "")?;
        let (one, first) = container(&cluster, "a", "one")?;
        let (two, second) = container(&cluster, "b", "two")?;
        reaches(&one, &second)?;
        cluster.stop_etcd();
        cluster.restart_agent("a")?;
        reaches(&one, &second)?;
        let (_late, address) = container(&cluster, "a", "late")?;
        reaches(&two, &address)?;
        reaches(&two, &first)?;
        cluster.start_etcd()?;
        let (_three, third) = container(&cluster, "c", "three")?;
        reaches(&one, &third)
    });
}

#[test]
fn a_host_that_is_cut_off_from_etcd_is_reached_and_catches_up() {
    run(|world| {
        let cluster = three(world, "")?;
        let (one, _) = container(&cluster, "a", "one")?;
        let (three, third) = container(&cluster, "c", "three")?;
        reaches(&one, &third)?;
        cluster.cut_from_etcd("c")?;
        ensure!(eventually(WAIT, || !is_alive(&cluster, "a", "c")), "c is said to live");
        reaches(&one, &third)?;
        let (_more, more) = container(&cluster, "c", "more")?;
        reaches(&one, &more)?;
        let (_two, second) = container(&cluster, "b", "two")?;
        cluster.join_to_etcd("c")?;
        ensure!(eventually(WAIT, || is_alive(&cluster, "a", "c")), "c is not heard of again");
        reaches(&three, &second)
    });
}

#[test]
fn another_machine_of_the_same_name_takes_no_part_and_says_why() {
    run(|world| {
        let mut cluster = three(world, "")?;
        let (one, _) = container(&cluster, "a", "one")?;
        let (_two, second) = container(&cluster, "b", "two")?;
        cluster.add_host("twin")?;
        let (twin, etcd) = (cluster.host("twin"), cluster.etcd_url());
        let twin = Agent::run(twin, lab::agent(twin).args(["--node", "b", "--etcd", &etcd]))?;
        let told = || twin.status().map(|status| status["problems"].to_string());
        ensure!(
            eventually(WAIT, || told().is_ok_and(|told| told.contains("zeugma node rm b"))),
            "{:?}",
            told()
        );
        reaches(&one, &second)?;
        ensure!(!routes(cluster.host("twin")).contains("10.1."), "{}", routes(cluster.host("twin")));
        Ok(())
    });
}

#[test]
fn a_host_takes_another_block_before_its_addresses_are_used_up() {
    run(|world| {
        let cluster = three(world, "--opt block=29")?;
        let (far, _) = container(&cluster, "b", "far")?;
        let mut addresses = Vec::new();
        for number in 0..7 {
            addresses.push(container(&cluster, "a", &format!("n{number}"))?);
        }
        for (_, address) in &addresses {
            reaches(&far, address)?;
        }
        reaches(&addresses[6].0, &addresses[0].1)
    });
}

#[test]
fn a_node_that_changes_its_key_loses_no_connection() {
    run(|world| {
        let cluster = three(world, "--opt encrypted")?;
        let (one, _) = container(&cluster, "a", "one")?;
        let (two, second) = container(&cluster, "b", "two")?;
        reaches(&one, &second)?;
        let listener = two.enter(|| Ok(TcpListener::bind("0.0.0.0:80")?))?;
        let mut client = one.enter(|| Ok(TcpStream::connect((second.as_str(), 80))?))?;
        let mut server = listener.accept()?.0;
        exchanged(&mut client, &mut server)?;
        let (before, mut after) = (cluster.zeugma("a", "node key")?, String::new());
        let gap = longest_gap(server, client, || {
            after = cluster.zeugma("a", "node rotate-key")?;
            Ok(())
        })?;
        ensure!(before != after && cluster.zeugma("a", "node key")? == after, "{before} {after}");
        // A handshake that nobody understood is tried again after five seconds: no flow waits for that.
        ensure!(gap < Duration::from_secs(4), "nothing came for {gap:?}");
        let told = cluster.zeugma("b", "node ls")?;
        ensure!(told.contains(after.trim()) && !told.contains(before.trim()), "{told}");
        Ok(())
    });
}

#[test]
fn two_hosts_with_the_same_file_of_peers_need_no_store() {
    run(|world| {
        let cluster = Cluster::plan(world).without_agents().build(&["a", "b"])?;
        let file = world.dir().join("peers.toml");
        std::fs::write(&file, PEERS)?;
        let agent = |name: &str| {
            let host = cluster.host(name);
            Agent::run(host, lab::agent(host).args(["--node", name, "--peers"]).arg(&file))
        };
        let (_a, _b) = (agent("a")?, agent("b")?);
        let (one, first) = container(&cluster, "a", "one")?;
        let (two, second) = container(&cluster, "b", "two")?;
        ensure!(
            (block(&first), block(&second)) == ("10.1.1.0/24".into(), "10.1.2.0/24".into()),
            "{first} {second}"
        );
        reaches(&one, &second)?;
        reaches(&two, &first)?;
        let without = PEERS.rsplit_once("[[node]]").expect("there are nodes").0;
        std::fs::write(&file, without)?;
        let is_routed = || routes(cluster.host("a")).contains("10.1.2.0/24");
        ensure!(eventually(WAIT, || !is_routed()), "{}", routes(cluster.host("a")));
        Ok(())
    });
}

#[test]
fn containers_of_two_overlays_reach_the_other_hosts_on_both() {
    run(|world| {
        let cluster = Cluster::new(world, &["a", "b"])?;
        for network in ["front", "back"] {
            cluster.zeugma("a", &format!("network create -d overlay --ipv6 {network}"))?;
        }
        let on_both = |host, name| -> Result<(Host, Vec<String>)> {
            let (container, mut addresses) = cluster.container_soon(host, "front", name)?;
            let mut more =
                || cluster.connect(host, "back", &container, "").map(|more| addresses.extend(more));
            ensure!(eventually(WAIT, || more().is_ok()), "{name} does not come onto the second overlay");
            Ok((container, addresses))
        };
        let (one, here) = on_both("a", "one")?;
        let (two, there) = on_both("b", "two")?;
        ensure!(here.len() == 4 && there.len() == 4, "{here:?} {there:?}");
        there.iter().try_for_each(|address| reaches(&one, address))?;
        here.iter().try_for_each(|address| reaches(&two, address))
    });
}

#[test]
fn hosts_with_a_file_of_peers_reach_each_other_encrypted_and_in_both_families() {
    run(|world| {
        let cluster = Cluster::plan(world).underlay(Underlay::Ipv6).without_agents().build(&["a", "b"])?;
        let file = world.dir().join("peers.toml");
        let mut text = ENCRYPTED.to_owned();
        for (place, name) in (1..).zip(["a", "b"]) {
            let (key, address) = (cluster.zeugma(name, "node key")?, cluster.address(name, 6));
            text += &format!(
                "[[node]]\nname = \"{name}\"\naddresses = [\"{address}\"]\nkey = \"{}\"\n",
                key.trim()
            );
            text += &format!("blocks = {{ front = [\"10.1.{place}.0/24\", \"fd01:0:0:{place}::/64\"] }}\n");
        }
        std::fs::write(&file, text)?;
        let agent = |name: &str| {
            let host = cluster.host(name);
            let flags = ["--wireguard", "userspace", "--node", name, "--peers"];
            Agent::run(host, lab::agent(host).args(flags).arg(&file))
        };
        let (_a, _b) = (agent("a")?, agent("b")?);
        let (one, here) = cluster.container_soon("a", "front", "one")?;
        let (two, there) = cluster.container_soon("b", "front", "two")?;
        ensure!((&*here[1], &*there[1]) == ("fd01:0:0:1::2", "fd01:0:0:2::2"), "{here:?} {there:?}");
        there.iter().try_for_each(|address| reaches(&one, address))?;
        here.iter().try_for_each(|address| reaches(&two, address))
    });
}

/// The network of a file of peers; nodes come after it.
const ENCRYPTED: &str = r#"
[[network]]
name = "front"
driver = "overlay"
subnets = [{ subnet = "10.1.0.0/16" }, { subnet = "fd01::/48" }]
options = { encrypted = "" }

"#;
