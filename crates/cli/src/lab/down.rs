//! `zeugma lab down`: nothing of a lab is left, whatever became of it before.

use std::path::Path;

use anyhow::{Result, bail};
use clap::Args;

use super::record::{Record, lock};
use super::up::stem;
use crate::apply::parsed;

/// Which labs.
#[derive(Debug, Clone, Args)]
pub(crate) struct Flags {
    /// Names of labs, or their files.
    #[arg(required_unless_present = "all")]
    labs: Vec<String>,
    /// All labs that there are.
    #[arg(long, conflicts_with = "labs")]
    all: bool,
}

/// Takes them down, and prints their names.
pub(super) fn run(flags: &Flags) -> Result<()> {
    let _lock = lock()?;
    let records = match flags.all {
        true => Record::all()?,
        false => flags.labs.iter().map(|word| Record::of(&name(word))).collect(),
    };
    if let Some(record) = records.iter().find(|record| !record.exists()) {
        bail!("there is no lab {}: `zeugma lab ls` lists those that are up", record.name);
    }
    for record in records {
        record.remove()?;
        println!("{}", record.name);
    }
    Ok(())
}

/// The name of the lab that a word means: a file is known by its ending, or by where it is.
pub(super) fn name(word: &str) -> String {
    let path = Path::new(word);
    if !word.contains('/') && !word.ends_with(".yaml") && !word.ends_with(".yml") {
        return word.to_owned();
    }
    #[derive(serde::Deserialize)]
    struct Head {
        name: Option<String>,
    }
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let head = parsed::<Head>(&text).ok().and_then(|head| head.name);
    // A file that was broken or removed since goes by its own name.
    head.unwrap_or_else(|| stem(path))
}
