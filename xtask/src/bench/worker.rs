//! One contestant in namespaces of its own: reads a task a line, answers a line.
//!
//! The parent interleaves the contestants by asking them in turn; tasks are JSON arrays of a word and numbers.

use std::io::{BufRead, BufReader, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use super::contestant::Contestant;
use super::tasks::Ground;
use crate::netns;

/// Inside: serves tasks until standard input ends. A failed task is an answer, not the end.
pub(crate) fn serve(contestant: &str) -> Result<()> {
    netns::settle()?;
    let mut ground = Ground::new(Contestant::parse(contestant)?)?;
    let mut out = std::io::stdout();
    for line in std::io::stdin().lock().lines() {
        let task: Value = serde_json::from_str(&line?)?;
        let answer = ground.run(&task).unwrap_or_else(|error| json!({ "failed": format!("{error:#}") }));
        writeln!(out, "{answer}")?;
        out.flush()?;
    }
    Ok(())
}

/// Outside: a contestant's process and the pipes to it.
pub(crate) struct Worker {
    /// The column's title.
    pub(crate) title: String,
    child: Child,
    tasks: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Worker {
    /// Starts the contestant that [`Contestant::parse`] reads from `word`.
    pub(crate) fn start(title: &str, word: &str) -> Result<Self> {
        let mut child = netns::prepared(&["bench", "cni", "--worker", word])?
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start `unshare`")?;
        let tasks = child.stdin.take().expect("stdin was piped above");
        let answers = BufReader::new(child.stdout.take().expect("stdout was piped above"));
        Ok(Self { title: title.to_owned(), child, tasks, answers })
    }

    /// Runs one task to its end.
    pub(crate) fn ask(&mut self, task: &Value) -> Result<Value> {
        writeln!(self.tasks, "{task}").with_context(|| format!("{} is gone", self.title))?;
        let mut line = String::new();
        if self.answers.read_line(&mut line)? == 0 {
            bail!("{} ended during {task}", self.title);
        }
        let answer: Value = serde_json::from_str(&line)?;
        match answer.get("failed") {
            Some(why) => bail!("{} {task}: {}", self.title, why.as_str().unwrap_or_default()),
            None => Ok(answer),
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
