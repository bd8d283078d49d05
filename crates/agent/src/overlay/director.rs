//! The loop: what is known → who has what → what this node writes, and what its kernel is to have → the kernel → what
//! the plugin works from. It alone changes any of that, so that nothing has to be locked.
//!
//! Nothing is taken away because nobody is heard of: not by the end of a lease, not by an outage of the catalogue. While
//! the catalogue does not answer from the beginning, its followers tell what was known before.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::{oneshot, watch};
use zeugma_journal::OverlayStates;
use zeugma_kernel::overlay::{self as kernel, Noticed};
use zeugma_model::{Block, MachineId, NetworkName, PublicKey};
use zeugma_overlay::Here;

use super::checksums::Looks;
use super::held::Held;
use super::inlets::{Heard, Inlets};
use super::keys::Keys;
use super::known::{self, Known};
use super::leaving::Leaving;
use super::liveness::{self, Said};
use super::membership::Done;
use super::mine::{self, Kept, Mine};
use super::patience::Patience;
use super::peers_file::{self, PeersFile};
use super::probe::Probes;
use super::rotation::Rotation;
use super::settled::Settled;
use super::underlay::Gone;
use super::wireguard::Devices;
use super::{Ask, Place, identity, view};
use crate::follow::Told;
use crate::services::Catalogue;

pub(super) struct Director {
    pub(super) catalogue: Catalogue,
    pub(super) place: Place,
    /// Which machine this is, once that can be told.
    machine: Option<MachineId>,
    /// Made when they are first needed.
    keys: Option<Keys>,
    pub(super) rotation: Option<Rotation>,
    pub(super) here: Here,
    /// When it was last looked at.
    pub(super) here_at: Option<Instant>,
    pub(super) gone: Gone,
    /// What the catalogue says.
    pub(super) known: Arc<Known>,
    /// Which tables are told as the agent before this one knew them.
    pub(super) recalled: known::Heard,
    /// Whether that one had brought the kernel to what it knew, since the last boot.
    pub(super) was_settled: bool,
    pub(super) leaving: Leaving,
    pub(super) mine: Mine,
    pub(super) held: Held,
    /// What says who the other hosts are, where the catalogue does not.
    pub(super) file: Option<PeersFile>,
    /// Blocks that others were seen to have before anything else was heard of it.
    pub(super) avoid: BTreeSet<Block>,
    pub(super) is_writing: bool,
    pub(super) patience: Patience,
    pub(super) said: watch::Sender<Said>,
    pub(super) kernel: Option<kernel::Overlays>,
    pub(super) devices: Devices,
    pub(super) probes: Probes,
    pub(super) checksums: Looks,
    pub(super) states: OverlayStates,
    pub(super) settled: Settled,
    /// When everything was last looked at; none: there are news since.
    pub(super) turned: Option<Instant>,
    /// What is on disk of `mine`.
    pub(super) kept: Kept,
    pub(super) told: watch::Sender<Vec<String>>,
}

impl Director {
    pub(super) fn new(catalogue: Catalogue, place: Place, told: watch::Sender<Vec<String>>) -> Self {
        let kept = mine::read(&place.state_dir);
        let states = OverlayStates::at(&place.state_dir);
        let (said, hear) = watch::channel(None);
        if place.is_shared {
            let (store, node) = (catalogue.store.clone(), catalogue.node.clone());
            tokio::spawn(liveness::keep(store, node, place.ttl, hear));
        }
        Self {
            machine: None,
            keys: None,
            rotation: None,
            here: Here { node: catalogue.node.clone(), underlay: Vec::new() },
            here_at: None,
            gone: Gone::default(),
            known: Arc::default(),
            recalled: known::Heard::default(),
            was_settled: states.all().is_ok_and(|all| !all.is_empty()),
            mine: kept.blocks.clone(),
            leaving: Leaving::after(kept.networks.clone()),
            held: Held::default(),
            file: peers_file::at(place.peers.as_deref()),
            avoid: BTreeSet::new(),
            is_writing: false,
            patience: Patience::default(),
            said,
            kernel: None,
            devices: Devices::new(place.encryption),
            probes: Probes::default(),
            checksums: Looks::default(),
            states,
            settled: Settled::default(),
            turned: None,
            kept,
            told,
            catalogue,
            place,
        }
    }

    pub(super) async fn run(mut self, mut inlets: Inlets) {
        loop {
            let first = match &mut self.kernel {
                Some(kernel) if self.settled.repairs.are_due(Instant::now()) => tokio::select! {
                    some = inlets.next() => some,
                    noticed = kernel.changed() => Some(Heard::Kernel(noticed)),
                },
                _ => inlets.next().await,
            };
            let Some(first) = first else { return };
            for heard in inlets.burst(first).await {
                self.hear(heard).await;
            }
            self.turn(&inlets.writer).await;
        }
    }

    async fn hear(&mut self, heard: Heard) {
        if heard.is_news() {
            self.turned = None;
        }
        let known = Arc::make_mut(&mut self.known);
        match heard {
            Heard::Networks(Told { mut difference, is_recalled }) => {
                self.recalled.networks = is_recalled;
                let has_containers = |name: &NetworkName| self.held.has_containers(name);
                self.leaving.recollect(&mut difference, is_recalled, known, has_containers);
                self.leaving.keep_back(&mut difference, known, has_containers);
                known.hear_networks(difference);
            }
            // The file says it.
            Heard::Nodes(_) | Heard::Blocks(_) | Heard::Alive(_) if self.file.is_some() => {}
            Heard::Nodes(Told { difference, is_recalled }) => {
                self.recalled.nodes = is_recalled;
                known.hear_nodes(difference);
            }
            Heard::Blocks(Told { difference, is_recalled }) => {
                self.recalled.blocks = is_recalled;
                self.avoid.clear();
                known.hear_blocks(difference);
            }
            Heard::Alive(Told { difference, .. }) => {
                if difference.deleted.contains(self.catalogue.node.as_str()) {
                    self.said.send_modify(|said| *said = said.map(|times| times + 1));
                }
                known.hear_alive(difference);
            }
            Heard::Ask(ask) => self.answer(ask).await,
            Heard::Done(done) => self.done(done),
            Heard::Attached | Heard::Tick => self.look(),
            Heard::Catalogue => {}
            Heard::Kernel(Noticed::Addresses) => self.here_at = None,
            Heard::Kernel(Noticed::Objects) => (self.here_at, self.settled.at) = (None, None),
        }
    }

    async fn answer(&mut self, ask: Ask) {
        // Who does not listen any more does not need it.
        match ask {
            Ask::Overlays(asked) => {
                let desired = &self.settled.desired;
                let seen = self.devices.seen(desired).await;
                drop(asked.send(view::overlays(&self.known, desired, &seen, &self.probes)));
            }
            Ask::Nodes(asked) => drop(asked.send(view::nodes(&self.known, &self.catalogue.node))),
            Ask::Rotate(asked) => self.rotate(asked),
        }
    }

    fn rotate(&mut self, asked: oneshot::Sender<Result<PublicKey, String>>) {
        if let Some(rotation) = &mut self.rotation {
            return rotation.join(asked);
        }
        if self.file.is_some() {
            let told = "the key of this node is in the file of peers, which every host has: stop the agent, remove \
                        wireguard.key from the state directory, and write what `zeugma node key` prints into the file";
            return drop(asked.send(Err(told.into())));
        }
        let prepared = self.keys().and_then(|keys| keys.prepare().map_err(|error| error.to_string()));
        match prepared {
            Ok(_) => self.rotation = Some(Rotation::begin(asked)),
            Err(told) => drop(asked.send(Err(told))),
        }
    }

    fn done(&mut self, done: Result<Done, zeugma_catalogue::Error>) {
        self.is_writing = false;
        match done {
            Ok(Done::Written(chore, revision)) => {
                chore.apply(revision, Arc::make_mut(&mut self.known));
                self.patience = Patience::default();
            }
            Ok(Done::Taken(block)) => drop(self.avoid.insert(block)),
            // What was faster is heard of next; what is not there may never be.
            Ok(Done::Overtaken(key, found)) => {
                if found.is_none() {
                    Arc::make_mut(&mut self.known).absent(&key);
                }
                self.patience.lost(Instant::now(), format!("{key} is not as it was heard of"));
            }
            Err(error) => self.patience.lost(Instant::now(), error.to_string()),
        }
    }

    /// At what nobody tells of.
    fn look(&mut self) {
        if let Some(file) = &mut self.file {
            let before = file.problem.clone();
            let said = file.changed();
            if said.is_some() || file.problem != before {
                self.turned = None;
            }
            if let Some(said) = said {
                file.write(self.catalogue.store.clone(), said.networks.clone());
                said.tell(Arc::make_mut(&mut self.known));
            }
        }
        if !self.leaving.names.is_empty() {
            let known = Arc::make_mut(&mut self.known);
            if self.leaving.let_go(known, |name| self.held.has_containers(name)) {
                self.turned = None;
            }
        }
    }

    /// The keys, made when they are first asked for.
    pub(super) fn keys(&mut self) -> Result<&mut Keys, String> {
        let state_dir = &self.place.state_dir;
        once(&mut self.keys, || Keys::open(state_dir).map_err(|error| error.to_string()))
    }

    /// Which machine this is.
    pub(super) fn machine(&mut self) -> Result<MachineId, String> {
        let (node, state_dir) = (&self.catalogue.node, &self.place.state_dir);
        once(&mut self.machine, || identity::machine(node, state_dir)).copied()
    }
}

/// What was found before, or is now. A failure is not kept: a disk that was full is mended while the agent runs.
fn once<T>(found: &mut Option<T>, find: impl FnOnce() -> Result<T, String>) -> Result<&mut T, String> {
    match found {
        Some(found) => Ok(found),
        none => Ok(none.insert(find()?)),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn keys_are_there_once_the_state_directory_is_mended() {
        let root = tempfile::tempdir().unwrap();
        let state_dir = root.path().join("state");
        fs::write(&state_dir, "no directory").unwrap();
        let mut keys = None;
        let mut open = || {
            let opened = once(&mut keys, || Keys::open(&state_dir).map_err(|error| error.to_string()));
            opened.map(|keys| keys.current().public())
        };
        assert!(open().is_err() && open().is_err());
        fs::remove_file(&state_dir).unwrap();
        let key = open().unwrap();
        fs::remove_dir_all(&state_dir).unwrap();
        assert_eq!(open(), Ok(key));
    }
}
