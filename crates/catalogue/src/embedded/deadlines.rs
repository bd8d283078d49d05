//! When leases end. Pure: the clock is an argument. That they survive a restart is `ledger.rs`'s matter.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use crate::LeaseId;

/// Leases by the time that is left to each. Time is the machine's monotonic clock, so nobody who sets the clock ends
/// a lease.
#[derive(Debug, Default)]
pub(super) struct Deadlines(BTreeMap<LeaseId, Deadline>);

#[derive(Debug)]
struct Deadline {
    ttl: Duration,
    at: Instant,
}

impl Deadlines {
    /// A lease begins.
    pub(super) fn granted(&mut self, lease: LeaseId, ttl: Duration, now: Instant) {
        self.0.insert(lease, Deadline { ttl, at: now + ttl });
    }

    /// A lease's time begins anew; false when it has ended.
    pub(super) fn renewed(&mut self, lease: LeaseId, now: Instant) -> bool {
        let live = self.0.get_mut(&lease).filter(|deadline| deadline.at > now);
        live.map(|deadline| deadline.at = now + deadline.ttl).is_some()
    }

    /// A lease is gone.
    pub(super) fn ended(&mut self, lease: LeaseId) {
        self.0.remove(&lease);
    }

    /// Whether a lease still holds.
    pub(super) fn is_live(&self, lease: LeaseId, now: Instant) -> bool {
        self.0.get(&lease).is_some_and(|deadline| deadline.at > now)
    }

    /// Leases whose time is over.
    pub(super) fn over(&self, now: Instant) -> Vec<LeaseId> {
        self.0.iter().filter(|(_, deadline)| deadline.at <= now).map(|(lease, _)| *lease).collect()
    }

    /// When the next lease ends.
    pub(super) fn next(&self) -> Option<Instant> {
        self.0.values().map(|deadline| deadline.at).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_lease_lives_for_its_ttl_from_the_last_renewal() {
        let (start, lease) = (Instant::now(), LeaseId(1));
        let mut deadlines = Deadlines::default();
        deadlines.granted(lease, 10 * SECOND, start);
        assert!(deadlines.renewed(lease, start + 9 * SECOND));
        assert!(deadlines.is_live(lease, start + 18 * SECOND));
        assert_eq!(deadlines.next(), Some(start + 19 * SECOND));
        assert_eq!(deadlines.over(start + 19 * SECOND), [lease]);
    }

    #[test]
    fn a_lease_that_is_over_cannot_be_renewed() {
        let (start, lease) = (Instant::now(), LeaseId(1));
        let mut deadlines = Deadlines::default();
        deadlines.granted(lease, SECOND, start);
        assert!(!deadlines.renewed(lease, start + SECOND));
        deadlines.ended(lease);
        assert!(deadlines.over(start + SECOND).is_empty() && deadlines.next().is_none());
    }
}
