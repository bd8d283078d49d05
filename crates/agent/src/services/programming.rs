//! The thread that programs services into the kernel: it alone holds the socket and what is programmed, and may wait
//! for the kernel as long as that takes.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::net::IpAddr;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use ipnetwork::IpNetwork;
use zeugma_kernel::{Error, Kernel, Programmer};
use zeugma_model::{NodeName, ServiceName};
use zeugma_plan::{Family, Plan, Side, Step};
use zeugma_services::{Conflict, Programmed, Situation, Workload};
use zeugma_upkeep::forwarding_path;

use super::batch::{Batch, Batches, Wish};
use super::director::Event;
use super::ground::Ground;
use super::owner::Owner;
use super::ranges;
use super::unfit::Occupied;

/// Without work, what others may change beside the table is looked at as often: routes, forwarding, addresses.
const PERIOD: Duration = Duration::from_secs(5);

/// What is to be done, one after the other.
pub(super) enum Work {
    /// Whatever the kernel has: this it is to have, and of those that are only named what it has.
    Sync(Vec<Workload>, Kept, Ground),
    /// These services are others; the subnets, too, when they are given.
    Change(Vec<Wish>, Option<Ground>),
}

/// What stays as it is, of what the kernel has and nobody says anything of.
pub(super) enum Kept {
    /// Services that cannot be read.
    These(Vec<ServiceName>),
    /// All: what is known may be old.
    All,
}

/// What came of it.
#[derive(Debug, Default)]
pub(crate) struct Done {
    pub(super) conflicts: Vec<Conflict>,
    /// Virtual addresses that are left out, a line each.
    pub(super) unfit: Vec<(ServiceName, String)>,
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
pub(super) fn start(place: Place, tell: impl Fn(Event) + Send + 'static) -> std::io::Result<Sender<Work>> {
    let (sender, works) = channel();
    // The kernel names this thread as the maker of its transactions: fifteen bytes.
    let thread = thread::Builder::new().name("zeugma-services".into());
    thread.spawn(move || Programming::new(place).run(&works, tell))?;
    Ok(sender)
}

/// Who has flows already. Without a table that tells nobody does.
fn served() -> HashMap<ServiceName, HashSet<IpAddr>> {
    let observed = Programmer::open().and_then(|mut programmer| programmer.observe());
    let observed = observed.inspect_err(|error| tracing::debug!(%error, "who had flows is not known"));
    Programmed::observed(observed.unwrap_or_default()).serving()
}

struct Programming {
    place: Place,
    kernel: Kernel,
    programmer: Option<Programmer>,
    batches: Batches,
    situation: Situation,
    occupied: Occupied,
    subnets: Vec<IpNetwork>,
    /// Of other hosts' subnets, those that there is a route to.
    elsewhere: BTreeSet<IpNetwork>,
    routed: BTreeSet<IpNetwork>,
    /// Virtual addresses that are left out, and why.
    unfit: BTreeMap<ServiceName, Vec<(IpAddr, String)>>,
    held: BTreeSet<IpNetwork>,
    forwards: BTreeSet<Family>,
}

impl Programming {
    fn new(place: Place) -> Self {
        let situation = Ground::default().situation(&place, |_| true, &BTreeSet::new());
        Self {
            place,
            kernel: Kernel::resident(),
            programmer: None,
            batches: Batches::default(),
            situation,
            occupied: Occupied::default(),
            subnets: Vec::new(),
            elsewhere: BTreeSet::new(),
            routed: BTreeSet::new(),
            unfit: BTreeMap::new(),
            held: BTreeSet::new(),
            forwards: BTreeSet::new(),
        }
    }

    fn run(mut self, works: &Receiver<Work>, tell: impl Fn(Event)) {
        tell(Event::Served(served()));
        loop {
            let work = match works.recv_timeout(PERIOD) {
                Ok(work) => work,
                Err(RecvTimeoutError::Timeout) => {
                    if self.is_undermined() {
                        tell(Event::Lost);
                    }
                    continue;
                }
                Err(RecvTimeoutError::Disconnected) => return,
            };
            let begin = Instant::now();
            let (is_sync, is_ground) =
                (matches!(work, Work::Sync(..)), matches!(work, Work::Change(_, Some(_))));
            let mut done = match work {
                Work::Sync(workloads, kept, ground) => self.sync(workloads, kept, &ground),
                Work::Change(wishes, ground) => self.change(wishes, ground.as_ref()),
            }
            .unwrap_or_else(|error| Done { error: Some(error.to_string()), ..Done::default() });
            (done.is_sync, done.took) = (is_sync, begin.elapsed());
            tell(Event::Done(done));
            if is_ground && self.is_occupied_otherwise() {
                tell(Event::Lost);
            }
            if is_sync {
                zeugma_kernel::give_back_memory();
            }
        }
    }

    fn sync(&mut self, mut workloads: Vec<Workload>, kept: Kept, ground: &Ground) -> Result<Done, Error> {
        if let Err(told) = self.place.owner.ensure_ours() {
            return Ok(Done { error: Some(told), ..Done::default() });
        }
        // A socket that was refused something may have more to say of it.
        self.programmer = None;
        self.batches = Batches::default();
        (self.held, self.forwards) = Default::default();
        self.unfit.clear();
        self.situate(ground)?;
        self.look_around()?;
        workloads.iter_mut().for_each(|workload| self.fit(workload));
        if workloads.is_empty() && matches!(&kept, Kept::These(names) if names.is_empty()) {
            // A host without services needs no nftables for them.
            return match self.nothing_left() {
                Err(error) if error.is_without_nftables() => Ok(Done::default()),
                cleared => cleared,
            };
        }
        let mut programmer = Programmer::open()?;
        self.batches = Batches::observed(programmer.observe()?);
        self.programmer = Some(programmer);
        let kept = match kept {
            Kept::These(names) => names,
            Kept::All => self.batches.unnamed(&workloads),
        };
        self.batches.keep(kept, &self.place.ranges);
        let batch = self.batches.sync(workloads, &self.situation, &self.place.ranges);
        let problems = Some(ranges::overlaps(&mut self.kernel, &self.place.ranges)?);
        Ok(Done { problems, ..self.apply(batch)? })
    }

    fn change(&mut self, mut wishes: Vec<Wish>, ground: Option<&Ground>) -> Result<Done, Error> {
        let was_empty = self.batches.is_empty();
        let mut problems = None;
        if let Some(ground) = ground {
            self.situate(ground)?;
        }
        if was_empty && wishes.is_empty() {
            return Ok(Done::default());
        }
        if was_empty || ground.is_some() {
            problems = Some(ranges::overlaps(&mut self.kernel, &self.place.ranges)?);
        }
        let vips =
            wishes.iter().filter_map(|(_, wish)| wish.as_ref()).flat_map(|wish| wish.service.vips().iter());
        if ground.is_some() || vips.into_iter().any(|vip| !self.batches.has_vip(vip)) {
            self.look_around()?;
        }
        for (name, workload) in &mut wishes {
            self.unfit.remove(name);
            workload.iter_mut().for_each(|workload| self.fit(workload));
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
        let lines = |name| self.unfit.get(name).into_iter().flatten().map(move |(_, line)| (name, line));
        let unfit =
            looked_at.iter().flat_map(lines).map(|(name, line)| (name.clone(), line.clone())).collect();
        Ok(Done { conflicts, looked_at, unfit, ..done })
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

    /// Who has which address, by now.
    fn look_around(&mut self) -> Result<(), Error> {
        let own = self.kernel.all_addresses()?.into_iter().map(|(_, address)| address.ip());
        self.occupied = Occupied::new(own, self.subnets.clone());
        Ok(())
    }

    /// Puts back routes and forwarding that somebody took away. Whether all is to be looked at anew.
    fn is_undermined(&mut self) -> bool {
        if self.batches.is_empty() && self.unfit.is_empty() {
            return false;
        }
        (self.held, self.forwards) = Default::default();
        let looked = self.let_through().and_then(|()| self.look_around());
        let is_routed_otherwise = looked.and_then(|()| Ok(self.routed()? != self.routed));
        let looked = is_routed_otherwise
            .inspect_err(|error| tracing::warn!(%error, "routes and forwarding are not looked at"));
        looked.unwrap_or(true) || self.is_occupied_otherwise()
    }

    /// Leaves out the addresses that are somebody else's.
    fn fit(&mut self, workload: &mut Workload) {
        let unfit = self.occupied.fit(workload);
        if !unfit.is_empty() {
            self.unfit.insert(workload.service.name.clone(), unfit);
        }
    }

    /// Whether somebody else has a virtual address that is programmed, or no longer has one that was left out.
    fn is_occupied_otherwise(&self) -> bool {
        let is_taken = |vip: IpAddr| self.occupied.why(vip).is_some();
        self.batches.vips().any(is_taken) || self.unfit.values().flatten().any(|(vip, _)| !is_taken(*vip))
    }

    /// Of other hosts' subnets, those that a route leads to: a default route leads anywhere.
    fn routed(&mut self) -> Result<BTreeSet<IpNetwork>, Error> {
        if self.elsewhere.is_empty() {
            return Ok(BTreeSet::new());
        }
        let routes = self.kernel.destinations()?;
        let is_routed = |subnet: &&IpNetwork| {
            let leads = |route: &IpNetwork| {
                (1..=subnet.prefix()).contains(&route.prefix()) && route.contains(subnet.network())
            };
            routes.iter().any(leads)
        };
        Ok(self.elsewhere.iter().filter(is_routed).copied().collect())
    }

    fn situate(&mut self, ground: &Ground) -> Result<(), Error> {
        self.subnets = ground.subnets();
        self.elsewhere.clone_from(ground.elsewhere());
        self.routed = self.routed()?;
        let sees = Family::ALL.map(|family| {
            let tool = match family {
                Family::V4 => "iptables",
                Family::V6 => "ip6tables",
            };
            let value = self.kernel.sysctl(Side::Host, &format!("net/bridge/bridge-nf-call-{tool}"));
            (family, value.is_ok_and(|value| value.is_some_and(|value| value.trim() == "1")))
        });
        let sees_frames = |subnet: IpNetwork| sees.contains(&(Family::of(subnet.ip()), true));
        self.situation = ground.situation(&self.place, sees_frames, &self.routed);
        Ok(())
    }
}
