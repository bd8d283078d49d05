//! Rows about change: names that come and go while others are asked for.

use std::net::Ipv4Addr;
use std::path::Path;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;

use super::ground::{DOMAIN, Ground, Mix, network, v4};
use super::load::{Load, ask, read};
use super::servers::Server;
use super::{NAMES, quantile, row};
use crate::bench::report::{Cell, Goal, Row};
use crate::cni::Container;
use crate::netns;

/// Containers that come to see when their names answer.
const NEW: usize = 50;
/// Containers that come and go under load.
const CHANGES: usize = 1000;
/// Containers that ask inside of their namespaces.
const INSIDE: usize = 200;
/// Questions a second meanwhile.
const RATE: f64 = 20_000.0;
const PORT: u16 = 53;
/// How long the agent is watched doing nothing.
const IDLE: Duration = Duration::from_secs(10);
/// An answer that takes longer is lost: dnsperf's limit, too.
const LIMIT: Duration = Duration::from_secs(5);

/// With 5,000 names.
pub(super) fn rows(ground: &mut Ground) -> Result<Vec<Row>> {
    let server = ground.ours(NAMES)?;
    let idle = idle(&server)?;
    netns::ip("netns add new")?;
    let delays = (0..NEW).map(|number| answered(&ground.bin_dir, number)).collect::<Result<Vec<_>>>()?;
    let changes = changes(&ground.bin_dir)?;
    let rss = inside(&ground.bin_dir, || server.memory_mb())?;
    ground.keep(Some(server));
    let at_most = |limit| Goal::AtMost(limit);
    let one = |value| vec![Cell::bare(Some(value))];
    let worst = vec![quantile(&delays, 100)];
    let without = "processor time of the agent without questions, 5,000 names";
    let listeners = "memory with 5,000 names and 200 container listeners";
    Ok(vec![
        row("idle", without, "ms a second", at_most(20.0), one(idle)),
        row("new_name", "a new name answers after ADD returned, worst of 50", "ms", at_most(10.0), worst),
        row("churn_lost", "questions lost during 1,000 ADD and DEL", "", at_most(0.0), vec![changes.lost]),
        row("churn_wrong", "wrong answers meanwhile", "", at_most(0.0), vec![changes.wrong]),
        row("rss_listeners", listeners, "MB", at_most(40.0), one(rss)),
    ])
}

/// Milliseconds of processor time in a second in which nobody asks; what it does at its start is over by then.
fn idle(server: &Server) -> Result<f64> {
    std::thread::sleep(Duration::from_secs(2));
    let before = server.cpu_of_all()?;
    std::thread::sleep(IDLE);
    Ok((server.cpu_of_all()? - before) * 1e3 / IDLE.as_secs_f64())
}

/// Milliseconds from ADD's end until the name is answered.
fn answered(bin_dir: &Path, number: usize) -> Result<f64> {
    let chain = network(bin_dir, "podman", json!({"names": [format!("new{number}")]}));
    let container = Container { id: format!("new{number}"), ..Container::named("new") };
    let result = chain.add(&container, &[])?;
    let begin = Instant::now();
    let name = format!("new{number}.{DOMAIN}");
    while ask(PORT, &name, LIMIT)?.is_none_or(|addresses| addresses.is_empty()) {
        if begin.elapsed() > Duration::from_secs(10) {
            bail!("{name} is not answered");
        }
    }
    let waited = begin.elapsed();
    chain.del(&container, &[], &result)?;
    Ok(waited.as_secs_f64() * 1e3)
}

struct Changes {
    lost: Cell,
    wrong: Cell,
}

/// 1,000 containers come and go while dnsperf asks, and while every answer is looked at.
fn changes(bin_dir: &Path) -> Result<Changes> {
    let mut command = Load::at(RATE, Mix::A, NAMES).command(PORT, "600")?;
    let dnsperf = command.stdout(Stdio::piped()).spawn().context("cannot start dnsperf")?;
    let (over, looked, wrong) = (AtomicBool::new(false), AtomicUsize::new(0), AtomicUsize::new(0));
    let (output, seconds) = std::thread::scope(|scope| {
        let reader = scope.spawn(|| dnsperf_end(dnsperf, &over));
        scope.spawn(|| look(&over, &looked, &wrong));
        let begin = Instant::now();
        let changed = (0..CHANGES).try_for_each(|number| come_and_go(bin_dir, number));
        over.store(true, Ordering::SeqCst);
        let output = reader.join().map_err(|_| anyhow::anyhow!("the reader of dnsperf failed"))??;
        changed.map(|()| (output, begin.elapsed().as_secs_f64()))
    })?;
    let codes =
        output.lines().find(|line| line.trim_start().starts_with("Response codes:")).unwrap_or_default();
    let others = if codes.contains("NOERROR") && codes.contains("(100.00%)") { 0 } else { 1 };
    let load = read(&output)?;
    let note = format!("of {:.0} in {seconds:.0} s", load.completed);
    let looked = format!("of {} looked at; {}", looked.into_inner(), codes.trim());
    #[expect(clippy::cast_precision_loss, reason = "a number of answers")]
    let wrong = (wrong.into_inner() + others) as f64;
    Ok(Changes {
        lost: Cell { value: Some(load.lost), note },
        wrong: Cell { value: Some(wrong), note: looked },
    })
}

/// Reads what dnsperf prints, all of it, and ends it when it is time.
fn dnsperf_end(mut child: std::process::Child, over: &AtomicBool) -> Result<String> {
    let pid = Pid::from_raw(i32::try_from(child.id())?);
    let mut stdout = child.stdout.take().context("stdout was piped")?;
    std::thread::scope(|scope| {
        scope.spawn(move || {
            while !over.load(Ordering::SeqCst) {
                std::thread::sleep(Duration::from_millis(50));
            }
            // It says what it found when it is interrupted.
            let _ = kill(pid, Signal::SIGINT);
        });
        let text = std::io::read_to_string(&mut stdout);
        child.wait()?;
        Ok(text?)
    })
}

/// Asks for names that stay, and compares.
fn look(over: &AtomicBool, looked: &AtomicUsize, wrong: &AtomicUsize) {
    for number in (0..NAMES).cycle() {
        if over.load(Ordering::SeqCst) {
            return;
        }
        let expected: Option<Ipv4Addr> = v4(number).parse().ok();
        let found = ask(PORT, &format!("c{number}.{DOMAIN}"), LIMIT).ok().flatten();
        if found != expected.map(|address| vec![address]) {
            wrong.fetch_add(1, Ordering::SeqCst);
        }
        looked.fetch_add(1, Ordering::SeqCst);
        std::thread::sleep(Duration::from_micros(500));
    }
}

fn come_and_go(bin_dir: &Path, number: usize) -> Result<()> {
    let chain = network(bin_dir, "podman", json!({"names": [format!("passing{number}")]}));
    let container = Container { id: format!("passing{number}"), ..Container::named("new") };
    let result = chain.add(&container, &[])?;
    chain.del(&container, &[], &result)
}

/// What `figure` is with 200 containers that ask at 127.0.0.11.
fn inside<T>(bin_dir: &Path, figure: impl FnOnce() -> Result<T>) -> Result<T> {
    let chain = network(bin_dir, "inner", json!({"mode": "container"}));
    for number in 0..INSIDE {
        netns::ip(&format!("netns add in{number}"))?;
        chain.add(&Container::named(&format!("in{number}")), &[])?;
    }
    figure()
}
