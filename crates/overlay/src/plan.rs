//! What is wanted × what is there → the least changes.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnetwork::IpNetwork;
use zeugma_model::{IfName, Mac};

use crate::objects::Wanted;
use crate::{Desired, Device, DeviceKind, Forward, LinkSeen, Observed, Route, RouteKey, SeenKind};

/// Changes. Field order is apply order: that there is no other way is said first and taken back last, entries of a
/// device are there before a route needs them, and addresses until no route has them as its source.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// Names that ours are to have and somebody else's link has: it is left alone.
    pub foreign: BTreeSet<IfName>,
    /// WireGuard devices that are not there yet: whoever makes them is told elsewhere.
    pub missing: BTreeSet<IfName>,
    /// Unreachable routes that are new.
    pub guard: BTreeSet<RouteKey>,
    /// Devices that go, with all that is on them: those that nobody wants, and those that are made again.
    pub unlink: BTreeSet<IfName>,
    /// Devices that are made.
    pub link: BTreeMap<IfName, Device>,
    /// Devices that are changed.
    pub set: BTreeMap<IfName, Change>,
    /// Routes that go.
    pub unroute: BTreeSet<RouteKey>,
    /// Neighbours that go.
    pub unneighbour: BTreeSet<(IfName, IpAddr)>,
    /// Forwarding entries that go.
    pub unforward: BTreeSet<Forward>,
    /// Forwarding entries, new or in the place of one for the same Ethernet address.
    pub forward: BTreeSet<Forward>,
    /// Neighbours, new or changed.
    pub neighbour: BTreeMap<(IfName, IpAddr), Mac>,
    /// Addresses that are new.
    pub address: BTreeSet<(IfName, IpNetwork)>,
    /// Routes that are new.
    pub route: BTreeMap<RouteKey, Route>,
    /// Routes in the place of ours.
    pub reroute: BTreeMap<RouteKey, Route>,
    /// Addresses that go.
    pub unaddress: BTreeSet<(IfName, IpNetwork)>,
    /// Unreachable routes that go.
    pub unguard: BTreeSet<RouteKey>,
}

/// What is changed of a device.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Change {
    /// Its mark.
    pub alias: Option<String>,
    /// Its Ethernet address.
    pub mac: Option<Mac>,
    /// Bytes.
    pub mtu: Option<u32>,
    /// Whether it is brought up.
    pub up: bool,
}

impl Plan {
    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        let told = Self { foreign: self.foreign.clone(), missing: self.missing.clone(), ..Self::default() };
        *self == told
    }
}

/// The least changes after which `observed` is what is desired.
pub fn plan(desired: &Desired, observed: &Observed) -> Plan {
    let wanted = Wanted::of(desired);
    let mut plan = Plan::default();
    links(&mut plan, &wanted, observed);
    let absent: BTreeSet<IfName> = plan.foreign.union(&plan.missing).cloned().collect();
    let wanted = if absent.is_empty() { wanted } else { wanted.without(&absent) };
    let there = match plan.unlink.is_empty() {
        true => Cow::Borrowed(observed),
        false => Cow::Owned(observed.without(&plan.unlink)),
    };
    plan.unaddress = there.addresses.difference(&wanted.addresses).cloned().collect();
    plan.address = wanted.addresses.difference(&there.addresses).cloned().collect();
    neighbours(&mut plan, &wanted, &there);
    forwards(&mut plan, &wanted, &there);
    routes(&mut plan, &wanted, &there);
    plan
}

fn links(plan: &mut Plan, wanted: &Wanted, observed: &Observed) {
    for (name, device) in &wanted.links {
        match (observed.links.get(name), &device.kind) {
            (None, DeviceKind::Vxlan { .. }) => drop(plan.link.insert(name.clone(), device.clone())),
            (None, DeviceKind::Wireguard) => drop(plan.missing.insert(name.clone())),
            (Some(seen), kind) => match standing(seen, kind) {
                Standing::Foreign => drop(plan.foreign.insert(name.clone())),
                Standing::Wrong => {
                    plan.unlink.insert(name.clone());
                    plan.link.insert(name.clone(), device.clone());
                }
                Standing::Right => {
                    let change = change(seen, device);
                    if change != Change::default() {
                        plan.set.insert(name.clone(), change);
                    }
                }
            },
        }
    }
    let unwanted =
        observed.links.iter().filter(|(name, seen)| seen.is_ours() && !wanted.links.contains_key(*name));
    plan.unlink.extend(unwanted.map(|(name, _)| name.clone()));
}

enum Standing {
    Foreign,
    Wrong,
    Right,
}

/// Whose a link is, and whether it is what it is to be. One without alias is ours if its Ethernet address is: we were
/// stopped before we marked it.
fn standing(seen: &LinkSeen, kind: &DeviceKind) -> Standing {
    match (kind, &seen.kind) {
        (DeviceKind::Vxlan { vni, port, local, mac }, there) => {
            let is_ours = seen.is_ours() || (seen.alias.is_empty() && seen.mac == Some(*mac));
            let (vni, local) = (Some(vni.get()), Some(*local));
            match is_ours {
                false => Standing::Foreign,
                true if *there == SeenKind::Vxlan { vni, port: *port, local, learning: false } => {
                    Standing::Right
                }
                true => Standing::Wrong,
            }
        }
        (DeviceKind::Wireguard, SeenKind::Wireguard | SeenKind::Tun) if seen.is_ours() => Standing::Right,
        (DeviceKind::Wireguard, _) => Standing::Foreign,
    }
}

fn change(seen: &LinkSeen, device: &Device) -> Change {
    let mac = match device.kind {
        DeviceKind::Vxlan { mac, .. } => Some(mac).filter(|mac| seen.mac != Some(*mac)),
        DeviceKind::Wireguard => None,
    };
    Change {
        alias: Some(&device.alias).filter(|alias| seen.alias != **alias).cloned(),
        mac,
        mtu: Some(device.mtu).filter(|mtu| seen.mtu != *mtu),
        up: !seen.up,
    }
}

fn neighbours(plan: &mut Plan, wanted: &Wanted, there: &Observed) {
    let gone = there.neighbours.keys().filter(|key| !wanted.neighbours.contains_key(key));
    plan.unneighbour = gone.cloned().collect();
    let new = wanted.neighbours.iter().filter(|(key, mac)| there.neighbours.get(key) != Some(mac));
    plan.neighbour = new.map(|(key, mac)| (key.clone(), *mac)).collect();
}

/// An entry takes the place of the only other one for its Ethernet address. Of several, which one is not said: they go.
fn forwards(plan: &mut Plan, wanted: &Wanted, there: &Observed) {
    plan.forward = wanted.forwards.difference(&there.forwards).cloned().collect();
    let replaced: BTreeSet<(&IfName, Mac)> = plan.forward.iter().map(|new| (&new.link, new.mac)).collect();
    let mut gone: BTreeMap<(&IfName, Mac), Vec<&Forward>> = BTreeMap::new();
    for forward in there.forwards.difference(&wanted.forwards) {
        gone.entry((&forward.link, forward.mac)).or_default().push(forward);
    }
    gone.retain(|key, entries| entries.len() > 1 || !replaced.contains(key));
    plan.unforward = gone.into_values().flatten().cloned().collect();
}

fn routes(plan: &mut Plan, wanted: &Wanted, there: &Observed) {
    for (key, route) in &there.routes {
        if !wanted.routes.contains_key(key) {
            let gone = if *route == Route::Unreachable { &mut plan.unguard } else { &mut plan.unroute };
            gone.insert(*key);
        }
    }
    for (key, route) in &wanted.routes {
        match there.routes.get(key) {
            Some(now) if now == route => {}
            // The kernel does not let an IPv6 next hop move to another link.
            Some(now) if key.destination.is_ipv6() && link_of(now) != link_of(route) => {
                plan.unroute.insert(*key);
                plan.route.insert(*key, route.clone());
            }
            Some(_) => drop(plan.reroute.insert(*key, route.clone())),
            None if *route == Route::Unreachable => drop(plan.guard.insert(*key)),
            None => drop(plan.route.insert(*key, route.clone())),
        }
    }
}

fn link_of(route: &Route) -> Option<&IfName> {
    match route {
        Route::By { link, .. } => Some(link),
        Route::Unreachable | Route::Other => None,
    }
}

impl Observed {
    /// What is there when all of `plan` was done: as the kernel would say.
    #[must_use]
    pub fn after(self, plan: &Plan) -> Self {
        let mut after = if plan.unlink.is_empty() { self } else { self.without(&plan.unlink) };
        after.links.extend(plan.link.iter().map(|(name, device)| (name.clone(), made(device))));
        for (name, change) in &plan.set {
            after.links.entry(name.clone()).and_modify(|seen| changed(seen, change));
        }
        after.routes.extend(plan.guard.iter().map(|key| (*key, Route::Unreachable)));
        after.routes.retain(|key, _| !plan.unroute.contains(key) && !plan.unguard.contains(key));
        after.neighbours.retain(|key, _| !plan.unneighbour.contains(key));
        after.forwards.retain(|entry| !plan.unforward.contains(entry));
        let replaced: BTreeSet<(&IfName, Mac)> =
            plan.forward.iter().map(|new| (&new.link, new.mac)).collect();
        if !replaced.is_empty() {
            after.forwards.retain(|entry| !replaced.contains(&(&entry.link, entry.mac)));
        }
        after.forwards.extend(plan.forward.iter().cloned());
        after.neighbours.extend(plan.neighbour.iter().map(|(key, mac)| (key.clone(), *mac)));
        after.addresses.extend(plan.address.iter().cloned());
        for routes in [&plan.route, &plan.reroute] {
            after.routes.extend(routes.iter().map(|(key, route)| (*key, route.clone())));
        }
        after.addresses.retain(|address| !plan.unaddress.contains(address));
        after
    }
}

fn made(device: &Device) -> LinkSeen {
    let (kind, mac) = match device.kind {
        DeviceKind::Vxlan { vni, port, local, mac } => {
            let (vni, local) = (Some(vni.get()), Some(local));
            (SeenKind::Vxlan { vni, port, local, learning: false }, Some(mac))
        }
        DeviceKind::Wireguard => (SeenKind::Wireguard, None),
    };
    LinkSeen { alias: device.alias.clone(), kind, mac, mtu: device.mtu, up: true }
}

fn changed(seen: &mut LinkSeen, change: &Change) {
    if let Some(alias) = &change.alias {
        seen.alias.clone_from(alias);
    }
    seen.mac = change.mac.or(seen.mac);
    seen.mtu = change.mtu.unwrap_or(seen.mtu);
    seen.up |= change.up;
}
