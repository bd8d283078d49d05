//! What the node that drives an exchange does next: wait, take a step, end it, stop it, or go back.

use std::time::{Duration, Instant};

use zeugma_model::{
    Deployment, Edge, EndpointState, FailureAction, NodeName, Reach, Rollout, RolloutState, ServiceName,
    UpdateOrder,
};
use zeugma_plan::Family;

use super::Standing;
use super::entry::{Entry, Health};
use super::exchange::Part;
use super::held::Held;
use super::index::Index;
use super::lean::Lean;
use super::placed::Placed;
use crate::update::returning;

/// An exchange, seen by its driver.
pub(super) struct Drive<'a> {
    held: &'a Held,
    lean: &'a Lean,
    rollout: &'a Rollout,
    name: &'a ServiceName,
    placed: Vec<Placed>,
    since: Instant,
    now: Instant,
}

/// What is in the way of the next step.
enum Obstacle {
    /// It may go away by itself, until then, if any moment is named.
    Wait(Option<Instant>),
    /// It will not.
    Failure(String),
}

impl<'a> Drive<'a> {
    /// None: nothing is under way.
    pub(super) fn new(held: &'a Held, name: &'a ServiceName, index: &Index, now: Instant) -> Option<Self> {
        let (lean, rollout) = (held.lean.as_deref()?, held.rollout()?);
        let since = held.since.unwrap_or(now);
        Some(Self { held, lean, rollout, name, placed: held.placed(index, |_| false), since, now })
    }

    /// What the node does next; others than the driver wait for what it writes.
    pub(super) fn standing(&self, node: &NodeName) -> Standing {
        if self.rollout.driver != *node || matches!(self.rollout.state, RolloutState::Paused(_)) {
            return Standing::Wait(None);
        }
        if !self.any(Part::is_old, None) {
            return self.write(self.ended());
        }
        match self.obstacle() {
            Some(Obstacle::Wait(until)) => Standing::Wait(until),
            Some(Obstacle::Failure(why)) => self.write(self.failed(why)),
            None if self.any(|part| matches!(part, Part::Waits | Part::Remains), None) => self.step(),
            None => self.at(self.after(self.watched()), || self.ended()),
        }
    }

    /// What keeps it from the next step, failures first.
    fn obstacle(&self) -> Option<Obstacle> {
        let missing = Family::ALL.into_iter().filter_map(|family| self.missing(family));
        let joined = self.placed.iter().filter(|placed| placed.part == Part::Joined);
        let found: Vec<Obstacle> = missing.chain(joined.filter_map(|placed| self.trouble(placed))).collect();
        let is_empty = Family::ALL.into_iter().any(|family| self.would_be_empty(family));
        let (mut waits, mut until) = (is_empty, None);
        for one in found {
            match one {
                Obstacle::Failure(why) if !self.is_tolerant() || is_empty => {
                    return Some(Obstacle::Failure(why));
                }
                Obstacle::Failure(_) => {}
                Obstacle::Wait(moment) => {
                    waits = true;
                    until = until.into_iter().chain(moment).min();
                }
            }
        }
        waits.then_some(Obstacle::Wait(until))
    }

    /// For how many seconds after the last step: new ones that wait for old ones to drain are watched after that.
    fn watched(&self) -> u32 {
        let drain = match self.lean.update.order {
            UpdateOrder::StartFirst => 0,
            UpdateOrder::StopFirst => self.lean.drain_seconds,
        };
        self.lean.update.monitor_seconds.saturating_add(drain)
    }

    fn is_tolerant(&self) -> bool {
        self.lean.update.on_failure == FailureAction::Continue
    }

    /// Nobody is there to take the old ones' places.
    fn missing(&self, family: Family) -> Option<Obstacle> {
        if !self.any(Part::is_old, Some(family)) || self.any(Part::is_new, Some(family)) {
            return None;
        }
        let until = self.after(self.lean.update.monitor_seconds);
        if self.now < until {
            return Some(Obstacle::Wait(Some(until)));
        }
        let selector = self.lean.selector().0;
        let selector: Vec<String> = selector.iter().map(|(key, value)| format!("{key}={value}")).collect();
        let (selector, kind) = (selector.join(","), if family == Family::V4 { "IPv4" } else { "IPv6" });
        match self.any(Part::is_new, None) {
            false if self.is_tolerant() => Some(Obstacle::Wait(None)),
            false => Some(Obstacle::Failure(format!("no endpoint matches {selector}"))),
            true => {
                Some(Obstacle::Failure(format!("no endpoint that matches {selector} has an {kind} address")))
            }
        }
    }

    /// Why a new endpoint is not ready.
    fn trouble(&self, placed: &Placed) -> Option<Obstacle> {
        let address = placed.hand.address;
        if self.held.is_ready(address) {
            return None;
        }
        let Some(entry) = self.held.entry(address) else { return Some(Obstacle::Wait(None)) };
        let failure = |why: &str| Some(Obstacle::Failure(format!("{address}: {why}")));
        let why = self.held.why(entry).unwrap_or_default();
        match entry {
            Entry { given: EndpointState::Unhealthy, .. } => {
                let until = self.after(self.lean.update.monitor_seconds).max(self.first_verdict());
                if self.now < until { Some(Obstacle::Wait(Some(until))) } else { failure(why) }
            }
            Entry { health: Health::Bad, .. } => failure(why),
            _ => Some(Obstacle::Wait(None)),
        }
    }

    /// By when another node has asked its container often enough to know.
    fn first_verdict(&self) -> Instant {
        let seconds = self.lean.health.as_ref().map_or(0, |health| {
            let once = health.interval_seconds.get().saturating_add(health.timeout_seconds.get());
            once.saturating_mul(health.threshold.get())
        });
        self.after(seconds)
    }

    /// Whether all new endpoints of a family had their turn, and the old ones would leave to nobody.
    fn would_be_empty(&self, family: Family) -> bool {
        let new = || self.placed.iter().filter(|one| one.part.is_new() && one.is_of(Some(family)));
        self.lean.update.order == UpdateOrder::StartFirst
            && self.any(Part::is_old, Some(family))
            && new().next().is_some()
            && new().all(|new| new.part != Part::Waits && !self.held.is_ready(new.hand.address))
    }

    fn step(&self) -> Standing {
        let is_first = self.rollout.reach.is_nobody();
        let due = if is_first { self.since } else { self.after(self.lean.update.delay_seconds) };
        self.at(due, || {
            let step = if is_first { self.rollout.step } else { self.rollout.step.saturating_add(1) };
            let reach = self.next_reach(is_first);
            self.with(Some(Rollout { step, reach, ..self.rollout.clone() }))
        })
    }

    /// Old endpoints leave one step after the new ones joined, or with them.
    fn next_reach(&self, is_first: bool) -> Reach {
        let at_once = match self.lean.update.parallelism {
            0 => usize::MAX,
            some => some as usize,
        };
        let leaves_later = self.lean.update.order == UpdateOrder::StartFirst && is_first;
        let mut reach = self.rollout.reach;
        for family in Family::ALL {
            let with = |part: Part| {
                let of_part =
                    self.placed.iter().filter(move |one| one.part == part && one.is_of(Some(family)));
                of_part.map(|one| one.hand.address).take(at_once)
            };
            with(Part::Waits).for_each(|address| reach.joined.extend(address));
            // Where nobody is to join, there is nobody to wait for.
            if !leaves_later || !self.any(|part| part == Part::Waits, Some(family)) {
                with(Part::Remains).for_each(|address| reach.left.extend(address));
            }
        }
        reach
    }

    fn ended(&self) -> Deployment {
        let returned = match &self.rollout.state {
            RolloutState::Returning(why) => {
                let state = RolloutState::Returned(why.clone());
                Some(Rollout { state, ..self.rollout.clone() })
            }
            _ => None,
        };
        self.with(returned)
    }

    fn failed(&self, why: String) -> Deployment {
        let reach = Reach { left: self.left(), ..self.rollout.reach };
        let stopped = |why| {
            let state = RolloutState::Paused(why);
            self.with(Some(Rollout { state, reach, ..self.rollout.clone() }))
        };
        let goes_back = self.lean.update.on_failure == FailureAction::Rollback;
        match &self.rollout.state {
            RolloutState::Returning(first) => stopped(format!("{first}; on the way back {why}")),
            _ if goes_back => self.gone_back(reach, &why).unwrap_or_else(|| stopped(why)),
            _ => stopped(why),
        }
    }

    /// None: there is nothing to go back to.
    fn gone_back(&self, reach: Reach, why: &str) -> Option<Deployment> {
        let here = self.with(Some(Rollout { reach, ..self.rollout.clone() }));
        let mut back = returning(&here, &self.rollout.driver, RolloutState::Returning(why.to_owned()))?;
        // With nobody exchanged, it is back already.
        let state = RolloutState::Returned(why.to_owned());
        back.rollout.get_or_insert_with(|| Rollout { state, ..self.rollout.clone() });
        Some(back)
    }

    /// Who really left: those who are held serve, whatever is begun next.
    fn left(&self) -> Edge {
        let mut edge = Edge::default();
        let left = self.placed.iter().filter(|placed| placed.part == Part::Left);
        left.for_each(|placed| edge.extend(placed.hand.address));
        edge
    }

    fn with(&self, rollout: Option<Rollout>) -> Deployment {
        Deployment { rollout, ..self.lean.deployment(self.name) }
    }

    fn write(&self, deployment: Deployment) -> Standing {
        Standing::Write(Box::new(deployment))
    }

    fn at(&self, due: Instant, deployment: impl FnOnce() -> Deployment) -> Standing {
        if self.now < due { Standing::Wait(Some(due)) } else { self.write(deployment()) }
    }

    fn after(&self, seconds: u32) -> Instant {
        self.since + Duration::from_secs(seconds.into())
    }

    fn any(&self, is_meant: impl Fn(Part) -> bool, family: Option<Family>) -> bool {
        self.placed.iter().any(|placed| placed.is_of(family) && is_meant(placed.part))
    }
}

impl Placed {
    fn is_of(&self, family: Option<Family>) -> bool {
        family.is_none_or(|family| Family::of(self.hand.address) == family)
    }
}
