//! When everything is compared with the kernel again: at the beginning, when somebody damaged the table, when the
//! kernel refused a change. Pure, every moment is an argument.

use std::time::{Duration, Instant};

/// The pause between comparisons in a row grows from here to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// In a row are comparisons with less than this in between: more than the longest pause.
const ROW: Duration = Duration::from_secs(20);
/// As many of them go at once: setting up a firewall flushes the ruleset a few times.
const FORGIVEN: u32 = 4;

/// Whether what is programmed is known, and what was refused.
#[derive(Debug)]
pub(super) struct Pace {
    /// When all is to be compared; none: what is programmed is known.
    due: Option<Instant>,
    last: Option<Instant>,
    in_a_row: u32,
    /// It came to an end, once.
    is_synced: bool,
    error: Option<String>,
}

impl Pace {
    /// Nothing is known yet.
    pub(super) fn new() -> Self {
        Self { due: Some(Instant::now()), last: None, in_a_row: 0, is_synced: false, error: None }
    }

    /// What is programmed is no longer what the kernel has.
    pub(super) fn lost(&mut self, now: Instant) {
        let after = |last: Instant| if now < last + ROW { last + pause(self.in_a_row) } else { now };
        self.due.get_or_insert(self.last.map_or(now, after).max(now));
    }

    pub(super) fn next(&self) -> Option<Instant> {
        self.due
    }

    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.due.is_some_and(|due| due <= now)
    }

    /// Whether single changes can be programmed.
    pub(super) fn is_whole(&self) -> bool {
        self.due.is_none()
    }

    /// Whether the kernel has what it is to have, but for what changes now.
    pub(super) fn is_ready(&self) -> bool {
        self.is_synced && self.is_whole()
    }

    /// The comparison begins.
    pub(super) fn syncs(&mut self, now: Instant) {
        let follows = self.last.is_some_and(|last| now < last + ROW);
        self.in_a_row = if follows { self.in_a_row + 1 } else { 0 };
        (self.last, self.due, self.is_synced) = (Some(now), None, false);
    }

    /// Something was programmed, or refused.
    pub(super) fn done(&mut self, error: Option<&str>, now: Instant) {
        if let Some(error) = error {
            if self.error.as_deref() != Some(error) {
                tracing::error!("services are not programmed: {error}");
            }
            self.lost(now);
        }
        self.is_synced |= error.is_none();
        self.error = error.map(str::to_owned);
    }

    pub(super) fn error(&self) -> Option<&str> {
        self.error.as_deref()
    }
}

fn pause(in_a_row: u32) -> Duration {
    match in_a_row.checked_sub(FORGIVEN) {
        None => Duration::ZERO,
        Some(times) => (FIRST_PAUSE * 2_u32.saturating_pow(times.min(16))).min(LONGEST_PAUSE),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn damage_is_mended_at_once_and_less_often_when_it_goes_on() {
        let (mut pace, begin) = (Pace::new(), Instant::now());
        assert!(!pace.is_whole());
        pace.syncs(begin);
        let mut now = begin + Duration::from_secs(60);
        let mut pauses = Vec::new();
        for _ in 0..14 {
            assert!(pace.is_whole() && pace.next().is_none());
            pace.lost(now);
            let due = pace.next().unwrap();
            pauses.push(due - now);
            now = due;
            assert!(pace.is_due(now));
            pace.syncs(now);
        }
        assert!(pauses[..4].iter().all(Duration::is_zero), "{pauses:?}");
        assert!(pauses[5..].windows(2).all(|two| two[0] <= two[1]), "{pauses:?}");
        assert_eq!(pauses.last(), Some(&LONGEST_PAUSE));
    }

    #[test]
    fn what_was_refused_is_tried_again() {
        let (mut pace, now) = (Pace::new(), Instant::now());
        pace.syncs(now);
        pace.done(Some("no"), now);
        assert!(pace.is_due(now) && pace.error() == Some("no"));
        pace.syncs(now);
        pace.done(None, now);
        assert!(pace.is_whole() && pace.error().is_none());
    }
}
