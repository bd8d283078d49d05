//! `zeugma lab down`: nothing of a lab is left, whatever became of it before.

use std::path::Path;

use anyhow::{Result, bail};
use clap::Args;
use zeugma_model::NodeName;

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
        false => flags.labs.iter().map(|word| Ok(Record::of(&name(word)?))).collect::<Result<_>>()?,
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
///
/// # Errors
/// When it is no name: a directory is called after it, which is removed with all that is in it.
pub(super) fn name(word: &str) -> Result<NodeName> {
    let path = Path::new(word);
    if !word.contains('/') && !word.ends_with(".yaml") && !word.ends_with(".yml") {
        return parsed_name(word);
    }
    #[derive(serde::Deserialize)]
    struct Head {
        name: Option<String>,
    }
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let head = parsed::<Head>(&text).ok().and_then(|head| head.name);
    // A file that was broken or removed since goes by its own name.
    parsed_name(&head.unwrap_or_else(|| stem(path)))
}

fn parsed_name(word: &str) -> Result<NodeName> {
    match word.parse() {
        Ok(name) => Ok(name),
        Err(_) => bail!("{word:?} is no name of a lab: `zeugma lab ls` lists those that are up"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(word: &str, expected: Option<&str>) {
        assert_eq!(name(word).ok().as_ref().map(NodeName::as_str), expected, "{word:?}");
    }

    #[test]
    fn a_lab_is_meant_by_its_name_or_by_its_file() {
        let directory = tempfile::tempdir().unwrap();
        let file = |stem: &str, text: &str| {
            let path = directory.path().join(stem).with_extension("yaml");
            std::fs::write(&path, text).unwrap();
            path.to_str().unwrap().to_owned()
        };
        check("mine", Some("mine"));
        check("removed/mine.yaml", Some("mine"));
        check(&file("one", "name: mine\nmachines: []\n"), Some("mine"));
        check(&file("two", "machines: []\n"), Some("two"));
        check(&file("three", "machines: ["), Some("three"));
    }

    #[test]
    fn words_that_lead_to_other_directories_are_no_labs() {
        for word in ["", ".", "..", "/", "./", "../..", "labs/..", "./ .yaml"] {
            check(word, None);
        }
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("lab.yaml");
        for name in ["..", "../..", "/etc", "''"] {
            std::fs::write(&file, format!("name: {name}\n")).unwrap();
            check(file.to_str().unwrap(), None);
        }
    }
}
