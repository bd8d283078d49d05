//! One repair: looked at without any lock, damage looked at again, and mended while nobody attaches or detaches.
//!
//! In steady state nobody waits for a repair that finds nothing. What an ADD or DEL under way has half done looks like
//! damage for a moment; damage stays.

use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::thread;
use std::time::Duration;

use zeugma_api::Repaired;
use zeugma_journal::{Alone, Journal, Reader};
use zeugma_kernel::Kernel;
use zeugma_plan::{Plan, Step};
use zeugma_upkeep::{Desired, Diff, PLUGINS};

use super::look::{Scope, compared, desired};
use super::pace::Thing;
use super::{Error, zones};

/// Longer than an ADD or DEL takes between the kernel and its record.
const SECOND_LOOK: Duration = Duration::from_millis(50);

/// What a repair may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// All that is needed.
    Apply,
    /// Nothing: what would be done is told.
    DryRun,
}

/// Compares the host with the journal once and mends it.
///
/// # Errors
/// When either cannot be read, or somebody attaches for longer than anybody waits. What could not be mended is no
/// error, but among the failures.
pub fn repair(mode: Mode) -> Result<Repaired, Error> {
    /// Somebody is waiting for it, and would rather wait a while than ask again.
    const PATIENCE: Duration = Duration::from_secs(10);
    let mut reader = Reader::new(Journal::default(), &PLUGINS);
    match mode {
        Mode::DryRun => Ok(Damage::now(&mut reader, Scope::All, true)?.told()),
        Mode::Apply => Repair { scope: Scope::All, zones: true, patience: PATIENCE }.run(&mut reader),
    }
}

/// How a repair is done.
pub(super) struct Repair {
    pub(super) scope: Scope,
    /// Whether firewalld is asked.
    pub(super) zones: bool,
    /// How long those who attach are waited for.
    pub(super) patience: Duration,
}

/// What is wrong.
pub(super) struct Damage {
    diff: Diff,
    sources: zones::Missing,
    pub(super) failures: Vec<String>,
    /// What the journal asked for.
    pub(super) desired: Desired,
}

impl Damage {
    fn now(reader: &mut Reader, scope: Scope, with_zones: bool) -> Result<Self, Error> {
        let (desired, mut failures) = desired(reader)?;
        let diff = compared(&mut Kernel::resident(), &desired, scope)?;
        failures.extend(diff.problems.iter().map(ToString::to_string));
        let sources = if with_zones { zones::missing(&desired) } else { Ok(zones::Missing::new()) };
        let sources = sources.unwrap_or_else(|error| {
            failures.push(error.to_string());
            zones::Missing::new()
        });
        Ok(Self { diff, sources, failures, desired })
    }

    pub(super) fn is_none(&self) -> bool {
        self.diff.plan.is_empty() && self.sources.is_empty() && self.failures.is_empty()
    }

    /// What would be done.
    fn told(self) -> Repaired {
        let steps = self.diff.plan.steps().flat_map(lines).chain(self.sources.iter().map(zones::line));
        Repaired { steps: steps.collect(), failures: self.failures }
    }

    /// What each part of it is about, to be found again.
    pub(super) fn things(&self) -> BTreeSet<Thing> {
        let of_plan = self.diff.plan.steps().flat_map(|step| match step {
            Step::MendTable(family, mending, _) => vec![thing(&format!("{family} {mending:?}"))],
            step => step.to_string().lines().map(thing).collect(),
        });
        of_plan.chain(self.sources.iter().map(|source| thing(&zones::line(source)))).collect()
    }

    /// No ADD or DEL does this half way.
    fn is_beyond_doubt(&self) -> bool {
        self.diff.plan.steps().any(|step| matches!(step, Step::MendTable(..)))
    }

    fn mended(self) -> Repaired {
        let mut kernel = Kernel::resident();
        let mut repaired = Repaired { steps: Vec::new(), failures: self.failures };
        for step in self.diff.plan.steps() {
            match kernel.apply_all(&Plan::from_iter([step.clone()])).pop() {
                None => repaired.steps.extend(lines(step)),
                Some(error) => repaired.failures.push(error.to_string()),
            }
        }
        for source in &self.sources {
            match zones::put_back(&source.0, source.1) {
                Ok(()) => repaired.steps.push(zones::line(source)),
                Err(error) => repaired.failures.push(error.to_string()),
            }
        }
        repaired
    }
}

fn lines(step: &Step) -> Vec<String> {
    step.to_string().lines().map(str::to_owned).collect()
}

impl Repair {
    pub(super) fn run(&self, reader: &mut Reader) -> Result<Repaired, Error> {
        let damage = self.look(reader)?;
        if damage.is_none() { Ok(Repaired::default()) } else { self.mend(reader, damage) }
    }

    pub(super) fn look(&self, reader: &mut Reader) -> Result<Damage, Error> {
        Damage::now(reader, self.scope, self.zones)
    }

    /// Mends what is still there of damage that was seen.
    pub(super) fn mend(&self, reader: &mut Reader, damage: Damage) -> Result<Repaired, Error> {
        if !damage.is_beyond_doubt() {
            let (things, mut failures) = (damage.things(), damage.failures);
            thread::sleep(SECOND_LOOK);
            let again = self.look(reader)?;
            if things.is_disjoint(&again.things()) {
                failures.retain(|failure| again.failures.contains(failure));
                return Ok(Repaired { steps: Vec::new(), failures });
            }
        }
        let _alone = Alone::within(self.patience)?;
        Ok(self.look(reader)?.mended())
    }
}

/// Stands for a line of a plan or a failure.
pub(super) fn thing(line: &str) -> Thing {
    let mut hasher = DefaultHasher::new();
    line.hash(&mut hasher);
    hasher.finish()
}
