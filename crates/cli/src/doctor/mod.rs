//! `zeugma doctor`: what on this host keeps containers from their network, and what to do about it. Needs no agent, asks
//! it when it runs, and changes nothing.
//!
//! `observe` looks, `checks` judges what was seen without looking further: a new check is a function there, and a line
//! in its list.

mod checks;
mod fills;
mod observe;
mod observed;

use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use serde::Serialize;

use crate::network::Places;

/// What is looked at, and how it is told.
#[derive(Debug, Clone, Args)]
pub(crate) struct Flags {
    /// Prints a JSON list of findings: see docs/reference/cli.md.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    places: Places,
}

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Severity {
    /// Something does not work.
    Problem,
    /// Something may not work, or not for long.
    Warning,
}

/// Something that is wrong: an interface to be relied upon, docs/reference/cli.md.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Finding {
    pub(crate) severity: Severity,
    /// What found it, a word.
    pub(crate) check: &'static str,
    /// What is wrong: a sysctl, a link, a chain, a file.
    pub(crate) object: String,
    /// In which way.
    pub(crate) problem: String,
    /// What to do about it.
    pub(crate) remedy: String,
}

impl Severity {
    fn as_str(self) -> &'static str {
        match self {
            Self::Problem => "problem",
            Self::Warning => "warning",
        }
    }
}

/// Prints what was found; the exit code is 1 when something does not work.
pub(crate) fn run(flags: &Flags) -> Result<ExitCode> {
    let observed = observe::observe(&flags.places);
    let findings = checks::findings(&observed);
    if flags.json {
        println!("{}", serde_json::to_string_pretty(&findings)?);
    } else {
        print!("{}", text(&findings));
    }
    let is_broken = findings.iter().any(|finding| finding.severity == Severity::Problem);
    Ok(if is_broken { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn text(findings: &[Finding]) -> String {
    if findings.is_empty() {
        return "nothing is wrong\n".into();
    }
    let shown = |Finding { severity, object, problem, remedy, .. }: &Finding| {
        format!("{}  {object}: {problem}\n         {remedy}\n", severity.as_str())
    };
    findings.iter().map(shown).collect()
}
