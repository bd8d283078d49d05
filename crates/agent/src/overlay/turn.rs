//! One turn of the director's loop: what is known → what this node writes, and what its kernel is to have. How it comes to
//! have that: settled.rs.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::panic::resume_unwind;
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::mpsc;
use tokio::task::spawn_blocking;
use zeugma_catalogue::Error;
use zeugma_model::{Node, NodeName};
use zeugma_overlay::{View, desired};

use super::director::Director;
use super::known::Known;
use super::membership::{self, Done, Ground, Standing};
use super::mine;
use super::ownership::Ownership;
use super::patience::Patience;
use super::rotation::Turn;
use super::settled::{AGAIN, Extent, REPAIR};

impl Director {
    /// Brings everything to what is known now, if that is news or it is time to look again.
    pub(super) async fn turn(&mut self, writer: &mpsc::UnboundedSender<Result<Done, Error>>) {
        self.devices.reap();
        self.look_at_underlay().await;
        if self.is_due(Instant::now()) {
            self.bring_about(writer).await;
            self.turned = Some(Instant::now());
        }
    }

    fn is_due(&self, now: Instant) -> bool {
        self.turned.is_none_or(|at| now.duration_since(at) >= self.pause())
            || self.rotation.is_some()
            || !self.devices.all_run()
            || (!self.is_writing && self.patience.is_due(now))
    }

    async fn bring_about(&mut self, writer: &mpsc::UnboundedSender<Result<Done, Error>>) {
        let known = self.known.clone();
        if !known.is_whole() {
            // As long as the file of peers never said anything, that is why.
            let problem = self.file.as_ref().and_then(|file| file.problem.clone());
            if problem.is_some() {
                self.tell(problem.into_iter().collect());
            }
            return;
        }
        if let Some(told) = self.foreign() {
            return self.tell(vec![told]);
        }
        let mut ownership = self.ownership(&known).await;
        let mut problems = std::mem::take(&mut ownership.problems);
        problems.extend(self.leaving.told());
        if let Some(file) = &self.file {
            problems.extend(file.problem.clone());
        }
        match self.take_part(&known, &ownership, writer) {
            Ok(lacking) => problems.extend(lacking),
            // What another machine of this name has is not this one's: it leaves everything alone.
            Err(told) => return self.tell(vec![told]),
        }
        let unkept = self.keep().await;
        let nodes = self.with_this_node(&known.nodes);
        let revisions = known.revisions.iter().map(|(node, revision)| (node, revision.0)).collect();
        let view = View {
            here: &self.here,
            networks: &known.networks,
            nodes: &nodes,
            revisions: &revisions,
            shares: &ownership.routed,
        };
        let mut desired = desired(&view);
        desired.problems.extend(unkept);
        problems.extend(desired.problems.iter().map(|(network, told)| format!("network {network}: {told}")));
        if self.here.underlay.is_empty() && self.was_settled {
            // Links come up late: what the agent before this one made goes on as it is.
            problems.extend(self.node().err().filter(|_| self.file.is_some()));
            return self.tell(problems);
        }
        let is_recalled = self.recalled.networks || self.recalled.nodes || self.recalled.blocks;
        // The kernel may know of a node that came right before the agent ended: nothing of it is taken away.
        let extent = if is_recalled && self.was_settled { Extent::Additions } else { Extent::Whole };
        self.settle(desired, &known, extent).await;
        problems.extend(self.settled.problems.iter().cloned());
        problems.extend(self.settled.repairs.told(Instant::now()));
        self.tell(problems);
    }

    /// Who has what; the journal is read for it, which may take a while.
    async fn ownership(&mut self, known: &Arc<Known>) -> Ownership {
        let (known, node, held) = (known.clone(), self.catalogue.node.clone(), self.held.clone());
        let mut mine = self.mine.clone();
        let found = spawn_blocking(move || {
            let ownership = Ownership::new(&known, &node, &mut mine, &held.seen());
            (ownership, mine)
        });
        let (ownership, mine) = found.await.unwrap_or_else(|failure| resume_unwind(failure.into_panic()));
        self.mine = mine;
        ownership
    }

    /// Does what this node owes the others; what is lacking, a line each. Fails when it is to take no part.
    fn take_part(
        &mut self,
        known: &Arc<Known>,
        ownership: &Ownership,
        writer: &mpsc::UnboundedSender<Result<Done, Error>>,
    ) -> Result<Vec<String>, String> {
        if self.file.is_some() {
            return Ok(self.complaint(known).into_iter().collect());
        }
        if let Some(told) = self.replaced() {
            self.said.send_if_modified(|said| said.take().is_some());
            return Ok(vec![told]);
        }
        if !self.place.is_shared && known.networks.is_empty() {
            return Ok(Vec::new());
        }
        self.recover_keys(known);
        self.turn_keys(known);
        self.joined(known, ownership, writer)
    }

    /// What is wrong with what the file of peers says of this node.
    fn complaint(&mut self, known: &Known) -> Option<String> {
        let key = self.keys().ok().map(|keys| keys.current().public());
        self.file.as_ref()?.complaint(known, &self.catalogue.node, key)
    }

    /// A catalogue that is new, or another one, takes nothing away: the operator decides.
    fn foreign(&self) -> Option<String> {
        let (is, was) = (self.catalogue.id.get().map_or("", String::as_str), &self.kept.catalogue);
        let is_foreign = is != was && !self.kept.blocks.is_empty();
        let file = mine::path(&self.place.state_dir);
        is_foreign.then(|| {
            format!(
                "this host's overlays are of another catalogue ({was}, this is {is}) and stay as they are: start the \
                 agent with that catalogue, or remove {} and start it anew to have this one's overlays alone",
                file.display()
            )
        })
    }

    /// Another catalogue answers in the place of the one that this agent began with: nothing is written to that.
    fn replaced(&self) -> Option<String> {
        let (is, other) = (self.catalogue.id.get().map_or("", String::as_str), self.catalogue.id.other());
        let other = other.borrow().clone()?;
        let other = if other.is_empty() { "one without an ID" } else { other.as_str() };
        Some(format!(
            "another catalogue answers in the place of this host's ({other} instead of {is}): overlays stay as they are, \
             and nothing of it is taken over; bring the former one back, or start the agent anew to see what to do"
        ))
    }

    fn tell(&self, problems: Vec<String>) {
        self.told.send_if_modified(|told| {
            problems.iter().filter(|line| !told.contains(line)).for_each(|line| tracing::warn!("{line}"));
            let is_news = *told != problems;
            *told = problems;
            is_news
        });
    }

    /// Addresses that are gone for now are still this host's: others would lose it otherwise.
    async fn look_at_underlay(&mut self) {
        let pause = if self.here.underlay.is_empty() { AGAIN } else { REPAIR };
        if self.here_at.is_some_and(|at| at.elapsed() < pause) {
            return;
        }
        self.here_at = Some(Instant::now());
        let told = self.place.underlay.clone();
        let told = (!told.is_empty()).then_some(told.as_slice());
        let found = match self.kernel() {
            Ok(kernel) => kernel.underlay(told).await,
            Err(error) => Err(error),
        };
        match found {
            Ok(found) => {
                let is_there = |address: &IpAddr| found.iter().any(|one| one.address.ip() == *address);
                for address in self.place.underlay.iter().filter(|address| !is_there(address)) {
                    tracing::debug!(%address, "no interface has this address of --underlay yet");
                }
                let found = self.gone.merged(&self.here.underlay, &found, Instant::now());
                if self.here.underlay != found {
                    self.here.underlay = found;
                    self.turned = None;
                }
            }
            Err(error) => tracing::debug!(%error, "this host's addresses stay as they were"),
        }
    }

    /// This node as the others are to know it; what is in the way of that.
    fn node(&mut self) -> Result<Node, String> {
        let machine = self.machine()?;
        let addresses: Vec<_> = self.here.underlay.iter().map(|underlay| underlay.address.ip()).collect();
        if addresses.is_empty() {
            let why = match self.place.underlay.is_empty() {
                true => "it has no address on the link of a default route",
                false => "none of its links has an address that was given",
            };
            return Err(format!(
                "other hosts cannot reach this one: {why}; name one: zeugma agent --underlay ADDRESS"
            ));
        }
        let keys = self.keys()?.clone();
        let (key, next_key) = match &self.rotation {
            Some(rotation) => rotation.keys(&keys),
            None => (keys.current().public(), None),
        };
        let (name, version) = (self.catalogue.node.clone(), env!("CARGO_PKG_VERSION").to_owned());
        Ok(Node { name, addresses, machine, key: Some(key), next_key, version })
    }

    /// Whoever removed this node from the catalogue, or lost it there, takes nothing away from its containers: it is
    /// written again.
    fn with_this_node<'a>(
        &mut self,
        nodes: &'a BTreeMap<NodeName, Node>,
    ) -> Cow<'a, BTreeMap<NodeName, Node>> {
        let is_there = self.file.is_some() || nodes.contains_key(&self.catalogue.node);
        match if is_there { None } else { self.node().ok() } {
            Some(node) => {
                let mut nodes = nodes.clone();
                nodes.insert(node.name.clone(), node);
                Cow::Owned(nodes)
            }
            None => Cow::Borrowed(nodes),
        }
    }

    /// Writes what is to be written, if nothing is on its way; what is lacking, a line each. Fails when this node is to
    /// take no part.
    fn joined(
        &mut self,
        known: &Arc<Known>,
        ownership: &Ownership,
        writer: &mpsc::UnboundedSender<Result<Done, Error>>,
    ) -> Result<Vec<String>, String> {
        let node = match self.node() {
            Ok(node) => node,
            Err(told) if known.networks.is_empty() => {
                tracing::debug!(told, "not published");
                return Ok(Vec::new());
            }
            Err(told) => return Ok(vec![told]),
        };
        let ground = Ground {
            node: &node,
            known,
            shares: &ownership.shares,
            leaving: &self.leaving.names,
            mine: &self.mine,
            full: &ownership.full,
            avoid: &self.avoid,
        };
        let chore = match membership::standing(ground) {
            Standing::Refused(told) => return Err(told),
            Standing::Member(lacking) => {
                self.patience = Patience::default();
                self.live(known);
                return Ok(lacking.into_values().collect());
            }
            Standing::Joining(chore) => chore,
        };
        self.live(known);
        if !self.is_writing && self.patience.is_over(Instant::now()) {
            self.is_writing = true;
            let (store, writer) = (self.catalogue.store.clone(), writer.clone());
            tokio::spawn(async move {
                // Nobody is there to listen when the agent ends.
                let _ = writer.send(membership::commit(&store, chore).await);
            });
        }
        Ok(self.patience.told().into_iter().collect())
    }

    /// From when this node is in the catalogue it is said to live.
    fn live(&self, known: &Known) {
        if known.nodes.contains_key(&self.catalogue.node) {
            self.said.send_if_modified(|said| {
                let is_new = said.is_none();
                said.get_or_insert(0);
                is_new
            });
        }
    }

    /// An agent before this one may have ended in the middle of a change of keys.
    fn recover_keys(&mut self, known: &Known) {
        let told = known.nodes.get(&self.catalogue.node).and_then(|node| node.key);
        // What was known before says a key that may have been changed since, and the one that others use would be lost.
        if self.rotation.is_some() || !self.place.is_shared || self.recalled.nodes {
            return;
        }
        let recovered = self.keys().and_then(|keys| keys.recover(told).map_err(|error| error.to_string()));
        if let Err(told) = recovered {
            tracing::debug!(told, "the next key stays");
        }
    }

    fn turn_keys(&mut self, known: &Known) {
        let Some(mut rotation) = self.rotation.take() else { return };
        let there = known.nodes.get(&self.catalogue.node);
        let Ok(keys) = self.keys() else { return };
        let ended = match rotation.turn(keys, there) {
            Turn::Wait => None,
            Turn::Switch => Some(keys.switch().map_err(|error| error.to_string())),
            Turn::GiveUp => {
                let gone = keys.abandon().map_err(|error| error.to_string());
                Some(gone.and(Err("the catalogue did not take it: the key is the one that it was".into())))
            }
        };
        let public = keys.current().public();
        match ended {
            None => self.rotation = Some(rotation),
            Some(outcome) => rotation.end(&outcome.map(|()| public)),
        }
    }
}
