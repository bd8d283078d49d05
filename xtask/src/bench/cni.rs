//! The rows of the CNI benchmark: what is asked of whom, and what the answers have to be.
//!
//! Contestants are asked in turn, one repetition each, so that a slow second of the machine hits all of them.

use std::path::Path;

use anyhow::Result;
use serde_json::{Value, json};

use zeugma_tests::conformance::Plugin;

use super::Options;
use super::capacity;
use super::contestant::find_netavark;
use super::measure::{Sample, Series};
use super::report::{self, Cell, Goal, Row};
use super::worker::Worker;
use crate::{dist, vm};

/// Debian's containernetworking-plugins.
const REFERENCE: &str = "/usr/lib/cni";
/// Above the page's table.
const ABOUT: &str = "Medians of one interleaved run, each contestant in network and mount namespaces of its own. \
    The chain is bridge (ipMasq), portmap (1 port), firewall and tuning as four processes. CPU is the mean of user \
    and system time of all processes waited for. host-local is given without the cost of starting the executable. \
    `-`: not measured, because that contestant has nothing of the kind or would take minutes.";

/// Runs everything, prints the table and writes it down. Missed goals are in the table, not in the exit code:
/// the machine may be busy.
pub(crate) fn run(options: &Options) -> Result<()> {
    let bin_dir = match &options.bin_dir {
        Some(dir) => std::path::absolute(dir)?,
        None => dist::run(None)?,
    };
    let contestants = contestants(&bin_dir);
    let mut bench = Bench { rounds: options.rounds, workers: start(&contestants)? };
    let mut rows = bench.latency();
    rows.extend(bench.interfaces(&bin_dir)?);
    rows.extend(bench.throughput());
    let mut loaded = start(&contestants)?;
    rows.push(bench.attached(&mut loaded, 200));
    drop(loaded);
    let count = bench.cni_workers();
    rows.extend(capacity::leases(&mut bench.workers[..count], bench.rounds));
    rows.extend(capacity::ports(&mut bench.workers[0], &contestants[0])?);
    rows.extend(bench.size(&bin_dir)?);
    let titles: Vec<_> = contestants.into_iter().map(|(title, _)| title).collect();
    println!("{}", report::table(&titles, &rows));
    let command = format!("cargo xtask bench cni --rounds {}", options.rounds);
    report::write("cni", &command, ABOUT, &titles, &rows)
}

/// Title and word of everyone who is here; says who is not.
fn contestants(bin_dir: &Path) -> Vec<(String, String)> {
    let mut all = vec![("ours".to_owned(), format!("cni:{}", bin_dir.display()))];
    if Path::new(REFERENCE).join("bridge").exists() {
        all.push(("Go plugins (Debian)".to_owned(), format!("cni:{REFERENCE}")));
    } else {
        eprintln!("NOT MEASURED: no plugins in {REFERENCE} (apt-get install containernetworking-plugins)");
    }
    match find_netavark() {
        Some(file) => all.push((version(&file), format!("netavark:{}", file.display()))),
        None => eprintln!("NOT MEASURED: no netavark (`cargo xtask bench cni --install-peers` installs it)"),
    }
    all
}

fn version(netavark: &Path) -> String {
    let output = std::process::Command::new(netavark).arg("--version").output();
    output.map_or_else(|_| "netavark".to_owned(), |it| String::from_utf8_lossy(&it.stdout).trim().to_owned())
}

fn start(contestants: &[(String, String)]) -> Result<Vec<Worker>> {
    contestants.iter().map(|(title, word)| Worker::start(title, word)).collect()
}

/// The contestants, ours first.
struct Bench {
    rounds: usize,
    workers: Vec<Worker>,
}

impl Bench {
    fn latency(&mut self) -> Vec<Row> {
        let [bridge, _] = asked(&mut self.workers, self.rounds, &json!(["cycle", "bridge"]), ["add", "del"]);
        let [masq, _] = asked(&mut self.workers, self.rounds, &json!(["cycle", "masq"]), ["add", "del"]);
        let [add, del] = asked(&mut self.workers, self.rounds, &json!(["cycle", "chain"]), ["add", "del"]);
        vec![
            timed("bridge_add", "bridge + host-local ADD", 1.5, &bridge),
            timed("masq_add", "the same with ipMasq", 2.0, &masq),
            timed("chain_add", "chain ADD", 5.0, &add),
            timed("chain_del", "chain DEL", 30.0, &del),
        ]
    }

    /// The other plugins that make an interface; ipvlan in the virtual machine where this kernel has none.
    fn interfaces(&mut self, bin_dir: &Path) -> Result<Vec<Row>> {
        let third = Goal::PartOfPeer(1.0 / 3.0);
        let count = self.cni_workers();
        let mut rows = Vec::new();
        for (key, title, word) in [
            ("ptp_add", "ptp + host-local ADD", "ptp"),
            ("macvlan_add", "macvlan + host-local ADD", "macvlan"),
        ] {
            let [add] = asked(&mut self.workers[..count], self.rounds, &json!(["cycle", word]), ["add"]);
            rows.push(row(key, title, "ms", third, add.iter().map(Cell::of).collect()));
        }
        let cells = if Plugin::Ipvlan.is_possible() {
            let [add] = asked(&mut self.workers[..count], self.rounds, &json!(["cycle", "ipvlan"]), ["add"]);
            add.iter().map(Cell::of).collect()
        } else {
            emulated(bin_dir)?
        };
        rows.push(row("ipvlan_add", "ipvlan + host-local ADD", "ms", third, cells));
        Ok(rows)
    }

    fn throughput(&mut self) -> Vec<Row> {
        let (bridge, lost) = self.rates(&json!(["parallel", "bridge", 400, 16]));
        let (chain, lost_chain) = self.rates(&json!(["parallel", "chain", 100, 16]));
        let failed =
            lost.iter().zip(&lost_chain).map(|(a, b)| Cell::bare(a.zip(*b).map(|(a, b)| a + b))).collect();
        vec![
            row(
                "parallel_bridge",
                "16 in flight: bridge + host-local ADD and DEL",
                "/s",
                Goal::AtLeast(700.0),
                bridge,
            ),
            row("parallel_chain", "16 in flight: chain ADD and DEL", "/s", Goal::AtLeast(200.0), chain),
            row("parallel_failures", "failures among them (of 1000 verbs)", "", Goal::AtMost(0.0), failed),
        ]
    }

    /// Rates, and failures, of a task that runs once.
    fn rates(&mut self, task: &Value) -> (Vec<Cell>, Vec<Option<f64>>) {
        let answers: Vec<_> = self.workers.iter_mut().map(|worker| tell(worker, task)).collect();
        let rates = answers.iter().map(|answer| Cell::bare(answer["per_second"].as_f64())).collect();
        (rates, answers.iter().map(|answer| answer["failures"].as_f64()).collect())
    }

    /// The chain's ADD with `count` attached against the same with none, in turn.
    fn attached(&mut self, loaded: &mut [Worker], count: usize) -> Row {
        for worker in loaded.iter_mut() {
            tell(worker, &json!(["keep", "chain", count]));
        }
        let mut pairs = Vec::new();
        for (idle, loaded) in self.workers.iter_mut().zip(loaded) {
            let (mut few, mut many) = (Series::default(), Series::default());
            for _ in 0..self.rounds {
                few.extend_from_json(&tell(idle, &json!(["cycle", "chain"]))["add"]);
                many.extend_from_json(&tell(loaded, &json!(["cycle", "chain"]))["add"]);
            }
            pairs.push(ratio(&many, &few));
        }
        row("chain_add_200", "chain ADD with 200 attached, against none", "x", Goal::AtMost(1.15), pairs)
    }

    fn size(&mut self, bin_dir: &Path) -> Result<Vec<Row>> {
        let ours = dist::mb(std::fs::metadata(bin_dir.join("zeugma-cni"))?.len());
        let bytes =
            |name: &&str| std::fs::metadata(Path::new(REFERENCE).join(name)).map(|file| file.len()).ok();
        let theirs: u64 =
            Plugin::ALL.iter().map(|plugin| plugin.name()).filter_map(|name| bytes(&name)).sum();
        let theirs = (theirs > 0).then_some(theirs);
        let count = self.cni_workers();
        let memory =
            |worker: &mut Worker| Cell::bare(tell(worker, &json!(["rss"]))["kb"].as_f64().map(|kb| kb / 1e3));
        let rss = self.workers[..count].iter_mut().map(memory).collect();
        let sizes = vec![Cell::bare(Some(ours)), Cell::bare(theirs.map(dist::mb))];
        Ok(vec![
            row("size", "executables of all plugins", "MB", Goal::PartOfPeer(0.1), sizes),
            row("rss", "memory of bridge ADD", "MB", Goal::AtMost(3.0), rss),
        ])
    }

    /// How many of the contestants, from the first, are CNI plugins.
    fn cni_workers(&self) -> usize {
        self.workers.iter().filter(|worker| !worker.title.starts_with("netavark")).count()
    }
}

/// Medians of ipvlan's ADD, ours and the reference's, on the emulated processor of the virtual machine: only their
/// ratio means something.
fn emulated(bin_dir: &Path) -> Result<Vec<Cell>> {
    let said = vm::said(bin_dir, "ipvlan_add_beside", "BENCH ipvlan_add")?;
    let median = |maker: &str| {
        let figures = said.iter().filter_map(|line| line.strip_prefix(maker)?.trim().parse::<f64>().ok());
        let samples = figures.map(|wall_ms| Sample { wall_ms, cpu_ms: 0.0 }).collect();
        Cell { value: Series(samples).median(), note: "emulated".to_owned() }
    };
    Ok(vec![median("ours"), median("reference")])
}

/// Asks each in turn, `rounds` times; for each of `fields` one series a worker.
pub(super) fn asked<const N: usize>(
    workers: &mut [Worker],
    rounds: usize,
    task: &Value,
    fields: [&str; N],
) -> [Vec<Series>; N] {
    let mut found = fields.map(|_| vec![Series::default(); workers.len()]);
    for _ in 0..rounds {
        for (at, worker) in workers.iter_mut().enumerate() {
            let answer = tell(worker, task);
            for (series, field) in found.iter_mut().zip(fields) {
                series[at].extend_from_json(&answer[field]);
            }
        }
    }
    found
}

/// Asks; a failure is said and counts as no answer.
pub(super) fn tell(worker: &mut Worker, task: &Value) -> Value {
    worker.ask(task).unwrap_or_else(|error| {
        eprintln!("FAILED: {error:#}");
        Value::Null
    })
}

pub(super) fn row(
    key: &'static str,
    title: &'static str,
    unit: &'static str,
    goal: Goal,
    cells: Vec<Cell>,
) -> Row {
    Row { key, title, unit, goal, cells }
}

pub(super) fn timed(key: &'static str, title: &'static str, at_most_ms: f64, series: &[Series]) -> Row {
    row(key, title, "ms", Goal::AtMost(at_most_ms), series.iter().map(Cell::of).collect())
}

pub(super) fn ratio(many: &Series, few: &Series) -> Cell {
    let note = match (few.median(), many.median()) {
        (Some(few), Some(many)) => format!("{few:.3} -> {many:.3} ms"),
        _ => String::new(),
    };
    Cell { value: many.median().zip(few.median()).map(|(many, few)| many / few), note }
}
