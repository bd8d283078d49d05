//! Whom a service's selectors match, among containers and the catalogue's endpoints.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use zeugma_model::{AttachmentId, EndpointState, NetworkName, Rollout, RolloutState, Selector};

use super::entry::{Entry, Health, Place, Who};
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
    pub(super) fn placed(&self, index: &Index, is_founding: bool) -> Vec<Placed> {
        let Some(lean) = &self.lean else { return Vec::new() };
        let hands = self.hands(lean, index, is_founding);
        let (marked, in_play): (Vec<_>, Vec<_>) =
            hands.into_iter().partition(|(hand, _)| self.is_marked(hand));
        let alone: Vec<Hand> = in_play.iter().map(|(hand, _)| *hand).collect();
        let parts = parts(&alone, self.rollout(), lean.update.order);
        let placed = |((hand, here), part)| Placed { hand, part, here };
        let marked = marked.into_iter().map(|hand| placed((hand, Part::Stays)));
        let mut all: Vec<Placed> = in_play.into_iter().zip(parts).map(placed).chain(marked).collect();
        all.sort_unstable_by_key(|placed| placed.hand.address);
        all
    }

    /// Whether the endpoint gets flows when it takes part.
    fn would_be_ready(&self, address: IpAddr, is_founding: bool) -> bool {
        let Some(entry) = self.entry(address) else { return is_founding || !self.is_checked() };
        let is_new = entry.place == Place::Outside;
        let health = if is_new && is_founding { Health::Presumed } else { entry.health };
        let served = Entry { place: Place::Serving, health, ..entry.clone() };
        served.state(self.is_checked()) == Some(EndpointState::Ready)
    }

    /// Somebody said that the endpoint only leaves: no exchange moves it.
    fn is_marked(&self, hand: &Hand) -> bool {
        self.entry(hand.address)
            .is_some_and(|entry| entry.is_listed && entry.given == EndpointState::Draining)
    }

    fn hands(&self, lean: &Lean, index: &Index, is_founding: bool) -> Vec<(Hand, Option<Arc<AttachmentId>>)> {
        let selectors = selectors(&lean.selector(), lean.rollout.as_deref());
        let mut all: BTreeMap<IpAddr, (u16, Option<Arc<AttachmentId>>)> = BTreeMap::new();
        for (stage, selector) in selectors.iter().enumerate() {
            for (address, attachment) in addresses(index, selector, &lean.networks) {
                let (matched, here) = all.entry(address).or_default();
                *matched |= 1 << stage;
                *here = Some(here.take().map_or(attachment.clone(), |other| other.min(attachment.clone())));
            }
        }
        for entry in self.entries.iter().filter(|entry| entry.is_listed) {
            let matched = matched(entry, &selectors);
            if matched > 0 || all.contains_key(&entry.address) {
                let hand = all.entry(entry.address).or_default();
                *hand = (hand.0 | matched, None);
            }
        }
        let hand = |(address, (matched, here))| {
            (Hand { address, matched, ready: self.would_be_ready(address, is_founding) }, here)
        };
        all.into_iter().map(hand).collect()
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
    let matches = |selector: &Selector| {
        entry
            .labels()
            .is_none_or(|labels| selector.0.iter().all(|(key, value)| labels.get(key) == Some(value)))
    };
    selectors.iter().enumerate().map(|(stage, selector)| u16::from(matches(selector)) << stage).sum()
}
