//! Who answers, and how each is started. Each has a port of its own at the gateway.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::ground::{CLIENT, DIR, DOMAIN, GATEWAY, v4, v6};
use super::load::ask;
use super::{find, status_kb};

/// All servers are here, and who asks is on the other one.
pub(super) const PROCESSOR: &str = "0";
/// How long one may take to begin.
const PATIENCE: Duration = Duration::from_secs(60);

/// A server that runs; it ends when dropped.
pub(super) struct Server {
    pub(super) port: u16,
    pid: i32,
    /// The thread that answers, where others do other things.
    thread: Option<&'static str>,
    child: Option<Child>,
}

impl Server {
    /// Ours. The switch to another executable is here and nowhere else.
    pub(super) fn agent(bin_dir: &Path, names: usize) -> Result<Self> {
        let mut command = pinned(&bin_dir.join("zeugma"));
        command.args(["agent", "--listen-metrics", "none", "--resolv-conf", "/dev/null"]);
        let mut agent = Self::start(&mut command, "agent", 53)?;
        agent.thread = Some("dns");
        agent.ready(names)
    }

    /// Debian's, with the names in a file as of /etc/hosts.
    pub(super) fn dnsmasq(names: usize) -> Result<Option<Self>> {
        let Some(program) = find("dnsmasq", "apt-get install dnsmasq-base") else { return Ok(None) };
        let mut hosts = String::new();
        for number in 0..names {
            writeln!(hosts, "{} c{number}.{DOMAIN}\n{} c{number}.{DOMAIN}", v4(number), v6(number))?;
        }
        let file = Path::new(DIR).join("hosts");
        fs::write(&file, hosts)?;
        let mut command = pinned(&program);
        command.args(["--keep-in-foreground", "--conf-file=/dev/null", "--user=root", "--pid-file"]);
        command.args(["--no-resolv", "--no-hosts", "--bind-interfaces", "--local-ttl=5", "--port=5301"]);
        command.arg(format!("--addn-hosts={}", file.display()));
        command.arg(format!("--listen-address={GATEWAY}")).arg(format!("--local=/{DOMAIN}/"));
        Self::start(&mut command, "dnsmasq", 5301)?.ready(names).map(Some)
    }

    /// Podman's, which leaves a process behind whose number is in a file.
    pub(super) fn aardvark(names: usize) -> Result<Option<Self>> {
        let Some(program) = find("aardvark-dns", "cargo install aardvark-dns") else { return Ok(None) };
        let dir = Path::new(DIR).join("aardvark");
        fs::create_dir_all(&dir)?;
        let mut config = format!("{GATEWAY}\n{:064x} {CLIENT} fd88::2 client\n", usize::MAX);
        for number in 0..names {
            writeln!(config, "{number:064x} {} {} c{number}", v4(number), v6(number))?;
        }
        fs::write(dir.join("podman"), config)?;
        let mut command = pinned(&program);
        command.arg("--config").arg(&dir).args(["--port", "5302", "--filter-search-domain", DOMAIN, "run"]);
        let mut started = Self::start(&mut command, "aardvark", 5302)?;
        let file = dir.join("aardvark.pid");
        let begin = Instant::now();
        loop {
            if let Some(pid) = fs::read_to_string(&file).ok().and_then(|text| text.trim().parse().ok()) {
                started.pid = pid;
                return started.ready(names).map(Some);
            }
            if begin.elapsed() > PATIENCE {
                bail!("aardvark-dns did not begin: {}", log("aardvark"));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn start(command: &mut Command, name: &str, port: u16) -> Result<Self> {
        let log = File::create(log_file(name))?;
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn();
        let child = child.with_context(|| format!("cannot start {name}"))?;
        Ok(Self { port, pid: i32::try_from(child.id())?, thread: None, child: Some(child) })
    }

    /// Waits until the last name is answered.
    fn ready(self, names: usize) -> Result<Self> {
        let begin = Instant::now();
        let (name, address) = (format!("c{}.{DOMAIN}", names - 1), v4(names - 1).parse()?);
        while ask(self.port, &name, Duration::from_millis(50))? != Some(vec![address]) {
            if begin.elapsed() > PATIENCE {
                bail!("{name} is not answered at port {}: {}{}", self.port, log("agent"), log("aardvark"));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(self)
    }

    /// Seconds of processor time so far of the threads that answer: of the agent its resolver's one, of the others all.
    pub(super) fn cpu(&self) -> Result<f64> {
        let name = |task: &PathBuf| fs::read_to_string(task.join("comm")).unwrap_or_default();
        let counts = |task: &PathBuf| self.thread.is_none_or(|thread| name(task).trim() == thread);
        self.tasks()?.iter().filter(|task| counts(task)).map(|task| seconds(task)).sum()
    }

    /// The same of all its threads.
    pub(super) fn cpu_of_all(&self) -> Result<f64> {
        self.tasks()?.iter().map(|task| seconds(task)).sum()
    }

    fn tasks(&self) -> Result<Vec<PathBuf>> {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.pid))?;
        Ok(tasks.map(|task| task.map(|task| task.path())).collect::<std::io::Result<_>>()?)
    }

    /// What it has in memory.
    pub(super) fn memory_mb(&self) -> Result<f64> {
        Ok(status_kb(&PathBuf::from(format!("/proc/{}/status", self.pid)), "VmRSS")? / 1e3)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = kill(Pid::from_raw(self.pid), Signal::SIGKILL);
        if let Some(child) = &mut self.child {
            let _ = child.wait();
        }
    }
}

/// What the kernel counts for a thread, to the nanosecond.
fn seconds(task: &Path) -> Result<f64> {
    let text = fs::read_to_string(task.join("schedstat"))?;
    Ok(text.split(' ').next().context("schedstat is empty")?.parse::<f64>()? / 1e9)
}

fn pinned(program: &Path) -> Command {
    let mut command = Command::new("taskset");
    command.args(["-c", PROCESSOR]).arg(program);
    command
}

fn log_file(name: &str) -> PathBuf {
    Path::new(DIR).join(format!("{name}.log"))
}

fn log(name: &str) -> String {
    fs::read_to_string(log_file(name)).unwrap_or_default()
}
