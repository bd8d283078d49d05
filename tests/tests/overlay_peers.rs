//! `zeugma peers`: what a host says of the others while the underlay breaks and heals, and when it carries less than its
//! interfaces say. How traffic goes on is in `tests/overlay_nodes.rs`.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use netns_fixtures::{Host, World, eventually, run};
use serde_json::Value;
use zeugma_tests::bin_dir;
use zeugma_tests::cluster::Cluster;

/// Hosts are asked every ten seconds, and a size that does not pass takes six: longer than a search among sizes.
const LONG: Duration = Duration::from_secs(40);

/// Two hosts with an overlay and a container on each, and the second container's address. They reach each other, and the
/// first host's agent asks the other host anew.
fn two(world: &World) -> Result<(Cluster<'_>, Host, String)> {
    let mut cluster = Cluster::plan(world).flags(&["--node-ttl", "2"]).build(&["a", "b"])?;
    cluster.zeugma("a", "network create front -d overlay --subnet 10.1.0.0/16")?;
    let (one, _) = cluster.container_soon("a", "front", "one")?;
    let (_two, mut there) = cluster.container_soon("b", "front", "two")?;
    ensure!(eventually(LONG, || one.ping(&there[0]).is_ok()), "{}", cluster.agent("a").process.log());
    cluster.restart_agent("a")?;
    Ok((cluster, one, there.swap_remove(0)))
}

/// What `zeugma peers` says on the first host of its only overlay, and on standard error of problems.
fn overlay(cluster: &Cluster<'_>) -> Result<(Value, String)> {
    let command = cluster.host("a").command(bin_dir().join("zeugma")).args(["peers", "--json"]);
    let told = command.output()?;
    let overlays: Value = serde_json::from_str(&told.stdout).with_context(|| format!("{told:?}"))?;
    Ok((overlays[0].clone(), told.stderr))
}

/// Waits until the first host says of the other one what is expected of it.
fn await_peer(cluster: &Cluster<'_>, is_expected: impl Fn(&Value) -> bool) -> Result<Value> {
    let mut told = Value::Null;
    let is_so = || {
        told = overlay(cluster).map(|(overlay, _)| overlay["peers"][0].clone()).unwrap_or_default();
        is_expected(&told)
    };
    ensure!(eventually(LONG, is_so), "{told}\n{}", cluster.agent("a").process.log());
    Ok(told)
}

fn is_well(peer: &Value) -> bool {
    peer["alive"] == true && peer["loss"] == 0 && peer["mtu"] == 1450 && peer["round_trip"].is_u64()
}

#[test]
fn a_host_that_is_cut_off_loses_packets_until_it_is_back() {
    run(|world| {
        let (cluster, one, there) = two(world)?;
        await_peer(&cluster, is_well)?;
        cluster.cut("b")?;
        let loss = |peer: &Value| peer["loss"].as_u64().unwrap_or_default();
        let cut_off = await_peer(&cluster, |peer| peer["alive"] == false && loss(peer) > 0)?;
        ensure!(one.ping(&there).is_err() && cut_off["path"] == "vxlan", "{cut_off}");
        let table = cluster.zeugma("a", "peers")?;
        ensure!(table.contains(&format!("{} %", loss(&cut_off))), "{table}");
        cluster.join("b")?;
        // The loss is that of the last ten.
        await_peer(&cluster, |peer| peer["alive"] == true && loss(peer) < loss(&cut_off))?;
        one.ping(&there)
    });
}

#[test]
fn an_underlay_that_carries_less_than_its_interfaces_say_is_measured() {
    run(|world| {
        let (mut cluster, one, there) = two(world)?;
        // A switch tells nobody what it drops.
        cluster.switch.ip("link set port-b mtu 1490")?;
        cluster.restart_agent("a")?;
        let peer = await_peer(&cluster, |peer| peer["mtu"].is_u64())?;
        let mtu = peer["mtu"].as_u64().unwrap_or_default();
        let whole = |mtu: u64| {
            let words = format!("-n -c 3 -i 0.2 -W 2 -M do -s {} {there}", mtu - 28);
            one.command("ping").args(words.split(' ')).run()
        };
        ensure!((1400..1450).contains(&mtu) && peer["loss"] == 0, "{peer}");
        whole(mtu)?;
        ensure!(whole((mtu + 8).min(1450)).is_err(), "more than {mtu} bytes arrive");
        let (overlay, problems) = overlay(&cluster)?;
        let words = format!("packets to node b pass up to {mtu} bytes");
        ensure!(overlay["problems"].to_string().contains(&words) && problems.contains(&words), "{overlay}");
        Ok(())
    });
}

#[test]
fn an_agent_that_starts_in_an_outage_asks_the_other_hosts_as_any_other() {
    run(|world| {
        let (mut cluster, _one, there) = two(world)?;
        let block = format!("{}.0/24", there.rsplit_once('.').expect("an address").0);
        for what in ["192.0.2.1", "192.0.2.2", &block] {
            cluster.await_remembered("a", what)?;
        }
        cluster.stop_etcd();
        cluster.restart_agent("a")?;
        await_peer(&cluster, |peer| peer["loss"] == 0 && peer["mtu"] == 1450)?;
        cluster.start_etcd()?;
        await_peer(&cluster, is_well)?;
        Ok(())
    });
}
