//! The rows of `cargo xtask bench overlay` about WireGuard in user space: `zeugma wg` beside boringtun-cli with one thread,
//! which is its fastest on few processors. Both ends of the tunnel and iperf3 are on this machine, each end in a namespace
//! of its own.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use netns_fixtures::{Host, Running, World, eventually};
use serde_json::Value;

use super::report::{Cell, Goal, Row};
use crate::shell;

/// Rounds, each of all contestants and cases in turn, at most: a case takes some seconds.
const ROUNDS: usize = 5;
const SECONDS: &str = "3";
const SOON: Duration = Duration::from_secs(20);
/// Ticks of proc(5)'s `stat` in a second.
const TICKS: f64 = 100.0;

/// What is measured.
struct Case {
    streams: &'static str,
    has_offloads: bool,
    cpu: (&'static str, &'static str, Goal),
    speed: (&'static str, &'static str, Goal),
}

const CASES: [Case; 4] = [
    Case {
        streams: "1",
        has_offloads: true,
        cpu: ("wg_cpu_1", "WireGuard in user space: processor time, both ends, 1 stream", Goal::AtMost(2.0)),
        speed: ("wg_1", "WireGuard in user space: TCP, 1 stream", Goal::TimesPeer(2.0)),
    },
    Case {
        streams: "4",
        has_offloads: true,
        cpu: ("wg_cpu_4", "the same: processor time, 4 streams", Goal::AtMost(2.0)),
        speed: ("wg_4", "the same: TCP, 4 streams", Goal::TimesPeer(2.0)),
    },
    Case {
        streams: "1",
        has_offloads: false,
        cpu: ("wg_cpu_1_plain", "underlay without offloads: processor time, 1 stream", Goal::PartOfPeer(1.0)),
        speed: ("wg_1_plain", "underlay without offloads: TCP, 1 stream", Goal::TimesPeer(1.0)),
    },
    Case {
        streams: "4",
        has_offloads: false,
        cpu: (
            "wg_cpu_4_plain",
            "underlay without offloads: processor time, 4 streams",
            Goal::PartOfPeer(1.0),
        ),
        speed: ("wg_4_plain", "underlay without offloads: TCP, 4 streams", Goal::TimesPeer(1.0)),
    },
];

/// What a run came to.
#[derive(Debug, Clone, Copy)]
struct Run {
    /// Seconds a gigabyte.
    cpu: f64,
    /// Gbit/s.
    speed: f64,
    memory: f64,
    dropped: f64,
}

/// The rows; boringtun-cli is looked for on PATH.
pub(super) fn rows(world: &World, zeugma: &Path, rounds: usize) -> Result<Vec<Row>> {
    let mut commands = vec![(zeugma.to_owned(), vec!["wg"])];
    let boringtun = shell::which("boringtun-cli");
    commands.extend(boringtun.map(|path| (path, vec!["-f", "--disable-multi-queue"])));
    let (a, b) = (world.host("a")?, world.host("b")?);
    world.link((&a, "eth0", "192.0.2.1/24"), (&b, "eth0", "192.0.2.2/24"))?;
    let floor = crypto_alone();
    let mut rows = Vec::new();
    for case in &CASES {
        set_offloads([&a, &b], case.has_offloads)?;
        let mut runs: Vec<Vec<Run>> = vec![Vec::new(); commands.len()];
        for _ in 0..rounds.clamp(1, ROUNDS) {
            for (command, runs) in commands.iter().zip(&mut runs) {
                runs.push(measured([&a, &b], command, case.streams)?);
            }
        }
        rows.extend(of_case(case, &runs, floor));
    }
    Ok(rows)
}

fn of_case(case: &Case, runs: &[Vec<Run>], floor: Option<f64>) -> Vec<Row> {
    let cells = |what: fn(&Run) -> f64| runs.iter().map(|runs| Cell::bare(median(runs, what))).collect();
    let row = |(key, title, goal), unit, cells| Row { key, title, unit, goal, cells };
    let mut cpu: Vec<Cell> = cells(|run| run.cpu);
    if let (Some(ours), Some(floor)) = (cpu.first_mut(), floor) {
        ours.note = format!("crypto alone {floor:.1}");
    }
    let mut rows = vec![row(case.speed, "Gbit/s", cells(|run| run.speed)), row(case.cpu, "s/GB", cpu)];
    if case.streams == "4" && case.has_offloads {
        let memory = ("wg_rss", "the same: most memory of an end", Goal::AtMost(20.0));
        rows.push(row(memory, "MB", cells(|run| run.memory)));
        let dropped = ("wg_drops", "the same: packets lost at the device", Goal::AtMost(0.0));
        rows.push(row(dropped, "", cells(|run| run.dropped)));
    }
    rows
}

/// Seconds a gigabyte that no implementation goes below here: openssl seals packets of this size, and opens them.
fn crypto_alone() -> Option<f64> {
    let words = ["speed", "-evp", "chacha20-poly1305", "-bytes", "1420", "-seconds", SECONDS, "-mr"];
    let told = shell::command("openssl", words).output().ok()?;
    let told = String::from_utf8_lossy(&told.stdout).into_owned();
    let last = told.lines().find_map(|line| line.strip_prefix("+F:"))?.rsplit(':').next()?.to_owned();
    last.trim().parse::<f64>().ok().map(|bytes| 2.0 * 1e9 / bytes)
}

fn median(runs: &[Run], what: fn(&Run) -> f64) -> Option<f64> {
    let mut values: Vec<f64> = runs.iter().map(what).collect();
    values.sort_unstable_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}

fn set_offloads(hosts: [&Host; 2], are_on: bool) -> Result<()> {
    let word = if are_on { "on" } else { "off" };
    for host in hosts {
        let features = ["tso", "gso", "gro", "tx-udp-segmentation"].map(|feature| [feature, word]);
        host.command("ethtool").args(["-K", "eth0"]).args(features.as_flattened()).run()?;
    }
    Ok(())
}

/// One tunnel, from its beginning to its end.
fn measured(hosts: [&Host; 2], command: &(PathBuf, Vec<&str>), streams: &str) -> Result<Run> {
    let mut ends = Vec::new();
    let mut keys = Vec::new();
    for (host, link) in hosts.into_iter().zip(["wga", "wgb"]) {
        let begun = host.command(&command.0).args(&command.1).arg(link);
        let begun = begun.env("ZEUGMA_RUN_DIR", "/run/zeugma").env("WG_SUDO", "true").env("WG_THREADS", "1");
        let process = begun.spawn()?;
        ensure!(eventually(SOON, || host.run(["wg", "show", link]).is_ok()), "{link}: {}", process.log());
        let private = host.run(["wg", "genkey"])?.stdout;
        let public = host.command("wg").arg("pubkey").stdin(private.clone()).run()?.stdout.trim().to_owned();
        fs::write(host.run_dir().join("key"), private)?;
        ends.push((host, link, process));
        keys.push(public);
    }
    for (at, (host, link, _)) in ends.iter().enumerate() {
        let (peer, key) = (&keys[1 - at], host.run_dir().join("key"));
        let (here, there) = (at + 1, 2 - at);
        let line = format!("set {link} listen-port 51820 private-key {} peer {peer}", key.display());
        let line = format!("{line} endpoint 192.0.2.{there}:51820 allowed-ips 10.9.0.{there}/32");
        host.command("wg").args(line.split_whitespace()).run()?;
        host.ip(&format!("addr add 10.9.0.{here}/24 dev {link}"))?;
        host.ip(&format!("link set {link} mtu 1420 up"))?;
    }
    let outcome = transferred(&ends, streams);
    for (host, link, process) in ends {
        drop(process);
        // boringtun's is gone with its process, ours stays.
        let _ = host.ip(&format!("link del {link}"));
        for file in [format!("/run/wireguard/{link}.sock"), format!("/run/zeugma/wireguard/{link}.conf")] {
            let _ = host.run(["rm", "-f", &file]);
        }
    }
    outcome
}

fn transferred(ends: &[(&Host, &str, Running)], streams: &str) -> Result<Run> {
    let [(a, link, _), (b, ..)] = ends else { unreachable!("a tunnel has two ends") };
    ensure!(eventually(SOON, || a.ping("10.9.0.2").is_ok()), "the tunnel does not come up");
    let server = b.spawn(["iperf3", "-s", "-1", "-B", "10.9.0.2", "--forceflush"])?;
    ensure!(
        eventually(SOON, || server.log().contains("listening")),
        "iperf3 does not listen: {}",
        server.log()
    );
    let before = cpu(ends)?;
    let told = a.run(["iperf3", "-c", "10.9.0.2", "-t", SECONDS, "-P", streams, "-J"])?.stdout;
    let cpu = cpu(ends)? - before;
    let told: Value = serde_json::from_str(&told)?;
    let number =
        |key: &str| told["end"]["sum_received"][key].as_f64().context("iperf3 says how much it received");
    let gigabytes = number("bytes")? / 1e9;
    let device = a.ip_json(&format!("-s link show {link}"))?;
    let dropped = device[0]["stats64"]["tx"]["dropped"].as_f64().context("the count of lost packets")?;
    let speed = 8.0 * gigabytes / number("seconds")?;
    Ok(Run { cpu: cpu / gigabytes, speed, memory: memory(ends)?, dropped })
}

/// Seconds of processor time of both ends so far.
fn cpu(ends: &[(&Host, &str, Running)]) -> Result<f64> {
    let of = |(_, _, process): &(&Host, &str, Running)| -> Result<f64> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", process.pid()))?;
        let (_, behind_name) = stat.rsplit_once(") ").context("proc(5)")?;
        let ticks = behind_name.split(' ').skip(11).take(2).map(str::parse::<f64>);
        Ok(ticks.sum::<Result<f64, _>>()? / TICKS)
    };
    ends.iter().map(of).sum()
}

/// Megabytes that the larger end had at most.
fn memory(ends: &[(&Host, &str, Running)]) -> Result<f64> {
    let of = |(_, _, process): &(&Host, &str, Running)| -> Result<f64> {
        let status = fs::read_to_string(format!("/proc/{}/status", process.pid()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("VmHWM")?;
        Ok(line.split_whitespace().next().context("a number")?.parse::<f64>()? / 1024.0)
    };
    ends.iter().try_fold(0.0, |most: f64, end| Ok(most.max(of(end)?)))
}
