//! What hosts of overlays keep when what they go by fails: the catalogue, another one in its place, the disk. How nodes
//! come, go and move otherwise is in `tests/overlay_nodes.rs`.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use netns_fixtures::{Host, eventually, run};
use zeugma_tests::agent::Agent;
use zeugma_tests::cluster::{Cluster, PEERS};
use zeugma_tests::lab::{self, ensure_refused};

/// Longer than anything takes on a busy machine.
const WAIT: Duration = Duration::from_secs(40);

/// A container on the overlay, as soon as the host has it, and its address.
fn container(cluster: &Cluster<'_>, host: &str, name: &str) -> Result<(Host, String)> {
    let container = cluster.world.container(name)?;
    let mut outcome = Ok(Vec::new());
    eventually(WAIT, || {
        outcome = cluster.connect(host, "front", &container, "");
        outcome.is_ok()
    });
    let mut addresses = outcome.with_context(|| format!("{host} has no container on it"))?;
    Ok((container, addresses.swap_remove(0)))
}

fn reaches(from: &Host, address: &str) -> Result<()> {
    ensure!(eventually(WAIT, || from.ping(address).is_ok()), "{} does not reach {address}", from.name());
    Ok(())
}

/// The process of `zeugma wg` on a host: its environment names the host's files.
fn process(host: &Host) -> Option<String> {
    let found = host.run(["pgrep", "-f", "wg --own-session wg-front"]).ok()?.stdout;
    let mine = format!("ZEUGMA_RUN_DIR={}\0", host.run_dir().display());
    let is_mine = |pid: &&str| {
        fs::read_to_string(format!("/proc/{pid}/environ")).is_ok_and(|text| text.contains(&mine))
    };
    found.lines().find(is_mine).map(str::to_owned)
}

/// Waits until a host's agent has written this down for the next one.
fn await_remembered(host: &Host, what: &str) -> Result<()> {
    let file = host.state_dir().join("known.redb");
    let has = |bytes: Vec<u8>| bytes.windows(what.len()).any(|window| window == what.as_bytes());
    let is_there = || fs::read(&file).is_ok_and(has);
    ensure!(eventually(WAIT, is_there), "{what} is not remembered on {}", host.name());
    Ok(())
}

#[test]
fn an_agent_that_starts_while_etcd_is_away_mends_what_others_take_away() {
    run(|world| {
        let mut cluster = Cluster::plan(world).flags(&["--wireguard", "userspace"]).build(&["a", "b"])?;
        cluster.zeugma("a", "network create front -d overlay --subnet 10.1.0.0/16 --opt encrypted")?;
        let (one, _) = container(&cluster, "a", "one")?;
        let (_two, second) = container(&cluster, "b", "two")?;
        reaches(&one, &second)?;
        let block = format!("{}.0/24", second.rsplit_once('.').context("an address")?.0);
        await_remembered(cluster.host("a"), &format!("front/{block}"))?;
        cluster.stop_etcd();
        cluster.restart_agent("a")?;
        let a = cluster.host("a");
        let route = a.ip_json(&format!("route get {second}"))?[0]["dev"].clone();
        ensure!(route == "wg-front", "{route}");
        let wg = process(a).context("zeugma wg runs")?;
        a.ip(&format!("route del {block}"))?;
        reaches(&one, &second).with_context(|| cluster.agent("a").process.log())?;
        a.run(["kill", "-9", &wg])?;
        ensure!(eventually(WAIT, || process(a).is_some_and(|new| new != wg)), "it is not started again");
        reaches(&one, &second)
    });
}

#[test]
fn an_etcd_that_was_made_anew_changes_nothing_and_nothing_is_written_to_it() {
    run(|world| {
        let mut cluster = Cluster::plan(world).flags(&["--node-ttl", "2"]).build(&["a", "b"])?;
        cluster.zeugma("a", "network create front -d overlay --subnet 10.1.0.0/16")?;
        let (one, _) = container(&cluster, "a", "one")?;
        let (_two, second) = container(&cluster, "b", "two")?;
        reaches(&one, &second)?;
        cluster.stop_etcd();
        fs::remove_dir_all(world.dir().join("etcd"))?;
        cluster.start_etcd()?;
        cluster.add_host("new")?;
        cluster.start_agent("new", &[])?;
        cluster.zeugma("new", "network create front -d overlay --subnet 10.2.0.0/16")?;
        let (_three, third) = container(&cluster, "new", "three")?;
        for host in ["a", "b"] {
            let told = || cluster.agent(host).status().map(|status| status["problems"].to_string());
            let is_told = || told().is_ok_and(|told| told.contains("another catalogue answers"));
            ensure!(eventually(WAIT, is_told), "{:?}", told());
        }
        reaches(&one, &second)?;
        ensure!(third.starts_with("10.2.") && one.ping(&third).is_err(), "{third} is reached");
        let keys = cluster.etcdctl(&["get", "--prefix", "/zeugma/node", "--print-value-only"])?;
        ensure!(keys.contains(r#""new""#) && !keys.contains(r#""a""#) && !keys.contains(r#""b""#), "{keys}");
        Ok(())
    });
}

#[test]
fn no_block_is_given_out_that_cannot_be_kept_and_nodes_of_a_file_are_removed_there() {
    run(|world| {
        let cluster = Cluster::plan(world).without_agents().build(&["a"])?;
        let (file, host) = (world.dir().join("peers.toml"), cluster.host("a"));
        fs::write(&file, PEERS)?;
        // What cannot be written, as on a disk that is full.
        let in_the_way = host.state_dir().join("blocks.json");
        fs::create_dir_all(&in_the_way)?;
        let agent = Agent::run(host, lab::agent(host).args(["--node", "a", "--peers"]).arg(&file))?;
        let is_told =
            |outcome: Result<String>| ensure_refused(outcome, "no addresses of 10.1.1.0/24 are given out");
        ensure!(
            eventually(WAIT, || is_told(cluster.zeugma("a", "peers")).is_ok()),
            "{}",
            agent.process.log()
        );
        let refused = cluster.container("a", "front", "early");
        ensure!(refused.is_err(), "{refused:?}");
        fs::remove_dir(&in_the_way)?;
        let (_late, address) = container(&cluster, "a", "late")?;
        ensure!(address.starts_with("10.1.1.") && in_the_way.is_file(), "{address}");
        ensure!(eventually(WAIT, || cluster.zeugma("a", "peers").is_ok()), "{}", agent.process.log());
        ensure_refused(cluster.zeugma("a", "node rm b"), "peers.toml")
    });
}

#[test]
fn a_program_that_undoes_the_same_again_and_again_is_told_of_and_its_route_is_back_in_the_end() {
    run(|world| {
        let cluster = Cluster::plan(world).without_agents().build(&["a"])?;
        let (file, host) = (world.dir().join("peers.toml"), cluster.host("a"));
        fs::write(&file, PEERS)?;
        let agent = Agent::run(host, lab::agent(host).args(["--node", "a", "--peers"]).arg(&file))?;
        let is_there =
            || host.ip_json("route show 10.1.2.0/24").is_ok_and(|routes| routes[0]["dev"] == "vx-front");
        ensure!(eventually(WAIT, is_there), "{}", agent.process.log());
        let told = || agent.status().map(|status| status["problems"].to_string());
        let undone = || {
            // It is not back yet, sooner or later.
            let _ = host.ip("route del 10.1.2.0/24");
            told()
                .is_ok_and(|told| told.contains("undoes `ip route add 10.1.2.0/24 via 10.1.2.0 dev vx-front"))
        };
        ensure!(eventually(WAIT, undone), "{:?}", told());
        ensure!(eventually(WAIT, is_there), "{}", agent.process.log());
        Ok(())
    });
}
