//! The holder of a lab: the process that everything in it hangs on. `zeugma lab up` starts it, hands it the topology, and
//! lets it stay; until then it ends with the one that started it.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{self, ExitCode};
use std::thread;

use anyhow::{Context, Result, anyhow};
use clap::Args;
use netns_fixtures::lasting::Ground;
use serde::{Deserialize, Serialize};

use super::record::{STATE, State, write};
use super::{build, check};

/// Where the holder sees the lab's record.
pub(super) const RECORD: &str = "/run/record";
/// What lets it stay.
const STAY: &str = "stay";

/// The lab, for the process list.
#[derive(Debug, Clone, Args)]
pub(crate) struct Flags {
    name: String,
    record: PathBuf,
}

/// What the holder is told.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Order {
    /// The file's text.
    pub(super) text: String,
    /// The name of a lab that has none in the text.
    pub(super) name: String,
    /// Where commands run.
    pub(super) directory: PathBuf,
    /// This executable, and the plugins beside it.
    pub(super) zeugma: PathBuf,
    pub(super) plugins: PathBuf,
}

/// What it answers, once before it stays and once after.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Answer {
    Up,
    Stays,
    Failed(String),
}

/// Sets the lab up and holds it.
pub(super) fn run(flags: &Flags) -> Result<ExitCode> {
    let mut input = BufReader::new(std::io::stdin());
    let order: Order = serde_json::from_str(&line(&mut input)?).context("read the order")?;
    let ground = Ground::take(&flags.record, RECORD);
    let leave = thread::spawn(move || match line(&mut input) {
        Ok(word) if word.trim() == STAY => {}
        // Who started this is gone: the kernel ends everything of the lab with this process.
        _ => process::exit(1),
    });
    let built = ground.and_then(|ground| {
        let topology = check::topology(&order.text, &order.name);
        let topology = topology.map_err(|_| anyhow!("the file is none of a lab"))?;
        let (state, places) = build::build(&ground, &topology, &order)?;
        Ok((state, places, ground))
    });
    let (mut state, places, ground) = match built {
        Ok(built) => built,
        Err(error) => {
            say(&Answer::Failed(format!("{error:#}")))?;
            return Ok(ExitCode::FAILURE);
        }
    };
    say(&Answer::Up)?;
    leave.join().map_err(|_| anyhow!("the waiting thread panicked"))?;
    let file = Path::new(RECORD).join(STATE);
    write(&file, &state)?;
    say(&Answer::Stays)?;
    ground.keep(&places, |pid, exit| {
        if ended(&mut state, pid, exit) {
            // What is shown of it is older then.
            let _ = write(&file, &state);
        }
    })?;
    Ok(ExitCode::SUCCESS)
}

/// Lets a holder that answered [`Answer::Up`] stay.
pub(super) fn let_stay(mut input: impl Write) -> Result<()> {
    writeln!(input, "{STAY}").context("the lab's holder ended")
}

fn line(input: &mut impl BufRead) -> Result<String> {
    let mut text = String::new();
    input.read_line(&mut text)?;
    Ok(text)
}

fn say(answer: &Answer) -> Result<()> {
    let mut output = std::io::stdout().lock();
    writeln!(output, "{}", serde_json::to_string(answer)?)?;
    Ok(output.flush()?)
}

/// Whether that was a process of a place.
fn ended(state: &mut State, pid: i32, exit: i32) -> bool {
    let mut processes = state.places.iter_mut().flat_map(|place| &mut place.processes);
    match processes.find(|process| process.pid == pid && process.exit.is_none()) {
        Some(process) => {
            process.exit = Some(exit);
            true
        }
        None => false,
    }
}
