//! The ground of a lab: the holder's own namespaces, in which everything else is made.

use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::path::Path;
use std::process::{Child, Command};
use std::thread;

use anyhow::{Context, Result, anyhow};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::setsid;

use super::place::tool;
use super::{LAYERS, PLACES, Place, bind, tmpfs};

const REFUSED: &str = "make namespaces: a lab needs root, or root of a user namespace (`unshare -Urnm`)";

/// What the holder of a lab stands on. There is one in a process, and it lasts as long as the process.
#[derive(Debug)]
pub struct Ground(());

/// Starts `command` as the first process of a PID namespace.
///
/// # Errors
/// Missing rights, or when it cannot be started.
pub fn spawn_holder(mut command: Command) -> Result<Child> {
    // What is unshared holds for the children of this thread alone, and it may start no thread any more.
    let spawned = thread::spawn(move || {
        unshare(CloneFlags::CLONE_NEWPID).context(REFUSED)?;
        command.spawn().context("start the holder of the lab")
    });
    spawned.join().map_err(|_| anyhow!("the starting thread panicked"))?
}

impl Ground {
    /// Takes this process, which has one thread, into namespaces of its own: mounts, network, IPC. Its `/run` is empty
    /// but for the directory `shown` of the host, which is at `place`.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn take(shown: &Path, place: &str) -> Result<Ground> {
        let nothing = None::<&str>;
        // What ends the terminal's session does not end the lab.
        setsid().context("begin a session")?;
        unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWIPC)
            .context(REFUSED)?;
        // What the host unmounts is unmounted here, too: no disk of it is kept busy. Nothing goes the other way.
        mount(nothing, "/", nothing, MsFlags::MS_REC | MsFlags::MS_SLAVE, nothing)
            .context("keep the lab's mounts from the host")?;
        let shown_file = File::open(shown).with_context(|| format!("open {}", shown.display()))?;
        mount(Some("proc"), "/proc", Some("proc"), MsFlags::MS_NOSUID | MsFlags::MS_NODEV, nothing)
            .context("mount the lab's own /proc")?;
        tmpfs("/run")?;
        for dir in [PLACES, LAYERS, place] {
            fs::create_dir_all(dir).with_context(|| format!("create {dir}"))?;
        }
        let source = format!("/proc/self/fd/{}", shown_file.as_raw_fd());
        bind(Path::new(&source), Path::new(place))?;
        Ok(Ground(()))
    }

    /// A machine: namespaces for network, mounts and the host's name, with a `/run` of its own, and `/etc`, `/var/lib`
    /// and `/opt` that begin as the host's, but for the directories `empty` of them. `lo` is up and forwarding off.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn machine(&self, name: &str, empty: &[&str]) -> Result<Place> {
        Place::machine(name, empty)
    }

    /// A switch: the namespaces of a machine, with the host's directories as they are, a bridge `br0` and no IP.
    ///
    /// # Errors
    /// When the kernel refuses, or there is no `ip`.
    pub fn switch(&self, name: &str) -> Result<Place> {
        Place::switch(name)
    }

    /// Runs a program of the host's in the holder's own network namespace, where nothing is.
    ///
    /// # Errors
    /// As [`Place::tool`].
    pub fn tool(&self, package: &str, words: &[&str], input: &str) -> Result<()> {
        let words: Vec<String> = words.iter().map(ToString::to_string).collect();
        tool(package, &words, input)
    }

    /// Looks after the processes of the lab until this process is killed; each that ended is told, with its exit code,
    /// or 128 and the signal's number. Nothing is started in the places any more.
    ///
    /// # Errors
    /// When the kernel refuses to wait.
    pub fn keep(self, places: &[Place], mut ended: impl FnMut(i32, i32)) -> Result<()> {
        let mut signals = SigSet::empty();
        signals.add(Signal::SIGCHLD);
        // Only now, as processes inherit what is blocked; and on all threads, as any may take the signal.
        let block = move || signals.thread_block().context("wait for signals");
        places.iter().try_for_each(|place| place.run(block))?;
        block()?;
        loop {
            while let Ok(status) = waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                match status {
                    WaitStatus::Exited(pid, code) => ended(pid.as_raw(), code),
                    WaitStatus::Signaled(pid, signal, _) => ended(pid.as_raw(), 128 + signal as i32),
                    WaitStatus::StillAlive => break,
                    _ => {}
                }
            }
            signals.wait().context("wait for signals")?;
        }
    }
}
