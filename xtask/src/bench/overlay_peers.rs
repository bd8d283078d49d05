//! The rows of `cargo xtask bench overlay` with a thousand peers, which are rows in etcd and nothing else: an agent's
//! memory, how long it takes to start, and how soon one peer's change is in the kernel.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
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
    // It is there already when a route comes: to start `ip` over and over takes as long as what is measured.
    let monitor = host.spawn(["ip", "-o", "monitor", "route"])?;
    let listens = || {
        host.ip("route add 198.51.100.0/24 dev lo")?;
        host.ip("route del 198.51.100.0/24 dev lo")?;
        Ok(monitor.log().contains("198.51.100.0/24"))
    };
    ensure!(at_once(listens)?, "ip monitor tells of no route: {}", monitor.log());
    let mut series = Series::default();
    for number in 1..=rounds.clamp(1, CHANGES) as u32 {
        write("change", number)?;
        let written = Instant::now();
        let block = block(number);
        let is_told = || Ok(monitor.log().contains(&block));
        ensure!(at_once(is_told)?, "{block} is not in the kernel: {}", agent.log());
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

/// The block that a change adds.
fn block(number: u32) -> String {
    format!("10.{}.{}.0/24", 192 + (number >> 8), number & 255)
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

/// Whether so many unicast routes lead into a subnet.
fn has_routes(host: &Host, subnet: &str, count: usize) -> Result<bool> {
    let told = host.run(["ip", "route", "show", "root", subnet, "type", "unicast"])?.stdout;
    Ok(told.lines().count() >= count)
}

fn memory_mb(pid: i32) -> Result<f64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let kb = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:")?.split_whitespace().next()?.parse::<f64>().ok());
    Ok(kb.context("the kernel names no VmRSS")? / 1024.0)
}
