//! The rows of the DNS benchmark: the agent's resolver beside dnsmasq and aardvark-dns.
//!
//! All servers stand in one namespace, pinned to one processor, and are asked in turn from the other one. What counts
//! is processor time for a million questions: the rate says more about who asks.

mod churn;
mod ground;
mod load;
mod restore;
mod servers;

use std::path::Path;

use anyhow::{Context, Result, ensure};

use super::Options;
use super::report::{self, Cell, Goal, Row};
use crate::{dist, netns, shell};
use ground::{Ground, Mix};
use load::{Load, Measured};
use servers::Server;

/// Above the page's table.
const ABOUT: &str = "Medians of one interleaved run. Ours is `zeugma agent` with the records of that many containers \
    in its journal; each has an A and an AAAA record below one domain. The mix is half A, a quarter AAAA and a \
    quarter names that do not exist. All servers are pinned to one processor, dnsperf (8 clients, 200 questions \
    under way) to the other; processor time includes the kernel's part; of the agent it is that of the thread that answers, what the others do \
    has a row of its own. \
    Latency is at half of the server's own highest rate. `-`: not measured, because that contestant has nothing of \
    the kind.";
/// Names where the row does not say how many.
const NAMES: usize = 5_000;
const FEW: usize = 100;
const MANY: usize = 50_000;

/// Builds what is missing, and starts again in a namespace.
pub(super) fn run(options: &Options) -> Result<()> {
    if netns::is_inside() {
        return inside(options);
    }
    let bin_dir = match &options.bin_dir {
        Some(dir) => std::path::absolute(dir)?,
        None => dist::run(None)?,
    };
    let bin_dir = bin_dir.to_str().context("the directory's path is not UTF-8")?;
    let rounds = options.rounds.to_string();
    let status = netns::enter(&["bench", "dns", "--rounds", &rounds, "--bin-dir", bin_dir], &[])?;
    ensure!(status.success(), "the bench failed");
    Ok(())
}

fn inside(options: &Options) -> Result<()> {
    netns::settle()?;
    let bin_dir = options.bin_dir.as_deref().context("--bin-dir is passed on")?;
    // The measure of the other bench, in tenths: each of these rounds takes seconds.
    let rounds = options.rounds.div_ceil(10);
    let mut ground = Ground::new(bin_dir)?;
    let titles = ["ours", "dnsmasq", "aardvark-dns"].map(str::to_owned);
    // Shown as they come: the whole takes minutes.
    let shown = |rows: Vec<Row>| {
        println!("{}", report::table(&titles, &rows));
        rows
    };
    let mut rows = shown(beside_others(&mut ground, rounds)?);
    rows.extend(shown(flat(&mut ground, rounds)?));
    rows.extend(shown(churn::rows(&mut ground)?));
    rows.extend(shown(restore::rows(&ground)?));
    let command = format!("cargo xtask bench dns --rounds {}", options.rounds);
    report::write("dns", &command, ABOUT, &titles, &rows)
}

/// What was measured of one server.
#[derive(Default)]
struct Figures {
    a: Vec<Measured>,
    mix: Vec<Measured>,
    delays: Vec<f64>,
    memory: Option<f64>,
}

/// With 5,000 names, each in turn.
fn beside_others(ground: &mut Ground, rounds: usize) -> Result<Vec<Row>> {
    let mut servers = vec![Some(ground.ours(NAMES)?), Server::dnsmasq(NAMES)?, Server::aardvark(NAMES)?];
    let mut figures = [Figures::default(), Figures::default(), Figures::default()];
    for _ in 0..rounds {
        for (server, figures) in servers.iter().zip(&mut figures) {
            let Some(server) = server else { continue };
            figures.a.push(Load::full(Mix::A, NAMES).run(server)?);
            figures.mix.push(Load::full(Mix::All, NAMES).run(server)?);
            let half = median(figures.a.iter().map(|load| load.rate)).unwrap_or(1e4) / 2.0;
            figures.delays.extend(Load::at(half, Mix::A, NAMES).run(server)?.delays);
            figures.memory = Some(server.memory_mb()?);
        }
    }
    ground.keep(servers.swap_remove(0));
    Ok(compared(&figures))
}

fn compared(figures: &[Figures; 3]) -> Vec<Row> {
    let cells = |value: fn(&Figures) -> Cell| figures.iter().map(value).collect::<Vec<_>>();
    let (a, mix) = (cells(|f| cpu(&f.a)), cells(|f| cpu(&f.mix)));
    let beside_aardvark = |cells: &[Cell]| vec![cells[0].clone(), Cell::default(), cells[2].clone()];
    let (a_aardvark, mix_aardvark) = (beside_aardvark(&a), beside_aardvark(&mix));
    let dnsmasq = Goal::PartOfPeer(1.0);
    let aardvark = Goal::PartOfPeer(0.75);
    let lost = |f: &Figures| (!f.a.is_empty()).then(|| f.a.iter().chain(&f.mix).map(|load| load.lost).sum());
    let lost = figures.iter().map(|f| Cell::bare(lost(f))).collect();
    vec![
        row("a_cpu", "a million A, 5,000 names, against dnsmasq", "CPU s", dnsmasq, a),
        row("a_cpu_aardvark", "the same against aardvark-dns", "CPU s", aardvark, a_aardvark),
        row("mix_cpu", "a million of the mix, against dnsmasq", "CPU s", dnsmasq, mix),
        row("mix_cpu_aardvark", "the same against aardvark-dns", "CPU s", aardvark, mix_aardvark),
        row("a_rate", "A, as fast as it goes", "/s", Goal::AtLeast(0.0), cells(|f| rate(&f.a))),
        row("p50", "latency at half load, p50", "ms", Goal::AtMost(1.0), cells(|f| quantile(&f.delays, 50))),
        row("p99", "latency at half load, p99", "ms", Goal::AtMost(1.0), cells(|f| quantile(&f.delays, 99))),
        row("lost", "questions lost", "", Goal::AtMost(0.0), lost),
        row("rss", "memory with 5,000 names", "MB", Goal::AtMost(40.0), cells(|f| Cell::bare(f.memory))),
    ]
}

/// Ours with few and with many names, in turn.
fn flat(ground: &mut Ground, rounds: usize) -> Result<Vec<Row>> {
    let (mut few_loads, mut many_loads) = ([Vec::new(), Vec::new()], [Vec::new(), Vec::new()]);
    for _ in 0..rounds {
        for (names, found) in [(FEW, &mut few_loads), (MANY, &mut many_loads)] {
            let server = ground.ours(names)?;
            found[0].push(Load::full(Mix::A, names).run(&server)?);
            found[1].push(Load::full(Mix::All, names).run(&server)?);
            ground.keep(Some(server));
        }
    }
    let ratio = |at: usize| {
        let (few, many) = (cpu(&few_loads[at]).value, cpu(&many_loads[at]).value);
        let ratio = few.zip(many);
        let note = ratio.map(|(few, many)| format!("{few:.2} -> {many:.2} CPU s")).unwrap_or_default();
        vec![Cell { value: ratio.map(|(few, many)| many / few), note }]
    };
    let goal = Goal::AtMost(1.25);
    Ok(vec![
        row("a_flat", "a million A at 50,000 names, against 100", "x", goal, ratio(0)),
        row("mix_flat", "the same of the mix", "x", goal, ratio(1)),
    ])
}

/// The median of processor seconds for a million questions.
fn cpu(loads: &[Measured]) -> Cell {
    Cell::bare(median(loads.iter().map(|load| load.cpu_s / load.completed * 1e6)))
}

fn rate(loads: &[Measured]) -> Cell {
    Cell::bare(median(loads.iter().map(|load| load.rate)))
}

fn quantile(milliseconds: &[f64], percent: usize) -> Cell {
    let mut sorted = milliseconds.to_vec();
    sorted.sort_by(f64::total_cmp);
    Cell::bare(sorted.get((sorted.len() * percent).div_ceil(100).saturating_sub(1)).copied())
}

fn median(values: impl Iterator<Item = f64>) -> Option<f64> {
    quantile(&values.collect::<Vec<_>>(), 50).value
}

fn row(key: &'static str, title: &'static str, unit: &'static str, goal: Goal, cells: Vec<Cell>) -> Row {
    Row { key, title, unit, goal, cells }
}

/// Whether a program is there; says so when it is not.
fn find(program: &str, package: &str) -> Option<std::path::PathBuf> {
    let found = shell::which(program);
    if found.is_none() {
        eprintln!("NOT MEASURED: no {program} ({package})");
    }
    found
}

/// A file's number behind a key, as /proc/PID/status has them, in kB.
fn status_kb(path: &Path, key: &str) -> Result<f64> {
    let text = std::fs::read_to_string(path)?;
    let line = text.lines().find_map(|line| line.strip_prefix(key)).with_context(|| format!("no {key}"))?;
    Ok(line.trim_start_matches(':').trim().trim_end_matches(" kB").parse()?)
}
