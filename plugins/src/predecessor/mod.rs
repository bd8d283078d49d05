//! Attachments that the reference's plugins made before their executables were replaced by ours: are they whole, and
//! how they are taken apart. The one place where zeugma touches another program's rules: those of one attachment,
//! and never a table or a chain that attachments share.
//!
//! Names and comments: trace.rs. What is there: observe.rs. What goes: iptables.rs, nftables.rs and stale.rs (pure).
//! User page: docs/switching.md.

mod iptables;
mod nftables;
mod observe;
mod ports;
mod programs;
mod stale;
mod trace;

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use zeugma_kernel::{Kernel, NftFamily};
use zeugma_model::AttachmentId;
use zeugma_plan::Family;
use zeugma_protocol::NetConf;

use crate::cause::Cause;
use observe::{Found, Sought, Source};
use programs::{Failure, Iptables};
use stale::Known;

pub(crate) use ports::{must_be_free, publishes};
pub(crate) use stale::Lease;
pub(crate) use trace::{Part, Trace};

/// Why something of the reference's stays.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The program that the reference used is not there.
    #[error(
        "{program} is not on PATH: {left}, made by the plugins before zeugma, may still be there; install it, then: {remedy}"
    )]
    NoProgram {
        /// Its name.
        program: String,
        /// What is left.
        left: String,
        /// The command that removes it.
        remedy: String,
    },
    /// The program failed.
    #[error("{said}; {left}, made by the plugins before zeugma, is still there; try again, or: {remedy}")]
    Failed {
        /// The command and what it said.
        said: String,
        /// What is left.
        left: String,
        /// The command that removes it.
        remedy: String,
    },
}

impl Trace {
    /// What `parts` of the reference's plugins made for an attachment.
    pub(crate) fn of(id: &AttachmentId, addresses: &[IpNetwork], parts: &[Part]) -> Self {
        Self {
            network: id.network.to_string(),
            container: id.container.to_string(),
            ifname: Some(id.ifname.to_string()),
            addresses: addresses.iter().map(IpNetwork::ip).collect(),
            parts: parts.to_vec(),
        }
    }
}

/// DEL of an attachment without a record of ours: removes what the reference made. What no program is there for is
/// told and left, since nobody is helped by a container that cannot be deleted.
pub(crate) fn withdraw(kernel: &mut Kernel, trace: Trace) -> Vec<Cause> {
    clear(kernel, &[trace])
}

/// GC: removes what the reference made for attachments of the network that are not valid.
///
/// `leases` is asked only when something of the reference's may be there at all.
pub(crate) fn collect(
    kernel: &mut Kernel,
    conf: &NetConf,
    leases: impl FnOnce() -> Vec<Lease>,
) -> Vec<Cause> {
    let Some(valid) = &conf.valid_attachments else { return Vec::new() };
    let sources = match Sought::anybodys().sources(kernel) {
        Ok(sources) if sources.is_empty() => return Vec::new(),
        Ok(sources) => sources,
        Err(error) => return vec![error.into()],
    };
    // What cannot be read is told when something in it has to go.
    let found: Vec<Found> = sources.iter().filter_map(|source| source.read().ok()).collect();
    let valid = valid.iter().cloned().collect();
    let known = Known { network: conf.name.as_str(), valid: &valid, leases: &leases() };
    match known.stale(&found).as_slice() {
        [] => Vec::new(),
        traces => clear(kernel, traces),
    }
}

fn clear(kernel: &mut Kernel, traces: &[Trace]) -> Vec<Cause> {
    let sources = match Sought::of(traces).sources(kernel) {
        Ok(sources) => sources,
        Err(error) => return vec![error.into()],
    };
    let failed = sources.iter().filter_map(|source| Some((source, source.clear(traces).err()?)));
    failed.filter_map(|(source, failure)| told(explained(source, failure, traces))).collect()
}

/// A missing program is a warning, so that the runtime can go on to give the addresses back.
fn told(error: Error) -> Option<Cause> {
    match error {
        Error::NoProgram { .. } => {
            eprintln!("zeugma: {error}");
            None
        }
        Error::Failed { .. } => Some(Cause::Predecessor(error)),
    }
}

fn explained(source: &Source, failure: Failure, traces: &[Trace]) -> Error {
    let (left, remedy) = match *source {
        Source::Iptables(tool, "filter") => left_in_filter(tool, traces),
        Source::Iptables(tool, table) => left_in_nat(tool, table, traces),
        Source::Nft(family, table) => left_in_nft(&format!("{} {table}", family.as_str()), family, traces),
    };
    match failure {
        Failure::Missing(program) => Error::NoProgram { program, left, remedy },
        Failure::Said(said) => Error::Failed { said, left, remedy },
    }
}

/// What is left in table `filter`, and the commands that remove it.
fn left_in_filter(tool: Iptables, traces: &[Trace]) -> (String, String) {
    let addresses = traces.iter().flat_map(|trace| &trace.addresses);
    let rules: Vec<String> = addresses
        .filter(|address| Family::of(**address) == tool.family)
        .flat_map(|address| iptables::forwarding(*address))
        .map(|rule| format!("{} -D {} {rule}", tool.name(), trace::FORWARD))
        .collect();
    (format!("{} rules in chain {}", tool.name(), trace::FORWARD), rules.join("; "))
}

fn left_in_nat(tool: Iptables, table: &str, traces: &[Trace]) -> (String, String) {
    let chains: Vec<String> = traces.iter().flat_map(Trace::chains).collect();
    let (name, marks) = (tool.name(), chains.join(" -e "));
    let remedy = format!("{name}-save -t {table} | grep -v -e {marks} | {name}-restore");
    (format!("{name} chains {} of table {table}", chains.join(", ")), remedy)
}

fn left_in_nft(place: &str, family: NftFamily, traces: &[Trace]) -> (String, String) {
    let marks = traces.iter().filter_map(|trace| match family {
        NftFamily::Inet => trace.masquerade_comment().map(|begin| format!("comment \"{begin}")),
        NftFamily::Bridge => trace.guard_comment().map(|comment| format!("comment \"{comment}\"")),
        NftFamily::Ip | NftFamily::Ip6 => Some(format!("comment \"{}\"", trace.container)),
    });
    let marks: Vec<String> = marks.collect();
    let delete = format!("print \"delete rule {place} \" chain \" handle \" $NF");
    let pick = format!("$1 == \"chain\" {{ chain = $2 }} /{}/ {{ {delete} }}", marks.join("|"));
    let mut remedy = format!("nft -a list table {place} | awk '{pick}' | nft -f -");
    if family == NftFamily::Bridge {
        let chains = traces.iter().flat_map(Trace::guard_chains);
        remedy.extend(chains.map(|chain| format!("; nft delete chain {place} {chain}")));
    }
    (format!("nft rules with {} in table {place}", marks.join(" or ")), remedy)
}

/// CHECK: whether the reference made these parts of what makes an interface.
pub(crate) fn stands_for(
    kernel: &mut Kernel,
    id: &AttachmentId,
    addresses: &[IpNetwork],
    parts: &[Part],
) -> Result<bool, Cause> {
    for part in parts {
        let is_there = match part {
            Part::Masquerade => masquerades(kernel, id, addresses)?,
            Part::MacGuard => guards(kernel, id)?,
            Part::Forwarding => forwards(kernel, id, addresses)?,
            Part::Ports => false,
        };
        if !is_there {
            return Ok(false);
        }
    }
    Ok(true)
}

fn masquerades(kernel: &mut Kernel, id: &AttachmentId, addresses: &[IpNetwork]) -> Result<bool, Cause> {
    let trace = Trace::of(id, addresses, &[Part::Masquerade]);
    has_for_all(kernel, &trace, |table, address| match table {
        Found::Iptables(_, saved) => saved.masquerades(&trace, address),
        Found::Nft(listing) => listing.has(&trace, Some(address)),
    })
}

fn guards(kernel: &mut Kernel, id: &AttachmentId) -> Result<bool, Cause> {
    let chains = Trace::of(id, &[], &[Part::MacGuard]).guard_chains();
    let present = kernel.chains(NftFamily::Bridge)?;
    Ok(chains.iter().all(|chain| present.iter().any(|it| it.table == "nat" && it.name == *chain)))
}

/// CHECK: whether the reference's firewall lets the attachment's addresses through.
pub(crate) fn forwards(
    kernel: &mut Kernel,
    id: &AttachmentId,
    addresses: &[IpNetwork],
) -> Result<bool, Cause> {
    let trace = Trace::of(id, addresses, &[Part::Forwarding]);
    has_for_all(kernel, &trace, |table, address| match table {
        Found::Iptables(_, saved) => saved.forwards(address),
        Found::Nft(_) => false,
    })
}

fn has_for_all(
    kernel: &mut Kernel,
    trace: &Trace,
    has: impl Fn(&Found, IpAddr) -> bool,
) -> Result<bool, Cause> {
    let found = look(kernel, std::slice::from_ref(trace))?;
    Ok(trace.addresses.iter().all(|address| found.iter().any(|table| has(table, *address))))
}

/// Everything that may hold something of these; what cannot be read is an error, as nothing can be said of it.
fn look(kernel: &mut Kernel, traces: &[Trace]) -> Result<Vec<Found>, Cause> {
    let sources = Sought::of(traces).sources(kernel)?;
    let read = |source: &Source| {
        source.read().map_err(|failure| Cause::Predecessor(explained(source, failure, traces)))
    };
    sources.iter().map(read).collect()
}
