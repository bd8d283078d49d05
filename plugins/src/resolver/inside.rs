//! Mode `container`: questions to 127.0.0.11 arrive at a port that the agent opens there.
//!
//! All attachments of a container share the port and its table: the first to need it makes it, the last one takes it
//! along. The caller holds the lock of the namespace.

use std::net::SocketAddr;

use zeugma_journal::{Journal, Listen, Record};
use zeugma_kernel::{Kernel, NetnsId};
use zeugma_model::{AttachmentId, IfName, Protocol};
use zeugma_plan::{LinkChange, Plan, Side, Step};

use super::Resolver;
use super::plan::INSIDE;
use crate::cause::Cause;
use crate::routing;
use zeugma_skel::Plugin;

/// Below the ports that Linux gives to clients, and above those that services usually have.
const FIRST: u16 = 20_000;
const COUNT: u16 = 10_000;
/// What a dry run shows.
pub(super) const EXAMPLE: u16 = FIRST;

/// The steps that lead questions to `port`.
pub(super) fn redirected(port: u16, lo_is_up: bool) -> Plan {
    let mut plan = Plan::from_iter([Step::RedirectDns(port)]);
    if !lo_is_up {
        // Lasting: what the kernel gives a link that comes up for the first time, no step takes back.
        let up = LinkChange { up: Some(true), ..LinkChange::default() };
        plan.push_lasting(Step::SetLink(Side::Container, lo(), up));
    }
    plan
}

/// The same where an attachment before has led them there, unless somebody took that away.
pub(super) fn kept(kernel: &mut Kernel, port: u16) -> Result<Plan, Cause> {
    if kernel.redirects_dns()? { Ok(Plan::new()) } else { Ok(redirected(port, is_up(kernel)?)) }
}

/// Whether the container can ask itself.
pub(super) fn is_up(kernel: &mut Kernel) -> Result<bool, Cause> {
    Ok(kernel.link(Side::Container, &lo())?.is_some_and(|state| state.up))
}

fn lo() -> IfName {
    "lo".parse().expect("the name of every loopback interface")
}

/// The port by a record.
pub(super) fn port(record: &Record) -> Option<u16> {
    match record.resolver.as_ref()?.listen {
        Listen::Container(port) => Some(port),
        Listen::Gateway(_) => None,
    }
}

/// The port that another attachment of the container has in the same namespace.
pub(super) fn port_of_others(
    journal: &Journal,
    id: &AttachmentId,
    netns: Option<NetnsId>,
) -> Result<Option<u16>, Cause> {
    let is_there = |record: &Record| {
        let known = record.netns.as_ref().map(|netns| (netns.device, netns.inode));
        known == netns.map(|netns| (netns.device, netns.inode))
    };
    for other in journal.attachments_of(&id.container)?.iter().filter(|other| *other != id) {
        let records = journal.entries(other)?.into_iter().map(|entry| entry.record);
        let mut ours = records.filter(|record| record.plugin == Resolver::NAME && is_there(record));
        if let Some(port) = ours.find_map(|record| port(&record)) {
            return Ok(Some(port));
        }
    }
    Ok(None)
}

/// A port that nobody in the container has. Nothing runs there yet, but for what the runtime began with.
pub(super) fn free_port(kernel: &Kernel) -> Result<u16, Cause> {
    const TRIES: u16 = 16;
    let mut random = [0; 2];
    getrandom::fill(&mut random).map_err(|error| zeugma_kernel::Error::System {
        action: "get random bytes for a port",
        source: std::io::Error::other(error),
    })?;
    let start = u16::from_ne_bytes(random) % COUNT;
    let mut last = FIRST + start;
    for offset in 0..TRIES {
        last = FIRST + (start + offset) % COUNT;
        let address = SocketAddr::from((INSIDE, last));
        if kernel.is_free_inside(Protocol::Udp, address)? && kernel.is_free_inside(Protocol::Tcp, address)? {
            break;
        }
    }
    Ok(last)
}

/// An attachment goes: the table with it, unless another one of the container needs it.
pub(super) fn left(kernel: &mut Kernel, journal: &Journal, id: &AttachmentId) -> Vec<Cause> {
    let needed = routing::alone(kernel)
        .and_then(|alone| Ok((alone, port_of_others(journal, id, kernel.container_id())?)));
    match needed {
        Ok((_alone, None)) => taken_back(kernel).err().into_iter().collect(),
        Ok((_alone, Some(_))) => Vec::new(),
        Err(cause) => vec![cause],
    }
}

/// Takes the table away.
pub(super) fn taken_back(kernel: &mut Kernel) -> Result<(), Cause> {
    let plan = Plan::from_iter([Step::EndRedirectDns]);
    crate::cause::several(kernel.apply_all(&plan).into_iter().map(Cause::from).collect())
}
