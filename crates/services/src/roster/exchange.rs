//! Which endpoints take part at one moment of an exchange: the same on every node that knows the same.

use std::net::IpAddr;

use zeugma_model::{Reach, Rollout, UpdateOrder};
use zeugma_plan::Family;

/// An endpoint that any of the selectors matches.
#[derive(Debug, Clone, Copy)]
pub(super) struct Hand {
    pub(super) address: IpAddr,
    /// A bit for each stage: `from`, those that were overtaken, the service's own selector.
    pub(super) matched: u16,
    pub(super) ready: bool,
}

/// What an endpoint does in the exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    /// Not in it: no longer, or never.
    Out,
    /// Both selectors match it.
    Stays,
    /// New, and its turn came.
    Joined,
    /// New, and its turn comes.
    Waits,
    /// Old, and its turn comes.
    Remains,
    /// Old, its turn came, but who takes its place is not ready.
    Held,
    /// Old, and its turn came.
    Left,
}

impl Part {
    /// Whether it takes part in serving.
    pub(super) fn serves(self) -> bool {
        matches!(self, Self::Stays | Self::Joined | Self::Remains | Self::Held)
    }

    /// Whether it is of the service's own selector.
    pub(super) fn is_new(self) -> bool {
        matches!(self, Self::Stays | Self::Joined | Self::Waits)
    }

    /// Whether it is of those before, and not of the new ones.
    pub(super) fn is_old(self) -> bool {
        matches!(self, Self::Remains | Self::Held | Self::Left)
    }
}

/// The part of each, in their order, which is that of addresses.
pub(super) fn parts(hands: &[Hand], rollout: Option<&Rollout>, order: UpdateOrder) -> Vec<Part> {
    let Some(rollout) = rollout else {
        return hands.iter().map(|hand| if hand.matched & 1 > 0 { Part::Stays } else { Part::Out }).collect();
    };
    let mut serves: Vec<bool> = hands.iter().map(|hand| hand.matched & 1 > 0).collect();
    for (overtaken, stage) in rollout.through.iter().zip(1..) {
        let parts = stage_parts(hands, &serves, stage, &overtaken.reach);
        serves = parts.into_iter().map(Part::serves).collect();
    }
    let last = rollout.through.len() as u16 + 1;
    let mut parts = stage_parts(hands, &serves, last, &rollout.reach);
    if order == UpdateOrder::StartFirst {
        for family in Family::ALL {
            hold(hands, &mut parts, family);
            fall_back(hands, &mut parts, family, last);
        }
    }
    parts
}

fn stage_parts(hands: &[Hand], serves: &[bool], stage: u16, reach: &Reach) -> Vec<Part> {
    let part = |(hand, serves): (&Hand, &bool)| match (serves, hand.matched >> stage & 1 > 0) {
        (true, true) => Part::Stays,
        (false, true) if reach.joined.includes(hand.address) => Part::Joined,
        (false, true) => Part::Waits,
        (true, false) if reach.left.includes(hand.address) => Part::Left,
        (true, false) => Part::Remains,
        (false, false) => Part::Out,
    };
    hands.iter().zip(serves).map(part).collect()
}

/// No more old ones leave than new ones are ready, and none as long as no new one is.
fn hold(hands: &[Hand], parts: &mut [Part], family: Family) {
    let of_family = |at: &usize| Family::of(hands[*at].address) == family;
    let with = |part: Part| -> Vec<usize> {
        (0..hands.len()).filter(of_family).filter(|at| parts[*at] == part).collect()
    };
    let (stays, joined, left) = (with(Part::Stays), with(Part::Joined), with(Part::Left));
    let ready = |all: &[usize]| all.iter().filter(|at| hands[**at].ready).count();
    let leaving = match ready(&joined) {
        0 if ready(&stays) == 0 => 0,
        all if all == joined.len() => left.len(),
        some => some.min(left.len()),
    };
    left[leaving..].iter().for_each(|at| parts[*at] = Part::Held);
}

/// When nobody is ready, those who left in the meantime are asked back: a new one that came alone may have failed, or
/// one that an overtaken exchange relied on.
fn fall_back(hands: &[Hand], parts: &mut [Part], family: Family, last: u16) {
    let of_family = |at: &usize| Family::of(hands[*at].address) == family;
    let all: Vec<usize> = (0..hands.len()).filter(of_family).collect();
    if all.iter().any(|at| parts[*at].serves() && hands[*at].ready) {
        return;
    }
    for at in all.into_iter().filter(|at| hands[*at].matched & ((1 << last) - 1) > 0) {
        parts[at] = match parts[at] {
            Part::Out => Part::Held,
            Part::Waits => Part::Joined,
            part => part,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// `2 new ready` → its part, one letter each.
    fn check(hands: &[&str], rollout: serde_json::Value, expected: &str) {
        let hand = |text: &&str| {
            let mut words = text.split(' ');
            let address = format!("10.88.0.{}", words.next().unwrap()).parse().unwrap();
            let words: Vec<&str> = words.collect();
            let bit = |word, bit| u16::from(words.contains(&word)) << bit;
            let matched = bit("a", 0) | bit("b", 1) | bit("c", 2);
            Hand { address, matched, ready: !words.contains(&"ill") }
        };
        let hands: Vec<Hand> = hands.iter().map(hand).collect();
        let mut text = json!({"from": {"app": "a"}, "driver": "n1", "step": 1});
        text.as_object_mut().unwrap().extend(rollout.as_object().unwrap().clone());
        let rollout: Rollout = serde_json::from_value(text).unwrap();
        let parts = parts(&hands, Some(&rollout), UpdateOrder::StartFirst);
        let parts: Vec<String> = parts.iter().map(|part| format!("{part:?}")).collect();
        assert_eq!(parts.join(" "), expected);
    }

    fn reach(joined: &str, left: &str) -> serde_json::Value {
        json!({"joined": {"v4": format!("10.88.0.{joined}")}, "left": {"v4": format!("10.88.0.{left}")}})
    }

    #[test]
    fn first_joins_the_new_then_the_old_leaves() {
        let hands = ["1 a", "2 a", "3 b", "4 b"];
        check(&hands, json!({}), "Remains Remains Waits Waits");
        check(&hands, json!({"reach": reach("3", "0")}), "Remains Remains Joined Waits");
        check(&hands, json!({"reach": reach("4", "1")}), "Left Remains Joined Joined");
    }

    #[test]
    fn an_old_one_is_held_until_its_successor_is_ready() {
        let reach = json!({"reach": reach("4", "2")});
        check(&["1 a", "2 a", "3 b ill", "4 b ill"], reach.clone(), "Held Held Joined Joined");
        check(&["1 a", "2 a", "3 b", "4 b ill"], reach.clone(), "Left Held Joined Joined");
        check(&["1 a", "2 a"], reach.clone(), "Held Held");
        check(&["1 a", "2 a", "3 b"], reach, "Left Left Joined");
    }

    #[test]
    fn whom_both_selectors_match_is_left_alone() {
        check(&["1 a b", "2 a", "3 b"], json!({}), "Stays Remains Waits");
    }

    #[test]
    fn an_update_of_an_update_begins_where_that_stands() {
        let through = json!([{"to": {"app": "b"}, "reach": reach("3", "1")}]);
        let hands = ["1 a", "2 a", "3 b", "4 b", "5 c"];
        check(&hands, json!({"through": through}), "Out Remains Remains Out Waits");
    }
}
