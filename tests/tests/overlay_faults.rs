//! Overlays when something breaks: a host that boots in an outage, one that is cut off while a key changes, one that is
//! away for a moment, a store that somebody emptied. Who joins, leaves and moves is in `tests/overlay_nodes.rs`.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use netns_fixtures::{Host, Running, Server, eventually, run};
use serde_json::Value;
use zeugma_tests::cluster::Cluster;

/// Longer than anything takes on a busy machine.
const WAIT: Duration = Duration::from_secs(40);

/// A container, and its address.
type Container = (Host, String);

/// Hosts with an overlay, and a container of the host's name on each.
fn overlaid<'a>(
    cluster: &Cluster<'a>,
    network: &str,
    options: &str,
    hosts: &[&str],
) -> Result<Vec<Container>> {
    cluster.zeugma("a", &format!("network create {network} -d overlay {options}"))?;
    hosts.iter().map(|host| container(cluster, host, network, &format!("{network}-{host}"))).collect()
}

fn container(cluster: &Cluster<'_>, host: &str, network: &str, name: &str) -> Result<Container> {
    let (container, mut addresses) = cluster.container_soon(host, network, name)?;
    Ok((container, addresses.swap_remove(0)))
}

fn reaches(from: &Host, address: &str) -> Result<()> {
    ensure!(eventually(WAIT, || from.ping(address).is_ok()), "{} does not reach {address}", from.name());
    Ok(())
}

/// Every one reaches every other one.
fn all_reach(containers: &[Container]) -> Result<()> {
    for (from, own) in containers {
        let mut others = containers.iter().filter(|(_, address)| address != own);
        others.try_for_each(|(_, address)| reaches(from, address))?;
    }
    Ok(())
}

fn block(address: &str) -> String {
    format!("{}.0/24", address.rsplit_once('.').expect("an address").0)
}

const USERSPACE: [&str; 4] = ["--node-ttl", "2", "--wireguard", "userspace"];

#[test]
fn a_host_that_boots_while_etcd_is_away_has_its_overlays_again() {
    run(|world| {
        let mut cluster = Cluster::plan(world).flags(&USERSPACE).build(&["a", "b", "c"])?;
        let networks = [("front", ""), ("red", "--opt encrypted")];
        let mut all: Vec<Vec<Container>> = Vec::new();
        for (network, options) in networks {
            all.push(overlaid(&cluster, network, options, &["a", "b", "c"])?);
        }
        all.iter().try_for_each(|containers| all_reach(containers))?;
        for (_, address) in all.iter().flatten() {
            cluster.await_remembered("b", &block(address))?;
        }
        cluster.stop_etcd();
        cluster.reboot("b")?;
        cluster.start_agent("b", &[])?;
        for ((network, _), containers) in networks.iter().zip(&mut all) {
            let before = std::mem::replace(
                &mut containers[1],
                container(&cluster, "b", network, &format!("{network}-again"))?,
            );
            ensure!(block(&before.1) == block(&containers[1].1), "{} after {}", containers[1].1, before.1);
            all_reach(containers)?;
        }
        Ok(())
    });
}

/// What is said and heard between two containers.
struct Talk {
    client: TcpStream,
    server: TcpStream,
}

impl Talk {
    fn begin(from: &Host, to: &Container) -> Result<Talk> {
        let listener = to.0.enter(|| Ok(TcpListener::bind("0.0.0.0:80")?))?;
        let client = from.enter(|| Ok(TcpStream::connect((to.1.as_str(), 80))?))?;
        let server = listener.accept()?.0;
        server.set_read_timeout(Some(WAIT))?;
        Ok(Talk { client, server })
    }

    fn goes_on(&mut self) -> Result<()> {
        self.client.write_all(b"word")?;
        let mut heard = [0; 4];
        self.server.read_exact(&mut heard).context("the connection is lost")?;
        ensure!(heard == *b"word", "{heard:?}");
        Ok(())
    }
}

/// Demands that of a steady stream of pings all so far were answered, and waits for a few more than there were.
fn ensure_none_lost(pings: &Running) -> Result<()> {
    let numbers = || -> Vec<u64> {
        let number = |line: &str| line.split("icmp_seq=").nth(1)?.split(' ').next()?.parse().ok();
        pings.log().lines().filter(|line| line.contains("ttl=")).filter_map(number).collect()
    };
    let before = numbers().len();
    ensure!(eventually(WAIT, || numbers().len() >= before + 10), "nothing comes any more: {}", pings.log());
    let numbers = numbers();
    ensure!(numbers.windows(2).all(|pair| pair[1] == pair[0] + 1), "some are lost: {numbers:?}");
    Ok(())
}

#[test]
fn a_host_that_is_cut_off_from_etcd_misses_a_change_of_keys_and_nobody_else_does() {
    run(|world| {
        let cluster = Cluster::plan(world).flags(&USERSPACE).build(&["a", "b", "c"])?;
        let containers = overlaid(&cluster, "front", "--opt encrypted", &["a", "b", "c"])?;
        all_reach(&containers)?;
        let [a, b, c] = &containers[..] else { unreachable!("there are three") };
        let mut talk = Talk::begin(&a.0, b)?;
        let pings = b.0.spawn(["ping", "-n", "-i", "0.05", &c.1])?;
        cluster.cut_from_etcd("c")?;
        ensure_none_lost(&pings)?;
        let key = cluster.zeugma("a", "node rotate-key")?;
        talk.goes_on()?;
        ensure_none_lost(&pings)?;
        let knows = |host: &str| cluster.zeugma(host, "node ls").is_ok_and(|told| told.contains(key.trim()));
        ensure!(eventually(WAIT, || knows("b")) && !knows("c"), "c is not cut off");
        cluster.join_to_etcd("c")?;
        ensure!(eventually(WAIT, || knows("c")), "{}", cluster.agent("c").process.log());
        all_reach(&containers)?;
        ensure_none_lost(&pings)?;
        talk.goes_on()
    });
}

/// Of the lease of the only key that begins so: how many seconds are left.
fn seconds_left(cluster: &Cluster<'_>, prefix: &str) -> Result<u64> {
    let there: Value = serde_json::from_str(&cluster.etcdctl(&["get", "--prefix", prefix, "-w", "json"])?)?;
    let lease = there["kvs"][0]["lease"].as_u64().with_context(|| format!("{prefix}: {there}"))?;
    let told = cluster.etcdctl(&["lease", "timetolive", &format!("{lease:x}"), "-w", "json"])?;
    let told: Value = serde_json::from_str(&told)?;
    told["ttl"].as_u64().with_context(|| format!("no lease: {told}"))
}

/// A container of the service `web`.
fn replica(cluster: &Cluster<'_>, host: &str, name: &str) -> Result<(Host, Server)> {
    let container = cluster.world.container(name)?;
    let connected = || cluster.connect(host, "front", &container, "--alias web").is_ok();
    ensure!(eventually(WAIT, connected), "{:?}", cluster.connect(host, "front", &container, "--alias web"));
    let server = container.tcp_echo("[::]:8080", name)?;
    Ok((container, server))
}

#[test]
fn an_outage_of_a_host_that_is_shorter_than_its_lease_takes_no_endpoint_away() {
    run(|world| {
        let cluster = Cluster::new(world, &["a", "b"])?;
        let (client, _) = overlaid(&cluster, "front", "", &["a"])?.swap_remove(0);
        let words = "--network front --port 80:8080 --vip 10.213.0.9 --selector zeugma.alias=web";
        cluster.zeugma("a", &format!("service create web {words}"))?;
        let _steady = replica(&cluster, "b", "steady")?;
        let answers = |name: &str| client.ask_tcp("10.213.0.9:80").is_ok_and(|told| told.starts_with(name));
        ensure!(eventually(WAIT, || answers("steady")), "{}", cluster.agent("a").process.log());
        let kernel = cluster.host("a").spawn(["nft", "monitor", "destroy", "elements"])?;
        let keys = cluster.etcd_host.spawn(["etcdctl", "watch", "--prefix", "/zeugma/"])?;
        let left = || seconds_left(&cluster, "/zeugma/endpoints/");
        cluster.cut("b")?;
        // Of thirty seconds; it is renewed every ten, and this time it is not.
        ensure!(eventually(WAIT, || left().is_ok_and(|left| left < 14)), "{:?}", left());
        cluster.join("b")?;
        ensure!(eventually(WAIT, || left().is_ok_and(|left| left > 20)), "{:?}", left());
        ensure!(eventually(WAIT, || answers("steady")) && kernel.log().is_empty(), "{}", kernel.log());
        let _late = replica(&cluster, "b", "late")?;
        ensure!(eventually(WAIT, || answers("late")), "{}", keys.log());
        ensure!(keys.log().contains("PUT") && !keys.log().contains("DELETE"), "{}", keys.log());
        Ok(())
    });
}

/// What a host has of the overlay.
fn kept(host: &Host) -> Result<String> {
    let routes = host.run(["ip", "route", "show", "proto", "124"])?.stdout;
    let entries = host.run(["bridge", "fdb", "show", "dev", "vx-front"])?.stdout;
    let mut lines: Vec<&str> = routes.lines().chain(entries.lines()).collect();
    lines.sort_unstable();
    Ok(format!("{}\n{}", lines.join("\n"), host.nft_table("inet zeugma")?))
}

/// The service answers them all, at its virtual address.
fn ensure_served(clients: &[Container]) -> Result<()> {
    for (client, _) in clients {
        let told = || client.ask_tcp("10.213.0.9:80");
        ensure!(
            eventually(WAIT, || told().is_ok_and(|told| told.starts_with("steady"))),
            "{}: {:?}",
            client.name(),
            told()
        );
    }
    Ok(())
}

/// Who is there reaches the others, who comes does, and hosts have what they had.
fn ensure_nothing_is_taken(
    cluster: &Cluster<'_>,
    containers: &mut Vec<Container>,
    before: &[String],
) -> Result<()> {
    let late = format!("late-{}", containers.len());
    containers.push(container(cluster, "a", "front", &late)?);
    all_reach(containers)?;
    // Last of what takes time: whoever was to hear that the service is gone has heard of it by now.
    ensure_served(containers)?;
    for (host, before) in ["a", "b"].iter().zip(before) {
        let now = kept(cluster.host(host))?;
        ensure!(now == *before, "{host} had\n{before}\nand has\n{now}");
    }
    Ok(())
}

#[test]
fn a_store_that_somebody_emptied_takes_nothing_away() {
    run(|world| {
        let mut cluster = Cluster::plan(world).flags(&["--node-ttl", "2"]).build(&["a", "b"])?;
        let mut containers = overlaid(&cluster, "front", "", &["a", "b"])?;
        all_reach(&containers)?;
        let words = "--network front --port 80:8080 --vip 10.213.0.9 --selector zeugma.alias=web";
        cluster.zeugma("a", &format!("service create web {words}"))?;
        let _steady = replica(&cluster, "b", "steady")?;
        ensure_served(&containers)?;
        let before = ["a", "b"].map(|host| kept(cluster.host(host)));
        let before: Vec<String> = before.into_iter().collect::<Result<_>>()?;
        cluster.etcdctl(&["del", "--prefix", "/zeugma/"])?;
        let notices = |host: &str| cluster.agent(host).process.log().contains("another");
        ensure!(eventually(WAIT, || notices("a") && notices("b")), "{}", cluster.agent("a").process.log());
        ensure_nothing_is_taken(&cluster, &mut containers, &before)?;
        // Nor does one that is new.
        cluster.stop_etcd();
        fs::remove_dir_all(world.dir().join("etcd"))?;
        cluster.start_etcd()?;
        cluster.restart_agent("a")?;
        let told = || cluster.agent("a").status().map(|status| status["problems"].to_string());
        ensure!(
            eventually(WAIT, || told().is_ok_and(|told| told.contains("of another catalogue"))),
            "{:?}",
            told()
        );
        ensure_nothing_is_taken(&cluster, &mut containers, &before)
    });
}
