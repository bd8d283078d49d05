//! Looks at the journal and at the host. Decides nothing.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use zeugma_journal::{Claims, NetnsRef, OverlayStates, Reader};
use zeugma_kernel::{Kernel, LinkState};
use zeugma_model::IfName;
use zeugma_plan::Side;
use zeugma_plan::nft::{TableFamily, skeleton_of};
use zeugma_upkeep::{Attached, Desired, Diff, Gathered, LinkSeen, Observed, RulesetSeen, TableSeen, diff};

use super::Error;

/// What is looked at besides links, addresses and routes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scope {
    /// Our tables, too.
    All,
    /// Nothing: nobody touched the ruleset.
    Links,
}

/// What the journal asks for, by all records as they are now, and why some of it cannot be read.
pub(super) fn desired(reader: &mut Reader) -> Result<(Desired, Vec<String>), Error> {
    let mut gathered = Gathered::default();
    let mut unread = reader.each(|id, record| {
        let is_alive = record.netns.as_ref().is_none_or(NetnsRef::is_alive);
        gathered.take(&Attached { id, record, is_alive });
    })?;
    match OverlayStates::default().each() {
        Ok(states) => states.into_iter().for_each(|(_, state)| match state {
            Ok(state) => state.iter().for_each(|state| gathered.overlay(state)),
            Err(error) => unread.push(error),
        }),
        Err(error) => unread.push(error),
    }
    let mut claims = BTreeMap::new();
    let mut doubtful = Vec::new();
    for port @ (protocol, number) in gathered.contested() {
        match Claims::glance(*protocol, *number) {
            Ok(known) => drop(claims.insert(*port, known)),
            Err(error) => {
                doubtful.push(*port);
                unread.push(error);
            }
        }
    }
    let mut desired = gathered.desired(&claims);
    doubtful.into_iter().for_each(|port| desired.forgo(port));
    Ok((desired, unread.iter().map(ToString::to_string).collect()))
}

/// The journal compared with the host.
pub(super) fn compared(kernel: &mut Kernel, desired: &Desired, scope: Scope) -> Result<Diff, Error> {
    Ok(diff(desired, &observed(kernel, desired, scope)?))
}

fn observed(kernel: &mut Kernel, desired: &Desired, scope: Scope) -> Result<Observed, Error> {
    let ruleset = if scope == Scope::All { Some(ruleset(kernel)?) } else { None };
    let mut sysctls = BTreeMap::new();
    for path in &desired.switches {
        sysctls.extend(kernel.sysctl(Side::Host, path)?.map(|value| (path.clone(), value)));
    }
    Ok(Observed { ruleset, links: links(kernel, desired)?, sysctls })
}

fn ruleset(kernel: &mut Kernel) -> Result<RulesetSeen, Error> {
    let mut seen = RulesetSeen::default();
    for family in [TableFamily::Inet, TableFamily::Bridge] {
        let Some(table) = kernel.table(family)? else { continue };
        for set in skeleton_of(family).sets {
            seen.elements.extend(kernel.members(set)?);
        }
        let zeugma_kernel::TableState { version, lacks, is_obstructed } = table;
        seen.tables.insert(family, TableSeen { version, lacks, is_obstructed });
    }
    Ok(seen)
}

fn links(kernel: &mut Kernel, desired: &Desired) -> Result<BTreeMap<IfName, LinkSeen>, Error> {
    let all = kernel.links(Side::Host)?;
    let names: HashMap<u32, IfName> = all.iter().map(|(name, state)| (state.index, name.clone())).collect();
    let mut links: BTreeMap<IfName, LinkSeen> =
        all.into_iter().map(|(name, state)| (name, seen(state, &names))).collect();
    let mut by_index = |index: u32, note: &dyn Fn(&mut LinkSeen)| {
        if let Some(link) = names.get(&index).and_then(|name| links.get_mut(name)) {
            note(link);
        }
    };
    for (index, address) in kernel.all_addresses()? {
        by_index(index, &|link| link.addresses.push(address));
    }
    if !desired.routed.is_empty() {
        for (index, route) in kernel.our_routes()? {
            by_index(index, &|link| link.routes.push(route.destination()));
        }
    }
    let has_vlans = desired.links.values().any(|port| port.vlans.is_some()) || !desired.gateways.is_empty();
    if has_vlans {
        for (index, vlans) in kernel.all_port_vlans()? {
            by_index(index, &|link| link.vlans.push(vlans));
        }
    }
    limits(kernel, desired, &names, &mut links)?;
    Ok(links)
}

fn limits(
    kernel: &mut Kernel,
    desired: &Desired,
    names: &HashMap<u32, IfName>,
    links: &mut BTreeMap<IfName, LinkSeen>,
) -> Result<(), Error> {
    let mut limited = BTreeSet::new();
    for (veth, limits) in &desired.limits {
        limited.extend(limits.ingress.as_ref().map(|_| veth));
        let Some((ifb, _)) = &limits.egress else { continue };
        limited.insert(ifb);
        if let Some(link) = links.get_mut(veth) {
            link.redirected_to = kernel.redirected_to(veth)?.and_then(|index| names.get(&index).cloned());
        }
    }
    for name in limited {
        if let Some(link) = links.get_mut(name) {
            link.limit = kernel.limit(name)?;
        }
    }
    Ok(())
}

fn seen(state: LinkState, names: &HashMap<u32, IfName>) -> LinkSeen {
    LinkSeen {
        kind: state.kind,
        alias: state.alias.unwrap_or_default(),
        up: state.up,
        mtu: state.mtu,
        promisc: state.promisc,
        master: state.master.and_then(|index| names.get(&index).cloned()),
        port: state.port.unwrap_or_default(),
        vlan_filtering: state.vlans.is_some_and(|vlans| vlans.filtering),
        ..LinkSeen::default()
    }
}
