//! Exchanges of endpoints that this node drives: when a step is due it is written into the catalogue, and comes back
//! from there as to everybody. What a step is, the roster decides.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use zeugma_catalogue::{Difference, Revision};
use zeugma_model::{Deployment, NodeName, ServiceName};
use zeugma_services::Standing;

use super::Catalogue;
use super::director::Event;
use super::known::Known;

/// Before a step that could not be written is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// Those that are under way.
pub(super) struct Rollouts {
    catalogue: Catalogue,
    events: mpsc::UnboundedSender<Event>,
    driven: BTreeMap<ServiceName, Driven>,
}

struct Driven {
    /// Of the deployment that is known.
    revision: Revision,
    state: State,
}

enum State {
    /// It is looked at when something changes, and at this moment.
    Watched(Option<Instant>),
    /// A step is being written.
    Writing,
    /// A step was not written, and nothing is done before this moment.
    Waiting(Instant),
}

impl Rollouts {
    pub(super) fn new(catalogue: Catalogue, events: mpsc::UnboundedSender<Event>) -> Self {
        Self { catalogue, events, driven: BTreeMap::new() }
    }

    fn node(&self) -> &NodeName {
        &self.catalogue.node
    }

    pub(super) fn services_changed(&mut self, difference: &Difference<Deployment>) {
        for name in &difference.deleted {
            self.driven.retain(|driven, _| driven.as_str() != name);
        }
        for row in difference.put.values() {
            let name = &row.value.service.name;
            match &row.value.rollout {
                Some(rollout) if rollout.driver == *self.node() => {
                    let state = State::Watched(None);
                    let driven = Driven { revision: row.revision, state };
                    self.driven.insert(name.clone(), driven);
                }
                _ => drop(self.driven.remove(name)),
            }
        }
    }

    /// When a step may be due.
    pub(super) fn next(&self) -> Option<Instant> {
        let next = |driven: &Driven| match driven.state {
            State::Watched(next) => next,
            State::Writing => None,
            State::Waiting(until) => Some(until),
        };
        self.driven.values().filter_map(next).min()
    }

    /// A step was not written.
    pub(super) fn unwritten(&mut self, service: &ServiceName, now: Instant) {
        if let Some(driven) = self.driven.get_mut(service) {
            driven.state = State::Waiting(now + RETRY);
        }
    }

    /// Takes the steps that are due.
    pub(super) fn turn(&mut self, known: &Known, now: Instant) {
        for (name, driven) in &mut self.driven {
            if matches!(driven.state, State::Writing)
                || matches!(driven.state, State::Waiting(until) if now < until)
            {
                continue;
            }
            driven.state = match known.roster.standing(name, now) {
                None => State::Watched(None),
                Some(Standing::Wait(until)) => State::Watched(until),
                Some(Standing::Write(deployment)) => {
                    write(self.catalogue.clone(), self.events.clone(), driven.revision, *deployment);
                    State::Writing
                }
            };
        }
    }
}

fn write(
    catalogue: Catalogue,
    events: mpsc::UnboundedSender<Event>,
    revision: Revision,
    deployment: Deployment,
) {
    tokio::spawn(async move {
        let name = deployment.service.name.clone();
        // Another's word on it comes from the catalogue, too.
        if let Err(error) = catalogue.replace(revision, deployment).await {
            tracing::warn!(service = %name, %error, "the exchange of endpoints waits");
            let _ = events.send(Event::Unwritten(name));
        }
    });
}
