//! `cargo xtask bench overlay`: what overlays cost and how soon they are there, on hosts as namespaces with agents and a
//! real etcd.
//!
//! Here: hosts that join, containers that are new, agents that start again. How fast traffic is: `overlay_traffic.rs`;
//! a thousand peers: `overlay_peers.rs`.

use std::net::{SocketAddr, TcpStream};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use netns_fixtures::{Host, Server, World, try_run};
use zeugma_tests::cluster::Cluster;
use zeugma_tests::use_bin_dir;

use super::measure::{Sample, Series};
use super::report::{self, Cell, Goal, Row};
use super::{overlay_peers, overlay_traffic, wireguard};
use crate::dist;

/// The overlay's name, wherever there is one.
pub(super) const NETWORK: &str = "fast";
/// Containers on each host before another joins.
const CONTAINERS: usize = 5;
/// Containers that are new, one after another.
const NEW: usize = 100;
/// How long anything here may take.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);

const TITLES: [&str; 2] = ["zeugma", "peer"];

const ABOUT: &str = "Hosts are namespaces on one bridge, each with an agent; etcd is real. The peer of VXLAN is made by hand: hosts beside them, \
with the same links, routes, neighbours and FDB entries made by ip(8) and bridge(8), and without nftables. TCP is iperf3, one flow between containers, \
the two in turn; what is compared is the median. A host that joins has reached every container when a TCP connection to each was \
taken; the time is from the start of its agent's process. A new container is pinged once from another host as soon as ADD returns. \
A thousand peers are rows in etcd of hosts that are not there: the agent starts when there is nothing in the kernel yet. A change is one \
more block of a peer, from when etcd has it until `ip monitor` tells of its route. While agents start again a container pings another host's a hundred times a \
second. The peer of WireGuard's rows is boringtun-cli with one thread, its fastest on few processors: two namespaces joined by a veth \
of 1500 bytes, a tunnel of 1420 between them, iperf3 through it for 3 seconds; processor time is that of both ends of the tunnel, iperf3's \
not among it; \"crypto alone\" is what openssl takes to seal and to open as much in packets of 1420 bytes; without offloads, tso, gso, gro and tx-udp-segmentation of the veth are off, so that each packet goes by itself.";

/// Measures, prints the table and writes docs/benchmarks/overlay.md.
pub(super) fn run(rounds: usize) -> Result<()> {
    let bin_dir = dist::run(None)?;
    let zeugma = bin_dir.join("zeugma");
    use_bin_dir(bin_dir);
    let peers = overlay_peers::built()?;
    let mut rows = try_run(|world| overlay_traffic::rows(world, rounds))?;
    rows.extend(try_run(|world| wireguard::rows(world, &zeugma, rounds))?);
    rows.extend(try_run(|world| members(world, rounds))?);
    rows.extend(try_run(move |world| overlay_peers::rows(world, &peers, rounds))?);
    let titles = TITLES.map(str::to_owned);
    println!("{}", report::table(&titles, &rows));
    report::write("overlay", "cargo xtask bench overlay", ABOUT, &titles, &rows)
}

/// A row that is ours alone.
pub(super) fn own_row(
    (key, title, unit, goal): (&'static str, &'static str, &'static str, Goal),
    cell: Cell,
) -> Row {
    Row { key, title, unit, goal, cells: vec![cell, Cell::bare(None)] }
}

fn members(world: &World, rounds: usize) -> Result<Vec<Row>> {
    let mut cluster = Cluster::new(world, &["a", "b"])?;
    cluster.zeugma("a", &format!("network create -d overlay {NETWORK}"))?;
    let _servers = (0..CONTAINERS)
        .flat_map(|number| ["a", "b"].map(|host| served(&cluster, host, &format!("{host}{number}"))))
        .collect::<Result<Vec<Served>>>()?;
    let addresses: Vec<SocketAddr> = _servers.iter().map(|one| one.address).collect();
    let mut rows = vec![join_row(&mut cluster, &addresses, rounds)?];
    rows.push(new_row(&cluster, &_servers[0].container)?);
    rows.push(restart_row(&mut cluster)?);
    Ok(rows)
}

struct Served {
    container: Host,
    address: SocketAddr,
    _server: Server,
}

fn served(cluster: &Cluster<'_>, host: &str, name: &str) -> Result<Served> {
    let container = cluster.world.container(name)?;
    let server = container.tcp_echo("0.0.0.0:8080", name)?;
    let addresses = connected(cluster, host, &container)?;
    Ok(Served { container, address: format!("{}:8080", addresses[0]).parse()?, _server: server })
}

/// A node that is new to the network has its block a moment later.
pub(super) fn connected(cluster: &Cluster<'_>, host: &str, container: &Host) -> Result<Vec<String>> {
    let end = Instant::now() + PATIENCE;
    loop {
        match cluster.connect(host, NETWORK, container, "") {
            Err(_) if Instant::now() < end => sleep(Duration::from_millis(50)),
            connected => return connected,
        }
    }
}

/// From the start of an agent on a host that is new until it has reached everybody.
fn join_row(cluster: &mut Cluster<'_>, addresses: &[SocketAddr], rounds: usize) -> Result<Row> {
    let mut series = Series::default();
    for round in 0..rounds.clamp(1, 10) {
        let name = format!("new{round}");
        let host = cluster.add_host(&name)?;
        let command = cluster.agent_command(&name);
        let started = Instant::now();
        let agent = command.spawn()?;
        host.enter(|| addresses.iter().try_for_each(reached))
            .with_context(|| format!("a host that joins: {}", agent.log()))?;
        series.0.push(Sample { wall_ms: started.elapsed().as_secs_f64() * 1e3, cpu_ms: 0.0 });
    }
    let goal = Goal::AtMost(500.0);
    Ok(own_row(
        ("join", "a third host reaches every container, from its agent's start", "ms", goal),
        Cell::of(&series),
    ))
}

fn reached(address: &SocketAddr) -> Result<()> {
    let end = Instant::now() + PATIENCE;
    while TcpStream::connect_timeout(address, Duration::from_millis(20)).is_err() {
        ensure!(Instant::now() < end, "{address} is not reached");
        sleep(Duration::from_millis(1));
    }
    Ok(())
}

/// How many new containers another host's container does not reach as soon as ADD returns.
fn new_row(cluster: &Cluster<'_>, from: &Host) -> Result<Row> {
    let mut lost = 0_u32;
    for number in 0..NEW {
        let container = cluster.world.container(&format!("fresh{number}"))?;
        let addresses = cluster.connect("b", NETWORK, &container, "")?;
        lost += u32::from(from.ping(&addresses[0]).is_err());
    }
    let cell = Cell { value: Some(f64::from(lost)), note: format!("of {NEW}") };
    let about = ("add", "new containers whose first packet from another host is lost", "", Goal::AtMost(0.0));
    Ok(own_row(about, cell))
}

/// Packets between containers that are lost while both hosts' agents are killed and start again.
fn restart_row(cluster: &mut Cluster<'_>) -> Result<Row> {
    let (from, _) = cluster.container("a", NETWORK, "from")?;
    let (_to, addresses) = cluster.container("b", NETWORK, "to")?;
    let ping =
        from.command("ping").args(["-q", "-i", "0.01", "-c", "1500", "-W", "1", &addresses[0]]).spawn()?;
    for host in ["a", "b", "a", "b"] {
        cluster.restart_agent(host)?;
    }
    let ended = || !ping.is_running();
    ensure!(netns_fixtures::eventually(PATIENCE, ended), "ping does not end: {}", ping.log());
    let log = ping.log();
    let number =
        |word: &str| -> Option<f64> { log.split(word).next()?.split_whitespace().last()?.parse().ok() };
    let (sent, received) = number(" packets transmitted").zip(number(" received")).context(log.clone())?;
    let cell = Cell { value: Some(sent - received), note: format!("of {sent:.0}") };
    let about =
        ("restart", "packets lost while the agents of both hosts start again, twice", "", Goal::AtMost(0.0));
    Ok(own_row(about, cell))
}
