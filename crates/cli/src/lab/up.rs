//! `zeugma lab up`: all of a lab, or nothing of it.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use netns_fixtures::lasting::spawn_holder;

use super::check;
use super::hold::{Answer, Order, let_stay};
use super::record::{Record, lock};
use super::topology::Topology;
use crate::apply::{Complaint, Place};
use crate::install;

/// Which lab.
#[derive(Debug, Clone, Args)]
pub(crate) struct Flags {
    /// The lab's file.
    file: PathBuf,
    /// Takes down what is up under this name first.
    #[arg(long)]
    replace: bool,
}

/// What a file says, and the text itself; none: everything that is wrong was said.
pub(super) fn read(file: &Path) -> Result<Option<(Topology, String)>> {
    let text = std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    match check::topology(&text, &stem(file)) {
        Ok(topology) => Ok(Some((topology, text))),
        Err(complaints) => {
            for ((line, column), message) in complaints {
                let place = Place { file: file.into(), line, column };
                eprintln!("{}", Complaint { place, message });
            }
            Ok(None)
        }
    }
}

/// The name of a lab whose file says none.
pub(super) fn stem(file: &Path) -> String {
    file.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}

/// Sets it up.
pub(super) fn run(flags: &Flags) -> Result<ExitCode> {
    let Some((topology, text)) = read(&flags.file)? else {
        eprintln!("Error: nothing was set up");
        return Ok(ExitCode::FAILURE);
    };
    let _lock = lock()?;
    let record = Record::of(&topology.name);
    if record.state().is_some() && !flags.replace {
        ensure!(
            record.topology().as_deref() == Some(&text),
            "lab {} is up, and {} says something else: `zeugma lab up --replace` sets it up anew",
            record.name,
            flags.file.display()
        );
        println!("lab {} is up already", record.name);
        return Ok(ExitCode::SUCCESS);
    }
    let began = Instant::now();
    // Also what an `up` that was killed left behind.
    record.remove()?;
    let order = order(&flags.file, &text)?;
    let outcome = record.begin(&text).and_then(|()| set_up(&record, &order));
    if let Err(error) = outcome {
        record.remove()?;
        return Err(error.context(format!("lab {} is not up, nothing of it is left", record.name)));
    }
    let seconds = began.elapsed().as_secs_f32();
    println!("lab {} is up: {} ({seconds:.1} s)", record.name, counted(&topology));
    Ok(ExitCode::SUCCESS)
}

fn counted(topology: &Topology) -> String {
    let count = |count: usize, what: &str| format!("{count} {what}{}", if count == 1 { "" } else { "s" });
    format!(
        "{}, {}",
        count(topology.machines.len(), "machine"),
        count(topology.containers.len(), "container")
    )
}

fn order(file: &Path, text: &str) -> Result<Order> {
    let plugins = install::beside_this_executable()?;
    let plugins = plugins.canonicalize().with_context(|| format!("find {}", plugins.display()))?;
    let zeugma = std::env::current_exe().context("this executable's own path cannot be read")?;
    let file = file.canonicalize().with_context(|| format!("find {}", file.display()))?;
    let directory = file.parent().unwrap_or(Path::new("/")).to_owned();
    Ok(Order { text: text.into(), name: stem(&file), directory, zeugma, plugins })
}

/// When it fails, the holder ends, and all that it had made with it.
fn set_up(record: &Record, order: &Order) -> Result<()> {
    let mut holder = spawn_holder(command(record)?)?;
    let outcome = record.note(holder.id().cast_signed()).and_then(|()| converse(&mut holder, order));
    if outcome.is_err() {
        // By now it may have ended by itself.
        let _ = holder.kill();
        holder.wait().context("wait for the lab's holder")?;
    }
    outcome
}

fn command(record: &Record) -> Result<Command> {
    let log = File::create(record.log("holder")).context("write the lab's log")?;
    let mut command = Command::new("/proc/self/exe");
    command.arg0("zeugma").args(["lab", "hold"]).arg(record.name.as_str()).arg(&record.directory);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(log);
    // Machines have the places that zeugma has by itself.
    for (key, _) in std::env::vars_os() {
        if key.to_string_lossy().starts_with("ZEUGMA_") && key != "ZEUGMA_LOG" {
            command.env_remove(key);
        }
    }
    Ok(command)
}

fn converse(holder: &mut Child, order: &Order) -> Result<()> {
    let mut input = holder.stdin.take().context("the holder has an input")?;
    let mut output = BufReader::new(holder.stdout.take().context("the holder has an output")?);
    writeln!(input, "{}", serde_json::to_string(order)?).context("the lab's holder ended")?;
    answered(&mut output)?;
    let_stay(&mut input)?;
    answered(&mut output)
}

fn answered(output: &mut impl BufRead) -> Result<()> {
    let mut line = String::new();
    output.read_line(&mut line)?;
    match serde_json::from_str(&line) {
        Ok(Answer::Up | Answer::Stays) => Ok(()),
        Ok(Answer::Failed(error)) => bail!("{error}"),
        Err(_) => bail!("the lab's holder ended without a word"),
    }
}
