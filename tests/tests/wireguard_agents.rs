//! An overlay whose backend is WireGuard, by agents on hosts whose kernel may have none: `zeugma wg` does it.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use netns_fixtures::{Host, Running, eventually, run};
use zeugma_tests::cluster::Cluster;

/// Longer than agents take to hear of one another, and WireGuard to agree on keys.
const SOON: Duration = Duration::from_secs(40);

/// The process ID of `zeugma wg` on a host: its command line names the device, its environment the host's files.
fn process(host: &Host) -> Option<String> {
    let found = host.run(["pgrep", "-f", "wg --own-session wg-red"]).ok()?.stdout;
    let mine = format!("ZEUGMA_RUN_DIR={}\0", host.run_dir().display());
    let is_mine = |pid: &&str| {
        std::fs::read_to_string(format!("/proc/{pid}/environ")).is_ok_and(|text| text.contains(&mine))
    };
    found.lines().find(is_mine).map(str::to_owned)
}

#[test]
fn containers_reach_each_other_encrypted_whatever_ends() {
    run(|world| {
        let mut cluster = Cluster::plan(world).flags(&["--wireguard", "userspace"]).build(&["a", "b"])?;
        let subnets = "--subnet 10.61.0.0/16 --ipv6 --subnet fd61::/48";
        cluster.zeugma("a", &format!("network create -d overlay --opt backend=wireguard {subnets} red"))?;
        let ((near, _), (_far, there)) = connected(&cluster)?;
        let reaches = || there.iter().all(|address| near.ping(address).is_ok());
        ensure!(eventually(SOON, reaches), "{}", cluster.agent("a").process.log());
        // Nobody on the way reads anything.
        let capture = capture(&cluster)?;
        let first = process(cluster.host("a")).context("zeugma wg runs")?;
        cluster.restart_agent("a")?;
        ensure!(eventually(SOON, reaches), "{}", cluster.agent("a").process.log());
        ensure!(process(cluster.host("a")) == Some(first.clone()), "the process ended with its agent");
        cluster.host("a").run(["kill", "-9", &first])?;
        ensure!(eventually(SOON, reaches), "{}", cluster.agent("a").process.log());
        let second = process(cluster.host("a")).context("zeugma wg runs again")?;
        // One that hangs is ended by an agent that did not start it.
        cluster.host("a").run(["kill", "-STOP", &second])?;
        cluster.restart_agent("a")?;
        let is_third = || process(cluster.host("a")).is_some_and(|third| third != second);
        ensure!(eventually(SOON, || is_third() && reaches()), "{}", cluster.agent("a").process.log());
        let seen = capture.log();
        let is_clear = ["10.61.", "fd61:"].iter().any(|inner| seen.contains(inner));
        ensure!(second != first && seen.contains(": UDP, ") && !is_clear, "{seen}");
        Ok(())
    });
}

/// What a network's packets look like where the first host is plugged in.
fn capture(cluster: &Cluster<'_>) -> Result<Running> {
    let filter = "net 10.61.0.0/16 or net fd61::/48 or udp portrange 51820-51830";
    let capture =
        cluster.switch.spawn(["tcpdump", "-n", "-l", "-i", "port-a", "--immediate-mode", filter])?;
    ensure!(eventually(SOON, || capture.log().contains("listening")), "{}", capture.log());
    Ok(capture)
}

/// With its addresses.
type Container = (Host, Vec<String>);

/// A container on each host, with their addresses of both families, as soon as the network is known there.
fn connected(cluster: &Cluster<'_>) -> Result<(Container, Container)> {
    let one = |host: &str, name: &str| -> Result<Container> {
        let container = cluster.world.container(name)?;
        let mut addresses = Vec::new();
        let is_there = eventually(SOON, || {
            cluster.connect(host, "red", &container, "").is_ok_and(|given| {
                addresses = given;
                true
            })
        });
        ensure!(is_there, "{:?}", cluster.connect(host, "red", &container, ""));
        ensure!(addresses.len() == 2, "{addresses:?}");
        Ok((container, addresses))
    };
    Ok((one("a", "near")?, one("b", "far")?))
}
