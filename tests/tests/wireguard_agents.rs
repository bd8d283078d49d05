//! An overlay whose backend is WireGuard, by agents on hosts whose kernel may have none: `zeugma wg` does it.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use netns_fixtures::{Host, eventually, run};
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
        cluster.zeugma("a", "network create -d overlay --opt backend=wireguard --subnet 10.61.0.0/16 red")?;
        let ((near, _), (_far, there)) = connected(&cluster)?;
        ensure!(eventually(SOON, || near.ping(&there).is_ok()), "{}", cluster.agent("a").process.log());
        // Nobody on the way reads anything.
        let words = [
            "tcpdump",
            "-n",
            "-l",
            "-i",
            "port-a",
            "--immediate-mode",
            "net 10.61.0.0/16 or udp portrange 51820-51830",
        ];
        let capture = cluster.switch.spawn(words)?;
        ensure!(eventually(SOON, || capture.log().contains("listening")), "{}", capture.log());
        let first = process(cluster.host("a")).context("zeugma wg runs")?;
        cluster.restart_agent("a")?;
        ensure!(eventually(SOON, || near.ping(&there).is_ok()), "lost with the agent");
        ensure!(process(cluster.host("a")) == Some(first.clone()), "the process ended with its agent");
        cluster.host("a").run(["kill", "-9", &first])?;
        ensure!(eventually(SOON, || near.ping(&there).is_ok()), "{}", cluster.agent("a").process.log());
        let second = process(cluster.host("a")).context("zeugma wg runs again")?;
        let seen = capture.log();
        ensure!(second != first && seen.contains(": UDP, ") && !seen.contains("10.61."), "{seen}");
        Ok(())
    });
}

/// A container on each host, with their IPv4 addresses, as soon as the network is known there.
fn connected(cluster: &Cluster<'_>) -> Result<((Host, String), (Host, String))> {
    let one = |host: &str, name: &str| -> Result<(Host, String)> {
        let container = cluster.world.container(name)?;
        let mut addresses = Vec::new();
        let is_there = eventually(SOON, || {
            cluster.connect(host, "red", &container, "").is_ok_and(|given| {
                addresses = given;
                true
            })
        });
        ensure!(is_there, "{:?}", cluster.connect(host, "red", &container, ""));
        Ok((container, addresses[0].clone()))
    };
    Ok((one("a", "near")?, one("b", "far")?))
}
