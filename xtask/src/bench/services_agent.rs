//! The rows of `cargo xtask bench services` that are about the whole agent: its memory with many services, and how long
//! after a change by API or command line a client sees it.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use netns_fixtures::{Host, HostCommand, Running, World, eventually};

use super::measure::{Sample, Series};
use super::report::{Cell, Goal, Row};
use super::services::Path3;
use crate::{dist, shell};

const ENDPOINTS: &str = "10";
/// How many services there are in the rows of memory.
const MEMORY: [(u32, &str, &str, f64); 2] = [
    (5_000, "rss_5000", "memory of the agent, 5,000 services x 10 endpoints", 60.0),
    (25_000, "rss_25000", "memory of the agent, 25,000 x 10", 150.0),
];
/// The service that changes, its virtual address, and the endpoint that comes and goes: a server is there.
const CHANGING: (&str, &str, &str) = ("changing", "10.96.255.1", "11.0.0.10");
/// Changes that are timed, by API and by command line.
const CHANGES: usize = 100;
/// How long an agent may take to have all in the kernel, and a client to see a change.
const PATIENCE: Duration = Duration::from_secs(120);

/// All rows; `columns` is how many contestants the table has.
pub(super) fn rows(world: &World, columns: usize) -> Result<Vec<Row>> {
    let (zeugma, fill) = (dist::run(None)?.join("zeugma"), built()?);
    let mut rows = Vec::new();
    for (count, key, title, limit) in MEMORY {
        let path = Path3::new(world, &format!("agent-{count}"))?;
        let agent = Agent::start(world, &path.router, (&zeugma, &fill), count)?;
        let memory = agent.memory_mb()?;
        rows.push(row((key, title, "MB", limit), memory, columns));
        if count == MEMORY[0].0 {
            rows.extend(agent.change_rows(&path, columns)?);
        }
    }
    Ok(rows)
}

fn row(
    (key, title, unit, limit): (&'static str, &'static str, &'static str, f64),
    value: f64,
    columns: usize,
) -> Row {
    let mut cells = vec![Cell::bare(Some(value))];
    cells.resize(columns, Cell::bare(None));
    Row { key, title, unit, goal: Goal::AtMost(limit), cells }
}

fn built() -> Result<PathBuf> {
    shell::run(&mut shell::cargo(["build", "--release", "-p", "zeugma-catalogue", "--example", "fill"]))?;
    Ok(shell::target_dir()?.join("release/examples/fill"))
}

struct Agent<'a> {
    process: Running,
    host: &'a Host,
    zeugma: PathBuf,
}

impl<'a> Agent<'a> {
    /// With so many services, all of them in the kernel.
    fn start(world: &World, host: &'a Host, (zeugma, fill): (&Path, &Path), count: u32) -> Result<Self> {
        let file = world.dir().join(format!("catalogue-{count}.redb"));
        let filled = host.command(fill).arg(&file).args([&count.to_string(), ENDPOINTS]);
        filled.deadline(PATIENCE).run().context("fill a catalogue")?;
        let agent =
            host.command(zeugma).args(["agent", "--listen-metrics", "none", "--resolv-conf", "/dev/null"]);
        let agent = agent.args(["--service-range", "10.96.0.0/16", "--catalogue"]).arg(&file);
        let agent = Self { process: agent.spawn()?, host, zeugma: zeugma.into() };
        let last = count.to_be_bytes();
        let last = format!("inet zeugma_services services_ip {{ 10.96.{}.{} . tcp . 80 }}", last[2], last[3]);
        let is_programmed = || {
            let get = ["nft", "get", "element"].into_iter().chain(last.split(' '));
            host.run(get).is_ok()
        };
        ensure!(eventually(PATIENCE, is_programmed), "not all is programmed: {}", agent.process.log());
        Ok(agent)
    }

    fn memory_mb(&self) -> Result<f64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.pid()))?;
        let kb = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:")?.split_whitespace().next()?.parse().ok());
        let kb: f64 = kb.context("the kernel names no VmRSS")?;
        Ok(kb / 1024.0)
    }

    fn change_rows(&self, path: &Path3, columns: usize) -> Result<Vec<Row>> {
        let (name, vip, _) = CHANGING;
        self.command(["service", "create", name, "--port", "80:8080", "--vip", vip]).run()?;
        let by_api = self.changes(path, || self.put().map(drop))?;
        let by_command = self.changes(path, || {
            let (name, _, endpoint) = CHANGING;
            self.command(["endpoint", "add", name, endpoint]).run().map(drop)
        })?;
        let row = |key, title, series: &Series| {
            let p95 = series.p95().unwrap_or(f64::NAN);
            let mut row = row((key, title, "ms", 20.0), p95, columns);
            row.cells[0].note = format!("p50 {:.2}", series.median().unwrap_or(f64::NAN));
            row
        };
        Ok(vec![
            row("api_to_client", "from an API call to a client that sees it, 5,000 services, p95", &by_api),
            row("cli_to_client", "from the start of a command to a client that sees it, p95", &by_command),
        ])
    }

    /// An endpoint is added, and a client that was refused until then connects.
    fn changes(&self, path: &Path3, add: impl Fn() -> Result<()> + Sync) -> Result<Series> {
        let address: SocketAddr = format!("{}:80", CHANGING.1).parse()?;
        let mut series = Series::default();
        for _ in 0..CHANGES {
            path.client.enter(|| until(&address, false))?;
            let started = Instant::now();
            let seen = std::thread::scope(|scope| {
                let seen = scope.spawn(|| path.client.enter(|| until(&address, true)));
                add()?;
                seen.join().map_err(|_| anyhow::anyhow!("the client broke off"))?
            })?;
            let wall_ms = seen.duration_since(started).as_secs_f64() * 1e3;
            series.0.push(Sample { wall_ms, cpu_ms: 0.0 });
            let (name, _, endpoint) = CHANGING;
            self.command(["endpoint", "rm", "--now", name, endpoint]).run()?;
        }
        Ok(series)
    }

    fn put(&self) -> Result<()> {
        let (name, _, endpoint) = CHANGING;
        let mut socket = UnixStream::connect(self.host.run_dir().join("agent.sock"))?;
        let head = format!("PUT /v1/services/{name}/endpoints/{endpoint} HTTP/1.1\r\nHost: agent\r\n");
        let head = format!(
            "{head}Content-Type: application/json\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{{}}"
        );
        socket.write_all(head.as_bytes())?;
        let mut answer = String::new();
        socket.read_to_string(&mut answer)?;
        ensure!(answer.starts_with("HTTP/1.1 200"), "the agent says {answer}");
        Ok(())
    }

    fn command<const N: usize>(&self, words: [&str; N]) -> HostCommand {
        self.host.command(&self.zeugma).args(words)
    }
}

/// When connections first are as they are to be: taken, or refused.
fn until(address: &SocketAddr, taken: bool) -> Result<Instant> {
    let end = Instant::now() + PATIENCE;
    loop {
        match TcpStream::connect(address) {
            Ok(_) if taken => return Ok(Instant::now()),
            Err(error) if !taken && error.kind() == ErrorKind::ConnectionRefused => return Ok(Instant::now()),
            Ok(_) | Err(_) if Instant::now() > end => bail!("connections to {address} do not change"),
            Ok(_) | Err(_) => {}
        }
    }
}
