//! A new WireGuard key without a lost connection: the others are told of the next key, so that their devices know it
//! before it is used; then of its being the one that is used, and this host's devices take it as soon as that is written
//! and speak to everybody, as who spoke to them before was not understood and waits for five seconds.
//!
//! In between, packets are lost for as long as a change takes to be heard of: milliseconds, which TCP makes good for.

use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use zeugma_model::{Node, PublicKey};

use super::keys::Keys;

/// How long the others get to have the next key in their devices. Who is not heard of it by then is away from the
/// catalogue, and hears of both when it is back.
const LEAD: Duration = Duration::from_secs(1);
/// After that long without an answer of the catalogue a change is given up, unless the others may use the key already.
const PATIENCE: Duration = Duration::from_secs(20);

/// A change of keys that goes on.
#[derive(Debug)]
pub(super) struct Rotation {
    begun: Instant,
    /// Since when the others are told of the next key.
    announced: Option<Instant>,
    asked: Vec<oneshot::Sender<Result<PublicKey, String>>>,
}

/// What is to be done about keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    /// Nothing.
    Wait,
    /// The others use the new key: so does this host.
    Switch,
    /// It takes too long.
    GiveUp,
}

impl Rotation {
    pub(super) fn begin(asked: oneshot::Sender<Result<PublicKey, String>>) -> Self {
        Self { begun: Instant::now(), announced: None, asked: vec![asked] }
    }

    /// Somebody else wants it, too: one change does for both.
    pub(super) fn join(&mut self, asked: oneshot::Sender<Result<PublicKey, String>>) {
        self.asked.push(asked);
    }

    /// The keys that the others are to know of now.
    pub(super) fn keys(&self, keys: &Keys) -> (PublicKey, Option<PublicKey>) {
        let (current, next) = (keys.current().public(), keys.next().map(|next| next.public()));
        match next {
            Some(next) if self.announced.is_some_and(|since| since.elapsed() >= LEAD) => (next, None),
            next => (current, next),
        }
    }

    /// What is next, when this is what the others know of the node.
    pub(super) fn turn(&mut self, keys: &Keys, there: Option<&Node>) -> Turn {
        let next = keys.next().map(|next| next.public());
        match there {
            Some(node) if next.is_some() && node.key == next => return Turn::Switch,
            Some(node) if next.is_some() && node.next_key == next => {
                self.announced.get_or_insert_with(Instant::now);
            }
            _ => {}
        }
        let is_late = self.announced.is_none() && self.begun.elapsed() > PATIENCE;
        if is_late { Turn::GiveUp } else { Turn::Wait }
    }

    /// Tells everybody who asked.
    pub(super) fn end(self, outcome: &Result<PublicKey, String>) {
        for asked in self.asked {
            // Who does not listen any more does not need it.
            let _ = asked.send(outcome.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use zeugma_model::MachineId;

    #[test]
    fn a_key_is_used_when_the_others_were_told_twice() {
        let root = tempfile::tempdir().unwrap();
        let mut keys = Keys::open(root.path()).unwrap();
        let (old, next) = (keys.current().public(), keys.prepare().unwrap());
        let (sender, _receiver) = oneshot::channel();
        let mut rotation = Rotation::begin(sender);
        let there = |key, next_key| {
            let (addresses, machine, version) = (Vec::new(), MachineId([0; 16]), String::new());
            Node { name: "a".parse().unwrap(), addresses, machine, key: Some(key), next_key, version }
        };
        assert_eq!(rotation.keys(&keys), (old, Some(next)));
        assert_eq!(rotation.turn(&keys, Some(&there(old, None))), Turn::Wait);
        assert!(rotation.announced.is_none());
        assert_eq!(rotation.turn(&keys, Some(&there(old, Some(next)))), Turn::Wait);
        assert!(rotation.announced.is_some());
        rotation.announced = Instant::now().checked_sub(LEAD);
        assert_eq!(rotation.keys(&keys), (next, None));
        assert_eq!(rotation.turn(&keys, Some(&there(next, None))), Turn::Switch);
    }
}
