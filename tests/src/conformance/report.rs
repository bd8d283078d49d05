//! What a run found, as a value and as a table.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};

use super::rig::Plugin;

/// How one plugin fared with one promise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The promise holds.
    Kept,
    /// The promise does not hold, and what was seen instead.
    Broken(String),
    /// The executable does not claim this, e.g. a verb of a CNI version that it does not speak.
    NotClaimed(&'static str),
    /// The promise does not hold, which is a known fault of the reference plugins.
    KnownFault(&'static str),
    /// There is no executable of that name.
    Absent,
    /// This kernel has no such links: the virtual machine's kernel is for these.
    NoKernel,
}

/// One promise of one plugin.
#[derive(Clone, Debug)]
pub struct Cell {
    /// The promise in words.
    pub promise: &'static str,
    /// Whose promise.
    pub plugin: Plugin,
    /// What was found.
    pub verdict: Verdict,
}

impl Cell {
    /// Whether the promise does not hold, and nothing excuses it.
    pub fn is_broken(&self) -> bool {
        matches!(self.verdict, Verdict::Broken(_))
    }
}

/// A whole run: promises down, plugins across.
#[derive(Debug)]
pub struct Report {
    bin_dir: PathBuf,
    promises: Vec<&'static str>,
    cells: BTreeMap<(usize, Plugin), Cell>,
}

impl Report {
    pub(super) fn new(bin_dir: &Path, promises: Vec<&'static str>, cells: Vec<(usize, Cell)>) -> Report {
        let cells = cells.into_iter().map(|(row, cell)| ((row, cell.plugin), cell)).collect();
        Report { bin_dir: bin_dir.into(), promises, cells }
    }

    /// The promises that were broken; empty means that the executables conform.
    pub fn failures(&self) -> Vec<&Cell> {
        self.cells().filter(|cell| cell.is_broken()).collect()
    }

    /// Every cell, by promise and plugin.
    pub fn cells(&self) -> impl Iterator<Item = &Cell> {
        self.cells.values()
    }

    /// The plugins whose links this kernel does not have.
    pub fn impossible(&self) -> BTreeSet<&'static str> {
        let cells = self.cells().filter(|cell| cell.verdict == Verdict::NoKernel);
        cells.map(|cell| cell.plugin.name()).collect()
    }

    /// How many promises hold.
    pub fn kept(&self) -> usize {
        self.cells.values().filter(|cell| cell.verdict == Verdict::Kept).count()
    }

    fn mark(&self, row: usize, plugin: Plugin) -> &'static str {
        match self.cells.get(&(row, plugin)).map(|cell| &cell.verdict) {
            None => "",
            Some(Verdict::Kept) => "ok",
            Some(Verdict::Broken(_)) => "FAIL",
            Some(Verdict::NotClaimed(_)) => "n/a",
            Some(Verdict::KnownFault(_)) => "known",
            Some(Verdict::Absent) => "-",
            Some(Verdict::NoKernel) => "kernel",
        }
    }
}

/// A markdown table, then what failed, then why cells say n/a or known.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.promises.iter().map(|promise| promise.len()).max().unwrap_or(0);
        write!(
            f,
            "{} of {} promises kept by the executables in {}",
            self.kept(),
            self.cells.len(),
            self.bin_dir.display()
        )?;
        write!(f, "\n\n| {:width$} |", "promise")?;
        Plugin::ALL.iter().try_for_each(|plugin| write!(f, " {:10} |", plugin.name()))?;
        write!(f, "\n|{}|", "-".repeat(width + 2))?;
        Plugin::ALL.iter().try_for_each(|_| write!(f, "------------|"))?;
        for (row, promise) in self.promises.iter().enumerate() {
            write!(f, "\n| {promise:width$} |")?;
            Plugin::ALL.iter().try_for_each(|plugin| write!(f, " {:10} |", self.mark(row, *plugin)))?;
        }
        writeln!(f)?;
        let (mut failed, mut noted) = (Vec::new(), BTreeSet::new());
        for Cell { promise, plugin, verdict } in self.cells.values() {
            match verdict {
                Verdict::Kept | Verdict::Absent | Verdict::NoKernel => {}
                Verdict::Broken(seen) => failed.push(format!("FAIL {}: {promise}: {seen}", plugin.name())),
                Verdict::NotClaimed(why) => drop(noted.insert(format!("n/a {promise}: {why}"))),
                Verdict::KnownFault(why) => {
                    noted.insert(format!(
                        "known fault of the reference's {}: {promise}: {why}",
                        plugin.name()
                    ));
                }
            }
        }
        failed.into_iter().chain(noted).try_for_each(|line| write!(f, "\n* {line}"))?;
        writeln!(f)
    }
}
