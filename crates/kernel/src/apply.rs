//! Plans meet the kernel: steps that follow one another on the same socket go out as one datagram.

use std::thread;
use std::time::{Duration, Instant};

use netlink_packet_route::RouteNetlinkMessage;
use zeugma_model::IfName;
use zeugma_plan::nft::{NAMES_TABLE, TableFamily, names_table};
use zeugma_plan::{FlowFilter, Link, LinkChange, LinkKind, Master, Move, Plan, Side, Step};

use crate::netfilter::{Put, Whose};
use crate::route::{Flags, Request, requests};
use crate::{Error, Kernel, Refusal, routers, sysctl, tap};

/// Which way a step goes to the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lane {
    Route(Side),
    Alone,
}

fn lane(step: &Step) -> Lane {
    match step {
        Step::SetPortVlans(..)
        | Step::Shape(..)
        | Step::Unshape(_)
        | Step::Redirect(..)
        | Step::EndRedirect(_) => Lane::Route(Side::Host),
        Step::CreateLink(link) => Lane::Route(link.made_from()),
        Step::MoveLink(Move { from, .. }) => Lane::Route(*from),
        Step::SetLink(side, ..)
        | Step::RenameLink(side, ..)
        | Step::DeleteLink(side, _)
        | Step::AddAddress(side, ..)
        | Step::DeleteAddress(side, ..)
        | Step::AddRoute(side, _)
        | Step::DeleteRoute(side, _)
        | Step::AddRule(side, _)
        | Step::DeleteRule(side, _) => Lane::Route(*side),
        Step::CreateTap(_)
        | Step::AwaitCarrier(..)
        | Step::DeleteUnusedBridge(_)
        | Step::SetSysctl(..)
        | Step::ShareElements(_)
        | Step::CreateElements(_)
        | Step::DeleteElements(_)
        | Step::UnshareElements(_)
        | Step::MendTable(..)
        | Step::DeleteTables
        | Step::RedirectDns(_)
        | Step::EndRedirectDns
        | Step::FlushFlows(_) => Lane::Alone,
    }
}

/// All or nothing.
pub(crate) fn apply(kernel: &mut Kernel, plan: &Plan) -> Result<(), Error> {
    let steps: Vec<(usize, &Step)> = plan.steps().enumerate().collect();
    let mut done = Vec::new();
    for group in steps.chunk_by(|a, b| lane(a.1) != Lane::Alone && lane(a.1) == lane(b.1)) {
        if let Err(error) = run(kernel, group, &mut done) {
            for step in plan.undo_of(&done) {
                // The first error is the one to tell; what cannot be undone is gone already.
                let _ = run(kernel, &[(0, &step)], &mut Vec::new());
            }
            return Err(error);
        }
    }
    Ok(())
}

/// Every step by itself, whatever the others do.
pub(crate) fn apply_all(kernel: &mut Kernel, plan: &Plan) -> Vec<Error> {
    plan.steps().filter_map(|step| run(kernel, &[(0, step)], &mut Vec::new()).err()).collect()
}

fn run(kernel: &mut Kernel, group: &[(usize, &Step)], done: &mut Vec<usize>) -> Result<(), Error> {
    match group {
        [] => Ok(()),
        [(position, step)] if lane(step) == Lane::Alone => {
            alone(kernel, step)?;
            done.push(*position);
            Ok(())
        }
        [(_, first), ..] => match lane(first) {
            Lane::Route(side) => by_route(kernel, side, group, done),
            Lane::Alone => Ok(()),
        },
    }
}

fn alone(kernel: &mut Kernel, step: &Step) -> Result<(), Error> {
    match step {
        Step::SetSysctl(Side::Host, value) => {
            kernel.inside(Side::Host, || routers::keep(value).and_then(|()| sysctl::set(value)))?
        }
        Step::SetSysctl(Side::Container, value) => kernel.inside(Side::Container, || sysctl::set(value))?,
        Step::ShareElements(elements) => kernel.netfilter()?.put(Put::Share, elements),
        Step::CreateElements(elements) => kernel.netfilter()?.put(Put::Create, elements),
        Step::DeleteElements(elements) => kernel.netfilter()?.delete(Whose::Owners, elements),
        Step::UnshareElements(elements) => kernel.netfilter()?.delete(Whose::Anyones, elements),
        Step::MendTable(family, mending, elements) => kernel.netfilter()?.mend(*family, *mending, elements),
        Step::DeleteTables => kernel.netfilter()?.delete_tables(),
        Step::RedirectDns(port) => kernel.container_netfilter()?.replace_table(&names_table(*port)),
        Step::EndRedirectDns => kernel.container_netfilter()?.delete_table(TableFamily::Inet, NAMES_TABLE),
        Step::FlushFlows(filters) => flush(kernel, filters),
        Step::AwaitCarrier(side, name) => await_carrier(kernel, *side, name),
        Step::DeleteUnusedBridge(name) => {
            if kernel.ports_of(name)?.is_empty() {
                run(kernel, &[(0, &Step::DeleteLink(Side::Host, name.clone()))], &mut Vec::new())?;
            }
            Ok(())
        }
        Step::CreateTap(tap) => {
            kernel.route(Side::Container)?.forget(&tap.name);
            kernel.inside(Side::Container, || tap::create(tap))?
        }
        Step::CreateLink(_)
        | Step::MoveLink(_)
        | Step::RenameLink(..)
        | Step::SetLink(..)
        | Step::DeleteLink(..)
        | Step::SetPortVlans(..)
        | Step::AddAddress(..)
        | Step::DeleteAddress(..)
        | Step::AddRoute(..)
        | Step::DeleteRoute(..)
        | Step::Shape(..)
        | Step::Unshape(_)
        | Step::Redirect(..)
        | Step::EndRedirect(_)
        | Step::AddRule(..)
        | Step::DeleteRule(..) => Ok(()),
    }
}

/// The kernel starts a link's queue from a work queue (linkwatch), a moment after it is set up; what is
/// sent before is lost, and a lost first packet costs a second.
fn await_carrier(kernel: &mut Kernel, side: Side, name: &IfName) -> Result<(), Error> {
    const PATIENCE: Duration = Duration::from_millis(500);
    const PAUSE: Duration = Duration::from_micros(20);
    let start = Instant::now();
    while kernel.link(side, name)?.is_some_and(|state| !state.carries) && start.elapsed() < PATIENCE {
        thread::sleep(PAUSE);
    }
    Ok(())
}

fn flush(kernel: &mut Kernel, filters: &[FlowFilter]) -> Result<(), Error> {
    kernel.route(Side::Host)?;
    kernel.netfilter()?;
    let (Some(route), Some(netfilter)) = (&mut kernel.host_route, &mut kernel.netfilter) else {
        return Ok(());
    };
    let (untranslated, others): (Vec<_>, Vec<_>) =
        filters.iter().partition(|filter| matches!(filter, FlowFilter::Untranslated { .. }));
    if untranslated.len() > FEW_FILTERS {
        netfilter.forget_all_untranslated(route, &untranslated)?;
    } else {
        untranslated.into_iter().try_for_each(|filter| netfilter.forget_flows(route, filter))?;
    }
    others.into_iter().try_for_each(|filter| netfilter.forget_flows(route, filter))
}

/// Up to here the kernel is asked for the flows of each port; for more, one walk through all flows is shorter.
const FEW_FILTERS: usize = 8;

/// What concerns a link that was made or renamed in this very batch waits for the batch before it: it may need the
/// link's index, and where making the link failed, another link may have the name.
fn by_route(
    kernel: &mut Kernel,
    side: Side,
    group: &[(usize, &Step)],
    done: &mut Vec<usize>,
) -> Result<(), Error> {
    let mut batch: Vec<(usize, RouteNetlinkMessage, Flags)> = Vec::new();
    let mut made = Vec::new();
    for (index, (position, step)) in group.iter().enumerate() {
        if needed(step).into_iter().flatten().any(|name| made.contains(&name)) {
            send(kernel, side, std::mem::take(&mut batch), group, done)?;
            made.clear();
        }
        made.extend(named(step));
        let mut requests = encoded(kernel, side, step)?;
        if requests.is_empty() {
            done.push(*position);
        }
        let marks = if is_shared_name(step) { requests.split_off(1) } else { Vec::new() };
        batch.extend(requests.into_iter().map(|(message, flags)| (index, message, flags)));
        if !marks.is_empty() {
            send(kernel, side, std::mem::take(&mut batch), group, done)?;
            made.clear();
            if done.contains(position) {
                batch.extend(marks.into_iter().map(|(message, flags)| (index, message, flags)));
            }
        }
    }
    send(kernel, side, batch, group, done)
}

/// The messages of a step; taking something away from what is gone takes none.
fn encoded(kernel: &mut Kernel, side: Side, step: &Step) -> Result<Vec<Request>, Error> {
    let Kernel { container, host_route, container_route, .. } = opened(kernel, side)?;
    let slot = if side == Side::Host { host_route } else { container_route };
    let Some(route) = slot else { return Err(Error::NoContainer) };
    match requests(route, container.as_ref(), step) {
        Err(Error::NoLink { .. }) if takes_away(step) => Ok(Vec::new()),
        other => other,
    }
}

/// A new link whose name somebody else may have taken: it is marked only once it is known to be ours. The name of a
/// veth and of an ifb is a hash that nobody else comes by.
fn is_shared_name(step: &Step) -> bool {
    match step {
        Step::CreateLink(link) => !matches!(link.kind, LinkKind::Veth { .. } | LinkKind::Ifb),
        _ => false,
    }
}

/// What is taken away from a link that is gone is gone, too.
fn takes_away(step: &Step) -> bool {
    matches!(step, Step::DeleteAddress(..) | Step::DeleteRoute(..) | Step::Unshape(_) | Step::EndRedirect(_))
}

fn opened(kernel: &mut Kernel, side: Side) -> Result<&mut Kernel, Error> {
    kernel.route(side)?;
    Ok(kernel)
}

/// The name that a step gives to a link.
fn named(step: &Step) -> Option<&IfName> {
    match step {
        Step::CreateLink(link) => Some(&link.name),
        Step::RenameLink(_, _, name) => Some(name),
        _ => None,
    }
}

/// The links that must be there for a step's message.
fn needed(step: &Step) -> [Option<&IfName>; 2] {
    match step {
        Step::SetLink(_, name, LinkChange { master: Some(Master::Link(master)), .. }) => {
            [Some(name), Some(master)]
        }
        Step::SetLink(_, name, _)
        | Step::AddAddress(_, name, ..)
        | Step::DeleteAddress(_, name, _)
        | Step::SetPortVlans(name, _)
        | Step::MoveLink(Move { name, .. })
        | Step::RenameLink(_, name, _)
        | Step::Shape(name, _)
        | Step::Redirect(_, name)
        | Step::CreateLink(Link {
            kind:
                LinkKind::Veth { port: Some((name, _)), .. }
                | LinkKind::Uplink { master: name, .. }
                | LinkKind::Child { parent: (_, name), .. },
            ..
        }) => [Some(name), None],
        Step::AddRoute(_, spec) | Step::DeleteRoute(_, spec) => [Some(&spec.dev), None],
        _ => [None, None],
    }
}

fn send(
    kernel: &mut Kernel,
    side: Side,
    batch: Vec<(usize, RouteNetlinkMessage, Flags)>,
    group: &[(usize, &Step)],
    done: &mut Vec<usize>,
) -> Result<(), Error> {
    let outcome = kernel.route(side)?.transact(batch)?;
    done.extend(outcome.done.iter().map(|index| group[*index].0));
    let real = outcome.failed.into_iter().find(|(index, refusal)| !is_done(group[*index].1, refusal));
    match real {
        Some((index, refusal)) => Err(Error::Refused { step: group[index].1.to_string(), refusal }),
        None => Ok(()),
    }
}

/// Deleting what is gone, and adding the route that is there, is done.
fn is_done(step: &Step, refusal: &Refusal) -> bool {
    match step {
        Step::DeleteLink(..) => refusal.errno == libc::ENODEV,
        Step::DeleteAddress(..) => [libc::EADDRNOTAVAIL, libc::ENODEV].contains(&refusal.errno),
        // EINVAL: the queue there has another handle, so it is not ours.
        Step::Unshape(_) | Step::EndRedirect(_) => {
            [libc::ENOENT, libc::ENODEV, libc::EINVAL].contains(&refusal.errno)
        }
        Step::DeleteRoute(..) => [libc::ESRCH, libc::ENODEV].contains(&refusal.errno),
        Step::DeleteRule(..) => refusal.errno == libc::ENOENT,
        // Somebody was faster: the bridge is shared, and its way to the host.
        Step::CreateLink(Link { kind: LinkKind::Bridge { .. } | LinkKind::Uplink { .. }, .. })
        | Step::AddRoute(..) => refusal.errno == libc::EEXIST,
        _ => false,
    }
}
