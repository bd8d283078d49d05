//! When this node tries again to write what it could not, and what it says meanwhile.

use std::time::{Duration, Instant};

/// After the first time; then twice as long each time. Another node was faster, most often.
const FIRST: Duration = Duration::from_millis(50);
const LONGEST: Duration = Duration::from_secs(10);
/// So many times in a row are no chance any more.
const ODD: u32 = 5;

/// What could not be written so far.
#[derive(Debug, Default)]
pub(super) struct Patience {
    times: u32,
    until: Option<Instant>,
    why: String,
}

impl Patience {
    /// It was not written.
    pub(super) fn lost(&mut self, now: Instant, why: String) {
        tracing::debug!(why, "the others do not hear of this node yet");
        let pause = FIRST.saturating_mul(1 << self.times.min(16)).min(LONGEST);
        (self.times, self.until, self.why) = (self.times.saturating_add(1), Some(now + pause), why);
    }

    /// Whether it is tried now.
    pub(super) fn is_over(&self, now: Instant) -> bool {
        self.until.is_none_or(|until| until <= now)
    }

    /// Whether there is something that is to be tried now.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.until.is_some() && self.is_over(now)
    }

    /// What is to be said of it.
    pub(super) fn told(&self) -> Option<String> {
        (self.times >= ODD).then(|| {
            format!(
                "the catalogue does not take what this node says of itself and its blocks ({}): other hosts may not \
                 reach its containers; it is tried again",
                self.why
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_written_is_tried_ever_less_often_and_told() {
        let (mut patience, mut now) = (Patience::default(), Instant::now());
        let mut told = Vec::new();
        assert!(!patience.is_due(now));
        for _ in 0..20 {
            assert!(patience.is_over(now));
            patience.lost(now, "why".into());
            assert!(!patience.is_over(now) && !patience.is_due(now) && patience.is_due(now + LONGEST));
            told.push(patience.told().is_some());
            now += LONGEST;
        }
        assert_eq!(told.iter().filter(|told| !**told).count(), 4);
        patience.lost(now, "why".into());
        assert!(!patience.is_over(now + LONGEST / 2), "it is tried too often");
    }
}
