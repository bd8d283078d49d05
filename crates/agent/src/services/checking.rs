//! Whose endpoints are asked for their health: told to `health.rs` when a service changes.

use std::collections::BTreeSet;

use tokio::sync::mpsc;
use zeugma_model::ServiceName;
use zeugma_services::{Check, Roster, Verdict};

use super::health::Checker;

/// Verdicts that wait for the director.
const WAITING: usize = 64;

/// Services that are checked.
pub(super) struct Checking {
    checker: Checker,
    checked: BTreeSet<ServiceName>,
}

impl Checking {
    /// Nobody is yet; verdicts come from the receiver.
    pub(super) fn start() -> (Self, mpsc::Receiver<(Check, Verdict)>) {
        let (sender, verdicts) = mpsc::channel(WAITING);
        (Self { checker: Checker::start(sender), checked: BTreeSet::new() }, verdicts)
    }

    /// These are others than before.
    pub(super) fn changed(&mut self, roster: &Roster, services: &BTreeSet<ServiceName>) {
        for name in services {
            match roster.checks(name) {
                Some((how, checks)) => {
                    self.checked.insert(name.clone());
                    self.checker.watch(name.clone(), how, checks);
                }
                None if self.checked.remove(name) => self.checker.forget(name),
                None => {}
            }
        }
    }
}
