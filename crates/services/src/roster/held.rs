//! One service: who is known to it, who serves, and how it comes from the one moment to the next.

use std::collections::{BTreeMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use zeugma_model::{EndpointState, NodeName, Rollout, UpdateOrder, Weight};

use super::Verdict;
use super::entry::{Entry, Health, Place, Who};
use super::exchange::Part;
use super::index::Index;
use super::lean::Lean;
use super::placed::{Placed, is_under_way};

/// A service with its endpoints.
#[derive(Debug, Default)]
pub(super) struct Held {
    /// None: endpoints came before their service, or stayed after it.
    pub(super) lean: Option<Box<Lean>>,
    /// By address.
    pub(super) entries: Vec<Entry>,
    /// What few have.
    pub(super) aside: Aside,
    /// What the index knows it by.
    pub(super) sought: Box<[Arc<(String, String)>]>,
    /// When the exchange came to where it is.
    pub(super) since: Option<Instant>,
    /// Something is different that endpoints do not show.
    pub(super) is_altered: bool,
    /// Somebody waits for the next look.
    pub(super) comes_back: bool,
}

/// What few endpoints have.
#[derive(Debug, Default)]
pub(super) struct Aside {
    /// What is wrong with them.
    pub(super) whys: BTreeMap<IpAddr, Box<str>>,
    /// When they have drained.
    pub(super) drained: BTreeMap<IpAddr, Instant>,
}

/// What does not belong to one service.
pub(super) struct Ground<'a> {
    pub(super) index: &'a Index,
    pub(super) node: &'a Arc<NodeName>,
    /// Who is there now was there before.
    pub(super) is_founding: bool,
    /// Who had flows, where that is known.
    pub(super) served: Option<&'a HashSet<IpAddr>>,
    pub(super) now: Instant,
}

impl Ground<'_> {
    /// Whether whoever is at the address served before.
    fn presumes(&self, address: IpAddr) -> bool {
        self.is_founding && self.served.is_none_or(|served| served.contains(&address))
    }
}

impl Held {
    /// Puts everyone into their place; says whether anything that shows is different.
    pub(super) fn refresh(&mut self, ground: &Ground) -> bool {
        let placed = self.placed(ground.index, |address| ground.presumes(address));
        let before = std::mem::take(&mut self.entries);
        let mut after = Vec::with_capacity(before.len().max(placed.len()));
        self.comes_back = false;
        let waits = self.waits_for_drain(&before, &placed, ground);
        let mut old = before.iter().peekable();
        for placed in placed {
            while let Some(gone) = old.next_if(|entry| entry.address < placed.hand.address) {
                after.extend(self.unplaced(gone.clone(), ground));
            }
            let entry = old.next_if(|entry| entry.address == placed.hand.address).cloned();
            let serves = placed.part.serves() && !(waits && placed.part == Part::Joined);
            if self.is_checked() && entry.as_ref().is_some_and(|entry| placed.is_another(entry)) {
                // Whoever asks has to see that somebody left, lest the one before answers for the new one.
                self.comes_back = true;
                continue;
            }
            let entry = self.identified(entry, &placed, ground);
            after.extend(if serves {
                Some(self.serving(entry, placed.part, ground))
            } else {
                self.unplaced(entry, ground)
            });
        }
        after.extend(old.filter_map(|gone| self.unplaced(gone.clone(), ground)));
        after.shrink_to_fit();
        let shown = |entry: &&Entry| entry.place != Place::Outside;
        let is_changed = !before.iter().filter(shown).eq(after.iter().filter(shown));
        self.entries = after;
        std::mem::take(&mut self.is_altered) || is_changed
    }

    /// Whether the endpoint gets flows, as far as is known here.
    pub(super) fn is_ready(&self, address: IpAddr) -> bool {
        let is_checked = self.is_checked();
        self.entry(address).is_some_and(|entry| entry.state(is_checked) == Some(EndpointState::Ready))
    }

    pub(super) fn entry(&self, address: IpAddr) -> Option<&Entry> {
        self.find(address).ok().map(|place| &self.entries[place])
    }

    pub(super) fn find(&self, address: IpAddr) -> Result<usize, usize> {
        self.entries.binary_search_by_key(&address, |entry| entry.address)
    }

    /// The exchange that is not over.
    pub(super) fn rollout(&self) -> Option<&Rollout> {
        self.lean.as_deref()?.rollout.as_deref().filter(|rollout| is_under_way(rollout))
    }

    pub(super) fn is_checked(&self) -> bool {
        self.lean.as_ref().is_some_and(|lean| lean.health.is_some())
    }

    /// The endpoint is in the catalogue, as it says.
    pub(super) fn list(&mut self, listed: Entry) {
        match self.find(listed.address) {
            Err(at) => {
                if self.entries.len() == self.entries.capacity() {
                    // Not twice as many: it is the most of all that is kept.
                    self.entries.reserve_exact(2 + self.entries.len() / 4);
                }
                self.entries.insert(at, listed);
            }
            Ok(at) => {
                let entry = &mut self.entries[at];
                let (health, place) = (entry.health, entry.place);
                let listed = Entry { health, place, ..listed };
                self.is_altered |= place != Place::Outside && *entry != listed;
                *entry = listed;
            }
        }
    }

    /// Takes a verdict; says whether anything is different.
    pub(super) fn judge(&mut self, address: IpAddr, verdict: Verdict) -> bool {
        let Ok(at) = self.find(address) else { return false };
        if !self.entries[at].is_asked() || !self.is_checked() {
            return false;
        }
        let (health, why) = match verdict {
            Verdict::Healthy => (Health::Good, None),
            Verdict::Unhealthy(why) => (Health::Bad, Some(why.into_boxed_str())),
        };
        let is_changed = self.entries[at].health != health || self.aside.whys.get(&address) != why.as_ref();
        self.entries[at].health = health;
        match why {
            None => self.aside.whys.remove(&address),
            Some(why) => self.aside.whys.insert(address, why),
        };
        self.is_altered |= is_changed;
        is_changed
    }

    /// Why the endpoint is not ready; none when it is.
    pub(super) fn why(&self, entry: &Entry) -> Option<&str> {
        let own = || self.aside.whys.get(&entry.address).map_or("its health check fails", |why| why);
        match (entry.state(self.is_checked())?, entry.place) {
            (EndpointState::Ready, _) => None,
            (_, Place::Leaving) => Some("it leaves: no new flows until it has drained"),
            (EndpointState::Draining, _) => Some("it is marked draining"),
            (EndpointState::Unhealthy, _) if entry.given == EndpointState::Unhealthy => {
                Some("the catalogue says that it is unhealthy")
            }
            (EndpointState::Unhealthy, _) if entry.health == Health::Unknown => {
                Some("its health check has not answered yet")
            }
            (EndpointState::Unhealthy, _) => Some(own()),
        }
    }

    /// With `stop-first`, new ones join once the old ones have drained.
    fn waits_for_drain(&self, before: &[Entry], placed: &[Placed], ground: &Ground) -> bool {
        let Some(lean) = &self.lean else { return false };
        let is_draining = |placed: &&Placed| {
            let at = before.binary_search_by_key(&placed.hand.address, |entry| entry.address);
            at.is_ok_and(|at| match before[at].place {
                Place::Outside => false,
                Place::Serving => self.would_drain(&before[at], ground),
                Place::Leaving => self.drains(placed.hand.address, ground.now),
            })
        };
        lean.update.order == UpdateOrder::StopFirst
            && placed.iter().filter(|placed| placed.part == Part::Left).any(|placed| is_draining(&placed))
    }

    /// The entry of who is there now.
    fn identified(&mut self, entry: Option<Entry>, placed: &Placed, ground: &Ground) -> Entry {
        let who = placed.here.clone().map(Who::Here);
        match (entry, who) {
            (Some(entry), None) => entry,
            (Some(entry), Some(who)) if entry.who == who => entry,
            (before, who) => {
                let who = who.expect("who is not in the catalogue is a container of this host");
                let (health, place) =
                    before.map_or((Health::Unknown, Place::Outside), |before| (before.health, before.place));
                Entry {
                    address: placed.hand.address,
                    weight: Weight::default(),
                    given: EndpointState::Ready,
                    health,
                    place,
                    is_listed: false,
                    who,
                    node: Some(ground.node.clone()),
                }
            }
        }
    }

    /// Who comes is asked first; who comes back for a successor that failed is needed now.
    fn serving(&mut self, mut entry: Entry, part: Part, ground: &Ground) -> Entry {
        let is_new = entry.place == Place::Outside;
        self.aside.drained.remove(&entry.address);
        if !self.is_checked() || (is_new && (ground.presumes(entry.address) || part == Part::Held)) {
            entry.health = Health::Presumed;
        }
        if entry.health != Health::Bad {
            self.aside.whys.remove(&entry.address);
        }
        entry.place = Place::Serving;
        entry
    }

    /// Who does not serve keeps flows for a while, if there is anybody who can.
    fn unplaced(&mut self, mut entry: Entry, ground: &Ground) -> Option<Entry> {
        if entry.place == Place::Serving && self.would_drain(&entry, ground) {
            entry.place = Place::Leaving;
            self.aside.drained.insert(entry.address, ground.now + self.drain());
        }
        let is_leaving = entry.place == Place::Leaving && is_there(&entry, ground);
        if !is_leaving || !self.drains(entry.address, ground.now) {
            (entry.place, entry.health) = (Place::Outside, Health::Unknown);
            self.aside.drained.remove(&entry.address);
        }
        self.aside.whys.remove(&entry.address);
        (entry.is_listed || entry.place == Place::Leaving).then_some(entry)
    }

    /// Whether it keeps flows when it leaves now: who is gone or unhealthy has none to keep.
    fn would_drain(&self, entry: &Entry, ground: &Ground) -> bool {
        let had_flows = entry.state(self.is_checked()) != Some(EndpointState::Unhealthy);
        had_flows && is_there(entry, ground) && !self.drain().is_zero()
    }

    fn drain(&self) -> Duration {
        Duration::from_secs(self.lean.as_ref().map_or(0, |lean| lean.drain_seconds.into()))
    }

    fn drains(&self, address: IpAddr, now: Instant) -> bool {
        self.lean.is_some() && self.aside.drained.get(&address).is_some_and(|until| *until > now)
    }
}

/// Whether its container or host still is. Other nodes take their containers out of the catalogue when they are gone.
fn is_there(entry: &Entry, ground: &Ground) -> bool {
    match &entry.who {
        Who::Added(_) => true,
        Who::Remote(_) => entry.is_listed,
        Who::Here(attachment) => ground.index.has(attachment, entry.address),
    }
}
