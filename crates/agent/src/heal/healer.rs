//! The healing loop, on a thread of its own: the kernel notifies, a moment later the host is compared with the journal
//! and mended. Every ten seconds it is compared whatever happened; where the ruleset and the journal are as they were,
//! links alone.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use zeugma_api::Repaired;
use zeugma_journal::Journal;
use zeugma_kernel::{Changes, Kernel, Waker, Watch};

use super::Error;
use super::look::Scope;
use super::mend::Repair;

/// Who deletes one thing deletes others with it: they are mended together.
const DEBOUNCE: Duration = Duration::from_millis(20);
/// Between two comparisons that nobody asked for, less up to a quarter.
const PERIOD: Duration = Duration::from_secs(10);
/// A comparison takes no more than a fifth of a processor's time, but for hosts where it takes this long.
const SHARE: u32 = 4;
const LONGEST_REST: Duration = Duration::from_millis(500);
/// How long those who attach are waited for, while others wait for the repair.
const PATIENCE: Duration = Duration::from_secs(2);
/// What is damaged again so soon did not hold.
const HOLDS: Duration = Duration::from_secs(1);
/// The pause between repairs that do not hold grows from here to the period.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
/// How many of them somebody is told of.
const SAID_AFTER: u32 = 4;

/// What the loop has done, for metrics.
#[derive(Debug, Default)]
pub struct Counters {
    repairs: AtomicU64,
    failures: AtomicU64,
    comparisons: AtomicU64,
    last: Mutex<Option<(SystemTime, Duration)>>,
}

impl Counters {
    /// How often something on the host was mended.
    pub fn repairs(&self) -> u64 {
        self.repairs.load(Ordering::Relaxed)
    }

    /// How often something could not be mended, or not be looked at.
    pub fn failures(&self) -> u64 {
        self.failures.load(Ordering::Relaxed)
    }

    /// How often the host was compared with the journal.
    pub fn comparisons(&self) -> u64 {
        self.comparisons.load(Ordering::Relaxed)
    }

    /// When that was last, and how long it took.
    pub fn last(&self) -> Option<(SystemTime, Duration)> {
        self.last.lock().map_or(None, |last| *last)
    }

    /// Notes a comparison.
    pub(crate) fn count(&self, outcome: &Result<Repaired, Error>, took: Duration) {
        let (mended, failed) = match outcome {
            Ok(repaired) => (!repaired.steps.is_empty(), repaired.failures.len() as u64),
            Err(_) => (false, 1),
        };
        self.comparisons.fetch_add(1, Ordering::Relaxed);
        self.repairs.fetch_add(mended.into(), Ordering::Relaxed);
        self.failures.fetch_add(failed, Ordering::Relaxed);
        if let Ok(mut last) = self.last.lock() {
            *last = Some((SystemTime::now(), took));
        }
    }
}

/// Starts the loop in the namespace of the calling thread. It ends with the process.
///
/// # Errors
/// When the kernel lets nobody listen, or there is no thread to be had.
pub fn run(counters: Arc<Counters>) -> Result<(), Error> {
    let (watch, waker) = Watch::open()?;
    let healer = Healer {
        journal: Journal::default(),
        counters,
        waker,
        zones_lost: Arc::new(AtomicBool::new(false)),
        listens_to_firewalld: false,
        known: None,
        told: BTreeSet::new(),
        is_in_vain: false,
        pace: Pace::new(Instant::now()),
    };
    // The kernel names this thread as the maker of its transactions.
    let thread = thread::Builder::new().name("zeugma-heal".into()).spawn(move || healer.turn(watch));
    thread.map(drop).map_err(Error::Thread)
}

struct Healer {
    journal: Journal,
    counters: Arc<Counters>,
    waker: Waker,
    /// Whether firewalld has forgotten what it was told.
    zones_lost: Arc<AtomicBool>,
    listens_to_firewalld: bool,
    /// The ruleset's generation and the journal's stamp when all was found to be right.
    known: Option<(u32, u64)>,
    /// Failures that were told of already.
    told: BTreeSet<String>,
    is_in_vain: bool,
    pace: Pace,
}

impl Healer {
    fn turn(mut self, mut watch: Watch) {
        loop {
            match watch.wait(self.pace.patience(Instant::now())) {
                Ok(changes) => self.pace.hear(changes, Instant::now()),
                Err(error) => {
                    tracing::error!(%error, "damage is found every ten seconds only");
                    thread::sleep(PERIOD);
                }
            }
            if let Some(why) = self.pace.due(Instant::now()) {
                self.heal(why);
            }
        }
    }

    fn heal(&mut self, why: Why) {
        let begin = Instant::now();
        let before = self.state();
        let is_known = before.is_some() && before == self.known;
        let zones = self.zones_lost.swap(false, Ordering::Relaxed) || why.is_periodic;
        let scope = if why.ruleset || (why.is_periodic && !is_known) { Scope::All } else { Scope::Links };
        let repair = Repair { scope, zones, patience: PATIENCE };
        let outcome = repair.look_and_mend(&self.journal, |desired| !desired.sources.is_empty());
        let took = begin.elapsed();
        let outcome = outcome.map(|(repaired, has_zones)| {
            self.listen_to_firewalld(has_zones);
            repaired
        });
        self.counters.count(&outcome, took);
        match &outcome {
            Ok(repaired) if repaired.steps.is_empty() && repaired.failures.is_empty() => {
                self.told.clear();
                self.known = if scope == Scope::All { before } else { self.known };
            }
            Ok(repaired) => self.known = self.known.filter(|_| repaired.steps.is_empty()),
            Err(_) => self.known = None,
        }
        self.pace.rest(&outcome, took, Instant::now());
        self.tell(&outcome, took);
    }

    /// What changes with every change of the ruleset or of the journal.
    fn state(&self) -> Option<(u32, u64)> {
        Some((Kernel::resident().generation().ok()??, self.journal.stamp().ok()?))
    }

    fn tell(&mut self, outcome: &Result<Repaired, Error>, took: Duration) {
        /// More than these are in the counters.
        const SHOWN: usize = 5;
        let failures: Vec<String> = match outcome {
            Ok(repaired) => {
                if !repaired.steps.is_empty() {
                    let shown = &repaired.steps[..repaired.steps.len().min(SHOWN)];
                    tracing::info!(steps = repaired.steps.len(), ?took, first = ?shown, "the host was mended");
                }
                repaired.failures.clone()
            }
            Err(error) => vec![error.to_string()],
        };
        for failure in failures {
            if self.told.insert(failure.clone()) {
                tracing::warn!("cannot mend: {failure}");
            }
        }
        let was_in_vain = std::mem::replace(&mut self.is_in_vain, self.pace.is_in_vain());
        if self.is_in_vain && !was_in_vain {
            tracing::warn!(
                "something deletes what is mended again and again: repairs are made less and less often, at least \
                 every {} s",
                PERIOD.as_secs()
            );
        }
    }

    /// From the first record on that names a zone.
    fn listen_to_firewalld(&mut self, has_zones: bool) {
        if !has_zones || self.listens_to_firewalld {
            return;
        }
        let Ok(waker) = self.waker.again() else { return };
        let lost = self.zones_lost.clone();
        let listening = move || loop {
            let forgotten = || {
                lost.store(true, Ordering::Relaxed);
                waker.wake();
            };
            if let Err(error) = zeugma_firewalld::listen(forgotten) {
                tracing::debug!(%error, "reloads of firewalld are noticed every ten seconds only");
            }
            // The bus began or ended meanwhile.
            forgotten();
            thread::sleep(PERIOD);
        };
        tracing::info!("firewalld is listened to: it forgets containers when it is reloaded");
        self.listens_to_firewalld =
            thread::Builder::new().name("zeugma-zones".into()).spawn(listening).is_ok();
    }
}

/// Why the host is compared now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Why {
    is_periodic: bool,
    ruleset: bool,
}

/// When the host is compared: pure, but for the moments that it is told.
#[derive(Debug)]
struct Pace {
    /// What was heard, and when first.
    heard: Changes,
    since: Option<Instant>,
    /// Not before.
    rest_until: Instant,
    next_period: Instant,
    /// The last repair, and how many before it did not hold.
    mended: Option<Instant>,
    in_vain: u32,
}

impl Pace {
    fn new(now: Instant) -> Self {
        Self {
            heard: Changes::default(),
            since: None,
            rest_until: now,
            next_period: now,
            mended: None,
            in_vain: 0,
        }
    }

    fn hear(&mut self, changes: Changes, now: Instant) {
        self.heard = self.heard.and(changes);
        if changes.any() {
            self.since.get_or_insert(now);
        }
    }

    fn next(&self) -> Instant {
        let asked = self.since.map(|since| since + DEBOUNCE);
        asked.map_or(self.next_period, |asked| asked.min(self.next_period)).max(self.rest_until)
    }

    fn patience(&self, now: Instant) -> Duration {
        self.next().saturating_duration_since(now)
    }

    fn due(&mut self, now: Instant) -> Option<Why> {
        if now < self.next() {
            return None;
        }
        let is_periodic = now >= self.next_period;
        if is_periodic {
            // Hosts that began together do not stay together.
            let jitter = PERIOD.mul_f64(f64::from(std::process::id() % 256) / 1024.0);
            self.next_period = now + PERIOD - jitter;
        }
        let ruleset = std::mem::take(&mut self.heard).ruleset;
        self.since = None;
        Some(Why { is_periodic, ruleset })
    }

    fn rest(&mut self, outcome: &Result<Repaired, Error>, took: Duration, now: Instant) {
        let mut rest = (took * SHARE).min(LONGEST_REST);
        match outcome {
            Ok(repaired) if repaired.steps.is_empty() => {}
            Ok(_) => {
                // The damage was done before this comparison began.
                let soon = self
                    .mended
                    .is_some_and(|last| now.saturating_duration_since(last) < HOLDS + took + self.pause());
                self.in_vain = if soon { self.in_vain + 1 } else { 0 };
                self.mended = Some(now);
                rest = rest.max(self.pause());
            }
            Err(_) => {
                self.in_vain += 1;
                self.since.get_or_insert(now);
                self.heard.ruleset = true;
                rest = rest.max(self.pause());
            }
        }
        self.rest_until = now + rest;
    }

    /// None where the last repair held.
    fn pause(&self) -> Duration {
        match self.in_vain {
            0 => Duration::ZERO,
            times => (FIRST_PAUSE * 2_u32.saturating_pow(times.min(16))).min(PERIOD),
        }
    }

    fn is_in_vain(&self) -> bool {
        self.in_vain >= SAID_AFTER
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mended() -> Result<Repaired, Error> {
        Ok(Repaired { steps: vec!["host: nft add element".into()], failures: Vec::new() })
    }

    fn heard(now: Instant) -> Pace {
        let mut pace = Pace::new(now);
        assert_eq!(pace.due(now), Some(Why { is_periodic: true, ruleset: false }));
        pace.hear(Changes { ruleset: true, ..Changes::default() }, now);
        pace
    }

    #[test]
    fn a_change_is_looked_at_a_moment_later_and_once() {
        let now = Instant::now();
        let mut pace = heard(now);
        assert_eq!(pace.due(now + DEBOUNCE / 2), None);
        assert_eq!(pace.due(now + DEBOUNCE), Some(Why { is_periodic: false, ruleset: true }));
        assert_eq!(pace.due(now + PERIOD / 2), None);
        assert!(pace.due(now + PERIOD).is_some_and(|why| why.is_periodic));
    }

    #[test]
    fn repairs_that_do_not_hold_are_made_less_and_less_often() {
        let mut now = Instant::now();
        let mut pace = heard(now);
        let mut pauses = Vec::new();
        for _ in 0..16 {
            now = pace.next();
            assert!(pace.due(now).is_some());
            pace.rest(&mended(), Duration::ZERO, now);
            pace.hear(Changes { ruleset: true, ..Changes::default() }, now);
            pauses.push(pace.patience(now));
        }
        assert!(pauses.is_sorted() && pauses[3] < HOLDS && *pauses.last().unwrap() == PERIOD, "{pauses:?}");
        pace.rest(&mended(), Duration::ZERO, now + PERIOD + HOLDS * 2);
        assert_eq!(pace.in_vain, 0);
    }

    #[test]
    fn a_long_comparison_is_followed_by_a_rest() {
        let now = Instant::now();
        let mut pace = heard(now);
        pace.rest(&Ok(Repaired::default()), Duration::from_millis(100), now);
        assert_eq!(pace.patience(now), Duration::from_millis(400));
        pace.rest(&Ok(Repaired::default()), Duration::from_secs(1), now);
        assert_eq!(pace.patience(now), LONGEST_REST);
    }
}
