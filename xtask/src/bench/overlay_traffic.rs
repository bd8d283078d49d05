//! The rows of `cargo xtask bench overlay` that are about traffic: one flow of TCP over an overlay of ours, and over the
//! same made by hand on hosts beside it.

use std::time::Duration;

use anyhow::{Context, Result};
use netns_fixtures::{Host, HostCommand, Running, World, eventually};
use serde_json::Value;
use zeugma_tests::cluster::Cluster;

use super::overlay::{NETWORK, PATIENCE, connected};
use super::report::{Cell, Goal, Row};

/// Seconds of each flow, of which the first is not counted.
const SECONDS: &str = "4";
/// Turns of both: more say no more.
const TURNS: usize = 10;
/// What ours has to reach of what is made by hand.
const PART: f64 = 0.98;

/// Two containers on two hosts; the second one listens.
struct Pair {
    from: Host,
    to: String,
    _server: Running,
}

/// What a flow came to, in gigabits per second.
#[derive(Debug, Clone, Copy)]
struct Flow {
    gbits: f64,
}

/// All rows.
pub(super) fn rows(world: &World, rounds: usize) -> Result<Vec<Row>> {
    let mut cluster = Cluster::new(world, &["a", "b"])?;
    cluster.zeugma("a", &format!("network create -d overlay {NETWORK}"))?;
    let (ours, by_hand) = (ours(&cluster)?, by_hand(&mut cluster)?);
    let (mut mine, mut theirs) = (Vec::new(), Vec::new());
    for turn in 0..rounds.clamp(1, TURNS) {
        let order = if turn % 2 == 0 { [true, false] } else { [false, true] };
        for is_ours in order {
            let (pair, flows) = if is_ours { (&ours, &mut mine) } else { (&by_hand, &mut theirs) };
            flows.push(pair.flow()?);
        }
    }
    let (mine, theirs) = (median(mine), median(theirs));
    let note = match (mine, theirs) {
        (Some(mine), Some(theirs)) => format!("{:.1} %", 100.0 * mine / theirs),
        _ => String::new(),
    };
    Ok(vec![Row {
        key: "vxlan",
        title: "TCP between containers of two hosts over VXLAN, one flow",
        unit: "Gbit/s",
        goal: Goal::TimesPeer(PART),
        cells: vec![Cell { value: mine, note }, Cell::bare(theirs)],
    }])
}

fn median(mut flows: Vec<Flow>) -> Option<f64> {
    flows.sort_by(|one, other| one.gbits.total_cmp(&other.gbits));
    flows.get(flows.len() / 2).map(|flow| flow.gbits)
}

fn ours(cluster: &Cluster<'_>) -> Result<Pair> {
    let (from, to) = (cluster.world.container("from")?, cluster.world.container("to")?);
    connected(cluster, "a", &from)?;
    let address = connected(cluster, "b", &to)?.swap_remove(0);
    Pair::new(from, &to, address)
}

/// Two hosts without agents, with what ours makes: a bridge with the containers' gateway, a tunnel without learning, and
/// for the other host a route, a neighbour and an FDB entry.
fn by_hand(cluster: &mut Cluster<'_>) -> Result<Pair> {
    let hosts = [cluster.outsider("hand1")?, cluster.outsider("hand2")?];
    let underlay = ["hand1", "hand2"].map(|name| cluster.address(name, 4).to_owned());
    let mut containers = Vec::new();
    for (number, host) in (1..).zip(&hosts) {
        let other = 3 - number;
        let container = cluster.world.container(&format!("hand-{number}"))?;
        let (mac, other_mac) = (format!("02:00:00:00:00:0{number}"), format!("02:00:00:00:00:0{other}"));
        let local = &underlay[number - 1];
        let remote = &underlay[other - 1];
        let lines = [
            format!("link add hand0 type vxlan id 99 local {local} dev eth0 dstport 4790 nolearning"),
            format!("link set hand0 address {mac} mtu 1450 up"),
            format!("addr add 10.200.{number}.0/32 dev hand0"),
            format!("route add 10.200.{other}.0/24 via 10.200.{other}.0 dev hand0 onlink"),
            format!("neigh add 10.200.{other}.0 lladdr {other_mac} dev hand0 nud permanent"),
            "link add br0 mtu 1450 type bridge".to_owned(),
            format!("addr add 10.200.{number}.1/24 dev br0"),
            "link set br0 up".to_owned(),
            format!("link add port mtu 1450 type veth peer name eth0 netns {}", container.path().display()),
            "link set port master br0 up".to_owned(),
        ];
        lines.iter().try_for_each(|line| host.ip(line).map(drop))?;
        host.run(["bridge", "fdb", "add", &other_mac, "dev", "hand0", "dst", remote])?;
        host.set_sysctl("net.ipv4.ip_forward", "1")?;
        for line in [
            format!("addr add 10.200.{number}.2/24 dev eth0"),
            "link set eth0 mtu 1450 up".to_owned(),
            format!("route add default via 10.200.{number}.1"),
        ] {
            container.ip(&line)?;
        }
        containers.push(container);
    }
    let [from, to] = <[Host; 2]>::try_from(containers).ok().context("two hosts")?;
    Pair::new(from, &to, "10.200.2.2".into())
}

impl Pair {
    fn new(from: Host, to: &Host, address: String) -> Result<Pair> {
        let server = to.spawn(["iperf3", "--server"])?;
        let pair = Pair { from, to: address, _server: server };
        let answers = || pair.client("1").and_then(HostCommand::run).is_ok();
        anyhow::ensure!(eventually(PATIENCE, answers), "{} is not reached", pair.to);
        Ok(pair)
    }

    fn client(&self, seconds: &str) -> Result<HostCommand> {
        let client = self.from.command("iperf3").args(["--json", "--client", &self.to, "--time", seconds]);
        Ok(client.args(["--omit", "1"]).deadline(Duration::from_secs(120)))
    }

    fn flow(&self) -> Result<Flow> {
        let told = self.client(SECONDS)?.run()?.stdout;
        let told: Value = serde_json::from_str(&told).context("iperf3 says no JSON")?;
        let bits = told["end"]["sum_received"]["bits_per_second"].as_f64();
        Ok(Flow { gbits: bits.context("iperf3 names no rate")? / 1e9 })
    }
}
