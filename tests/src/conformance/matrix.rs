//! Plugin × verb × version: what a directory of executables does in each version of the specification, for the page
//! docs/conformance.md. The promises say more; this is the overview.

use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use anyhow::{Result, ensure};
use netns_fixtures::{Attachment, Chain};
use serde_json::Value;

use super::rig::{Plugin, Rig};
use super::{WORKERS, shape};

/// The versions of the specification.
pub const VERSIONS: [&str; 7] = ["0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"];
/// The verbs in the order of the table.
pub const VERBS: [&str; 6] = ["VERSION", "ADD", "CHECK", "DEL", "GC", "STATUS"];

/// One field of the matrix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Field {
    /// It does what the verb is for.
    Works,
    /// The specification has no such verb, or no chains, in that version.
    NotInVersion,
    /// The executable does not claim the version.
    NotClaimed,
    /// It should, and does not.
    Fails(String),
}

/// A plugin's rows: a field per verb and version.
pub type Row = (Plugin, Vec<(&'static str, Vec<Field>)>);

/// Drives those of the plugins that are there and possible on this kernel through all verbs in all versions.
pub fn matrix(bin_dir: &Path, plugins: &[Plugin]) -> Vec<Row> {
    let plugins: Vec<Plugin> = plugins
        .iter()
        .copied()
        .filter(|plugin| bin_dir.join(plugin.name()).exists() && plugin.is_possible())
        .collect();
    let work: Vec<(Plugin, &str)> =
        plugins.iter().flat_map(|plugin| VERSIONS.map(|version| (*plugin, version))).collect();
    let (next, done) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    thread::scope(|scope| {
        for _ in 0..WORKERS {
            scope.spawn(|| {
                while let Some((plugin, version)) = work.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let fields = column(bin_dir, *plugin, version);
                    done.lock().expect("no worker panics").push((*plugin, *version, fields));
                }
            });
        }
    });
    let done = done.into_inner().expect("no worker panics");
    plugins.into_iter().map(|plugin| row(plugin, &done)).collect()
}

fn row(plugin: Plugin, done: &[(Plugin, &str, [Field; 6])]) -> Row {
    let of_version = |version: &str| {
        let found = done.iter().find(|(whose, which, _)| *whose == plugin && *which == version);
        found.map(|(.., fields)| fields.clone()).expect("every version was tried")
    };
    let columns = VERSIONS.map(of_version);
    let verb = |index: usize| columns.iter().map(|fields| fields[index].clone()).collect();
    (plugin, VERBS.iter().enumerate().map(|(index, name)| (*name, verb(index))).collect())
}

/// All verbs in one version, in the order of [`VERBS`].
fn column(bin_dir: &Path, plugin: Plugin, version: &str) -> [Field; 6] {
    let tried = netns_fixtures::try_run(|world| {
        let rig = Rig::new(world, bin_dir, plugin)?;
        if !rig.speaks(version) {
            return Ok([const { Field::NotClaimed }; 6]);
        }
        let [add, check, del] = attachment(&rig, version)?;
        let network = |verb| network_verb(&rig, version, verb);
        Ok([Field::Works, add, check, del, network("GC"), network("STATUS")])
    });
    tried.unwrap_or_else(|error| [const { Field::NotClaimed }; 6].map(|_| Field::Fails(format!("{error:#}"))))
}

fn field(outcome: Result<()>) -> Field {
    outcome.map_or_else(|error| Field::Fails(format!("{error:#}")), |()| Field::Works)
}

fn attachment(rig: &Rig<'_>, version: &str) -> Result<[Field; 3]> {
    if rig.plugin.is_chained() && version < "0.3.0" {
        return Ok([const { Field::NotInVersion }; 3]);
    }
    let (chain, container) = (rig.chain_of(version, rig.config())?, rig.container()?);
    let add = chain
        .add(&rig.host, &container)
        .and_then(|result| shape::ensure_shape(&result, version, rig.plugin, &container));
    let check = if version < "0.4.0" {
        ensure_refused(rig, "CHECK", version, &container)
    } else {
        field(chain.check(&rig.host, &container))
    };
    let del = chain.del(&rig.host, &container);
    Ok([field(add), check, field(del)])
}

fn network_verb(rig: &Rig<'_>, version: &str, verb: &str) -> Field {
    let tried = || -> Result<Field> {
        let container = rig.container()?;
        if version < "1.1.0" {
            return Ok(ensure_refused(rig, verb, version, &container));
        }
        let chain = rig.chain_of(version, rig.config())?;
        Ok(field(if verb == "GC" { collected(rig, &chain) } else { chain.status(&rig.host) }))
    };
    tried().unwrap_or_else(|error| Field::Fails(format!("{error:#}")))
}

/// GC of a network that has an attachment which nobody knows any more.
fn collected(rig: &Rig<'_>, chain: &Chain) -> Result<()> {
    chain.add(&rig.host, &rig.container()?)?;
    chain.gc(&rig.host, &[])?;
    let left = rig.leases(chain);
    ensure!(left.is_empty(), "leases are left: {left:?}");
    Ok(())
}

/// A verb that the version does not have is refused with code 1, or by an executable that never heard of it with 4.
fn ensure_refused(rig: &Rig<'_>, verb: &str, version: &str, container: &Attachment) -> Field {
    let call = || rig.call_after(verb, container, version, &Value::Null);
    let is_older = verb != "CHECK" && !rig.speaks("1.1.0");
    match rig.ensure_refused(call(), 1, verb) {
        Ok(()) => Field::NotInVersion,
        Err(_) if is_older && rig.ensure_refused(call(), 4, verb).is_ok() => Field::NotInVersion,
        Err(error) => Field::Fails(format!("{error:#}")),
    }
}

/// The head of the matrix as a markdown table.
pub fn head() -> String {
    format!("| plugin | verb | {} |\n|---|---|{}", VERSIONS.join(" | "), "---|".repeat(VERSIONS.len()))
}

/// A plugin's rows of the table: a line per verb.
pub fn lines((plugin, verbs): &Row) -> Vec<String> {
    let line = |(verb, fields): &(&'static str, Vec<Field>)| {
        let marks: Vec<&str> = fields.iter().map(mark).collect();
        format!("| `{}` | {verb} | {} |", plugin.name(), marks.join(" | "))
    };
    verbs.iter().map(line).collect()
}

/// What fails in a plugin's rows, a line each.
pub fn failures((plugin, verbs): &Row) -> Vec<String> {
    let mut failed = Vec::new();
    for (verb, fields) in verbs {
        for (version, field) in VERSIONS.iter().zip(fields) {
            if let Field::Fails(why) = field {
                failed.push(format!("* `{}` {verb} in {version}: {}", plugin.name(), first_line(why)));
            }
        }
    }
    failed
}

fn mark(field: &Field) -> &'static str {
    match field {
        Field::Works => "yes",
        Field::NotInVersion => "-",
        Field::NotClaimed => "",
        Field::Fails(_) => "**no**",
    }
}

fn first_line(text: &str) -> String {
    const ENOUGH: usize = 160;
    text.lines().next().unwrap_or_default().chars().take(ENOUGH).collect()
}
