//! Whom a service's selectors match, among containers and the catalogue's endpoints.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use zeugma_model::{AttachmentId, EndpointState, NetworkName, Rollout, RolloutState, Selector};

use super::entry::{Entry, Labels, Who};
use super::exchange::{Hand, Part, parts};
use super::held::Held;
use super::index::Index;
use super::lean::Lean;

/// An endpoint with what it does in the exchange.
pub(super) struct Placed {
    pub(super) hand: Hand,
    pub(super) part: Part,
    pub(super) here: Option<Arc<AttachmentId>>,
}

impl Placed {
    /// Whether another container had the address.
    pub(super) fn is_another(&self, entry: &Entry) -> bool {
        matches!((&entry.who, &self.here), (Who::Here(before), Some(now)) if before != now)
    }
}

impl Held {
    /// Everyone whom any of the exchange's selectors matches, by address.
    pub(super) fn placed(&self, index: &Index, presumes: impl Fn(IpAddr) -> bool) -> Vec<Placed> {
        let Some(lean) = &self.lean else { return Vec::new() };
        let mut all = self.matched(lean, index, presumes);
        if self.rollout().is_none() {
            all.iter_mut()
                .for_each(|one| one.part = if one.hand.matched > 0 { Part::Stays } else { Part::Out });
            return all;
        }
        // Somebody said of these that they only leave: no exchange moves them.
        let is_marked = |entry: &Entry| entry.is_listed && entry.given == EndpointState::Draining;
        let (mut marked, mut in_play): (Vec<Placed>, Vec<Placed>) =
            all.into_iter().partition(|one| self.entry(one.hand.address).is_some_and(is_marked));
        let hands: Vec<Hand> = in_play.iter().map(|one| one.hand).collect();
        let parts = parts(&hands, self.rollout(), lean.update.order);
        in_play.iter_mut().zip(parts).for_each(|(one, part)| one.part = part);
        marked.iter_mut().for_each(|one| one.part = Part::Stays);
        in_play.append(&mut marked);
        in_play.sort_unstable_by_key(|placed| placed.hand.address);
        in_play
    }

    fn matched(&self, lean: &Lean, index: &Index, presumes: impl Fn(IpAddr) -> bool) -> Vec<Placed> {
        let selectors = selectors(&lean.selector(), lean.rollout.as_deref());
        let mut found: BTreeMap<IpAddr, (u16, &Arc<AttachmentId>)> = BTreeMap::new();
        for (stage, selector) in selectors.iter().enumerate() {
            for (address, attachment) in addresses(index, selector, &lean.networks) {
                let (matched, here) = found.entry(address).or_insert((0, attachment));
                (*matched, *here) = (*matched | 1 << stage, (*here).min(attachment));
            }
        }
        let placed = |address, matched, ready, here| Placed {
            hand: Hand { address, matched, ready },
            part: Part::Out,
            here,
        };
        let (is_checked, mut all) = (self.is_checked(), Vec::with_capacity(self.entries.len() + found.len()));
        for entry in self.entries.iter().filter(|entry| entry.is_listed) {
            // The catalogue's word on an address goes before that of a container there.
            let there = found.remove(&entry.address).map_or(0, |(matched, _)| matched);
            let matched = matched(entry, &selectors) | there;
            if matched > 0 {
                let ready = entry.would_be_ready(is_checked, presumes(entry.address));
                all.push(placed(entry.address, matched, ready, None));
            }
        }
        if !found.is_empty() {
            all.extend(found.into_iter().map(|(address, (matched, here))| {
                let ready = self.entry(address).map_or(presumes(address) || !is_checked, |entry| {
                    entry.would_be_ready(is_checked, presumes(address))
                });
                placed(address, matched, ready, Some(here.clone()))
            }));
            all.sort_unstable_by_key(|placed| placed.hand.address);
        }
        all
    }
}

/// Of all stages of the exchange, in order; without one, the service's own alone.
pub(super) fn selectors(own: &Selector, rollout: Option<&Rollout>) -> Vec<Selector> {
    let rollout = rollout.filter(|rollout| is_under_way(rollout)).into_iter();
    let before = rollout.flat_map(|rollout| {
        let overtaken = rollout.through.iter().map(|overtaken| overtaken.to.clone());
        std::iter::once(rollout.from.clone()).chain(overtaken)
    });
    before.chain([own.clone()]).collect()
}

pub(super) fn is_under_way(rollout: &Rollout) -> bool {
    !matches!(rollout.state, RolloutState::Returned(_))
}

fn addresses<'a>(
    index: &'a Index,
    selector: &'a Selector,
    networks: &'a [NetworkName],
) -> impl Iterator<Item = (IpAddr, &'a Arc<AttachmentId>)> {
    let matching = index.matching(selector, networks);
    matching.flat_map(|(attachment, addresses)| addresses.iter().map(move |address| (*address, attachment)))
}

/// Endpoints without labels serve anyway; an empty selector matches those with labels, too.
fn matched(entry: &Entry, selectors: &[Selector]) -> u16 {
    let has = |labels: &Labels, key: &String, value: &String| {
        labels.binary_search_by(|(own, _)| own.as_ref().cmp(key)).is_ok_and(|at| *labels[at].1 == **value)
    };
    let matches = |selector: &Selector| {
        entry.labels().is_none_or(|labels| selector.0.iter().all(|(key, value)| has(labels, key, value)))
    };
    selectors.iter().enumerate().map(|(stage, selector)| u16::from(matches(selector)) << stage).sum()
}
