//! SRV records (RFC 2782): where the named ports of services are, and by which names they are reached.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use super::answer::addresses;
use super::derived::{Held, TASK_LABEL_BYTES, task_label};
use super::network::Settings;
use super::render::{TTL, rotated};
use super::service::{NamedPort, Service};
use super::{Outcome, View};
use crate::wire::{Full, NAME_BYTES, Reply, kind};

/// Where a service's port is.
#[derive(Debug, PartialEq, Eq)]
pub struct Targets<'a> {
    /// The port.
    pub port: u16,
    /// On the wire with its final zero: the target, or what the targets' names end in.
    pub name: Vec<u8>,
    /// Whether each address is a target of its own, with a name below `name`.
    pub each: bool,
    /// Addresses.
    pub v4: &'a [Ipv4Addr],
    /// More of them.
    pub v6: &'a [Ipv6Addr],
}

impl<'a> View<'a> {
    /// A service's named port, or that of its endpoints. `settings`: the network where it was found.
    pub(super) fn port(
        &self,
        kind: u16,
        (service, port, tasks): (&'a Arc<Service>, &'a NamedPort, bool),
        settings: &Settings,
        zone: usize,
    ) -> Outcome<'a> {
        let each = tasks || service.is_headless();
        let (port, found) =
            if each { (port.target, &service.tasks) } else { (port.port, service.addresses()) };
        if kind != kind::SRV || found.is_empty() {
            return addresses(kind, (&[], &[]), zone);
        }
        let name = self.target(service, settings, each);
        let targets = |name| Targets { port, name, each, v4: &found.v4, v6: &found.v6 };
        name.map_or(Outcome::NoData(zone), |name| Outcome::Targets(targets(name)))
    }

    /// The name, with its final zero, by which who asks finds the service, or what its endpoints' names end in: the same
    /// name may lead elsewhere when the client's first network has it, too.
    fn target(&self, service: &Arc<Service>, settings: &Settings, each: bool) -> Option<Vec<u8>> {
        let own = service.wire_name()?;
        let suffixes = [&settings.domain, &settings.suffix].into_iter().flatten().map(|suffix| &suffix[..]);
        let leads_there = |name: &[u8]| {
            let held = self.find(|net, settings| net.look_up(settings, name).1);
            matches!(held, Some(Held::Entry(entry)) if entry.service().is_some_and(|it| Arc::ptr_eq(it, service)))
        };
        let (above, room) = if each { (&b"\x05tasks"[..], TASK_LABEL_BYTES) } else { (&b""[..], 0) };
        suffixes.chain([&b""[..]]).find_map(|suffix| {
            let name = [&own, suffix].concat();
            let whole = [above, &name, b"\0"].concat();
            (whole.len() + room <= NAME_BYTES && leads_there(&name)).then_some(whole)
        })
    }
}

impl Targets<'_> {
    /// Writes the records and, as far as there is room, the targets' addresses.
    pub(super) fn render(&self, reply: &mut Reply<'_>, turn: usize) -> Result<(), Full> {
        let known = if self.each { tasks(reply, self, turn)? } else { service(reply, self)? };
        // RFC 2181, 9: that additional records do not fit is nothing to ask again for.
        let _ = known.into_iter().try_for_each(|(owner, address)| additional(reply, owner, address));
        Ok(())
    }

    fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.v4.iter().copied().map(IpAddr::V4).chain(self.v6.iter().copied().map(IpAddr::V6))
    }
}

/// The one SRV record of a virtual address; where in the message its target is, for each address.
fn service(reply: &mut Reply<'_>, targets: &Targets<'_>) -> Result<Vec<(usize, IpAddr)>, Full> {
    let at = srv(reply, (0, targets.port), &[&targets.name])?;
    Ok(targets.addresses().map(|address| (at, address)).collect())
}

/// An SRV record for each endpoint; where in the message their names are.
fn tasks(reply: &mut Reply<'_>, targets: &Targets<'_>, turn: usize) -> Result<Vec<(usize, IpAddr)>, Full> {
    let addresses: Vec<_> = targets.addresses().collect();
    let mut known = Vec::new();
    rotated(&addresses, turn, |address| {
        let label = task_label(*address);
        let length = [label.len() as u8];
        let at = srv(reply, (1, targets.port), &[&length, label.as_bytes(), &targets.name])?;
        known.push((at, *address));
        Ok(())
    })?;
    Ok(known)
}

/// RFC 2782: all of the same priority, and where there is a choice, of the same weight. Returns where in the message the
/// target is, which must not be compressed there.
fn srv(reply: &mut Reply<'_>, (weight, port): (u8, u16), target: &[&[u8]]) -> Result<usize, Full> {
    let numbers = [&[0, 0, 0, weight][..], &port.to_be_bytes()].concat();
    reply.answer(kind::SRV, TTL, &[&[&numbers[..]], target].concat())?;
    Ok(reply.position() - target.iter().map(|part| part.len()).sum::<usize>())
}

fn additional(reply: &mut Reply<'_>, owner: usize, address: IpAddr) -> Result<(), Full> {
    match address {
        IpAddr::V4(address) => reply.additional(owner, kind::A, TTL, &[&address.octets()]),
        IpAddr::V6(address) => reply.additional(owner, kind::AAAA, TTL, &[&address.octets()]),
    }
}
