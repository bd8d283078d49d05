//! Containers and services by label, so that one's change costs only what it concerns.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use zeugma_model::{AttachmentId, NetworkName, Selector, ServiceName};

use super::Candidate;

/// A label with its value.
type Label = (String, String);

/// Containers by label, and who looks for which label.
#[derive(Debug, Default)]
pub(super) struct Index {
    candidates: HashMap<Arc<AttachmentId>, Bearer>,
    bearers: HashMap<Arc<Label>, Vec<Arc<AttachmentId>>>,
    seekers: HashMap<Arc<Label>, Vec<Arc<ServiceName>>>,
}

/// What is kept of a container.
#[derive(Debug, PartialEq, Eq)]
struct Bearer {
    addresses: Box<[IpAddr]>,
    /// Sorted.
    labels: Box<[Arc<Label>]>,
}

impl Index {
    /// The services that may be concerned; none when nothing is different.
    pub(super) fn put(&mut self, candidate: Candidate) -> BTreeSet<Arc<ServiceName>> {
        let addresses: Box<[IpAddr]> = candidate.addresses.iter().map(IpAddr::to_canonical).collect();
        let labels: Box<[Arc<Label>]> =
            candidate.labels.into_iter().map(|label| self.shared(label)).collect();
        let bearer = Bearer { addresses, labels };
        if self.candidates.get(&candidate.attachment) == Some(&bearer) {
            return BTreeSet::new();
        }
        let mut concerned = self.remove(&candidate.attachment);
        let attachment = Arc::new(candidate.attachment);
        for label in &bearer.labels {
            insert(self.bearers.entry(label.clone()).or_default(), &attachment);
        }
        concerned.extend(self.concerned(&bearer));
        self.candidates.insert(attachment, bearer);
        concerned
    }

    /// The services that may be concerned.
    pub(super) fn remove(&mut self, attachment: &AttachmentId) -> BTreeSet<Arc<ServiceName>> {
        let Some((attachment, bearer)) = self.candidates.remove_entry(attachment) else {
            return BTreeSet::new();
        };
        for label in &bearer.labels {
            take(&mut self.bearers, label, &attachment);
        }
        self.concerned(&bearer)
    }

    /// Whether the container is there and has the address.
    pub(super) fn has(&self, attachment: &AttachmentId, address: IpAddr) -> bool {
        self.candidates.get(attachment).is_some_and(|bearer| bearer.addresses.contains(&address))
    }

    /// Remembers that the service looks for these; what [`Index::forget`] takes.
    pub(super) fn seek(&mut self, service: &Arc<ServiceName>, selectors: &[Selector]) -> Box<[Arc<Label>]> {
        selectors.iter().filter_map(|selector| self.seek_one(service, selector)).collect()
    }

    /// The service does not look any more.
    pub(super) fn forget(&mut self, service: &Arc<ServiceName>, sought: &[Arc<Label>]) {
        sought.iter().for_each(|label| take(&mut self.seekers, label, service));
    }

    /// The containers that the selector matches on any of the networks; without networks, on any there is.
    pub(super) fn matching<'a>(
        &'a self,
        selector: &'a Selector,
        networks: &'a [NetworkName],
    ) -> impl Iterator<Item = (&'a Arc<AttachmentId>, &'a [IpAddr])> {
        let labels = selector.0.iter().map(|(key, value)| (key.clone(), value.clone()));
        let bearers = labels.map(|label| self.bearers.get(&label).map_or(&[][..], Vec::as_slice));
        let fewest = bearers.min_by_key(|bearers| bearers.len()).unwrap_or(&[]);
        fewest.iter().filter_map(move |attachment| {
            let bearer = &self.candidates[attachment];
            let is_on = networks.is_empty() || networks.contains(&attachment.network);
            (is_on && bearer.is_matched(selector)).then_some((attachment, &*bearer.addresses))
        })
    }

    /// One label stands for all: the one that fewest look for, as all have to be there anyway.
    fn seek_one(&mut self, service: &Arc<ServiceName>, selector: &Selector) -> Option<Arc<Label>> {
        let labels = selector.0.iter().map(|(key, value)| (key.clone(), value.clone()));
        let label = labels.min_by_key(|label| self.seekers.get(label).map_or(0, Vec::len))?;
        let label = self.shared(label);
        insert(self.seekers.entry(label.clone()).or_default(), service);
        Some(label)
    }

    fn concerned(&self, bearer: &Bearer) -> BTreeSet<Arc<ServiceName>> {
        bearer.labels.iter().filter_map(|label| self.seekers.get(label)).flatten().cloned().collect()
    }

    fn shared(&self, label: Label) -> Arc<Label> {
        let known = self.bearers.get_key_value(&label).map(|(known, _)| known);
        let known = known.or_else(|| self.seekers.get_key_value(&label).map(|(known, _)| known));
        known.cloned().unwrap_or_else(|| Arc::new(label))
    }
}

impl Bearer {
    fn is_matched(&self, selector: &Selector) -> bool {
        selector.0.iter().all(|(key, value)| {
            let label = |own: &Arc<Label>| (&*own.0, &*own.1).cmp(&(key.as_str(), value.as_str()));
            self.labels.binary_search_by(label).is_ok()
        })
    }
}

fn insert<T: Ord>(sorted: &mut Vec<Arc<T>>, one: &Arc<T>) {
    if let Err(place) = sorted.binary_search(one) {
        sorted.insert(place, one.clone());
    }
}

fn take<T: Ord>(all: &mut HashMap<Arc<Label>, Vec<Arc<T>>>, label: &Arc<Label>, one: &Arc<T>) {
    let Some(sorted) = all.get_mut(label) else { return };
    if let Ok(place) = sorted.binary_search(one) {
        sorted.remove(place);
    }
    if sorted.is_empty() {
        all.remove(label);
    }
}
