//! The rows of `cargo xtask bench overlay` with a thousand peers, which are rows in etcd and nothing else: an agent's
//! memory, how long it takes to start, and how soon one peer's change is in the kernel.

use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use ipnetwork::Ipv4Network;
use netns_fixtures::{Host, World};
use zeugma_tests::cluster::Cluster;

use super::measure::{Sample, Series};
use super::overlay::{NETWORK, PATIENCE, own_row};
use super::report::{Cell, Goal, Row};
use crate::shell;

const PEERS: u32 = 1000;
/// Peers that change, one after another.
const CHANGES: usize = 50;

/// What writes them.
pub(super) fn built() -> Result<PathBuf> {
    let words = ["build", "--release", "-p", "zeugma-catalogue", "--features", "etcd", "--example", "peers"];
    shell::run(&mut shell::cargo(words))?;
    Ok(shell::target_dir()?.join("release/examples/peers"))
}

/// All rows.
pub(super) fn rows(world: &World, peers: &Path, rounds: usize) -> Result<Vec<Row>> {
    let mut cluster = Cluster::plan(world).without_agents().build(&["a", "z"])?;
    // The network is made by a host that does not matter.
    cluster.start_agent("z", &[])?;
    cluster.zeugma("z", &format!("network create -d overlay --subnet 10.128.0.0/9 {NETWORK}"))?;
    cluster.kill_agent("z");
    let write = |what: &str, number: u32| {
        let command = cluster.etcd_host.command(peers).args(["http://127.0.0.1:2379", NETWORK, what]);
        command.arg(number.to_string()).run().map(drop)
    };
    write("fill", PEERS)?;
    let host = cluster.host("a").clone();
    let command = cluster.agent_command("a");
    let started = Instant::now();
    let agent = command.spawn()?;
    let all = || has_routes(&host, "10.128.0.0/10", PEERS as usize);
    ensure!(at_once(all)?, "not all peers are in the kernel: {}", agent.log());
    let start = started.elapsed().as_secs_f64();
    let mut series = Series::default();
    for number in 1..=rounds.clamp(1, CHANGES) as u32 {
        write("change", number)?;
        let written = Instant::now();
        let block = format!("10.{}.{}.0/24", 192 + (number >> 8), number & 255);
        ensure!(at_once(|| has_routes(&host, &block, 1))?, "{block} is not in the kernel: {}", agent.log());
        series.0.push(Sample { wall_ms: written.elapsed().as_secs_f64() * 1e3, cpu_ms: 0.0 });
    }
    let memory = memory_mb(agent.pid())?;
    let p95 = Cell { value: series.p95(), note: format!("p50 {:.1}", series.median().unwrap_or(f64::NAN)) };
    Ok(vec![
        own_row(
            ("peers_rss", "1,000 peers: memory of the agent", "MB", Goal::AtMost(60.0)),
            Cell::bare(Some(memory)),
        ),
        own_row(
            ("peers_start", "1,000 peers: from the agent's start to the kernel", "s", Goal::AtMost(2.0)),
            Cell::bare(Some(start)),
        ),
        own_row(
            (
                "peers_change",
                "1,000 peers: one peer's change from etcd to the kernel's route, p95",
                "ms",
                Goal::AtMost(20.0),
            ),
            p95,
        ),
    ])
}

/// Asks without a pause, as what is measured is as short as the asking; whether it came to hold.
fn at_once(mut condition: impl FnMut() -> Result<bool>) -> Result<bool> {
    let end = Instant::now() + PATIENCE;
    while !condition()? {
        if Instant::now() > end {
            return Ok(false);
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(true)
}

/// Whether so many unicast routes lead into a subnet, by the kernel's own list: to start `ip` takes longer than what is
/// measured.
fn has_routes(host: &Host, subnet: &str, count: usize) -> Result<bool> {
    /// RTF_REJECT of route(4).
    const REJECTED: u16 = 0x200;
    let subnet: Ipv4Network = subnet.parse()?;
    let listed = host.enter(|| Ok(fs::read_to_string("/proc/thread-self/net/route")?))?;
    let leads_there = |line: &&str| -> Option<()> {
        let mut words = line.split_whitespace().skip(1);
        // Big-endian, printed as a number of this machine.
        let to = Ipv4Addr::from(u32::from_str_radix(words.next()?, 16).ok()?.to_ne_bytes());
        let flags = u16::from_str_radix(words.nth(1)?, 16).ok()?;
        (subnet.contains(to) && flags & REJECTED == 0).then_some(())
    };
    Ok(listed.lines().filter(|line| leads_there(line).is_some()).count() >= count)
}

fn memory_mb(pid: i32) -> Result<f64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let kb = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:")?.split_whitespace().next()?.parse::<f64>().ok());
    Ok(kb.context("the kernel names no VmRSS")? / 1024.0)
}
