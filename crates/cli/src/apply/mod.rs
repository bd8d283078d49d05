//! `zeugma apply`: networks, services and endpoints as a file has them. What is written in it is in `object`, how it is read in
//! `toml` and `yaml`; nothing is changed unless all of it can be read.

mod difference;
mod object;
mod read;
mod toml;
mod yaml;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Args;

pub(crate) use object::Object;
pub(crate) use read::{Complaint, Place, Position};
pub(crate) use yaml::{parsed, position};

use object::Done;

use crate::outcome;

/// What is to be so.
#[derive(Debug, Clone, Args)]
pub(crate) struct Flags {
    /// A file, TOML or YAML by its name or by what is in it; `-` is standard input. May be given several times.
    #[arg(short, long = "file", value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    /// Changes nothing; prints what would be different.
    #[arg(long)]
    dry_run: bool,
}

/// Makes everything so, prints what that came to for each object, and fails when something could not be done.
pub(crate) fn run(flags: &Flags) -> Result<ExitCode> {
    let (mut objects, mut complaints) = (Vec::new(), Vec::new());
    for file in &flags.files {
        let text = text(file)?;
        match read::objects(file, &text) {
            Ok(found) => objects.extend(found),
            Err(found) => complaints.extend(found),
        }
    }
    complaints.extend(object::twice(&objects));
    if !complaints.is_empty() {
        complaints.iter().for_each(|complaint| eprintln!("{complaint}"));
        eprintln!("Error: nothing was changed");
        return Ok(ExitCode::FAILURE);
    }
    objects.sort_by_key(|(_, object)| object.turn());
    let done = objects.iter().map(|(place, object)| is_done(place, object, flags.dry_run));
    // All of them are tried.
    let done: Vec<bool> = done.collect();
    Ok(if done.iter().all(|done| *done) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn text(file: &PathBuf) -> Result<String> {
    if file.as_os_str() == "-" {
        return std::io::read_to_string(std::io::stdin()).context("cannot read standard input");
    }
    std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))
}

/// Whether it is so now.
fn is_done(place: &Place, object: &Object, dry_run: bool) -> bool {
    let outcome = if dry_run { object.compared() } else { object.applied() };
    match outcome {
        Ok(Done { what, differences, problems }) => {
            println!("{object} {what}");
            differences.iter().for_each(|line| println!("  {line}"));
            problems.iter().for_each(outcome::problem);
            true
        }
        Err(error) => {
            eprintln!("{place}: {object}: {error:#}");
            false
        }
    }
}
