//! The plans of `host-device`: a device goes into the container, and comes back. Pure.

use zeugma_journal::{Device, Phase, Record};
use zeugma_kernel::{LinkState, RouteState};
use zeugma_model::{AttachmentId, IfName};
use zeugma_plan::{LinkChange, Master, Move, Plan, Side, Step};
use zeugma_protocol::{CniResult, Interface};

use super::config::Config;
use super::{Facts, Interfaced};
use crate::interface::addressing::{self, Setup};
use crate::interface::{self, Attached, Error, Place};

/// A link with its name.
pub(super) type Named = (IfName, LinkState);

/// Plans an ADD.
pub(super) fn attached(
    config: &Config,
    place: &Place,
    given: CniResult,
    facts: &Facts,
) -> Result<Attached, Error> {
    match facts {
        Facts::Interfaced(device) => moved(config, place, given, device),
        Facts::Userspace { pci } => {
            let interface =
                Interface { pci_id: Some(pci.clone()), ..addressing::in_container(place, None, None) };
            Ok(Attached {
                links: Plan::new(),
                addresses: Plan::new(),
                record: interface::record(place, None, &given),
                result: addressing::result(given, vec![interface], 0),
            })
        }
    }
}

fn moved(config: &Config, place: &Place, given: CniResult, device: &Interfaced) -> Result<Attached, Error> {
    let state = &device.state;
    let mut addresses = Plan::new();
    let setup = Setup { duplicate_detection: config.duplicate_detection, ..Setup::default() };
    addressing::steps(&mut addresses, place.ifname(), &given, &setup)?;
    let interface = Interface {
        pci_id: device.pci.clone(),
        ..addressing::in_container(place, state.mac, Some(state.mtu))
    };
    let original = Device { name: device.name.clone(), alias: state.alias.clone() };
    Ok(Attached {
        links: into_container(place, device),
        addresses,
        record: Record { device: Some(original), ..interface::record(place, state.mac, &given) },
        result: addressing::result(given, vec![interface], 0),
    })
}

/// The move takes the device down, out of its bridge, and its addresses and routes away; undone, it gets all of them
/// back. It goes under a name that nobody has: the kernel moves first and renames then, so that a name which is taken
/// would leave the device in the container under its old one.
fn into_container(place: &Place, device: &Interfaced) -> Plan {
    let (name, passing) = (&device.name, passing_name(&place.attachment));
    let mut plan = Plan::new();
    let set = |change| Step::SetLink(Side::Host, name.clone(), change);
    // Undone last: a route needs the device up, and one with a next hop the route to that. They are undone in
    // reverse, so those with a next hop are first.
    let (far, near): (Vec<_>, Vec<_>) = device.routes.iter().partition(|route| route.gw.is_some());
    for spec in far.into_iter().chain(near).map(|route| route.spec(name)) {
        plan.push_with_undo(Step::DeleteRoute(Side::Host, spec.clone()), Step::AddRoute(Side::Host, spec));
    }
    let marked = LinkChange { alias: Some(name.to_string()), ..LinkChange::default() };
    let as_before = LinkChange {
        alias: Some(device.state.alias.clone().unwrap_or_default()),
        up: device.state.up.then_some(true),
        ..LinkChange::default()
    };
    plan.push_with_undo(set(marked), set(as_before));
    // By itself: a master that takes no ports by netlink (Open vSwitch) must not keep the rest from coming back.
    if let Some(master) = &device.master {
        let of = |master| set(LinkChange { master: Some(master), ..LinkChange::default() });
        plan.push_with_undo(of(Master::Nobody), of(Master::Link(master.clone())));
    }
    for (address, flags) in &device.addresses {
        plan.push_with_undo(
            Step::DeleteAddress(Side::Host, name.clone(), *address),
            Step::AddAddress(Side::Host, name.clone(), *address, *flags),
        );
    }
    plan.push(Step::MoveLink(Move {
        from: Side::Host,
        name: name.clone(),
        to: Side::Container,
        new_name: passing.clone(),
    }));
    plan.push(Step::RenameLink(Side::Container, passing, place.ifname().clone()));
    plan
}

/// Whether a route is one that nothing but an undo brings back: neither the kernel's nor a router's word, which the
/// next advertisement says again.
pub(super) fn is_lost(route: &RouteState) -> bool {
    /// `RTPROT_REDIRECT`, `RTPROT_KERNEL` and `RTPROT_RA` of rtnetlink(7).
    const BY_THEMSELVES: [u8; 3] = [1, 2, 9];
    route.is_unicast && !route.is_multipath && !BY_THEMSELVES.contains(&route.protocol)
}

/// The device's name between the host's and the container's.
fn passing_name(id: &AttachmentId) -> IfName {
    id.hashed_name("dev")
}

/// Where the device of a record is now: the link in the container with its alias, or else with its address; or the
/// one on the host with its alias, which the kernel put there under some name when it destroyed the namespace. The
/// container may have given its name to another link.
pub(super) fn whereabouts(
    id: &AttachmentId,
    record: &Record,
    device: &Device,
    (inside, outside): (&[Named], &[Named]),
) -> Option<(Side, IfName)> {
    let is_marked = |link: &Named| link.1.alias.as_deref() == Some(device.name.as_str());
    let has_mac = |link: &Named| record.mac.is_some() && link.1.mac == record.mac;
    let is_named = |link: &Named| link.0 == id.ifname;
    // Half an ADD set the alias first.
    let is_whole = record.phase == Phase::Done;
    let marked = |links| the_one(links, is_marked, &[&has_mac, &|link| is_whole && is_named(link)]);
    let in_container = marked(inside)
        .or_else(|| the_one(inside, |link| is_whole && has_mac(link), &[&is_named]))
        .map(|name| (Side::Container, name));
    in_container.or_else(|| marked(outside).map(|name| (Side::Host, name)))
}

/// The one link that fits. Where several do, the first of the further traits that a single one of them has decides.
fn the_one(
    links: &[Named],
    fits: impl Fn(&Named) -> bool,
    further: &[&dyn Fn(&Named) -> bool],
) -> Option<IfName> {
    let fitting: Vec<&Named> = links.iter().filter(|link| fits(link)).collect();
    let single = |links: &[&Named]| match links {
        [(name, _)] => Some(name.clone()),
        _ => None,
    };
    let by_trait = |has: &&dyn Fn(&Named) -> bool| {
        single(&fitting.iter().copied().filter(|link| has(link)).collect::<Vec<_>>())
    };
    single(&fitting).or_else(|| further.iter().find_map(by_trait))
}

/// Plans the way back to the host, where the device is down and has its name and alias again. Where its name is
/// taken it gets another one, and keeps its own as alias.
pub(super) fn returned(id: &AttachmentId, device: &Device, at: (Side, IfName), outside: &[Named]) -> Plan {
    let is_taken = outside.iter().any(|(name, _)| *name == device.name);
    let original =
        LinkChange { alias: Some(device.alias.clone().unwrap_or_default()), ..LinkChange::default() };
    let down = LinkChange { up: Some(false), ..original.clone() };
    let restored = |change| Step::SetLink(Side::Host, device.name.clone(), change);
    let home = |new_name: IfName| {
        let name = at.1.clone();
        Step::MoveLink(Move { from: Side::Container, name, to: Side::Host, new_name })
    };
    Plan::from_iter(match (at.0, is_taken) {
        (Side::Container, false) => vec![home(device.name.clone()), restored(down)],
        (Side::Container, true) => vec![home(passing_name(id))],
        (Side::Host, true) if at.1 == device.name => vec![restored(original)],
        (Side::Host, true) => Vec::new(),
        (Side::Host, false) => {
            let still = LinkChange { up: Some(false), ..LinkChange::default() };
            vec![
                Step::SetLink(Side::Host, at.1.clone(), still),
                Step::RenameLink(Side::Host, at.1.clone(), device.name.clone()),
                restored(down),
            ]
        }
    })
}

/// Whether a device that comes back does not get its own name.
pub(super) fn is_misnamed(device: &Device, plan: &Plan) -> bool {
    plan.steps().any(|step| matches!(step, Step::MoveLink(there) if there.new_name != device.name))
}
