//! Makes the directory of lists what the catalogue says, and keeps it so.
//!
//! A network that leaves the catalogue while containers are attached keeps its list until they are gone: their runtime
//! needs it for DEL. After the list its traces in the kernel go, by GC of its plugins, as a runtime would do it. What
//! fails is tried again until it works; a list that somebody deleted is written again.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, watch};
use tokio::task::spawn_blocking;
use tokio::time::timeout;
use zeugma_catalogue::Difference;
use zeugma_model::{Network, NetworkName};
use zeugma_networks::{Chain, List, Write};
use zeugma_plan::network::{Naming, ORIGIN, conflist};

use super::{Place, Progress, name_on};
use crate::follow::Told;

/// Between two looks whether what could not be done can be done now.
const LOOK: Duration = Duration::from_secs(2);
/// Between two looks whether this host's part of an overlay is there, at first and while that is news.
const GLANCE: Duration = Duration::from_millis(50);
const NEWS: Duration = Duration::from_secs(10);
/// Between two looks whether all lists are still there.
const KEEP: Duration = Duration::from_secs(10);

/// Follows until the agent ends.
pub(super) async fn follow(
    mut networks: mpsc::Receiver<Told<Network>>,
    place: Place,
    told: watch::Sender<Progress>,
) {
    let mut state = State::new(place);
    loop {
        let next = match timeout(state.pause(), networks.recv()).await {
            Ok(Some(Told { difference, is_recalled })) => {
                state.is_recalled = is_recalled;
                Some(difference)
            }
            // Who tells of it panicked.
            Ok(None) => return,
            Err(_) => None,
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
    /// Networks of the catalogue.
    networks: BTreeMap<NetworkName, Network>,
    /// Those whose lists could not be written.
    unwritten: BTreeSet<NetworkName>,
    /// Networks that are gone, and that something is left of: the list, when it is removed and other traces are not.
    leaving: BTreeMap<NetworkName, Option<List>>,
    /// Overlays that this host has no part of yet: their lists are written when it has.
    awaited: BTreeSet<NetworkName>,
    /// When all lists were last looked at.
    looked: Instant,
    /// When the catalogue last changed.
    changed: Instant,
    is_new: bool,
    /// What is told is what the agent before this one knew: a network that is not in it may be newer.
    is_recalled: bool,
}

impl State {
    fn new(place: Place) -> Self {
        Self {
            place,
            networks: BTreeMap::new(),
            unwritten: BTreeSet::new(),
            leaving: BTreeMap::new(),
            awaited: BTreeSet::new(),
            looked: Instant::now(),
            changed: Instant::now(),
            is_new: true,
            is_recalled: false,
        }
    }

    /// How long there is nothing to do, unless something changes.
    fn pause(&self) -> Duration {
        match () {
            () if !self.awaited.is_empty() && self.changed.elapsed() < NEWS => GLANCE,
            () if self.leaving.is_empty() && self.unwritten.is_empty() => KEEP,
            () => LOOK,
        }
    }

    fn apply(&mut self, difference: Option<Difference<Network>>, progress: &mut Progress) {
        let Some(difference) = difference else { return self.again(progress) };
        let difference = self.own(difference);
        self.changed = Instant::now();
        if std::mem::take(&mut self.is_new) && !self.is_recalled {
            self.see_strays(&difference, progress);
        }
        for (name, error) in &difference.unreadable {
            tracing::warn!(network = name, %error, "the network's list stays as it is");
        }
        for row in difference.put.into_values() {
            let name = row.value.name.clone();
            self.leaving.remove(&name);
            self.networks.insert(name.clone(), row.value);
            self.written(&name, progress);
        }
        for name in difference.deleted.iter().filter_map(|name| name.parse().ok()) {
            self.networks.remove(&name);
            self.unwritten.remove(&name);
            self.awaited.remove(&name);
            self.leaving.insert(name, None);
        }
        self.withdraw_leaving(progress);
        progress.awaited.clone_from(&self.awaited);
        progress.revision = difference.revision;
    }

    /// Of this node, and those that all share, by their names.
    fn own(&self, difference: Difference<Network>) -> Difference<Network> {
        let name = |row: String| name_on(&self.place.node, &row).map(str::to_owned);
        let Difference { put, deleted, unreadable, revision } = difference;
        Difference {
            put: put.into_iter().filter_map(|(row, value)| Some((name(row)?, value))).collect(),
            deleted: deleted.into_iter().filter_map(name).collect(),
            unreadable: unreadable.into_iter().filter_map(|(row, error)| Some((name(row)?, error))).collect(),
            revision,
        }
    }

    /// What did not work, and from time to time everything.
    fn again(&mut self, progress: &mut Progress) {
        let names: Vec<NetworkName> = if self.looked.elapsed() < KEEP {
            self.unwritten.iter().cloned().collect()
        } else {
            self.looked = Instant::now();
            self.networks.keys().cloned().collect()
        };
        names.iter().for_each(|name| self.written(name, progress));
        self.withdraw_leaving(progress);
        progress.awaited.clone_from(&self.awaited);
    }

    /// Lists of ours without networks: those go that this catalogue had, and deleted while no agent ran.
    fn see_strays(&mut self, all: &Difference<Network>, progress: &mut Progress) {
        let is_known = |name: &NetworkName| {
            all.put.contains_key(name.as_str()) || all.unreadable.contains_key(name.as_str())
        };
        let lists = self.place.directory.lists().unwrap_or_default();
        let is_ours = |list: &List| list.is_ours() && list.path == self.place.directory.file(&list.name);
        for list in lists.into_iter().filter(|list| is_ours(list) && !is_known(&list.name)) {
            if list.origin() == Some(self.place.origin().as_str()) {
                self.leaving.insert(list.name, None);
            } else {
                progress.tell(&list.name, elsewhere(&list));
            }
        }
    }

    fn written(&mut self, name: &NetworkName, progress: &mut Progress) {
        let Some(network) = self.networks.get(name) else { return };
        // A container that came before its host's part of the overlay would be refused.
        let is_awaited = network.is_shared() && !matches!(self.place.overlays.read(name), Ok(Some(_)));
        let ensured = if is_awaited { Err(no_part(name)) } else { self.ensured(network) };
        match is_awaited {
            true => self.awaited.insert(name.clone()),
            false => self.awaited.remove(name),
        };
        match ensured {
            Ok(write) => {
                self.unwritten.remove(name);
                progress.problems.remove(name);
                if write == Write::Written {
                    tracing::info!(network = %name, "its list is written");
                }
            }
            Err(told) => {
                self.unwritten.insert(name.clone());
                progress.tell(name, told);
            }
        }
    }

    /// Another catalogue's list is taken up when it is of the same network, and is left alone otherwise.
    fn ensured(&self, network: &Network) -> Result<Write, String> {
        let (directory, origin) = (&self.place.directory, self.place.origin());
        let found = directory.ours(&network.name).map_err(|error| error.to_string())?;
        let is_other = |list: &List| {
            list.origin() != Some(&origin) && !list.network().is_some_and(|listed| network.comes_of(&listed))
        };
        if let Some(other) = found.filter(is_other) {
            return Err(elsewhere(&other));
        }
        let mut list = conflist(network, naming(&self.place.bin_dir), &self.place.service_ranges);
        list[ORIGIN] = origin.into();
        directory.write(&network.name, &list).map_err(|error| error.to_string())
    }

    fn withdraw_leaving(&mut self, progress: &mut Progress) {
        for (name, mut list) in std::mem::take(&mut self.leaving) {
            match withdrawn(&self.place, &name, &mut list) {
                Ok(()) => {
                    progress.problems.remove(&name);
                    tracing::info!(network = %name, "its list is removed");
                }
                Err(told) => {
                    self.leaving.insert(name.clone(), list);
                    progress.tell(&name, told);
                }
            }
        }
    }
}

/// Removes the list, and then what GC of its plugins finds; otherwise, what is in the way. `removed` is the list from
/// when it is removed on.
fn withdrawn(place: &Place, name: &NetworkName, removed: &mut Option<List>) -> Result<(), String> {
    // GC without anybody takes everything down: whoever is on the network has to be known.
    let attached = place.journal.attached_to(name).map_err(|error| {
        format!("network {name} is removed; its list stays until it can be told who is attached: {error}")
    })?;
    if !attached.is_empty() {
        let many = attached.len();
        return Err(format!("network {name} is removed; its list goes with the last of {many} containers"));
    }
    if removed.is_none() {
        *removed = place.directory.remove(name).map_err(|error| error.to_string())?;
    }
    let Some(list) = removed else { return Ok(()) };
    // As long as there is a state, GC keeps what it stands for.
    if list.network().is_some_and(|network| network.is_shared()) {
        place.overlays.remove(name).map_err(|error| error.to_string())?;
    }
    let chain = Chain::new(list, &place.bin_dir).map_err(|error| error.to_string())?;
    let left: Vec<String> = chain.clear().iter().map(ToString::to_string).collect();
    if left.is_empty() { Ok(()) } else { Err(left.join("; ")) }
}

fn no_part(name: &NetworkName) -> String {
    format!("overlay {name} is not ready on this host yet: `zeugma peers` and the agent's log tell why")
}

fn elsewhere(list: &List) -> String {
    format!(
        "{} is of network {} of another catalogue and stays as it is: start the agent with that catalogue, create the \
         network again with the same settings, or remove the file",
        list.path.display(),
        list.name
    )
}

/// Plain names, where they lead to our executable.
fn naming(bin_dir: &Path) -> Naming {
    let file = |name: &str| fs::metadata(bin_dir.join(name)).map(|file| (file.dev(), file.ino())).ok();
    match (file("bridge"), file("zeugma-bridge")) {
        (Some(plain), Some(ours)) if plain == ours => Naming::Plain,
        _ => Naming::Prefixed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use zeugma_catalogue::{Key, Kind, Revision, Row, Table, Transaction};
    use zeugma_journal::{Journal, OverlayStates};
    use zeugma_networks::Directory;

    use crate::follow::fixture;
    use crate::services::CatalogueId;

    /// With a directory of lists, and a journal beside it.
    fn state(root: &Path, id: &str) -> State {
        State::new(Place {
            directory: Directory::at(root.join("net.d")),
            journal: Journal::at(&root.join("run")),
            overlays: OverlayStates::at(&root.join("state")),
            bin_dir: root.join("bin"),
            service_ranges: Vec::new(),
            catalogue: CatalogueId::of(id),
            node: "here".parse().unwrap(),
        })
    }

    fn told(put: &[&str], deleted: &[&str]) -> Option<Difference<Network>> {
        let row = |name: &str| {
            let network = json!({"name": name, "subnets": [{"subnet": "10.89.0.0/24"}]});
            let value = serde_json::from_value(network).unwrap();
            (format!("here/{name}"), Row { value, revision: Revision(1), lease: None })
        };
        Some(Difference {
            put: put.iter().map(|name| row(name)).collect(),
            deleted: deleted.iter().map(|name| format!("here/{name}")).collect(),
            unreadable: BTreeMap::new(),
            revision: Revision(1),
        })
    }

    #[test]
    fn a_list_stays_while_it_cannot_be_told_who_is_attached() {
        let root = tempfile::tempdir().unwrap();
        let (mut state, mut progress) = (state(root.path(), "one"), Progress::default());
        state.apply(told(&["front"], &[]), &mut progress);
        fs::create_dir_all(root.path().join("run/attachments")).unwrap();
        let attachments = root.path().join("run/attachments/front");
        std::os::unix::fs::symlink(&attachments, &attachments).unwrap();
        state.apply(told(&[], &["front"]), &mut progress);
        let front = "front".parse().unwrap();
        assert!(state.place.directory.file(&front).exists());
        assert!(progress.problems[&front].contains("who is attached"), "{progress:?}");
        fs::remove_file(attachments).unwrap();
        state.apply(None, &mut progress);
        assert!(!state.place.directory.file(&front).exists());
    }

    #[test]
    fn a_list_stays_while_containers_of_a_list_of_another_name_are_on_its_overlay() {
        let root = tempfile::tempdir().unwrap();
        let (mut state, mut progress) = (state(root.path(), "one"), Progress::default());
        let front = "front".parse().unwrap();
        let part: zeugma_model::OverlayState = serde_json::from_value(json!({"network": "front",
            "backend": "vxlan", "subnets": ["10.112.0.0/16"], "mtu": 1450, "blocks": ["10.112.1.0/24"],
            "bridge": "br-front", "tunnel": "vx-front", "masquerade": true}))
        .unwrap();
        state.place.overlays.write(&part).unwrap();
        state.apply(overlay(), &mut progress);
        let id = zeugma_model::AttachmentId {
            network: "mylist".parse().unwrap(),
            container: "c".parse().unwrap(),
            ifname: "eth0".parse().unwrap(),
        };
        let record =
            zeugma_journal::Record { plugin: "overlay".into(), overlay: Some(part), ..Default::default() };
        let entry = state.place.journal.begin(&id, record).unwrap();
        let gone = Difference { deleted: ["front".to_owned()].into(), ..told(&[], &[]).unwrap() };
        state.apply(Some(gone), &mut progress);
        assert!(state.place.directory.file(&front).exists() && progress.problems.contains_key(&front));
        state.place.journal.remove(&entry).unwrap();
        state.apply(None, &mut progress);
        assert!(!state.place.directory.file(&front).exists());
    }

    #[test]
    fn networks_of_other_nodes_are_not_written_here() {
        let root = tempfile::tempdir().unwrap();
        let (mut state, mut progress) = (state(root.path(), "one"), Progress::default());
        state.place.node = "elsewhere".parse().unwrap();
        state.apply(told(&["front"], &["back"]), &mut progress);
        assert!(state.place.directory.lists().unwrap().is_empty());
        assert!(state.networks.is_empty() && state.leaving.is_empty());
    }

    fn overlay() -> Option<Difference<Network>> {
        let network = json!({"name": "front", "driver": "overlay", "subnets": [{"subnet": "10.112.0.0/16"}]});
        let value = serde_json::from_value(network).unwrap();
        let put = [("front".to_owned(), Row { value, revision: Revision(1), lease: None })];
        Some(Difference { put: put.into(), ..told(&[], &[]).unwrap() })
    }

    #[test]
    fn an_overlay_s_list_is_written_once_this_host_has_a_part_of_it() {
        let root = tempfile::tempdir().unwrap();
        let (mut state, mut progress) = (state(root.path(), "one"), Progress::default());
        let front = "front".parse().unwrap();
        state.apply(overlay(), &mut progress);
        let file = state.place.directory.file(&front);
        assert!(!file.exists() && progress.awaited.contains(&front) && state.pause() == GLANCE);
        assert!(progress.problems[&front].contains("zeugma peers"), "{progress:?}");
        let part = json!({"network": "front", "backend": "vxlan", "subnets": ["10.112.0.0/16"], "mtu": 1450,
            "blocks": ["10.112.1.0/24"], "bridge": "br-front", "tunnel": "vx-front", "masquerade": true});
        state.place.overlays.write(&serde_json::from_value(part).unwrap()).unwrap();
        state.apply(None, &mut progress);
        assert!(file.exists() && progress.awaited.is_empty() && progress.problems.is_empty());
        let gone = Difference { deleted: ["front".to_owned()].into(), ..told(&[], &[]).unwrap() };
        state.apply(Some(gone), &mut progress);
        assert!(!file.exists() && state.place.overlays.read(&front).unwrap().is_none());
    }

    #[test]
    fn a_list_that_could_not_be_written_is_written_later() {
        let root = tempfile::tempdir().unwrap();
        let (mut state, mut progress) = (state(root.path(), "one"), Progress::default());
        fs::write(root.path().join("net.d"), "no directory").unwrap();
        state.apply(told(&["front"], &[]), &mut progress);
        assert_eq!((progress.problems.len(), state.pause()), (1, LOOK));
        fs::remove_file(root.path().join("net.d")).unwrap();
        state.apply(None, &mut progress);
        assert!(state.place.directory.file(&"front".parse().unwrap()).exists());
        assert_eq!((progress.problems.len(), state.pause()), (0, KEEP));
    }

    #[test]
    fn a_list_of_another_catalogue_is_taken_up_or_left_alone() {
        let root = tempfile::tempdir().unwrap();
        let (front, mut progress) = ("front".parse().unwrap(), Progress::default());
        state(root.path(), "one").apply(told(&["front"], &[]), &mut progress);
        let mut other = state(root.path(), "two");
        let file = other.place.directory.file(&front);
        other.apply(told(&[], &[]), &mut progress);
        assert!(file.exists() && progress.problems[&front].contains("another catalogue"), "{progress:?}");
        other.apply(told(&["front"], &[]), &mut progress);
        assert!(progress.problems.is_empty(), "{progress:?}");
        assert!(fs::read_to_string(&file).unwrap().contains("two/here"));
        state(root.path(), "one").apply(told(&[], &[]), &mut progress);
        assert!(file.exists());
        state(root.path(), "two").apply(told(&[], &[]), &mut progress);
        assert!(!file.exists());
    }

    #[tokio::test]
    async fn lists_outlast_another_catalogue_and_follow_the_one_that_is_brought_back() {
        let root = tempfile::tempdir().unwrap();
        let catalogue = fixture::catalogue(root.path()).await;
        let put = |begun, name: &str| {
            let row = told(&[name], &[]).unwrap().put.remove(&format!("here/{name}")).unwrap();
            Table::put(begun, &format!("here/{name}"), &row.value, None).unwrap()
        };
        fixture::write(&catalogue, put(put(Transaction::new(), "front"), "back")).await;
        let place = state(root.path(), "one").place;
        let place = Place { catalogue: catalogue.id.clone(), ..place };
        let lists = |place: &Place| place.directory.lists().map_or(0, |lists| lists.len());
        let (progress, mut seen) = watch::channel(Progress::default());
        tokio::spawn(follow(crate::follow::follow(&catalogue), place.clone(), progress));
        seen.wait_for(|_| lists(&place) == 2).await.unwrap();
        let keys = ["here/front", "here/back"].map(|name| Key::new(Kind::Network, name).unwrap());
        let back = fixture::replace(&catalogue, &keys).await;
        assert_eq!(lists(&place), 2);
        // The copy is older than one of them, and has another one that was gone.
        fixture::write(&catalogue, put(put(back, "front"), "old")).await;
        let is_so = |name: &str| place.directory.file(&name.parse().unwrap()).exists();
        seen.wait_for(|_| is_so("front") && is_so("old") && !is_so("back")).await.unwrap();
    }
}
