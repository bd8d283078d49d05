//! Networks on this host: the catalogue's in, configuration lists for runtimes out.
//!
//! What a list says is decided in `plan::network`; how it is written is `zeugma-networks`'. When it is written and taken
//! away: `follower`. What is asked over the API is answered by way of [`Networks`].

mod follower;
mod taken;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ipnetwork::IpNetwork;
use tokio::sync::{Mutex, watch};
use tokio::time::timeout;
use zeugma_catalogue::Revision;
use zeugma_journal::{Journal, OverlayStates};
use zeugma_model::{Network, NetworkName, NodeName};
use zeugma_networks::Directory;

use crate::follow::follow;
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
    /// Those of them that nothing is wrong with: this host's part of them is being made.
    awaited: BTreeSet<NetworkName>,
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
    overlays: OverlayStates,
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

/// What a network is called in the catalogue: one that all nodes share has its name alone.
pub(crate) fn row_of(node: &NodeName, network: &Network) -> String {
    if network.is_shared() { network.name.to_string() } else { row_name(node, network.name.as_str()) }
}

/// The network's name, where a node has the row to do with: its own, or one that all share.
pub(crate) fn name_on<'a>(node: &NodeName, row: &'a str) -> Option<&'a str> {
    match row.split_once('/') {
        Some((owner, name)) => (owner == node.as_str()).then_some(name),
        None => Some(row),
    }
}

impl Networks {
    /// Follows the catalogue from now on.
    pub(crate) fn start(catalogue: Catalogue, runtimes: Runtimes) -> Self {
        let directory = Directory::at(runtimes.conf_dir);
        let place = Place {
            directory: directory.clone(),
            journal: Journal::default(),
            overlays: OverlayStates::default(),
            bin_dir: runtimes.bin_dir,
            service_ranges: catalogue.service_ranges.clone(),
            catalogue: catalogue.id.clone(),
            node: catalogue.node.clone(),
        };
        let (told, progress) = watch::channel(Progress::default());
        tokio::spawn(follower::follow(follow(&catalogue), place, told));
        Self { catalogue, directory, progress, turn: Arc::default() }
    }

    /// What does not work, by network.
    pub(crate) fn problems(&self) -> BTreeMap<NetworkName, String> {
        self.progress.borrow().problems.clone()
    }

    /// Waits until everything up to `revision` is on disk; what does not work about `network`, a line each.
    pub(crate) async fn settled(&self, revision: Revision, network: &NetworkName) -> Vec<String> {
        let mut progress = self.progress.clone();
        let is_there =
            |progress: &Progress| progress.revision >= revision && !progress.awaited.contains(network);
        if let Ok(Ok(settled)) = timeout(PATIENCE, progress.wait_for(is_there)).await {
            return settled.problems.get(network).cloned().into_iter().collect();
        }
        let told = format!("the list of network {network} is not written yet: see the agent's log");
        vec![self.progress.borrow().problems.get(network).cloned().unwrap_or(told)]
    }
}
