//! One endpoint of one service, in little memory: hundreds of thousands are kept.

use std::collections::HashSet;
use std::hash::Hash;
use std::net::IpAddr;
use std::sync::Arc;

use zeugma_model::{AttachmentId, Endpoint, EndpointState, NodeName, Weight};

use super::Source;

/// An endpoint's own labels, by key: a map would take ten times as much.
pub(super) type Labels = Box<[(Box<str>, Box<str>)]>;

/// An endpoint that is in the catalogue, or serves, or did until now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) address: IpAddr,
    pub(super) weight: Weight,
    /// What the catalogue says.
    pub(super) given: EndpointState,
    pub(super) health: Health,
    pub(super) place: Place,
    /// It is in the catalogue.
    pub(super) is_listed: bool,
    pub(super) who: Who,
    pub(super) node: Option<Arc<NodeName>>,
}

/// What is known of its health.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Health {
    /// It came to a service with a health check, which has not answered.
    Unknown,
    /// It served before the check began, or before this process did.
    Presumed,
    /// The check said so.
    Good,
    /// The check said so.
    Bad,
}

/// What it does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// It is known, no more.
    Outside,
    /// It takes part.
    Serving,
    /// It keeps its flows.
    Leaving,
}

/// Who it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Who {
    /// Somebody added it, with labels or without.
    Added(Option<Arc<Labels>>),
    /// A container of another node.
    Remote(Option<Arc<Labels>>),
    /// A container of this host.
    Here(Arc<AttachmentId>),
}

impl Entry {
    /// As it is programmed; none when it is not.
    pub(super) fn state(&self, is_checked: bool) -> Option<EndpointState> {
        match self.place {
            Place::Outside => None,
            Place::Leaving => Some(EndpointState::Draining),
            Place::Serving => Some(self.serving_state(self.health, is_checked)),
        }
    }

    /// Whether it gets flows when it takes part.
    pub(super) fn would_be_ready(&self, is_checked: bool, is_presumed: bool) -> bool {
        let is_presumed = is_presumed && self.place == Place::Outside;
        let health = if is_presumed { Health::Presumed } else { self.health };
        self.serving_state(health, is_checked) == EndpointState::Ready
    }

    /// Health checks speak against it or not. Other nodes' containers are judged by their nodes.
    fn serving_state(&self, health: Health, is_checked: bool) -> EndpointState {
        let is_asked = is_checked && !matches!(self.who, Who::Remote(_));
        match self.given {
            EndpointState::Ready if is_asked && matches!(health, Health::Unknown | Health::Bad) => {
                EndpointState::Unhealthy
            }
            given => given,
        }
    }

    /// Whether this host asks it for its health.
    pub(super) fn is_asked(&self) -> bool {
        let is_remote = matches!(self.who, Who::Remote(_));
        self.place == Place::Serving && self.given == EndpointState::Ready && !is_remote
    }

    pub(super) fn endpoint(&self, state: EndpointState) -> Endpoint {
        let node = self.node.as_deref().cloned();
        Endpoint { address: self.address, node, weight: self.weight, state }
    }

    pub(super) fn source(&self) -> Source {
        match &self.who {
            Who::Added(_) | Who::Remote(_) => Source::Registered,
            Who::Here(attachment) => Source::Here(attachment.as_ref().clone()),
        }
    }

    pub(super) fn labels(&self) -> Option<&Labels> {
        match &self.who {
            Who::Added(labels) | Who::Remote(labels) => labels.as_deref(),
            Who::Here(_) => None,
        }
    }
}

/// Values that many have alike, each kept once.
#[derive(Debug)]
pub(super) struct Alike<T>(HashSet<Arc<T>>, usize);

impl<T> Default for Alike<T> {
    fn default() -> Self {
        Self(HashSet::new(), 64)
    }
}

impl<T: Eq + Hash> Alike<T> {
    pub(super) fn share(&mut self, value: T) -> Arc<T> {
        if let Some(known) = self.0.get(&value) {
            return known.clone();
        }
        if self.0.len() >= self.1 {
            self.0.retain(|value| Arc::strong_count(value) > 1);
            self.1 = 64.max(self.0.len() * 2);
        }
        let value = Arc::new(value);
        self.0.insert(value.clone());
        value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_takes_48_bytes() {
        assert_eq!(size_of::<Entry>(), 48);
    }

    #[test]
    fn what_nobody_has_any_more_is_not_kept() {
        let mut alike = Alike::default();
        let kept = alike.share(0);
        (1..1000).for_each(|number| drop(alike.share(number)));
        assert!(alike.0.len() <= 64 && Arc::ptr_eq(&alike.share(0), &kept));
    }
}
