//! `cargo xtask bench services`: services in the kernel, beside `nft -f` of the same elements and a direct connection.
//!
//! What programs them is an example of `crates/kernel`, a process for each task: the table stays in its namespace.

use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use netns_fixtures::{Host, World, try_run};
use nix::libc::linger;
use nix::sched::{CpuSet, sched_setaffinity};
use nix::sys::socket::{setsockopt, sockopt};
use nix::unistd::Pid;
use serde_json::Value;

use super::measure::{Sample, Series, time};
use super::report::{self, Cell, Goal, Row};
use super::services_agent;
use crate::shell;

/// Endpoints of each service.
const ENDPOINTS: &str = "10";
/// How many services there are in the rows of a cold sync, and what the row is called.
const COLD: [(&str, &str, &str, f64); 3] = [
    ("5000", "cold_5000", "cold sync, 5,000 services x 10 endpoints", 300.0),
    ("10000", "cold_10000", "cold sync, 10,000 x 10", 600.0),
    ("25000", "cold_25000", "cold sync, 25,000 x 10", 1500.0),
];
const MANY: &str = "25000";
/// Changes of one endpoint that are timed.
const CHANGES: &str = "300";
/// Connections one after another, and how often each way has its turn in a round: what else the machine does then
/// concerns all alike.
const CONNECTIONS: usize = 50;
const TURNS: usize = 40;
/// As the figures of kube-proxy were measured: so many one after another, and twice as many rounds as ways; there
/// what an idle processor forgets between two turns counts for nothing.
const IN_A_ROW: usize = 2000;
const ROWS: usize = 8;
/// No more rounds than this: a cold sync by nft takes seconds.
const ROUNDS: usize = 7;
/// The virtual address of the first service that the example makes, and its endpoints.
const VIP: &str = "10.96.0.1:80";
const BACKENDS: std::ops::Range<usize> = 10..20;

const TITLES: [&str; 4] = ["zeugma", "nft -f", "direct", "one rule"];

const ABOUT: &str = "`nft -f` puts the same elements into the same chains. Direct: the same router with connection \
tracking and no table of services; one rule: the same with a single rule that \
translates to one of the ten endpoints by chance. A change is of one endpoint, in turn one that takes another's place, one more and \
one less; its time is from the decision to the kernel's acknowledgement. Connections are TCP from one namespace over \
a router to another, to ten endpoints, medians of all: 50 of each in turn; and 2,000 in a row, as the figures of kube-proxy were \
measured, where direct goes through the router with the services, which tracks and translates other flows: what that \
takes is no service's. Kernel memory: objects of nf_tables in \
/proc/slabinfo (kmalloc-cg-*) and vmalloc, after less before.";

/// Measures, prints the table and writes docs/benchmarks/services.md.
pub(super) fn run(rounds: usize) -> Result<()> {
    let example = built()?;
    let rounds = rounds.min(ROUNDS);
    let rows = try_run(move |world| {
        let bench = Bench { world, example };
        // First, as long as no namespace that is being taken down gives memory back.
        let changes = bench.change_rows()?;
        let mut rows = bench.cold_rows(rounds)?;
        rows.extend(changes);
        rows.extend(bench.connect_rows(rounds)?);
        rows.extend(services_agent::rows(bench.world, TITLES.len())?);
        Ok(rows)
    })?;
    let titles = TITLES.map(str::to_owned);
    println!("{}", report::table(&titles, &rows));
    report::write("services", "cargo xtask bench services", ABOUT, &titles, &rows)
}

fn built() -> Result<PathBuf> {
    shell::run(&mut shell::cargo(["build", "--release", "-p", "zeugma-kernel", "--example", "services"]))?;
    Ok(shell::target_dir()?.join("release/examples/services"))
}

struct Bench<'a> {
    world: &'a World,
    example: PathBuf,
}

impl Bench<'_> {
    fn cold_rows(&self, rounds: usize) -> Result<Vec<Row>> {
        COLD.iter()
            .map(|(count, key, title, limit)| self.cold_row((count, key, title, *limit), rounds))
            .collect()
    }

    fn cold_row(
        &self,
        (count, key, title, limit): (&str, &'static str, &'static str, f64),
        rounds: usize,
    ) -> Result<Row> {
        let (mut ours, mut by_nft) = (Series::default(), Series::default());
        let script = self.world.dir().join("elements.nft");
        for _ in 0..rounds {
            let host = self.world.host("cold")?;
            let filled = self.ask(&host, &["fill", count, ENDPOINTS])?;
            let (wall_ms, cpu_ms) = (number(&filled, "all_ms")?, number(&filled, "cpu_ms")?);
            ours.0.push(Sample { wall_ms, cpu_ms });
            host.remove()?;
            let host = self.world.host("cold")?;
            self.ask(&host, &["fill", "0", ENDPOINTS])?;
            fs::write(&script, self.output(&host, &["nft", count, ENDPOINTS])?)?;
            by_nft.0.push(timed_nft(&host, &script)?);
            host.remove()?;
        }
        let cells = vec![Cell::of(&ours), Cell::of(&by_nft)];
        Ok(Row { key, title, unit: "ms", goal: Goal::AtMost(limit), cells })
    }

    fn change_rows(&self) -> Result<Vec<Row>> {
        let host = self.world.host("changing")?;
        let before = kernel_memory()?;
        let filled = self.ask(&host, &["fill", MANY, ENDPOINTS])?;
        let memory = kernel_memory()? - before;
        let changed = self.ask(&host, &["change", MANY, ENDPOINTS, CHANGES])?;
        host.remove()?;
        let row = |key, title, unit, limit, value| {
            let cells = vec![Cell::bare(Some(value))];
            Row { key, title, unit, goal: Goal::AtMost(limit), cells }
        };
        Ok(vec![
            row(
                "change_p50",
                "one endpoint changes at 25,000 services, p50",
                "ms",
                0.5,
                number(&changed, "p50_ms")?,
            ),
            row(
                "change_p95",
                "one endpoint changes at 25,000 services, p95",
                "ms",
                5.0,
                number(&changed, "p95_ms")?,
            ),
            row(
                "observe_25000",
                "a restart: all of it read back and compared, 25,000 x 10",
                "ms",
                1500.0,
                number(&changed, "observed_ms")?,
            ),
            row("memory_25000", "kernel memory of 250,000 endpoints", "MB", 30.0, memory),
            row(
                "process_25000",
                "most memory of the process that programs them",
                "MB",
                150.0,
                number(&filled, "peak_kb")? / 1024.0,
            ),
        ])
    }

    fn connect_rows(&self, rounds: usize) -> Result<Vec<Row>> {
        let direct = Path3::new(self.world, "direct")?;
        direct.router.nft(
            "table inet tracked {\nchain c { type filter hook forward priority 0; ct state new accept; }\n}",
        )?;
        let rule = Path3::new(self.world, "rule")?;
        rule.router.nft(&one_rule())?;
        let (one, many) = (Path3::new(self.world, "one")?, Path3::new(self.world, "many")?);
        self.ask(&one.router, &["fill", "1", ENDPOINTS])?;
        self.ask(&many.router, &["fill", MANY, ENDPOINTS])?;
        let (backends, vip) = (backends()?, vec![VIP.parse()?]);
        let in_turn: [Way<'_>; 4] = [(&direct, &backends), (&rule, &vip), (&one, &vip), (&many, &vip)];
        let in_a_row: [Way<'_>; 4] = [(&one, &backends), (&rule, &vip), (&one, &vip), (&many, &vip)];
        let titles = [
            ("connect_1", "connect to a virtual address, 1 service, p50"),
            ("connect_25000", "connect to a virtual address, 25,000 services, p50"),
        ];
        let mut rows = compared(titles, in_turn, rounds * TURNS, CONNECTIONS)?;
        let titles = [
            ("row_1", "the same, 2,000 in a row beside direct by the same router, 1 service"),
            ("row_25000", "the same, 25,000 services"),
        ];
        rows.extend(compared(titles, in_a_row, ROWS, IN_A_ROW)?);
        Ok(rows)
    }

    fn output(&self, host: &Host, words: &[&str]) -> Result<String> {
        let command = host.command(&self.example).args(words).deadline(Duration::from_secs(120));
        Ok(command.run()?.stdout)
    }

    fn ask(&self, host: &Host, words: &[&str]) -> Result<Value> {
        let answer = self.output(host, words)?;
        serde_json::from_str(&answer).with_context(|| format!("{words:?} answered {answer}"))
    }
}

/// A single rule that does what all of ours do.
fn one_rule() -> String {
    let slots: Vec<String> =
        BACKENDS.enumerate().map(|(slot, number)| format!("{slot} : 11.0.0.{number} . 8080")).collect();
    let to = format!("dnat ip to numgen random mod {} map {{ {} }}", slots.len(), slots.join(", "));
    let chain = format!(
        "chain c {{ type nat hook prerouting priority -100; tcp dport 80 ip daddr 10.96.0.1 {to}; }}"
    );
    format!("table ip nat {{\n{chain}\n}}")
}

fn backends() -> Result<Vec<SocketAddr>> {
    BACKENDS.map(|number| Ok(format!("11.0.0.{number}:8080").parse()?)).collect()
}

/// Where from, and where to.
type Way<'a> = (&'a Path3, &'a [SocketAddr]);

/// Direct, one rule, and two of ours, each in its turn.
fn compared(
    titles: [(&'static str, &'static str); 2],
    ways: [Way<'_>; 4],
    turns: usize,
    count: usize,
) -> Result<Vec<Row>> {
    let mut series = [const { Series(Vec::new()) }; 4];
    for turn in 0..turns {
        let order: [usize; 4] = if turn % 2 == 0 { [0, 1, 2, 3] } else { [3, 2, 1, 0] };
        for at in order {
            let (path, addresses) = ways[at];
            series[at].0.extend(path.connections(addresses, count)?);
        }
    }
    let us = |series: &Series| series.median().map(|ms| ms * 1e3);
    let [direct, rule, one, many] = &series;
    let limit = us(direct).unwrap_or(0.0) * 1.05;
    let row = |(key, title), series: &Series| {
        let cells = [us(series), None, us(direct), us(rule)].map(Cell::bare).into();
        Row { key, title, unit: "us", goal: Goal::AtMost((limit * 100.0).round() / 100.0), cells }
    };
    Ok(vec![row(titles[0], one), row(titles[1], many)])
}

/// A client, a router and a server with the example's first endpoints.
pub(super) struct Path3 {
    pub(super) client: Host,
    pub(super) router: Host,
    _server: Host,
}

impl Path3 {
    pub(super) fn new(world: &World, name: &str) -> Result<Self> {
        let host = |what: &str| world.host(&format!("{name}-{what}"));
        let (client, router, server) = (host("client")?, host("router")?, host("server")?);
        world.link((&client, "eth0", "192.0.2.2/24"), (&router, "eth0", "192.0.2.1/24"))?;
        world.link((&router, "eth1", "11.0.0.1/8"), (&server, "eth0", "11.0.0.2/8"))?;
        router.set_sysctl("net.ipv4.ip_forward", "1")?;
        client.ip("route add default via 192.0.2.1")?;
        server.ip("route add default via 11.0.0.1")?;
        for number in BACKENDS {
            server.ip(&format!("addr add 11.0.0.{number}/8 dev eth0"))?;
        }
        let listener = server.enter(|| Ok(TcpListener::bind("0.0.0.0:8080")?))?;
        thread::spawn(move || {
            let _ = on_processor(0);
            listener.incoming().for_each(drop);
        });
        Ok(Self { client, router, _server: server })
    }

    /// To each of the addresses in turn.
    fn connections(&self, addresses: &[SocketAddr], count: usize) -> Result<Vec<Sample>> {
        self.client.enter(|| {
            on_processor(1)?;
            addresses.iter().cycle().take(count).map(connection).collect()
        })
    }
}

/// Moving between processors is slower than anything that is measured here.
fn on_processor(number: usize) -> Result<()> {
    let mut set = CpuSet::new();
    set.set(number % thread::available_parallelism()?.get())?;
    Ok(sched_setaffinity(Pid::from_raw(0), &set)?)
}

/// Ends by a reset, so that no state stays.
fn connection(address: &SocketAddr) -> Result<Sample> {
    let start = Instant::now();
    let stream = TcpStream::connect(address)?;
    let took = start.elapsed();
    setsockopt(&stream, sockopt::Linger, &linger { l_onoff: 1, l_linger: 0 })?;
    Ok(sample(took.as_secs_f64() * 1e3))
}

fn timed_nft(host: &Host, script: &Path) -> Result<Sample> {
    let command = host.command("nft").arg("-f").arg(script).deadline(Duration::from_secs(120));
    Ok(time(|| command.run())?.1)
}

fn sample(wall_ms: f64) -> Sample {
    Sample { wall_ms, cpu_ms: 0.0 }
}

fn number(answer: &Value, key: &str) -> Result<f64> {
    answer[key].as_f64().with_context(|| format!("no {key} in {answer}"))
}

/// MB of slab objects that belong to control groups, as those of nf_tables do, and of vmalloc.
fn kernel_memory() -> Result<f64> {
    let slabs = fs::read_to_string("/proc/slabinfo").context("read /proc/slabinfo")?;
    let bytes = |line: &str| -> Option<f64> {
        let words: Vec<&str> = line.split_whitespace().collect();
        let (objects, size): (f64, f64) = (words.get(1)?.parse().ok()?, words.get(3)?.parse().ok()?);
        line.starts_with("kmalloc-cg-").then_some(objects * size)
    };
    let slab: f64 = slabs.lines().filter_map(bytes).sum();
    let meminfo = fs::read_to_string("/proc/meminfo")?;
    let vmalloc = meminfo.lines().find_map(|line| line.strip_prefix("VmallocUsed:"));
    let vmalloc_kb: f64 =
        vmalloc.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or(0.0);
    Ok(slab / 1e6 + vmalloc_kb / 1e3)
}
