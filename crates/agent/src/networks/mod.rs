//! Networks on this host: the catalogue's in, configuration lists for runtimes out.
//!
//! What a list says is decided in `plan::network`; how it is written is `zeugma-networks`'. When it is written and taken
//! away: `follower`. What is asked over the API is answered by way of [`Networks`].

mod follower;
mod taken;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ipnetwork::IpNetwork;
use tokio::sync::{Mutex, watch};
use tokio::time::timeout;
use zeugma_catalogue::Revision;
use zeugma_journal::Journal;
use zeugma_model::{NetworkName, NodeName};
use zeugma_networks::Directory;

use crate::services::{Catalogue, CatalogueId};
use crate::settings::Runtimes;
pub(crate) use taken::taken;

/// How long a change may take to be on disk before whoever made it is told that it is not.
const PATIENCE: Duration = Duration::from_secs(10);

/// The way to the networks.
#[derive(Clone)]
pub(crate) struct Networks {
    pub(crate) catalogue: Catalogue,
    pub(crate) directory: Directory,
    progress: watch::Receiver<Progress>,
    /// Subnets are found and written by one at a time.
    pub(crate) turn: Arc<Mutex<()>>,
}

/// What of the catalogue is on disk.
#[derive(Debug, Clone, Default)]
struct Progress {
    revision: Revision,
    /// By network, what does not work.
    problems: BTreeMap<NetworkName, String>,
}

impl Progress {
    /// Something does not work; it is logged when it is news.
    fn tell(&mut self, network: &NetworkName, told: String) {
        let before = self.problems.insert(network.clone(), told);
        let now = &self.problems[network];
        if before.as_ref() != Some(now) {
            tracing::warn!(%network, "{now}");
        }
    }
}

/// What the follower works with.
#[derive(Debug, Clone)]
struct Place {
    directory: Directory,
    journal: Journal,
    bin_dir: PathBuf,
    service_ranges: Vec<IpNetwork>,
    catalogue: CatalogueId,
    node: NodeName,
}

impl Place {
    /// Who has a network that is written here: this node in this catalogue. It is asked for after the first change was
    /// heard of.
    fn origin(&self) -> String {
        format!("{}/{}", self.catalogue.get().map_or("", String::as_str), self.node)
    }
}

/// What a network of a node is called in the catalogue.
pub(crate) fn row_name(node: &NodeName, name: &str) -> String {
    format!("{node}/{name}")
}

impl Networks {
    /// Follows the catalogue from now on.
    pub(crate) fn start(catalogue: Catalogue, runtimes: Runtimes) -> Self {
        let directory = Directory::at(runtimes.conf_dir);
        let place = Place {
            directory: directory.clone(),
            journal: Journal::default(),
            bin_dir: runtimes.bin_dir,
            service_ranges: catalogue.service_ranges.clone(),
            catalogue: catalogue.id.clone(),
            node: catalogue.node.clone(),
        };
        let (told, progress) = watch::channel(Progress::default());
        tokio::spawn(follower::follow(catalogue.networks(), place, told));
        Self { catalogue, directory, progress, turn: Arc::default() }
    }

    /// What does not work, by network.
    pub(crate) fn problems(&self) -> BTreeMap<NetworkName, String> {
        self.progress.borrow().problems.clone()
    }

    /// Waits until everything up to `revision` is on disk; what does not work about `network`, a line each.
    pub(crate) async fn settled(&self, revision: Revision, network: &NetworkName) -> Vec<String> {
        let mut progress = self.progress.clone();
        let is_there = |progress: &Progress| progress.revision >= revision;
        let Ok(Ok(settled)) = timeout(PATIENCE, progress.wait_for(is_there)).await else {
            return vec![format!("the list of network {network} is not written yet: see the agent's log")];
        };
        settled.problems.get(network).cloned().into_iter().collect()
    }
}
