//! The first process of the virtual machine that `cargo xtask test --vm` boots: mounts what a Linux system has,
//! loads the modules, runs the test binaries one after the other, switches off.
//!
//! It judges nothing. What it was given lies in the initramfs (made by xtask/src/vm/image.rs); what happens goes
//! over the second serial port, the tests' own output and between it lines that begin with `vm: `, read by
//! xtask/src/vm/report.rs. The first serial port is the kernel's.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};
use nix::kmod::{ModuleInitFlags, finit_module};
use nix::mount::{MsFlags, mount};
use nix::sys::reboot::{RebootMode, reboot};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;

/// File systems by mount point.
const MOUNTS: [(&str, &str); 6] = [
    ("/proc", "proc"),
    ("/sys", "sysfs"),
    ("/dev", "devtmpfs"),
    ("/run", "tmpfs"),
    ("/tmp", "tmpfs"),
    ("/var", "tmpfs"),
];
/// Directories that programs expect.
const DIRS: [&str; 3] = ["/etc", "/var/lib", "/var/log"];
/// Where the host listens.
const REPORT: &str = "/dev/ttyS1";

fn main() {
    if let Err(error) = run() {
        // Only the kernel's console is left when the report cannot be opened.
        println!("vm: fault: {error:#}");
    }
    let _ = reboot(RebootMode::RB_POWER_OFF);
}

fn run() -> Result<()> {
    for (place, kind) in MOUNTS {
        fs::create_dir_all(place).with_context(|| format!("create {place}"))?;
        mount(Some(kind), place, Some(kind), MsFlags::empty(), None::<&str>)
            .with_context(|| format!("mount {place}"))?;
    }
    DIRS.iter().try_for_each(|dir| fs::create_dir_all(dir).with_context(|| format!("create {dir}")))?;
    // As everywhere: a test's own /run is then its /var/run too, where wg(8) and `zeugma wg` have their sockets.
    symlink("/run", "/var/run").context("link /var/run to /run")?;
    let mut report = OpenOptions::new().write(true).open(REPORT).context("open the second serial port")?;
    match run_all(&mut report) {
        Ok(()) => writeln!(report, "\nvm: done")?,
        Err(error) => writeln!(report, "\nvm: fault: {error:#}")?,
    }
    // Closing the port waits until all is sent; what it still held would be lost when the machine is switched off.
    drop(report);
    Ok(())
}

fn run_all(report: &mut File) -> Result<()> {
    load_modules()?;
    let lo = Command::new("/bin/ip").args(["link", "set", "lo", "up"]).status().context("start ip")?;
    writeln!(report, "vm: kernel {}", fs::read_to_string("/proc/sys/kernel/osrelease")?.trim())?;
    writeln!(report, "vm: loopback: {lo}")?;
    let plan = fs::read_to_string("/plan").context("read /plan")?;
    plan.lines().try_for_each(|line| run_one(line, report))
}

/// In the order of their names: there is no modprobe here that could find out what needs what.
fn load_modules() -> Result<()> {
    let mut files: Vec<PathBuf> = Vec::new();
    for entry in fs::read_dir("/modules").context("list /modules")? {
        files.push(entry?.path());
    }
    files.sort();
    files.iter().try_for_each(|file| {
        let said = || format!("load {}", file.display());
        finit_module(&File::open(file).with_context(said)?, c"", ModuleInitFlags::empty()).with_context(said)
    })
}

/// A line of the plan is a test binary and its arguments.
fn run_one(line: &str, report: &mut File) -> Result<()> {
    let mut words = line.split_whitespace();
    let name = words.next().context("a line of /plan is empty")?;
    writeln!(report, "\nvm: running {name}")?;
    let mut command = Command::new(format!("/tests/{name}"));
    command.args(words).env("PATH", "/bin").env("ZEUGMA_BIN_DIR", "/cni").current_dir("/tmp");
    let child = command.stdout(report.try_clone()?).stderr(report.try_clone()?).spawn();
    let child = child.with_context(|| format!("start /tests/{name}"))?;
    let ended = reap_until(Pid::from_raw(child.id().cast_signed()))?;
    writeln!(report, "\nvm: ended {name}: {ended}")?;
    Ok(())
}

/// Waits for `child` and meanwhile for whatever lost its parent: that is the first process's duty.
fn reap_until(child: Pid) -> Result<String> {
    loop {
        match waitpid(None, None).context("wait for a test binary")? {
            WaitStatus::Exited(pid, code) if pid == child => return Ok(format!("exit {code}")),
            WaitStatus::Signaled(pid, signal, _) if pid == child => return Ok(format!("killed by {signal}")),
            _ => {}
        }
    }
}
