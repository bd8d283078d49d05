//! When the host is compared, and which damage is left for a while: pure, every moment is an argument.
//!
//! Whoever damages something for the first time does not wait: the host is compared a moment after a notification, and
//! what was found is mended. Two things are bounded. Comparisons in a long row get a share of a processor; and one
//! thing that is deleted again right after every repair is mended less and less often, alone.

use std::collections::{BTreeSet, HashMap};
use std::time::{Duration, Instant};

use zeugma_kernel::Changes;

/// Who deletes one thing deletes others with it: they are mended together.
const DEBOUNCE: Duration = Duration::from_millis(20);
/// Between two comparisons that nobody asked for, less up to a quarter.
pub(super) const PERIOD: Duration = Duration::from_secs(10);
/// Comparisons in a long row take one part in so many of a processor's time, but for hosts where one takes very long.
const SHARE: u32 = 5;
/// A row is long when it took more than this.
const BURST: Duration = Duration::from_secs(1);
const LONGEST_REST: Duration = Duration::from_millis(250);
/// What is damaged again so soon did not hold.
const HOLDS: Duration = Duration::from_secs(1);
/// The pause between repairs that do not hold grows from here to the period.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
/// So often in a row one thing may be deleted before it is a quarrel: setting up a firewall does it a few times.
const FORGIVEN: u32 = 8;
/// How many repairs in vain somebody is told of.
const SAID_AFTER: u32 = FORGIVEN + 4;

/// Stands for one thing that was damaged, the same each time.
pub(super) type Thing = u64;

/// Why the host is compared now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Why {
    pub(super) is_periodic: bool,
    pub(super) ruleset: bool,
}

/// What was heard and done lately.
#[derive(Debug)]
pub(super) struct Pace {
    /// What was heard, and when first.
    heard: Changes,
    since: Option<Instant>,
    /// Not before.
    rest_until: Instant,
    next_period: Instant,
    /// Processor time of comparisons that has not been rested from yet, as of a moment.
    debt: Duration,
    as_of: Instant,
    /// What was mended lately.
    mended: HashMap<Thing, Mended>,
    /// When damage that was left is looked at again.
    again: Option<Instant>,
    /// Comparisons in a row that failed.
    failed: u32,
}

#[derive(Debug, Clone, Copy)]
struct Mended {
    at: Instant,
    /// How many repairs before this one did not hold.
    in_vain: u32,
}

impl Mended {
    /// Nobody mends it before.
    fn until(self) -> Instant {
        self.at + pause(self.in_vain.saturating_sub(FORGIVEN))
    }
}

/// None where the last time was right.
fn pause(times: u32) -> Duration {
    match times {
        0 => Duration::ZERO,
        times => (FIRST_PAUSE * 2_u32.saturating_pow(times.min(16))).min(PERIOD),
    }
}

impl Pace {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            heard: Changes::default(),
            since: None,
            rest_until: now,
            next_period: now,
            debt: Duration::ZERO,
            as_of: now,
            mended: HashMap::new(),
            again: None,
            failed: 0,
        }
    }

    pub(super) fn hear(&mut self, changes: Changes, now: Instant) {
        // Services are mended by who programs them.
        let changes = Changes { services: false, ..changes };
        self.heard = self.heard.and(changes);
        if changes.any() {
            self.since.get_or_insert(now);
        }
    }

    fn next(&self) -> Instant {
        let asked = self.since.map(|since| since + DEBOUNCE);
        let moments = [asked, self.again, Some(self.next_period)];
        moments.into_iter().flatten().min().unwrap_or(self.next_period).max(self.rest_until)
    }

    /// How long to wait for notifications.
    pub(super) fn patience(&self, now: Instant) -> Duration {
        self.next().saturating_duration_since(now)
    }

    /// Whether the host is compared now.
    pub(super) fn due(&mut self, now: Instant) -> Option<Why> {
        if now < self.next() {
            return None;
        }
        let is_periodic = now >= self.next_period;
        if is_periodic {
            // Hosts that began together do not stay together.
            let jitter = PERIOD.mul_f64(f64::from(std::process::id() % 256) / 1024.0);
            self.next_period = now + PERIOD - jitter;
        }
        let again = self.again.take_if(|again| *again <= now).is_some();
        let ruleset = std::mem::take(&mut self.heard).ruleset || again;
        self.since = None;
        Some(Why { is_periodic, ruleset })
    }

    /// Whether all of this did not hold and is left as it is for now; then it is looked at again when that is over.
    pub(super) fn leaves(&mut self, damage: &BTreeSet<Thing>, now: Instant) -> bool {
        let until = |thing| self.mended.get(thing).map(|mended| mended.until()).filter(|until| *until > now);
        let Some(again) = damage.iter().map(until).collect::<Option<Vec<_>>>() else { return false };
        let again = again.into_iter().min();
        self.again = again.or(self.again);
        again.is_some()
    }

    /// Takes note of a repair of what was found at a moment before.
    pub(super) fn mended(&mut self, damage: &BTreeSet<Thing>, found: Instant, now: Instant) {
        self.mended.retain(|_, mended| found < mended.until() + HOLDS);
        for thing in damage {
            let in_vain = self.mended.get(thing).map_or(0, |last| last.in_vain + 1);
            self.mended.insert(*thing, Mended { at: now, in_vain });
        }
    }

    /// After a comparison that took so much processor time, whatever it found.
    pub(super) fn rest(&mut self, worked: Duration, now: Instant) {
        let paid = now.saturating_duration_since(self.as_of) / SHARE;
        self.debt = (self.debt.saturating_sub(paid) + worked).min(BURST + LONGEST_REST);
        self.as_of = now;
        self.failed = 0;
        self.rest_until = now + (self.debt.saturating_sub(BURST) * SHARE).min(LONGEST_REST);
    }

    /// After one that failed: it is done again.
    pub(super) fn fail(&mut self, worked: Duration, now: Instant) {
        let failed = self.failed + 1;
        self.rest(worked, now);
        self.failed = failed;
        self.since.get_or_insert(now);
        self.heard.ruleset = true;
        self.rest_until = self.rest_until.max(now + pause(failed));
    }

    /// Whether somebody undoes repairs again and again.
    pub(super) fn is_in_vain(&self) -> bool {
        self.mended.values().any(|mended| mended.in_vain >= SAID_AFTER)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULESET: Changes = Changes { ruleset: true, services: false, links: false, woken: false };

    /// Past the first comparison.
    fn begun(now: Instant) -> Pace {
        let mut pace = Pace::new(now);
        assert_eq!(pace.due(now), Some(Why { is_periodic: true, ruleset: false }));
        pace
    }

    /// Damage that is done at once when the last was mended; says how long it stays.
    fn damaged(pace: &mut Pace, now: &mut Instant, things: &[Thing]) -> Duration {
        let (begin, things) = (*now, BTreeSet::from_iter(things.iter().copied()));
        pace.hear(RULESET, *now);
        loop {
            *now += pace.patience(*now);
            let is_ruleset = pace.due(*now).is_some_and(|why| why.ruleset);
            let leaves = !is_ruleset || pace.leaves(&things, *now);
            pace.rest(Duration::ZERO, *now);
            if !leaves {
                pace.mended(&things, *now, *now);
                return *now - begin;
            }
        }
    }

    #[test]
    fn a_change_is_looked_at_a_moment_later_and_once() {
        let now = Instant::now();
        let mut pace = begun(now);
        pace.hear(RULESET, now);
        assert_eq!(pace.due(now + DEBOUNCE / 2), None);
        assert_eq!(pace.due(now + DEBOUNCE), Some(Why { is_periodic: false, ruleset: true }));
        assert_eq!(pace.due(now + PERIOD / 2), None);
        assert!(pace.due(now + PERIOD).is_some_and(|why| why.is_periodic));
    }

    #[test]
    fn what_does_not_hold_is_mended_less_and_less_often() {
        let mut now = Instant::now();
        let mut pace = begun(now);
        let waits: Vec<_> = (0..24).map(|_| damaged(&mut pace, &mut now, &[1])).collect();
        let (forgiven, rest) = waits.split_at(FORGIVEN as usize + 2);
        assert!(forgiven.iter().all(|wait| *wait <= DEBOUNCE), "{waits:?}");
        assert!(rest.is_sorted() && rest[0] > DEBOUNCE && rest.last() == Some(&PERIOD), "{waits:?}");
        assert!(pace.is_in_vain());
    }

    #[test]
    fn what_held_for_a_while_is_mended_at_once_again() {
        let mut now = Instant::now();
        let mut pace = begun(now);
        for _ in 0..20 {
            damaged(&mut pace, &mut now, &[1]);
        }
        now += PERIOD + HOLDS * 2;
        assert!(damaged(&mut pace, &mut now, &[1]) <= DEBOUNCE);
        assert!(!pace.is_in_vain());
    }

    #[test]
    fn other_damage_does_not_wait_for_what_does_not_hold() {
        let mut now = Instant::now();
        let mut pace = begun(now);
        for _ in 0..20 {
            damaged(&mut pace, &mut now, &[1]);
        }
        for other in 2..40 {
            assert!(damaged(&mut pace, &mut now, &[other]) <= DEBOUNCE);
        }
        assert!(damaged(&mut pace, &mut now, &[1, 99]) <= DEBOUNCE);
    }

    #[test]
    fn damage_that_is_left_is_looked_at_again_without_a_notification() {
        let mut now = Instant::now();
        let mut pace = begun(now);
        for _ in 0..FORGIVEN + 4 {
            damaged(&mut pace, &mut now, &[1]);
        }
        assert!(pace.leaves(&[1].into(), now));
        let wait = pace.patience(now);
        assert!(wait > Duration::ZERO && wait < HOLDS, "{wait:?}");
        assert_eq!(pace.due(now + wait), Some(Why { is_periodic: false, ruleset: true }));
        assert!(!pace.leaves(&[1].into(), now + wait));
    }

    #[test]
    fn comparisons_in_a_row_get_a_share_of_a_processor_and_a_few_do_not_wait() {
        let begin = Instant::now();
        let (mut now, mut worked) = (begin, Duration::ZERO);
        let mut pace = begun(now);
        let work = Duration::from_millis(60);
        while now < begin + PERIOD * 6 {
            pace.hear(RULESET, now);
            let wait = pace.patience(now);
            assert!(worked > BURST || wait <= DEBOUNCE, "{wait:?} after {worked:?}");
            now += wait + work;
            pace.due(now);
            pace.rest(work, now);
            worked += work;
        }
        let share = worked.as_secs_f64() / (now - begin).as_secs_f64();
        assert!((0.15..0.22).contains(&share), "{share}");
        pace.hear(RULESET, now);
        assert!(pace.patience(now) <= LONGEST_REST);
    }

    #[test]
    fn a_comparison_that_failed_is_done_again_less_and_less_often() {
        let mut now = Instant::now();
        let mut pace = begun(now);
        let mut waits = Vec::new();
        for _ in 0..12 {
            pace.fail(Duration::ZERO, now);
            let wait = pace.patience(now);
            waits.push(wait);
            now += wait;
            assert!(pace.due(now).is_some_and(|why| why.ruleset));
        }
        assert!(waits[0] < HOLDS && waits[8] > HOLDS, "{waits:?}");
        pace.rest(Duration::ZERO, now);
        pace.hear(RULESET, now);
        assert!(pace.patience(now) <= DEBOUNCE);
    }
}
