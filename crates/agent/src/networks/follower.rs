//! Makes the directory of lists what the catalogue says, and keeps it so.
//!
//! A network that leaves the catalogue while containers are attached keeps its list until they are gone: their runtime
//! needs it for DEL. After the list its traces in the kernel go, by GC of its plugins, as a runtime would do it.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tokio::time::{sleep, timeout};
use zeugma_catalogue::{Difference, Table};
use zeugma_journal::Journal;
use zeugma_model::{Network, NetworkName};
use zeugma_networks::{Chain, Write};
use zeugma_plan::network::{Naming, conflist};

use super::{Place, Progress};

/// Between two looks whether the last container has left a network that is to go.
const LOOK: Duration = Duration::from_secs(2);
/// After the catalogue did not answer.
const PAUSE: Duration = Duration::from_secs(1);

/// Follows until the agent ends.
pub(super) async fn follow(table: Table<Network>, place: Place, told: watch::Sender<Progress>) {
    let mut follower = table.follow();
    let mut state = State { place, leaving: BTreeSet::new(), is_new: true };
    loop {
        let next = match state.leaving.is_empty() {
            true => Some(follower.next().await),
            false => timeout(LOOK, follower.next()).await.ok(),
        };
        let next = match next.transpose() {
            Ok(next) => next,
            Err(error) => {
                tracing::warn!(%error, "networks are not followed: trying again");
                sleep(PAUSE).await;
                continue;
            }
        };
        let mut progress = told.borrow().clone();
        let worked = spawn_blocking(move || {
            state.apply(next, &mut progress);
            (state, progress)
        });
        // It panicked: what is left is to go on without.
        let Ok((back, progress)) = worked.await else { return };
        state = back;
        told.send_replace(progress);
    }
}

struct State {
    place: Place,
    /// Networks that are gone, and that containers are still on.
    leaving: BTreeSet<NetworkName>,
    is_new: bool,
}

impl State {
    fn apply(&mut self, difference: Option<Difference<Network>>, progress: &mut Progress) {
        let Some(difference) = difference else { return self.withdraw_leaving(progress) };
        if self.is_new {
            self.is_new = false;
            let strays = self.strays(&difference);
            self.leaving.extend(strays);
        }
        for (name, error) in &difference.unreadable {
            tracing::warn!(network = name, %error, "the network's list stays as it is");
        }
        for row in difference.put.values() {
            self.leaving.remove(&row.value.name);
            self.written(&row.value, progress);
        }
        self.leaving.extend(difference.deleted.iter().filter_map(|name| name.parse().ok()));
        self.withdraw_leaving(progress);
        progress.revision = difference.revision;
    }

    /// Lists of ours whose networks were removed while no agent ran.
    fn strays(&self, all: &Difference<Network>) -> Vec<NetworkName> {
        let is_known = |name: &NetworkName| {
            all.put.contains_key(name.as_str()) || all.unreadable.contains_key(name.as_str())
        };
        let lists = self.place.directory.lists().unwrap_or_default();
        let ours = lists
            .into_iter()
            .filter(|list| list.is_ours() && list.path == self.place.directory.file(&list.name));
        ours.map(|list| list.name).filter(|name| !is_known(name)).collect()
    }

    fn written(&self, network: &Network, progress: &mut Progress) {
        let list = conflist(network, naming(&self.place.bin_dir), &self.place.service_ranges);
        match self.place.directory.write(&network.name, &list) {
            Ok(write) => {
                progress.problems.remove(&network.name);
                if write == Write::Written {
                    tracing::info!(network = %network.name, "its list is written");
                }
            }
            Err(error) => {
                tracing::warn!(network = %network.name, %error, "its list is not written");
                progress.problems.insert(network.name.clone(), error.to_string());
            }
        }
    }

    fn withdraw_leaving(&mut self, progress: &mut Progress) {
        for name in std::mem::take(&mut self.leaving) {
            let attached = Journal::default().attachments(&name).map_or(0, |attached| attached.len());
            if attached > 0 {
                let told = format!(
                    "network {name} is removed; its list goes with the last of {attached} containers"
                );
                progress.problems.insert(name.clone(), told);
                self.leaving.insert(name);
                continue;
            }
            let left = withdrawn(&self.place, &name);
            left.iter().for_each(|left| tracing::warn!(network = %name, left, "a part of it may be left"));
            match left.is_empty() {
                true => progress.problems.remove(&name),
                false => progress.problems.insert(name, left.join("; ")),
            };
        }
    }
}

/// What is left, a line each.
fn withdrawn(place: &Place, name: &NetworkName) -> Vec<String> {
    let list = match place.directory.remove(name) {
        Ok(Some(list)) => list,
        Ok(None) => return Vec::new(),
        Err(error) => return vec![error.to_string()],
    };
    tracing::info!(network = %name, "its list is removed");
    match Chain::new(&list, &place.bin_dir) {
        Ok(chain) => chain.clear().iter().map(ToString::to_string).collect(),
        Err(error) => vec![error.to_string()],
    }
}

/// Plain names, where they lead to our executable.
fn naming(bin_dir: &Path) -> Naming {
    let file = |name: &str| fs::metadata(bin_dir.join(name)).map(|file| (file.dev(), file.ino())).ok();
    match (file("bridge"), file("zeugma-bridge")) {
        (Some(plain), Some(ours)) if plain == ours => Naming::Plain,
        _ => Naming::Prefixed,
    }
}
