//! The thread that programs services into the kernel: it alone holds the socket and what is programmed, and may wait
//! for the kernel as long as that takes.

use std::collections::BTreeSet;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use ipnetwork::IpNetwork;
use zeugma_kernel::{Error, Kernel, Programmer};
use zeugma_model::{NodeName, ServiceName};
use zeugma_plan::{Family, Plan, Side, Step};
use zeugma_services::{Conflict, Situation, Workload};
use zeugma_upkeep::forwarding_path;

use super::batch::{Batch, Batches, Wish};
use super::ground::Ground;
use super::owner::Owner;
use super::ranges;

/// What is to be done, one after the other.
pub(super) enum Work {
    /// Whatever the kernel has: this it is to have.
    Sync(Vec<Workload>, Ground),
    /// These services are others; the subnets, too, when they are given.
    Change(Vec<Wish>, Option<Ground>),
}

/// What came of it.
#[derive(Debug, Default)]
pub(crate) struct Done {
    pub(super) conflicts: Vec<Conflict>,
    /// Services whose conflicts those are all of.
    pub(super) looked_at: Vec<ServiceName>,
    /// What went wrong: all has to be synced again.
    pub(super) error: Option<String>,
    /// What does not work besides, a line each; none: as before.
    pub(super) problems: Option<Vec<String>>,
    pub(super) is_sync: bool,
    pub(super) took: Duration,
}

/// Where services are programmed.
pub(super) struct Place {
    pub(super) node: NodeName,
    pub(super) ranges: Vec<IpNetwork>,
    pub(super) owner: Owner,
}

/// Starts the thread, in the namespace of this one. It ends with who holds the sender.
pub(super) fn start(place: Place, tell: impl Fn(Done) + Send + 'static) -> std::io::Result<Sender<Work>> {
    let (sender, works) = channel();
    // The kernel names this thread as the maker of its transactions: fifteen bytes.
    let thread = thread::Builder::new().name("zeugma-services".into());
    thread.spawn(move || Programming::new(place).run(&works, tell))?;
    Ok(sender)
}

struct Programming {
    place: Place,
    kernel: Kernel,
    programmer: Option<Programmer>,
    batches: Batches,
    situation: Situation,
    held: BTreeSet<IpNetwork>,
    forwards: BTreeSet<Family>,
}

impl Programming {
    fn new(place: Place) -> Self {
        let situation = Ground::default().situation(place.node.clone(), |_| true);
        Self {
            place,
            kernel: Kernel::resident(),
            programmer: None,
            batches: Batches::default(),
            situation,
            held: BTreeSet::new(),
            forwards: BTreeSet::new(),
        }
    }

    fn run(mut self, works: &Receiver<Work>, tell: impl Fn(Done)) {
        while let Ok(work) = works.recv() {
            let begin = Instant::now();
            let is_sync = matches!(work, Work::Sync(..));
            let mut done = match work {
                Work::Sync(workloads, ground) => self.sync(workloads, &ground),
                Work::Change(wishes, ground) => self.change(wishes, ground.as_ref()),
            }
            .unwrap_or_else(|error| Done { error: Some(error.to_string()), ..Done::default() });
            (done.is_sync, done.took) = (is_sync, begin.elapsed());
            tell(done);
            if is_sync {
                zeugma_kernel::give_back_memory();
            }
        }
    }

    fn sync(&mut self, workloads: Vec<Workload>, ground: &Ground) -> Result<Done, Error> {
        if let Err(told) = self.place.owner.ensure_ours() {
            return Ok(Done { error: Some(told), ..Done::default() });
        }
        // A socket that was refused something may have more to say of it.
        self.programmer = None;
        self.batches = Batches::default();
        (self.held, self.forwards) = Default::default();
        self.situate(ground);
        if workloads.is_empty() {
            // A host without services needs no nftables for them.
            let cleared = self.nothing_left();
            return Ok(cleared
                .inspect_err(|error| tracing::debug!(%error, "no services"))
                .unwrap_or_default());
        }
        let mut programmer = Programmer::open()?;
        self.batches = Batches::observed(programmer.observe()?);
        self.programmer = Some(programmer);
        let batch = self.batches.sync(workloads, &self.situation, &self.place.ranges);
        let problems = Some(ranges::overlaps(&mut self.kernel, &self.place.ranges)?);
        Ok(Done { problems, ..self.apply(batch)? })
    }

    fn change(&mut self, wishes: Vec<Wish>, ground: Option<&Ground>) -> Result<Done, Error> {
        let was_empty = self.batches.is_empty();
        let mut problems = None;
        if let Some(ground) = ground {
            self.situate(ground);
        }
        if was_empty && wishes.is_empty() {
            return Ok(Done::default());
        }
        if was_empty || ground.is_some() {
            problems = Some(ranges::overlaps(&mut self.kernel, &self.place.ranges)?);
        }
        let mut batch = self.batches.change(wishes, &self.situation, &self.place.ranges);
        if ground.is_some() || was_empty {
            let situated = self.batches.situate(&self.situation);
            batch.changes.insert(0, situated);
        }
        Ok(Done { problems, ..self.apply(batch)? })
    }

    fn apply(&mut self, batch: Batch) -> Result<Done, Error> {
        let Batch { changes, conflicts, looked_at } = batch;
        if !self.batches.is_empty()
            && let Err(told) = self.place.owner.keep()
        {
            return Ok(Done { error: Some(told), ..Done::default() });
        }
        self.let_through()?;
        let programmer = match &mut self.programmer {
            Some(programmer) => programmer,
            slot @ None => slot.insert(Programmer::open()?),
        };
        for changes in changes.iter().filter(|changes| !changes.is_empty()) {
            programmer.apply(changes)?;
        }
        let done = if self.batches.is_empty() { self.nothing_left()? } else { Done::default() };
        Ok(Done { conflicts, looked_at, ..done })
    }

    /// Without services the host is as it was before them.
    fn nothing_left(&mut self) -> Result<Done, Error> {
        let mut programmer = match self.programmer.take() {
            Some(programmer) => programmer,
            None => Programmer::open()?,
        };
        programmer.remove()?;
        if let Err(error) = self.place.owner.forget() {
            tracing::warn!(error, "another catalogue will be refused");
        }
        self.batches = Batches::default();
        self.kernel.hold_vip_routes(&[])?;
        self.held.clear();
        Ok(Done::default())
    }

    /// Packets to virtual addresses get as far as the rules, and from there to endpoints.
    fn let_through(&mut self) -> Result<(), Error> {
        if self.batches.is_empty() {
            return Ok(());
        }
        let wanted: BTreeSet<IpNetwork> =
            self.place.ranges.iter().copied().chain(self.batches.elsewhere()).collect();
        if wanted != self.held {
            self.kernel.hold_vip_routes(&Vec::from_iter(wanted.iter().copied()))?;
            self.held = wanted;
        }
        for family in self.batches.families().difference(&self.forwards.clone()) {
            let path = forwarding_path(*family).into();
            let value = zeugma_plan::Sysctl { path, value: "1".into(), optional: true };
            self.kernel.apply(&Plan::from_iter([Step::SetSysctl(Side::Host, value)]))?;
            self.forwards.insert(*family);
        }
        Ok(())
    }

    fn situate(&mut self, ground: &Ground) {
        let sees = Family::ALL.map(|family| {
            let tool = match family {
                Family::V4 => "iptables",
                Family::V6 => "ip6tables",
            };
            let value = self.kernel.sysctl(Side::Host, &format!("net/bridge/bridge-nf-call-{tool}"));
            (family, value.is_ok_and(|value| value.is_some_and(|value| value.trim() == "1")))
        });
        let sees_frames = |subnet: IpNetwork| sees.contains(&(Family::of(subnet.ip()), true));
        self.situation = ground.situation(self.place.node.clone(), sees_frames);
    }
}
