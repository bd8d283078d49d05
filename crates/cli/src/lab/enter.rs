//! `zeugma lab exec`: a command on a machine or in a container.

use std::ffi::OsString;
use std::io::ErrorKind;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};
use clap::Args;
use netns_fixtures::lasting;

use super::agents::path;
use super::build::BIN;
use super::record::{Holder, Record};

/// As env(1) has it: the program was found and could not be run, or was not found.
const NOT_RUN: u8 = 126;
const NOT_FOUND: u8 = 127;
/// As shells have it.
const SIGNALED: i32 = 128;

/// Where, and what.
#[derive(Debug, Clone, Args)]
pub(crate) struct Flags {
    /// The lab, where several have a place of this name.
    #[arg(long)]
    lab: Option<String>,
    /// The machine, switch or container.
    place: String,
    /// The command; a shell unless given.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<OsString>,
}

/// What runs in the lab.
#[derive(Debug, Clone, Args)]
pub(crate) struct Inside {
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<OsString>,
}

/// Runs it, and exits as it does.
pub(super) fn run(flags: &Flags) -> Result<ExitCode> {
    let holder = find(flags)?;
    let here = std::env::current_dir();
    lasting::enter(holder.pid, &flags.place)?;
    // The same directory, where the place has it.
    if let Ok(here) = here {
        let _ = std::env::set_current_dir(here);
    }
    let shell = [OsString::from("sh")];
    let words = if flags.command.is_empty() { &shell[..] } else { &flags.command };
    // As a process of the lab; it ends with this one.
    let status = Command::new("/proc/self/exe").args(["lab", "inside", "--"]).args(words).status();
    let status = status.with_context(|| format!("run a command on {}", flags.place))?;
    let code = status.code().or_else(|| status.signal().map(|signal| SIGNALED + signal));
    Ok(ExitCode::from(code.and_then(|code| u8::try_from(code).ok()).unwrap_or(u8::MAX)))
}

/// The lab that has it.
fn find(flags: &Flags) -> Result<Holder> {
    let records = match &flags.lab {
        Some(name) => vec![Record::of(&super::down::name(name)?)],
        None => Record::all()?,
    };
    let has = |record: &Record| {
        let state = record.state()?;
        state.places.iter().any(|place| place.name == flags.place).then(|| record.holder())?
    };
    let found: Vec<(&str, Holder)> =
        records.iter().filter_map(|record| Some((record.name.as_str(), has(record)?))).collect();
    match found.as_slice() {
        [(_, holder)] => Ok(*holder),
        [] => {
            bail!("no lab that is up has a machine or container {}: `zeugma lab ls` lists them", flags.place)
        }
        several => {
            let names: Vec<&str> = several.iter().map(|(name, _)| *name).collect();
            bail!("labs {} have {}: say which with --lab NAME", names.join(" and "), flags.place)
        }
    }
}

/// Becomes the command.
pub(super) fn run_inside(inside: &Inside) -> Result<ExitCode> {
    lasting::end_with_parent()?;
    let mut command = Command::new(&inside.command[0]);
    command.args(&inside.command[1..]);
    for (key, _) in std::env::vars_os() {
        if key.to_string_lossy().starts_with("ZEUGMA_") {
            command.env_remove(key);
        }
    }
    if Path::new(BIN).is_dir() {
        command.env("PATH", path());
    }
    let error = command.exec();
    let program = inside.command[0].to_string_lossy();
    eprintln!("Error: cannot run {program}: {error}");
    Ok(ExitCode::from(if error.kind() == ErrorKind::NotFound { NOT_FOUND } else { NOT_RUN }))
}
