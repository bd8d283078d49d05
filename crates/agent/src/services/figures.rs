//! What the director has counted, for metrics and status.

use std::time::Duration;

use super::programming::Done;

/// The state of services after the director's last turn.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct ServiceFigures {
    /// What is to be in the kernel is there.
    pub(crate) ready: bool,
    pub(crate) services: usize,
    pub(crate) endpoints: usize,
    /// Comparisons with the kernel.
    pub(crate) syncs: u64,
    pub(crate) last_sync_took: Duration,
    /// Changes that were programmed, many services together or one.
    pub(crate) changes: u64,
    pub(crate) last_change_took: Duration,
    /// What the kernel refused.
    pub(crate) failures: u64,
    /// What does not work, a line each.
    pub(crate) problems: Vec<String>,
    /// What is known is what the agent before this one knew.
    pub(crate) recalled: bool,
    /// Of the ranges of virtual addresses.
    ranges: Vec<String>,
}

impl ServiceFigures {
    /// Something was programmed.
    pub(super) fn count(&mut self, done: &Done) {
        self.failures += u64::from(done.error.is_some());
        match done.is_sync {
            true => (self.syncs, self.last_sync_took) = (self.syncs + 1, done.took),
            false => (self.changes, self.last_change_took) = (self.changes + 1, done.took),
        }
        if let Some(problems) = &done.problems {
            self.ranges.clone_from(problems);
        }
    }

    /// How many services and endpoints there are, and what does not work. Whether anything is new.
    pub(super) fn now(
        &mut self,
        (services, endpoints): (usize, usize),
        ready: bool,
        problems: impl Iterator<Item = String>,
    ) -> bool {
        let problems: Vec<String> = problems.chain(self.ranges.iter().cloned()).collect();
        let now = Self { services, endpoints, ready, problems, ..self.clone() };
        std::mem::replace(self, now.clone()) != now
    }
}
