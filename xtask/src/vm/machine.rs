//! The machine itself: qemu, emulating in software, which works everywhere. No disk, no network.
//!
//! What its second serial port says is handed on line by line; what it means is for `report`.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::shell;

/// Far longer than the boot or any test takes, also on a busy machine.
const SILENCE: Duration = Duration::from_secs(300);
/// Far longer than all of it.
const DEADLINE: Duration = Duration::from_secs(1800);
/// Lines of the console that a failure shows.
const TAIL: usize = 40;

/// Boots and runs it until it switches itself off. Each line goes to `take`, the kernel's console to the file
/// `console`.
pub(super) fn run(kernel: &Path, initramfs: &Path, console: &Path, mut take: impl FnMut(&str)) -> Result<()> {
    let mut machine = qemu(kernel, initramfs, console)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot start qemu-system-x86_64")?;
    let stdout = machine.stdout.take().expect("stdout was piped above");
    let (sender, lines) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(stdout).split(b'\n').map_while(Result::ok) {
            let line = String::from_utf8_lossy(&line).trim_end_matches('\r').to_owned();
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    follow(&mut machine, &lines, &mut take)
}

/// The machine dies with this process, whose standard output is its second serial port.
fn qemu(kernel: &Path, initramfs: &Path, console: &Path) -> Command {
    let mut command = shell::command("setpriv", ["--pdeathsig", "KILL", "--", "qemu-system-x86_64"]);
    command.args(["-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2", "-m", "768"]);
    command.args(["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"]);
    command.arg("-serial").arg(format!("file:{}", console.display())).args(["-serial", "stdio"]);
    command.arg("-kernel").arg(kernel).arg("-initrd").arg(initramfs);
    command.args(["-append", "console=ttyS0 panic=-1 quiet rdinit=/init"]);
    command
}

/// Until its output ends. Whoever is silent for too long is killed.
fn follow(machine: &mut Child, lines: &Receiver<String>, take: &mut impl FnMut(&str)) -> Result<()> {
    let end = Instant::now() + DEADLINE;
    loop {
        let patience = SILENCE.min(end.saturating_duration_since(Instant::now()));
        match lines.recv_timeout(patience) {
            Ok(line) => take(&line),
            Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) => {
                machine.kill()?;
                machine.wait()?;
                bail!("it hangs: nothing was heard for {} s; killed", patience.as_secs());
            }
        }
    }
    let status = machine.wait()?;
    if !status.success() {
        bail!("qemu: {status}");
    }
    Ok(())
}

/// The last lines of the console, as far as it can be read.
pub(super) fn tail(console: &Path) -> String {
    let text = String::from_utf8_lossy(&fs::read(console).unwrap_or_default()).replace('\r', "");
    let lines: Vec<&str> = text.lines().collect();
    let tail = lines[lines.len().saturating_sub(TAIL)..].join("\n    ");
    format!("the end of its console ({}):\n    {tail}", console.display())
}
