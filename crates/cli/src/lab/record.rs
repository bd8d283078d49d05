//! What the host knows of labs: a directory each below `/run/zeugma/labs`. A lab is what its holder holds; here is only
//! how to find that process, and what the lab was made of.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use zeugma_journal::{files, run_dir};
use zeugma_kernel::{Process, start_of};
use zeugma_model::NodeName;

/// How long the kernel may take to end all processes of a lab.
const PATIENCE: Duration = Duration::from_secs(30);
const HOLDER: &str = "holder.json";
const TOPOLOGY: &str = "topology.yaml";
pub(super) const STATE: &str = "state.json";
/// What processes of the lab print, a file each.
pub(super) const LOGS: &str = "logs";

/// A lab's directory.
#[derive(Debug, Clone)]
pub(super) struct Record {
    /// A name has neither slashes nor dots alone: the directory is always one below the labs'.
    pub(super) name: NodeName,
    pub(super) directory: PathBuf,
}

/// The process that a lab is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Holder {
    pub(super) pid: i32,
    /// In ticks since the machine began.
    pub(super) start: u64,
}

/// A lab that is up, as its holder tells it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct State {
    pub(super) places: Vec<Place>,
}

/// A machine, a switch or a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Place {
    pub(super) name: String,
    pub(super) kind: Kind,
    /// Of a container: where it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) machine: Option<String>,
    pub(super) interfaces: Vec<Interface>,
    pub(super) processes: Vec<Running>,
}

/// What kind of place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Kind {
    Machine,
    Switch,
    Container,
}

/// One of its interfaces.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Interface {
    pub(super) name: String,
    /// Of a container: the network.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) network: Option<String>,
    pub(super) addresses: Vec<String>,
}

/// A process that was started in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Running {
    /// `agent`, `command` or `etcd`.
    pub(super) what: String,
    /// Its number in the lab.
    pub(super) pid: i32,
    /// What it ended with, 128 and more by a signal; none: it runs.
    pub(super) exit: Option<i32>,
}

fn labs() -> PathBuf {
    run_dir().join("labs")
}

/// Keeps others from setting labs up and taking them down until it is dropped.
pub(super) fn lock() -> Result<File> {
    let labs = labs();
    let cannot = || {
        format!("cannot use {}: a lab needs root, or `unshare -Urnm` and a /run of its own", labs.display())
    };
    fs::create_dir_all(&labs).with_context(cannot)?;
    let directory = File::open(&labs).with_context(cannot)?;
    directory.lock().with_context(cannot)?;
    Ok(directory)
}

impl Record {
    /// That of the lab with this name, which need not be there.
    pub(super) fn of(name: &NodeName) -> Self {
        Self { name: name.clone(), directory: labs().join(name.as_str()) }
    }

    /// Those of all labs, by name.
    pub(super) fn all() -> Result<Vec<Self>> {
        let entries = match fs::read_dir(labs()) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.with_context(|| format!("cannot list {}", labs().display()))?,
        };
        let names = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        let mut names: Vec<NodeName> = names.collect();
        names.sort_unstable();
        Ok(names.iter().map(Self::of).collect())
    }

    /// Whether anything of it is there.
    pub(super) fn exists(&self) -> bool {
        self.directory.exists()
    }

    /// Begins it.
    pub(super) fn begin(&self, text: &str) -> Result<()> {
        fs::create_dir_all(self.directory.join(LOGS))
            .with_context(|| format!("cannot create {}", self.directory.display()))?;
        Ok(files::replace(&self.directory.join(TOPOLOGY), text.as_bytes())?)
    }

    /// Notes the process that the lab will be.
    pub(super) fn note(&self, pid: i32) -> Result<()> {
        let start = start_of(pid).context("the lab's holder ended at once")?;
        write(&self.directory.join(HOLDER), &Holder { pid, start })
    }

    /// The process that the lab is; none: it is gone.
    pub(super) fn holder(&self) -> Option<Holder> {
        let holder: Holder = read(&self.directory.join(HOLDER))?;
        (start_of(holder.pid) == Some(holder.start)).then_some(holder)
    }

    /// What its holder says, of a lab that is up.
    pub(super) fn state(&self) -> Option<State> {
        self.holder().and_then(|_| read(&self.directory.join(STATE)))
    }

    /// What it was made of.
    pub(super) fn topology(&self) -> Option<String> {
        fs::read_to_string(self.directory.join(TOPOLOGY)).ok()
    }

    /// The last lines that a process printed.
    pub(super) fn log(&self, name: &str) -> PathBuf {
        self.directory.join(LOGS).join(name)
    }

    /// Ends it, and removes what is written of it. The caller has the lock.
    pub(super) fn remove(&self) -> Result<()> {
        if let Some(holder) = read::<Holder>(&self.directory.join(HOLDER))
            && let Some(process) = Process::find(holder.pid, holder.start)?
            && !process.end(PATIENCE)?
        {
            bail!(
                "lab {}: process {} does not end: see what keeps it (`ps`), and try again",
                self.name,
                holder.pid
            );
        }
        match fs::remove_dir_all(&self.directory) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(error).with_context(|| format!("cannot remove {}", self.directory.display()))
            }
            _ => Ok(()),
        }
    }
}

/// None where there is no such file, or half of one.
fn read<T: DeserializeOwned>(path: &Path) -> Option<T> {
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}

/// Whole or not at all.
pub(super) fn write(path: &Path, value: &impl Serialize) -> Result<()> {
    Ok(files::replace(path, &serde_json::to_vec(value)?)?)
}
