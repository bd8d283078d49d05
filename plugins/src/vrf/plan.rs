//! How an interface gets into a VRF with all that the kernel drops on the way, and out again. Pure: what is there is
//! handed in.

use std::collections::BTreeSet;

use ipnetwork::IpNetwork;
use zeugma_kernel::{LinkState, RouteState};
use zeugma_model::IfName;
use zeugma_plan::{AddressFlags, Link, LinkChange, LinkKind, Master, Plan, RouteSpec, Side, Step};

use super::config::Config;
use super::error::Error;
use crate::routing::{MAIN, free_table};

/// The mark on a VRF that zeugma made.
const ALIAS: &str = "zeugma vrf";
/// `RTPROT_KERNEL`: routes that the kernel makes of addresses, in whatever table is right.
const KERNEL: u8 = 2;

/// What is there, in the container.
#[derive(Debug, Clone, Default)]
pub(super) struct Observed {
    pub(super) links: Vec<(IfName, LinkState)>,
    /// The interface's lasting addresses.
    pub(super) addresses: Vec<(IpNetwork, AddressFlags)>,
    /// The interface's routes, in all tables.
    pub(super) routes: Vec<RouteState>,
    /// The tables that rules lead to, or that have routes.
    pub(super) tables: BTreeSet<u32>,
}

impl Observed {
    fn link(&self, name: &IfName) -> Option<&LinkState> {
        self.links.iter().find(|(other, _)| other == name).map(|(_, state)| state)
    }

    /// The VRF, if it is there. Something else under the name is none.
    pub(super) fn vrf(&self, name: &IfName) -> Option<(&LinkState, u32)> {
        self.link(name).and_then(|state| Some((state, state.vrf_table?)))
    }

    fn free_table(&self) -> Option<u32> {
        let vrfs = self.links.iter().filter_map(|(_, state)| state.vrf_table);
        free_table(&self.tables.iter().copied().chain(vrfs).collect(), 1)
    }
}

/// The steps of an ADD.
pub(super) fn enslaved(config: &Config, dev: &IfName, observed: &Observed) -> Result<Plan, Error> {
    let table = table(config, observed)?;
    free_of_masters(dev, observed)?;
    let mut plan = Plan::new();
    if observed.vrf(&config.name).is_none() {
        plan.push(Step::CreateLink(Link {
            side: Side::Container,
            name: config.name.clone(),
            mtu: None,
            mac: None,
            alias: Some(ALIAS.into()),
            kind: LinkKind::Vrf { table },
        }));
    }
    let up = LinkChange { up: Some(true), ..LinkChange::default() };
    plan.push(Step::SetLink(Side::Container, config.name.clone(), up));
    moved(&mut plan, config, dev, table, observed);
    plan.push_lasting(Step::AwaitCarrier(Side::Container, dev.clone()));
    Ok(plan)
}

/// The table of the VRF that is there, or that it will get.
fn table(config: &Config, observed: &Observed) -> Result<u32, Error> {
    match (observed.vrf(&config.name), config.table) {
        (Some((_, has)), Some(asked)) if has != asked => {
            Err(Error::OtherTable { name: config.name.clone(), has, asked })
        }
        (Some((_, has)), _) => Ok(has),
        (None, _) if observed.link(&config.name).is_some() => {
            Err(Error::NotAVrf { name: config.name.clone() })
        }
        (None, Some(asked)) => Ok(asked),
        (None, None) => observed.free_table().ok_or(Error::NoTable),
    }
}

fn free_of_masters(dev: &IfName, observed: &Observed) -> Result<(), Error> {
    let Some(index) = observed.link(dev).and_then(|state| state.master) else { return Ok(()) };
    let master = observed.links.iter().find(|(_, state)| state.index == index);
    let master = master.map_or_else(|| format!("link {index}"), |(name, _)| name.to_string());
    Err(Error::HasMaster { ifname: dev.clone(), master })
}

/// The kernel sets the interface down and up, which costs it all IPv6 addresses and all routes that nobody's address
/// makes. They are taken off before and put on again in the VRF's table, routes on link before those that need them.
fn moved(plan: &mut Plan, config: &Config, dev: &IfName, table: u32, observed: &Observed) {
    let mut routes: Vec<&RouteState> =
        observed.routes.iter().filter(|route| route.is_unicast && route.protocol != KERNEL).collect();
    routes.sort_by_key(|route| route.gw.is_some());
    for route in routes.iter().rev() {
        let step = |step: fn(Side, RouteSpec) -> Step| step(Side::Container, route.spec(dev));
        plan.push_with_undo(step(Step::DeleteRoute), step(Step::AddRoute));
    }
    let addresses: Vec<_> = observed.addresses.iter().filter(|(address, _)| address.is_ipv6()).collect();
    // They were probed for duplicates when they came.
    let added = |address, flags| {
        Step::AddAddress(Side::Container, dev.clone(), address, AddressFlags { nodad: true, ..flags })
    };
    for (address, flags) in &addresses {
        let taken = Step::DeleteAddress(Side::Container, dev.clone(), *address);
        plan.push_with_undo(taken, added(*address, *flags));
    }
    plan.push_with_undo(mastered(dev, Master::Link(config.name.clone())), mastered(dev, Master::Nobody));
    addresses.iter().for_each(|(address, flags)| plan.push(added(*address, *flags)));
    for route in routes {
        // Routes in tables of their own, such as those of sbr, stay there.
        let table = if route.table == MAIN { table } else { route.table };
        plan.push(Step::AddRoute(Side::Container, RouteSpec { table: Some(table), ..route.spec(dev) }));
    }
}

fn mastered(dev: &IfName, master: Master) -> Step {
    let change = LinkChange { master: Some(master), ..LinkChange::default() };
    Step::SetLink(Side::Container, dev.clone(), change)
}

/// Whose VRF a DEL may remove once nobody is in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Whose {
    /// One that bears our mark.
    Ours,
    /// Any, as the reference does, which does not mark its own; but only by the interface that is in it.
    Anyones,
}

/// The steps of a DEL.
pub(super) fn released(vrf: &IfName, dev: &IfName, whose: Whose, links: &[(IfName, LinkState)]) -> Plan {
    let mut plan = Plan::new();
    let Some((_, state)) = links.iter().find(|(name, state)| name == vrf && state.vrf_table.is_some()) else {
        return plan;
    };
    let (own, others): (Vec<_>, Vec<_>) = links
        .iter()
        .filter(|(_, member)| member.master == Some(state.index))
        .partition(|(name, _)| name == dev);
    if !own.is_empty() {
        plan.push_lasting(mastered(dev, Master::Nobody));
    }
    let may_go = match whose {
        Whose::Ours => state.alias.as_deref() == Some(ALIAS),
        Whose::Anyones => !own.is_empty(),
    };
    if others.is_empty() && may_go {
        plan.push_lasting(Step::DeleteLink(Side::Container, vrf.clone()));
    }
    plan
}

/// What CHECK misses: the first thing that is not as ADD left it.
pub(super) fn missing(config: &Config, dev: &IfName, links: &[(IfName, LinkState)]) -> Option<String> {
    let name = &config.name;
    let observed = Observed { links: links.to_vec(), ..Observed::default() };
    let Some((vrf, table)) = observed.vrf(name) else {
        return Some(format!("the container has no VRF {name}"));
    };
    if let Some(asked) = config.table.filter(|asked| *asked != table) {
        return Some(format!("VRF {name} has routing table {table}, not {asked}"));
    }
    if !vrf.up {
        return Some(format!("VRF {name} is down"));
    }
    let is_inside = observed.link(dev).is_some_and(|state| state.master == Some(vrf.index));
    (!is_inside).then(|| format!("{dev} is not in VRF {name}"))
}
