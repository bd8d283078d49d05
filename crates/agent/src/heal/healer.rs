//! The healing loop, on a thread of its own: the kernel notifies, a moment later the host is compared with the journal
//! and mended. Every ten seconds it is compared whatever happened; where the ruleset and the journal are as they were,
//! links alone.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use zeugma_api::Repaired;
use zeugma_journal::{Journal, OverlayStates, Reader};
use zeugma_kernel::{Kernel, Waker, Watch, thread_time};
use zeugma_upkeep::PLUGINS;

use super::Error;
use super::look::Scope;
use super::mend::{Damage, Repair, thing};
use super::pace::{PERIOD, Pace, Thing, Why};

/// How long those who attach are waited for, while others wait for the repair.
const PATIENCE: Duration = Duration::from_secs(2);

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
        // Thousands of records were in memory.
        zeugma_kernel::give_back_memory();
        self.comparisons.fetch_add(1, Ordering::Relaxed);
        self.repairs.fetch_add(mended.into(), Ordering::Relaxed);
        self.failures.fetch_add(failed, Ordering::Relaxed);
        if let Ok(mut last) = self.last.lock() {
            *last = Some((SystemTime::now(), took));
        }
    }
}

/// Starts the loop in the namespace of the calling thread. It ends with the process. Damage to the table of services is
/// only told of.
///
/// # Errors
/// When the kernel lets nobody listen, or there is no thread to be had.
pub fn run(counters: Arc<Counters>, services_lost: impl Fn() + Send + 'static) -> Result<(), Error> {
    let (watch, waker) = Watch::open()?;
    let healer = Healer {
        journal: Journal::default(),
        reader: Reader::new(Journal::default(), &PLUGINS),
        counters,
        waker,
        zones_lost: Arc::new(AtomicBool::new(false)),
        listens_to_firewalld: false,
        known: None,
        told: HashSet::new(),
        is_in_vain: false,
        pace: Pace::new(Instant::now()),
    };
    // The kernel names this thread as the maker of its transactions.
    let thread =
        thread::Builder::new().name("zeugma-heal".into()).spawn(move || healer.turn(watch, services_lost));
    thread.map(drop).map_err(Error::Thread)
}

/// What came of a comparison.
enum Outcome {
    AllRight,
    /// What did not hold before is left for a while.
    Left,
    /// As far as it went.
    Mended(Repaired),
}

impl Outcome {
    fn repaired(self) -> Repaired {
        match self {
            Self::AllRight | Self::Left => Repaired::default(),
            Self::Mended(repaired) => repaired,
        }
    }
}

/// The ruleset's generation, the journal's stamp, and when overlays' states last changed.
type Known = (u32, u64, Option<SystemTime>);

struct Healer {
    journal: Journal,
    reader: Reader,
    counters: Arc<Counters>,
    waker: Waker,
    /// Whether firewalld has forgotten what it was told.
    zones_lost: Arc<AtomicBool>,
    listens_to_firewalld: bool,
    /// What the host and the journal were when all was found to be right.
    known: Option<Known>,
    /// Failures that were told of already.
    told: HashSet<Thing>,
    is_in_vain: bool,
    pace: Pace,
}

impl Healer {
    fn turn(mut self, mut watch: Watch, services_lost: impl Fn()) {
        loop {
            match watch.wait(self.pace.patience(Instant::now())) {
                Ok(changes) => {
                    if changes.services {
                        services_lost();
                    }
                    self.pace.hear(changes, Instant::now());
                }
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
        let (begin, worked) = (Instant::now(), thread_time());
        // That is for comparisons that nobody asked for: whoever waits for a repair does not wait for this.
        let before = if why.is_periodic { self.state() } else { None };
        let is_known = before.is_some() && before == self.known;
        let zones = self.zones_lost.swap(false, Ordering::Relaxed) || why.is_periodic;
        let scope = if why.ruleset || (why.is_periodic && !is_known) { Scope::All } else { Scope::Links };
        let outcome = self.look_and_mend(&Repair { scope, zones, patience: PATIENCE }, begin);
        let took = begin.elapsed();
        self.known = match &outcome {
            Ok(Outcome::AllRight) if why.is_periodic && scope == Scope::All => before,
            Ok(Outcome::AllRight) => self.known,
            Ok(Outcome::Left) | Err(_) => None,
            Ok(Outcome::Mended(repaired)) => self.known.filter(|_| repaired.steps.is_empty()),
        };
        if zones && matches!(outcome, Ok(Outcome::Left) | Err(_)) {
            self.zones_lost.store(true, Ordering::Relaxed);
        }
        let outcome = outcome.map(Outcome::repaired);
        self.counters.count(&outcome, took);
        let (worked, now) = (thread_time().saturating_sub(worked), Instant::now());
        match &outcome {
            Ok(_) => self.pace.rest(worked, now),
            Err(_) => self.pace.fail(worked, now),
        }
        self.tell(&outcome, took);
    }

    fn look_and_mend(&mut self, repair: &Repair, begin: Instant) -> Result<Outcome, Error> {
        let damage = repair.look(&mut self.reader)?;
        self.listen_to_firewalld(!damage.desired.sources.is_empty());
        if damage.is_none() {
            self.told.clear();
            return Ok(Outcome::AllRight);
        }
        let things = damage.things();
        if things.is_empty() && self.knows(&damage) {
            return Ok(Outcome::Mended(Repaired { steps: Vec::new(), failures: damage.failures }));
        }
        if self.pace.leaves(&things, begin) {
            return Ok(Outcome::Left);
        }
        let repaired = repair.mend(&mut self.reader, damage)?;
        if !repaired.steps.is_empty() {
            self.pace.mended(&things, begin, Instant::now());
        }
        Ok(Outcome::Mended(repaired))
    }

    /// Whether all that cannot be mended was told before: then it need not be looked at twice.
    fn knows(&self, damage: &Damage) -> bool {
        damage.failures.iter().all(|failure| self.told.contains(&thing(failure)))
    }

    /// What changes with every change of the ruleset, of the journal or of an overlay's state.
    fn state(&self) -> Option<Known> {
        let generation = Kernel::resident().generation().ok()??;
        Some((generation, self.journal.stamp().ok()?, OverlayStates::default().changed()))
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
        let fresh: Vec<String> =
            failures.into_iter().filter(|failure| self.told.insert(thing(failure))).collect();
        for failure in fresh.iter().take(SHOWN) {
            tracing::warn!("cannot mend: {failure}");
        }
        if let Some(more) = fresh.len().checked_sub(SHOWN).filter(|more| *more > 0) {
            tracing::warn!("cannot mend {more} more: `zeugma repair --dry-run` lists them");
        }
        let was_in_vain = std::mem::replace(&mut self.is_in_vain, self.pace.is_in_vain());
        if self.is_in_vain && !was_in_vain {
            tracing::warn!(
                "something deletes what is mended again and again: that is mended less and less often, at least \
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
