//! Commands inside a host: run to the end with a deadline, or kept running behind a guard.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::Write;
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{self, Sender};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::{Host, eventually};

/// Longer than anything a test runs; whoever hangs is killed and said so.
const DEADLINE: Duration = Duration::from_secs(60);

/// A command to be run inside a host, built up word by word.
#[derive(Debug)]
pub struct HostCommand {
    host: Host,
    command: Command,
    stdin: Vec<u8>,
    deadline: Duration,
}

/// A command that ended: its status and what it wrote.
#[derive(Clone, Debug)]
pub struct Finished {
    /// How it ended.
    pub status: ExitStatus,
    /// All of its stdout.
    pub stdout: String,
    /// All of its stderr.
    pub stderr: String,
}

/// A command that runs until this guard is dropped, or until this process dies.
#[derive(Debug)]
pub struct Running {
    pid: Pid,
    log: PathBuf,
    waiter: Option<JoinHandle<()>>,
}

impl HostCommand {
    pub(crate) fn new(host: &Host, program: &OsStr) -> HostCommand {
        let mut command = Command::new(program);
        command.env("ZEUGMA_RUN_DIR", host.run_dir()).env("ZEUGMA_STATE_DIR", host.state_dir());
        // Never the machine's own networks.
        command.env("ZEUGMA_CNI_CONF_DIR", host.run_dir().join("net.d"));
        HostCommand { host: host.clone(), command, stdin: Vec::new(), deadline: DEADLINE }
    }

    pub(crate) fn from_words<S: AsRef<OsStr>>(
        host: &Host,
        words: impl IntoIterator<Item = S>,
    ) -> Result<HostCommand> {
        let mut words = words.into_iter();
        let program = words.next().context("a command needs at least a program")?;
        Ok(HostCommand::new(host, program.as_ref()).args(words))
    }

    /// Adds one argument.
    pub fn arg(mut self, word: impl AsRef<OsStr>) -> HostCommand {
        self.command.arg(word);
        self
    }

    /// Adds arguments.
    pub fn args<S: AsRef<OsStr>>(mut self, words: impl IntoIterator<Item = S>) -> HostCommand {
        self.command.args(words);
        self
    }

    /// Sets a variable of the environment, which is otherwise this process's.
    pub fn env(mut self, key: &str, value: impl AsRef<OsStr>) -> HostCommand {
        self.command.env(key, value);
        self
    }

    /// Removes a variable of the environment.
    pub fn env_remove(mut self, key: &str) -> HostCommand {
        self.command.env_remove(key);
        self
    }

    /// What the command reads; nothing when never called.
    pub fn stdin(mut self, bytes: impl Into<Vec<u8>>) -> HostCommand {
        self.stdin = bytes.into();
        self
    }

    /// How long `run` and `output` wait before they kill it; a minute when never called.
    pub fn deadline(mut self, deadline: Duration) -> HostCommand {
        self.deadline = deadline;
        self
    }

    /// Runs it to its end and demands success.
    ///
    /// # Errors
    /// When it cannot be started, misses the deadline or exits with anything but 0.
    pub fn run(self) -> Result<Finished> {
        let said = self.to_string();
        let finished = self.output()?;
        if !finished.status.success() {
            bail!("{said}: {}\n{}{}", finished.status, finished.stderr, finished.stdout);
        }
        Ok(finished)
    }

    /// Runs it to its end, however it ends.
    ///
    /// # Errors
    /// When it cannot be started or misses the deadline.
    pub fn output(self) -> Result<Finished> {
        let (said, deadline) = (self.to_string(), self.deadline);
        let (started, start) = mpsc::channel();
        let (ended, end) = mpsc::channel();
        thread::scope(|scope| {
            let work = scope.spawn(move || {
                let result = self.wait(&started);
                let _ = ended.send(());
                result
            });
            let late = end.recv_timeout(deadline).is_err();
            if late && let Ok(pid) = start.try_recv() {
                let _ = kill(pid, Signal::SIGKILL);
            }
            let result = work.join().unwrap_or_else(|panic| resume_unwind(panic));
            if late {
                bail!("{said}: still running after {deadline:?}, killed");
            }
            result.with_context(|| said.clone())
        })
    }

    /// Starts it in the host, tells the pid, feeds it and gathers what it writes.
    fn wait(mut self, started: &Sender<Pid>) -> Result<Finished> {
        self.host.join()?;
        let piped = self.command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = piped.spawn().context("start it")?;
        let _ = started.send(Pid::from_raw(child.id().cast_signed()));
        let input = child.stdin.take();
        let output = thread::scope(|scope| {
            // It may close its stdin early; what it makes of that shows in its status.
            scope.spawn(|| input.map(|mut pipe| pipe.write_all(&self.stdin)));
            child.wait_with_output()
        })?;
        Ok(Finished {
            status: output.status,
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        })
    }

    /// Starts it and leaves it running behind the returned guard; it dies with this process, too.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn spawn(self) -> Result<Running> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let log = self.host.run_dir().join(format!("command-{count}.log"));
        let said = self.to_string();
        let (started, start) = mpsc::channel();
        let target = log.clone();
        // The kernel sends the parent-death signal when the starting *thread* ends, so it stays and waits.
        let waiter = thread::spawn(move || match self.start(&target) {
            Ok(mut child) => {
                let _ = started.send(Ok(Pid::from_raw(child.id().cast_signed())));
                let _ = child.wait();
            }
            Err(error) => drop(started.send(Err(error))),
        });
        let pid = start.recv().map_err(|_| anyhow!("the starting thread ended"))?.context(said)?;
        Ok(Running { pid, log, waiter: Some(waiter) })
    }

    /// `setpriv` sets the parent-death signal: std could only with an unsafe `pre_exec`.
    fn start(self, log: &Path) -> Result<std::process::Child> {
        self.host.join()?;
        let log = File::create(log)?;
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--"]).arg(self.command.get_program());
        command.args(self.command.get_args());
        for (key, value) in self.command.get_envs() {
            match value {
                Some(value) => command.env(key, value),
                None => command.env_remove(key),
            };
        }
        let before = std::env::current_exe()?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let child = command.spawn()?;
        // Until `setpriv` is done a SIGKILL of this process would leave the command behind.
        let exe = format!("/proc/{}/exe", child.id());
        let begun = || !fs::read_link(&exe).is_ok_and(|exe| exe == before || exe.ends_with("setpriv"));
        eventually(Duration::from_secs(1), begun);
        Ok(child)
    }
}

/// What a message calls it: host and words.
impl std::fmt::Display for HostCommand {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "on {}: {}", self.host.name(), self.command.get_program().to_string_lossy())?;
        self.command.get_args().try_for_each(|word| write!(f, " {}", word.to_string_lossy()))
    }
}

impl Running {
    /// Its process id.
    pub fn pid(&self) -> i32 {
        self.pid.as_raw()
    }

    /// Whether it still runs.
    pub fn is_running(&self) -> bool {
        self.waiter.as_ref().is_some_and(|waiter| !waiter.is_finished())
    }

    /// What it has written so far, stdout and stderr as they came.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.is_running() {
            let _ = kill(self.pid, Signal::SIGKILL);
        }
        if let Some(waiter) = self.waiter.take() {
            let _ = waiter.join();
        }
    }
}
