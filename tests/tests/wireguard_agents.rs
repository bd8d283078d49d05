//! An overlay whose backend is WireGuard, by agents on hosts whose kernel may have none: `zeugma wg` does it. What passes,
//! what is said of it, and that nothing of it leaves in clear whatever ends or is taken away.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use netns_fixtures::{Host, Running, World, eventually, run};
use serde_json::Value;
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
        let mut cluster = encrypted(world)?;
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
        ensure!(second != first && seen.contains(": UDP, ") && !is_clear(&seen), "{seen}");
        Ok(())
    });
}

/// How addresses of the network begin.
const INNER: [&str; 2] = ["10.61.", "fd61:"];

/// Whether any of its packets was captured as it is.
fn is_clear(seen: &str) -> bool {
    INNER.iter().any(|inner| seen.contains(inner))
}

fn encrypted(world: &World) -> Result<Cluster<'_>> {
    let cluster = Cluster::plan(world).flags(&["--wireguard", "userspace"]).build(&["a", "b"])?;
    let subnets = "--subnet 10.61.0.0/16 --ipv6 --subnet fd61::/48";
    cluster.zeugma("a", &format!("network create -d overlay --opt backend=wireguard {subnets} red"))?;
    Ok(cluster)
}

/// What keeps packets of the network from leaving by other links than its tunnel; each does so alone.
#[derive(Debug, Clone, Copy)]
enum Guard {
    Ruleset,
    Routes,
}

impl Guard {
    fn remove(self, host: &Host) -> Result<()> {
        match self {
            Guard::Ruleset => host.nft("delete table inet zeugma").map(drop),
            Guard::Routes => ["10.61.0.0/16", "fd61::/48"]
                .iter()
                .try_for_each(|subnet| host.ip(&format!("route del unreachable {subnet}")).map(drop)),
        }
    }
}

/// Whether nothing of the network leaves a host whose agent is killed and whose tunnel is deleted, when `removed` is gone,
/// too; and that it does when `last` is, so that it is that which holds it back.
fn ensure_sealed_by(last: Guard, removed: Guard) {
    run(|world| {
        let mut cluster = encrypted(world)?;
        let ((near, _), (_far, there)) = connected(&cluster)?;
        let host = cluster.host("a").clone();
        let sends = || {
            let pings = |from: &Host| there.iter().filter(|address| from.ping(address).is_ok()).count();
            pings(&near) + pings(&host)
        };
        ensure!(eventually(SOON, || sends() == 4), "{}", cluster.agent("a").process.log());
        cluster.kill_agent("a");
        host.ip("link del wg-red")?;
        let capture = capture(&cluster)?;
        let is_seen = |words: &str| capture.log().contains(words);
        let before = sends();
        removed.remove(&host)?;
        ensure!(before + sends() == 0, "somebody answers without a tunnel");
        // Captured after all that was sent before.
        ensure!(eventually(SOON, || host.ping("192.0.2.254").is_ok() && is_seen("192.0.2.254: ICMP")));
        ensure!(!is_clear(&capture.log()), "{}", capture.log());
        last.remove(&host)?;
        let leaves = || sends() == 0 && INNER.iter().all(|inner| is_seen(inner));
        ensure!(eventually(SOON, leaves), "nothing would have left: {}", capture.log());
        Ok(())
    });
}

#[test]
fn an_encrypted_network_is_sealed_by_the_ruleset_alone() {
    ensure_sealed_by(Guard::Ruleset, Guard::Routes);
}

#[test]
fn an_encrypted_network_is_sealed_by_its_routes_alone() {
    ensure_sealed_by(Guard::Routes, Guard::Ruleset);
}

#[test]
fn what_passes_is_counted_and_the_last_handshake_is_told() {
    run(|world| {
        let begun = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
        let cluster = encrypted(world)?;
        let ((near, _), (_far, there)) = connected(&cluster)?;
        ensure!(eventually(SOON, || near.ping(&there[0]).is_ok()), "{}", cluster.agent("a").process.log());
        let told = |host: &str| -> Result<Value> {
            let told: Value = serde_json::from_str(&cluster.zeugma(host, "peers --json")?)?;
            ensure!(told[0]["wireguard"] == "userspace" && told[0]["link"] == "wg-red", "{told}");
            Ok(told[0]["peers"][0].clone())
        };
        let number = |peer: &Value, key: &str| peer[key].as_u64().with_context(|| format!("{key}: {peer}"));
        let before = ["a", "b"].map(told);
        near.run(["ping", "-q", "-c", "20", "-i", "0.01", "-s", "1000", &there[1]])?;
        for (host, before) in ["a", "b"].into_iter().zip(before) {
            let (before, after) = (before?, told(host)?);
            ensure!(number(&after, "last_handshake")? >= begun && after["path"] == "wireguard", "{after}");
            for key in ["sent", "received"] {
                let more = number(&after, key)? - number(&before, key)?;
                ensure!((20_000..200_000).contains(&more), "{more} bytes {key}: {before} {after}");
            }
        }
        Ok(())
    });
}

/// What leaves where the first host is plugged in, of the network, of its tunnel, and pings of the host.
fn capture(cluster: &Cluster<'_>) -> Result<Running> {
    let filter = "net 10.61.0.0/16 or net fd61::/48 or udp portrange 51820-51830 or icmp";
    let capture =
        cluster.switch.spawn(["tcpdump", "-n", "-l", "-i", "port-a", "--immediate-mode", filter])?;
    ensure!(eventually(SOON, || capture.log().contains("listening")), "{}", capture.log());
    Ok(capture)
}

/// A container with its addresses of both families.
type Container = (Host, Vec<String>);

/// One on each host.
fn connected(cluster: &Cluster<'_>) -> Result<(Container, Container)> {
    let pair = (cluster.container_soon("a", "red", "near")?, cluster.container_soon("b", "red", "far")?);
    ensure!(pair.0.1.len() == 2 && pair.1.1.len() == 2, "{pair:?}");
    Ok(pair)
}
