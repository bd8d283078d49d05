//! Rows of figures: as a table for the terminal, as a page of docs/benchmarks, as JSON for comparing runs.
//!
//! What a row means and how it was measured is in the bench that made it.

use std::fmt::Write as _;
use std::fs;

use anyhow::Result;
use serde_json::{Map, Value, json};

use super::measure::Series;
use crate::shell;

/// What a row has to be.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Goal {
    /// Not above.
    AtMost(f64),
    /// Not below.
    AtLeast(f64),
    /// Not above this part of the first peer's figure.
    PartOfPeer(f64),
    /// Not below this many times the first peer's figure.
    TimesPeer(f64),
}

impl Goal {
    fn holds(self, value: f64, peer: Option<f64>) -> bool {
        match self {
            Self::AtMost(limit) => value <= limit,
            Self::AtLeast(limit) => value >= limit,
            Self::PartOfPeer(part) => peer.is_some_and(|peer| value <= part * peer),
            Self::TimesPeer(times) => peer.is_some_and(|peer| value >= times * peer),
        }
    }

    fn text(self) -> String {
        match self {
            Self::AtMost(limit) => format!("<= {limit}"),
            Self::AtLeast(limit) => format!(">= {limit}"),
            Self::PartOfPeer(part) => format!("<= {part:.2} of the peer's"),
            Self::TimesPeer(times) => format!(">= {times:.2} x the peer's"),
        }
    }
}

/// One contestant's figure.
#[derive(Debug, Clone, Default)]
pub(crate) struct Cell {
    /// What the row is about; none when it cannot be measured or failed.
    pub(crate) value: Option<f64>,
    /// What else is known, for reading: p95 and processor time.
    pub(crate) note: String,
}

impl Cell {
    /// The median, with p95 and processor time as its note.
    pub(crate) fn of(series: &Series) -> Self {
        let note = match (series.p95(), series.cpu()) {
            (Some(p95), Some(cpu)) => format!("p95 {}, CPU {}", short(p95), short(cpu)),
            _ => String::new(),
        };
        Self { value: series.median(), note }
    }

    /// A bare figure.
    pub(crate) fn bare(value: Option<f64>) -> Self {
        Self { value, note: String::new() }
    }

    fn text(&self) -> String {
        match (self.value, self.note.as_str()) {
            (None, _) => "-".to_owned(),
            (Some(value), "") => short(value),
            (Some(value), note) => format!("{} ({note})", short(value)),
        }
    }
}

/// A line of the table.
#[derive(Debug, Clone)]
pub(crate) struct Row {
    /// The name in the JSON.
    pub(crate) key: &'static str,
    /// The name for people.
    pub(crate) title: &'static str,
    /// `ms`, `/s`, `x`, `MB`.
    pub(crate) unit: &'static str,
    /// What ours has to be.
    pub(crate) goal: Goal,
    /// One a contestant, ours first.
    pub(crate) cells: Vec<Cell>,
}

impl Row {
    fn ok(&self) -> bool {
        self.ours().is_some_and(|value| self.goal.holds(value, self.peer()))
    }

    fn ours(&self) -> Option<f64> {
        self.cells.first().and_then(|cell| cell.value)
    }

    /// The first peer that has a figure.
    fn peer(&self) -> Option<f64> {
        self.cells.iter().skip(1).find_map(|cell| cell.value)
    }
}

/// Three significant digits are more than these machines repeat.
fn short(value: f64) -> String {
    let decimals = if value.abs() < 10.0 { 2 } else { usize::from(value.abs() < 100.0) };
    format!("{value:.decimals$}")
}

/// The table in Markdown; `titles` are the contestants'.
pub(crate) fn table(titles: &[String], rows: &[Row]) -> String {
    let mut text = format!("| | unit | {} | goal | |\n", titles.join(" | "));
    text.push_str(&"|---".repeat(titles.len() + 4));
    text.push_str("|\n");
    for row in rows {
        let mut cells: Vec<_> = row.cells.iter().map(Cell::text).collect();
        cells.resize(titles.len(), "-".to_owned());
        let verdict = if row.ok() { "ok" } else { "MISSED" };
        writeln!(
            text,
            "| {} | {} | {} | {} | {verdict} |",
            row.title,
            row.unit,
            cells.join(" | "),
            row.goal.text()
        )
        .expect("writing to a String does not fail");
    }
    text
}

/// `{"row": {"ours", "peer", "unit", "goal", "ok"}}`; the peer is the first one that has a figure.
pub(crate) fn to_json(rows: &[Row]) -> Value {
    let entry = |row: &Row| {
        let (ours, peer) = (row.ours(), row.peer());
        let value =
            json!({ "ours": ours, "peer": peer, "unit": row.unit, "goal": row.goal.text(), "ok": row.ok() });
        (row.key.to_owned(), value)
    };
    Value::Object(rows.iter().map(entry).collect::<Map<_, _>>())
}

/// Writes docs/benchmarks/NAME.md and bench/NAME.json in the target directory.
pub(crate) fn write(name: &str, command: &str, about: &str, titles: &[String], rows: &[Row]) -> Result<()> {
    let page = format!(
        "# Benchmark: {name}\n\n{}: `{command}` on {}\n\n{about}\n\n{}",
        date()?,
        machine()?,
        table(titles, rows)
    );
    let docs = shell::workspace_root().join("docs/benchmarks");
    fs::create_dir_all(&docs)?;
    fs::write(docs.join(format!("{name}.md")), page)?;
    let dir = shell::target_dir()?.join("bench");
    fs::create_dir_all(&dir)?;
    fs::write(dir.join(format!("{name}.json")), format!("{:#}\n", to_json(rows)))?;
    Ok(())
}

fn date() -> Result<String> {
    Ok(shell::read(&mut shell::command("date", ["-u", "+%F"]))?.trim().to_owned())
}

/// Processor, memory, kernel.
fn machine() -> Result<String> {
    let value = |file: &str, key: &str| -> Result<String> {
        let text = fs::read_to_string(file)?;
        let line = text.lines().find(|line| line.starts_with(key)).unwrap_or_default();
        Ok(line.split_once(':').map_or("?", |(_, value)| value.trim()).to_owned())
    };
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    Ok(format!(
        "{} x {}, {} of memory, Linux {}",
        std::thread::available_parallelism()?,
        value("/proc/cpuinfo", "model name")?,
        value("/proc/meminfo", "MemTotal")?,
        kernel.trim()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(ours: Option<f64>, goal: Goal) -> Row {
        let cells = vec![Cell::bare(ours), Cell::bare(None), Cell::bare(Some(23.0))];
        Row { key: "bridge_add", title: "bridge ADD", unit: "ms", goal, cells }
    }

    #[test]
    fn a_row_is_judged_by_ours_and_a_missing_figure_is_missed() {
        assert!(row(Some(1.5), Goal::AtMost(1.5)).ok());
        assert!(!row(Some(1.6), Goal::AtMost(1.5)).ok());
        assert!(row(Some(700.0), Goal::AtLeast(700.0)).ok());
        assert!(!row(None, Goal::AtMost(1.5)).ok());
        assert!(row(Some(7.6), Goal::PartOfPeer(1.0 / 3.0)).ok());
        assert!(!row(Some(7.7), Goal::PartOfPeer(1.0 / 3.0)).ok());
    }

    #[test]
    fn the_table_names_who_and_what() {
        let titles = ["ours", "Go", "netavark"].map(str::to_owned);
        let text = table(&titles, &[row(Some(1.234), Goal::AtMost(1.5))]);
        assert!(text.ends_with("| bridge ADD | ms | 1.23 | - | 23.0 | <= 1.5 | ok |\n"), "{text}");
    }

    #[test]
    fn the_peer_in_the_json_is_the_first_with_a_figure() {
        let json = to_json(&[row(Some(1.0), Goal::AtMost(1.5))]);
        let expected = json!({ "ours": 1.0, "peer": 23.0, "unit": "ms", "goal": "<= 1.5", "ok": true });
        assert_eq!(json["bridge_add"], expected);
    }
}
