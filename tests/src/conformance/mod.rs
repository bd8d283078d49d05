//! Black-box conformance: drives any directory of CNI executables through the promises of the CNI
//! specification and of the reference's documentation, and says which are kept.
//!
//! It knows executables by their plain names (`bridge`, `host-local`, …) and judges them by exit status,
//! stdout, `ip` and real traffic. It knows nothing of how they are made; what the reference itself gets
//! wrong is written down in `known.rs` and nowhere else.

mod arguments;
mod damage;
mod dhcp;
mod known;
mod lifecycle;
mod matrix;
mod network;
mod protocol;
mod report;
mod rig;
mod shape;

pub use matrix::{Field, Row, VERBS, VERSIONS, failures, head, lines, matrix};
pub use report::{Cell, Report, Verdict};
pub use rig::Plugin;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;

use anyhow::Result;

use rig::Rig;

/// How a promise that was not broken fared.
enum Kept {
    Yes,
    /// The executable does not claim to do this, and why we think so.
    NotClaimed(&'static str),
}

/// One promise, for the plugins that make it.
struct Promise {
    name: &'static str,
    plugins: &'static [Plugin],
    test: fn(&Rig<'_>) -> Result<Kept>,
}

/// Cells are worlds of their own and mostly wait for the kernel, so a few more than cores run at once.
const WORKERS: usize = 4;

/// Tests every promise for every plugin in `bin_dir` that makes it, each in a world of its own.
pub fn run(bin_dir: &Path) -> Report {
    run_for(bin_dir, Plugin::ALL)
}

/// [`run`] for some of the plugins.
pub fn run_for(bin_dir: &Path, plugins: &[Plugin]) -> Report {
    let promises: Vec<&Promise> =
        [protocol::PROMISES, lifecycle::PROMISES, arguments::PROMISES, network::PROMISES, damage::PROMISES]
            .into_iter()
            .flatten()
            .collect();
    let work: Vec<(usize, Plugin)> = promises
        .iter()
        .enumerate()
        .flat_map(|(row, promise)| promise.plugins.iter().map(move |plugin| (row, *plugin)))
        .filter(|(_, plugin)| plugins.contains(plugin))
        .collect();
    let missing = missing(bin_dir);
    let (next, (done, cells)) = (AtomicUsize::new(0), mpsc::channel());
    thread::scope(|scope| {
        for _ in 0..WORKERS {
            let done = done.clone();
            scope.spawn(|| {
                let done = done;
                while let Some((row, plugin)) = work.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let promise = promises[*row];
                    let cell = match missing.get(plugin) {
                        Some(verdict) => {
                            Cell { promise: promise.name, plugin: *plugin, verdict: verdict.clone() }
                        }
                        None => cell(bin_dir, promise, *plugin),
                    };
                    let _ = done.send((*row, cell));
                }
            });
        }
    });
    drop(done);
    Report::new(bin_dir, promises.iter().map(|promise| promise.name).collect(), cells.into_iter().collect())
}

/// The plugins that cannot be tested here, and why.
fn missing(bin_dir: &Path) -> BTreeMap<Plugin, Verdict> {
    let why = |plugin: Plugin| match (bin_dir.join(plugin.name()).exists(), plugin.is_possible()) {
        (false, _) => Some(Verdict::Absent),
        (true, false) => Some(Verdict::NoKernel),
        (true, true) => None,
    };
    Plugin::ALL.iter().filter_map(|plugin| Some((*plugin, why(*plugin)?))).collect()
}

/// Tests one promise of one plugin. A panic is as much a failure as an error.
fn cell(bin_dir: &Path, promise: &Promise, plugin: Plugin) -> Cell {
    let story = || {
        netns_fixtures::try_run(|world| {
            let rig = Rig::new(world, bin_dir, plugin)?;
            Ok(((promise.test)(&rig), rig.is_ours))
        })
    };
    let caught = thread::scope(|scope| scope.spawn(story).join());
    let verdict = match caught {
        Ok(Ok((Ok(Kept::Yes), _))) => Verdict::Kept,
        Ok(Ok((Ok(Kept::NotClaimed(reason)), _))) => Verdict::NotClaimed(reason),
        Ok(Ok((Err(error), is_ours))) => match known::fault(promise.name, plugin) {
            Some(reason) if !is_ours => Verdict::KnownFault(reason),
            _ => Verdict::Broken(format!("{error:#}")),
        },
        Ok(Err(error)) => Verdict::Broken(format!("{error:#}")),
        Err(panic) => Verdict::Broken(
            panic.downcast_ref::<String>().cloned().unwrap_or_else(|| "the test panicked".to_owned()),
        ),
    };
    Cell { promise: promise.name, plugin, verdict }
}
