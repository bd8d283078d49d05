//! The life cycle of the plugins that make a container's interface: one for all of them. What is special in each
//! stands behind `Kind`; what becomes of the interface once it is there is in addressing.rs.
//!
//! ADD looks at the host, asks the IPAM, plans, writes the record and applies. With an IPAM that talks through
//! the interface (`dhcp`, or any executable that is not ours) the links come first.

pub(crate) mod addressing;
mod asked;
pub(crate) mod check;
mod error;
mod parent;
mod random;
#[cfg(test)]
pub(crate) mod testing;

pub use error::Error;

pub(crate) use asked::{check_backend, mac};
pub(crate) use parent::{
    Child, Parent, ParentName, parent_side, ready, record, without_child, without_container_link,
};
pub(crate) use random::random_macs;

use zeugma_journal::{Entry, Journal, Lock, NetnsRef, Phase, Record};
use zeugma_kernel::{Kernel, LinkState};
use zeugma_model::{AttachmentId, IfName};
use zeugma_plan::{LinkChange, Plan, Side, Step};
use zeugma_protocol::{CniCode, CniResult, NetConf, Version};
use zeugma_skel::{NetworkRequest, Plugin, Request};

use crate::cause::{Cause, several};
use crate::predecessor::{Part, Trace};
use crate::{ipam, predecessor, previous, sandbox, shared};

/// An ADD, decided. The two plans follow one another; what the IPAM gave is in the second alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Attached {
    /// The links.
    pub(crate) links: Plan,
    /// Addresses, routes and elements.
    pub(crate) addresses: Plan,
    pub(crate) result: CniResult,
    pub(crate) record: Record,
}

/// Whose interface it is, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) attachment: AttachmentId,
    /// The container's namespace; none in a dry run.
    pub(crate) netns: Option<NetnsRef>,
}

impl Place {
    fn of(request: &Request, kernel: &mut Kernel) -> Self {
        Self { attachment: request.attachment(), netns: sandbox::noted(kernel, request.netns.as_deref()) }
    }

    /// The interface's name in the container.
    pub(crate) fn ifname(&self) -> &IfName {
        &self.attachment.ifname
    }
}

/// What is special in a plugin that makes a container's interface.
pub(crate) trait Kind {
    /// Its configuration, with what the runtime asks.
    type Config;
    /// What its plan rests on besides: what is there, and fresh randomness.
    type Facts;
    /// What can go wrong.
    type Error: CniCode + std::fmt::Display + From<Error> + From<Cause>;
    /// The plain name.
    const NAME: &'static str;
    /// The kernel's name for the kind of link that the container gets.
    const LINK: &'static str;

    /// The keys of the network alone: GC and STATUS have no container.
    fn of_network(conf: &NetConf) -> Result<Self::Config, Self::Error>;
    /// The network's keys and what the runtime asks for this container.
    fn of(request: &Request) -> Result<Self::Config, Self::Error>;
    /// Looks at what is there.
    fn observe(
        kernel: &mut Kernel,
        config: &Self::Config,
        request: &Request,
    ) -> Result<Self::Facts, Self::Error>;
    /// Plans an ADD. `given` is what the IPAM gave, nothing for a plain layer 2 network.
    fn attached(
        config: &Self::Config,
        place: &Place,
        given: CniResult,
        facts: &Self::Facts,
    ) -> Result<Attached, Self::Error>;
    /// What takes an attachment apart, by its record.
    fn detached(id: &AttachmentId, record: &Record) -> Plan;
    /// Whether the host is as ADD left it; the container's side is checked already.
    fn check(
        kernel: &mut Kernel,
        config: &Self::Config,
        request: &Request,
        result: &CniResult,
    ) -> Result<(), Self::Error>;
    /// Whether an ADD would find what it needs.
    fn ready(kernel: &mut Kernel, config: &Self::Config) -> Result<(), Self::Error>;

    /// The lock that keeps what attachments share in place during an ADD.
    fn lock(_: &Self::Config) -> Option<String> {
        None
    }
    /// Before an ADD changes anything: what attachments that share something must agree on.
    fn agree(_: &Self::Config, _: &Self::Facts) -> Result<(), Self::Error> {
        Ok(())
    }
    /// The addresses that an earlier plugin gave, where the network has no IPAM of its own.
    fn inherited(_: &Request) -> Option<CniResult> {
        None
    }
    /// What takes an attachment apart of which nothing is known but its name: half an ADD, or another program's.
    fn detached_unknown(id: &AttachmentId) -> Plan {
        Self::detached(id, &Record::default())
    }
    /// What takes an attachment apart as things stand, where that depends on what is there. No record: as above.
    fn dismantled(_: &mut Kernel, id: &AttachmentId, record: Option<&Record>) -> Result<Plan, Cause> {
        Ok(record.map_or_else(|| Self::detached_unknown(id), |record| Self::detached(id, record)))
    }
    /// Whether a link in the container, of which no record tells, can be one of this plugin's.
    fn is_ours(inside: &LinkState) -> bool {
        inside.kind == Self::LINK
    }
    /// Whether the mark on a link says that it is this attachment's.
    fn is_mark(alias: &str, id: &AttachmentId) -> bool {
        alias == id.alias()
    }
    /// Whether the container's side is as ADD left it.
    fn check_container(
        kernel: &mut Kernel,
        _: &Self::Config,
        request: &Request,
        result: &CniResult,
    ) -> Result<(), Self::Error> {
        Ok(check::container(kernel, request, result, Self::LINK)?)
    }
    /// Removes what nobody needs any more and no record names.
    fn retire(_: &mut Kernel, _: &Journal, _: &Self::Config) -> Vec<Cause> {
        Vec::new()
    }
    /// After a failed ADD: removes what it made for others to share. What stays is GC's.
    fn abandoned(_: &mut Kernel, _: &Self::Config, _: &Self::Facts) {}
    /// Gives a refusal of the kernel's the words of its cause.
    fn explained(error: zeugma_kernel::Error, request: &Request, _: &Self::Config) -> Self::Error {
        Error::refused(error, Self::LINK, &request.ifname).into()
    }
}

/// A plugin out of its kind.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Interface<K>(pub(crate) K);

impl<K: Kind> Plugin for Interface<K> {
    type Error = K::Error;
    const NAME: &'static str = K::NAME;

    fn add(&self, request: &Request) -> Result<CniResult, K::Error> {
        let config = K::of(request)?;
        let netns = request.netns.as_ref().ok_or(cause(zeugma_kernel::Error::NoContainer))?;
        let mut kernel = Kernel::with_container(netns).map_err(cause)?;
        must_be_new::<K>(request)?;
        let lock = K::lock(&config).map(|name| Lock::shared(&name)).transpose().map_err(cause)?;
        let facts = K::observe(&mut kernel, &config, request)?;
        K::agree(&config, &facts)?;
        let attached = if ipam::needs_interface(&request.conf, &request.path).map_err(cause)? {
            attach_then_ask::<K>(request, &config, &facts, &mut kernel)
        } else {
            ask_then_attach::<K>(request, &config, &facts, &mut kernel)
        };
        drop(lock);
        attached
            .map(|result| with_dns(request, result))
            .inspect_err(|_| K::abandoned(&mut kernel, &config, &facts))
    }

    fn del(&self, request: &Request) -> Result<(), K::Error> {
        let journal = Journal::default();
        let id = request.attachment();
        let mut causes: Vec<Cause> = journal.tidy(&id).err().map(Cause::from).into_iter().collect();
        let entry = journal.last(&id, K::NAME);
        // One that talks through the interface gives its address back before that goes; for every other one nobody
        // may get the address while the interface still has it.
        let ipam_first = ipam::needs_interface(&request.conf, &request.path).unwrap_or(false);
        if ipam_first {
            causes.extend(ipam::del(request).err().map(Cause::from));
        }
        // From here to the record's end no repair takes for damage what is taken away. One that holds everybody up for
        // longer than anybody waits is told of, and the DEL goes on.
        let sharing = Lock::sharing();
        match &entry {
            Ok(Some(entry)) => causes.extend(detach::<K>(&id, &entry.record, request.netns.as_deref())),
            Ok(None) => causes.extend(detach_unknown::<K>(request)),
            Err(_) => {}
        }
        if !ipam_first {
            causes.extend(ipam::del(request).err().map(Cause::from));
        }
        match entry {
            Ok(Some(entry)) => causes.extend(journal.remove(&entry).err().map(Cause::from)),
            Ok(None) => {}
            Err(error) => causes.push(error.into()),
        }
        causes.extend(sharing.err().map(Cause::from));
        Ok(several(causes)?)
    }

    fn check(&self, request: &Request) -> Result<(), K::Error> {
        let config = K::of(request)?;
        ipam::check(request).map_err(cause)?;
        let result = previous::checked(request, K::NAME).map_err(cause)?;
        let netns = request.netns.as_ref().ok_or(cause(zeugma_kernel::Error::NoContainer))?;
        let mut kernel = Kernel::with_container(netns).map_err(cause)?;
        K::check_container(&mut kernel, &config, request, result)?;
        K::check(&mut kernel, &config, request, result)
    }

    fn gc(&self, request: &NetworkRequest) -> Result<(), K::Error> {
        let journal = Journal::default();
        let mut kernel = Kernel::host();
        let ipam_first = ipam::needs_interface(&request.conf, &request.path).unwrap_or(false);
        let given_back = ipam_first.then(|| ipam::gc(request));
        let (gone, mut causes) = shared::clear_stale(&journal, &request.conf, K::NAME, |id, entry| {
            collect::<K>(&journal, id, entry)
        })?;
        causes.extend(predecessor::collect(&mut kernel, &request.conf, || ipam::leases(request)));
        causes.extend(given_back.unwrap_or_else(|| ipam::gc(request)).err().map(Cause::from));
        causes.extend(shared::sweep(&mut kernel, &journal, &request.conf.name, &gone));
        // A configuration that cannot be read keeps GC from this alone.
        let config = K::of_network(&request.conf);
        if let Ok(config) = &config {
            causes.extend(K::retire(&mut kernel, &journal, config));
        }
        several(causes)?;
        config.map(drop)
    }

    fn status(&self, request: &NetworkRequest) -> Result<(), K::Error> {
        K::ready(&mut Kernel::host(), &K::of_network(&request.conf)?)?;
        Ok(ipam::status(request).map_err(cause)?)
    }

    fn dry_run(&self, request: &Request) -> Result<String, K::Error> {
        let config = K::of(request)?;
        let mut kernel = match request.netns.as_deref().map(Kernel::with_container) {
            Some(Ok(kernel)) => kernel,
            // Without privileges the container cannot be looked into: the plan is for an empty one.
            Some(Err(_)) | None => Kernel::host(),
        };
        let given = match K::inherited(request) {
            Some(given) => given,
            None => ipam::rehearsed(request).map_err(cause)?,
        };
        let facts = K::observe(&mut kernel, &config, request)?;
        let place = Place { attachment: request.attachment(), netns: None };
        let attached = K::attached(&config, &place, given, &facts)?;
        let preview = ipam::preview(request).map_err(cause)?;
        Ok(format!("{preview}{}{}", attached.links, attached.addresses))
    }
}

fn cause(error: impl Into<Cause>) -> Cause {
    error.into()
}

/// A second ADD without a DEL between them would take the first one's address away when it fails.
fn must_be_new<K: Kind>(request: &Request) -> Result<(), K::Error> {
    match Journal::default().last(&request.attachment(), K::NAME).map_err(cause)? {
        Some(_) => Err(Error::InterfaceExists(request.ifname.clone()).into()),
        None => Ok(()),
    }
}

/// The kernel would open a TAP device that is there, and move a device without renaming it.
pub(crate) fn must_be_free(kernel: &mut Kernel, ifname: &IfName) -> Result<(), Error> {
    let is_there = kernel.container_id().is_some() && kernel.link(Side::Container, ifname)?.is_some();
    if is_there { Err(Error::InterfaceExists(ifname.clone())) } else { Ok(()) }
}

/// The usual order: everything in one plan.
fn ask_then_attach<K: Kind>(
    request: &Request,
    config: &K::Config,
    facts: &K::Facts,
    kernel: &mut Kernel,
) -> Result<CniResult, K::Error> {
    let inherited = K::inherited(request);
    let given = match inherited.clone() {
        Some(given) => given,
        None => ipam::add(request).map_err(cause)?,
    };
    let attached = K::attached(config, &Place::of(request, kernel), given, facts).and_then(|attached| {
        let plan = attached.links.then(attached.addresses);
        let mut written = Written::begin::<K>(request, attached.record)?;
        written.apply::<K>(kernel, request, config, &plan)?;
        written.finish(kernel, &plan)?;
        Ok(attached.result)
    });
    attached.inspect_err(|_| {
        if inherited.is_none() {
            ipam::give_up(request);
        }
    })
}

/// The order for an IPAM that talks through the interface: links, IPAM, addresses.
fn attach_then_ask<K: Kind>(
    request: &Request,
    config: &K::Config,
    facts: &K::Facts,
    kernel: &mut Kernel,
) -> Result<CniResult, K::Error> {
    let place = Place::of(request, kernel);
    let attached = K::attached(config, &place, CniResult::default(), facts)?;
    let up = LinkChange { up: Some(true), ..LinkChange::default() };
    let mut links = attached.links;
    // What a program drives by itself is no link.
    if !links.is_empty() {
        links.push_lasting(Step::SetLink(Side::Container, request.ifname.clone(), up));
        links.push_lasting(Step::AwaitCarrier(Side::Container, request.ifname.clone()));
    }
    let mut written = Written::begin::<K>(request, attached.record)?;
    written.apply::<K>(kernel, request, config, &links)?;
    let attached = ipam::add(request)
        .map_err(|error| K::Error::from(cause(error)))
        .and_then(|given| K::attached(config, &place, given, facts));
    let attached = attached.and_then(|attached| {
        let Record { phase, boot, .. } = written.entry.record.clone();
        written.entry.record = Record { phase, boot, ..completed::<K>(request, attached.record)? };
        kernel.apply(&attached.addresses).map_err(|error| K::explained(error, request, config))?;
        Ok((attached.result, attached.addresses))
    });
    match attached {
        Ok((result, addresses)) => {
            written.finish(kernel, &links.then(addresses)).inspect_err(|_| ipam::give_up(request))?;
            Ok(result)
        }
        Err(error) => {
            ipam::give_up(request);
            shared::take_back(kernel, &links);
            let _ = written.journal.remove(&written.entry);
            Err(error)
        }
    }
}

/// The record of an ADD under way. No GC takes what it shares for a leftover before it ends.
struct Written {
    journal: Journal,
    entry: Entry,
    _sharing: Lock,
}

impl Written {
    fn begin<K: Kind>(request: &Request, record: Record) -> Result<Self, Cause> {
        let journal = Journal::default();
        let sharing = Lock::sharing()?;
        let entry = journal.begin(&request.attachment(), completed::<K>(request, record)?)?;
        Ok(Self { journal, entry, _sharing: sharing })
    }

    fn apply<K: Kind>(
        &mut self,
        kernel: &mut Kernel,
        request: &Request,
        config: &K::Config,
        plan: &Plan,
    ) -> Result<(), K::Error> {
        if let Err(error) = kernel.apply(plan) {
            // The kernel's refusal is the one to tell.
            let _ = self.journal.remove(&self.entry);
            return Err(K::explained(error, request, config));
        }
        Ok(())
    }

    fn finish(&mut self, kernel: &mut Kernel, plan: &Plan) -> Result<(), Cause> {
        if let Err(error) = self.journal.finish(&mut self.entry) {
            shared::take_back(kernel, plan);
            self.journal.remove(&self.entry)?;
            return Err(error.into());
        }
        Ok(())
    }
}

/// The plan's record with what no plan needs.
fn completed<K: Kind>(request: &Request, record: Record) -> Result<Record, Cause> {
    let ipam = ipam::type_of(&request.conf).map(str::to_owned);
    Ok(Record { plugin: K::NAME.into(), ipam, identity: request.identity()?, ..record })
}

/// The configuration's DNS settings, if there are any, take the place of the IPAM's.
fn with_dns(request: &Request, mut result: CniResult) -> CniResult {
    if !request.conf.dns.is_empty() {
        result.dns = request.conf.dns.clone();
    }
    result
}

/// Takes apart what the record says was made.
fn detach<K: Kind>(id: &AttachmentId, record: &Record, netns: Option<&std::path::Path>) -> Vec<Cause> {
    let mut kernel = sandbox::found(record, netns).unwrap_or_else(Kernel::host);
    take_apart::<K>(&mut kernel, id, Some(record))
}

/// In a namespace that is gone nothing is left to do.
fn take_apart<K: Kind>(kernel: &mut Kernel, id: &AttachmentId, record: Option<&Record>) -> Vec<Cause> {
    match K::dismantled(kernel, id, record) {
        Ok(mut plan) => {
            let inside = Step::DeleteLink(Side::Container, id.ifname.clone());
            if kernel.container_id().is_none() {
                plan.leave_alone(Side::Container);
            } else if let Some(record) = record
                && plan.steps().any(|step| *step == inside)
                && !is_this::<K>(kernel, id, |_| record.phase == Phase::Intent)
            {
                // An ADD that did not come so far, or another attachment in its place.
                plan.leave_out_step(&inside);
            }
            kernel.apply_all(&plan).into_iter().map(Cause::from).collect()
        }
        Err(cause) => vec![cause],
    }
}

/// Whether the container has such an interface, and it is this attachment's: by its mark. Without a mark it can be one
/// that an ADD did not come to mark (`is_unmarked` says whether that is possible).
fn is_this<K: Kind>(
    kernel: &mut Kernel,
    id: &AttachmentId,
    is_unmarked: impl FnOnce(&LinkState) -> bool,
) -> bool {
    let Ok(Some(state)) = kernel.link(Side::Container, &id.ifname) else { return false };
    K::is_ours(&state)
        && match state.alias.as_deref().filter(|alias| !alias.is_empty()) {
            Some(alias) => K::is_mark(alias, id),
            None => is_unmarked(&state),
        }
}

/// Whether an interface without a mark is the reference's for this attachment: the result that the runtime kept tells
/// its Ethernet address. Before 0.4.0 runtimes kept none.
fn is_told(request: &Request, state: &LinkState) -> bool {
    match &request.conf.prev_result {
        Some(result) => result.interfaces.iter().any(|interface| {
            interface.name == request.ifname.as_str()
                && interface.sandbox.as_ref().is_some_and(|sandbox| !sandbox.is_empty())
                && interface.mac.is_none_or(|mac| state.mac == Some(mac))
        }),
        None => request.conf.cni_version < Version::V0_4_0,
    }
}

/// No record: half an ADD, or another program's. The container's interface goes if it is of our kind and no
/// other network's.
fn detach_unknown<K: Kind>(request: &Request) -> Vec<Cause> {
    let id = request.attachment();
    let is_ours = |kernel: &mut Kernel| {
        !is_of_another_network(&id) && is_this::<K>(kernel, &id, |state| is_told(request, state))
    };
    let mut container = request.netns.as_deref().and_then(|netns| Kernel::with_container(netns).ok());
    // The namespace may be gone, and with it the container's end; or what is in it is somebody else's.
    let mut kernel = container.take_if(is_ours).unwrap_or_else(Kernel::host);
    let mut causes = take_apart::<K>(&mut kernel, &id, None);
    let trace = Trace::of(&id, &previous::last_addresses(request), &[Part::Masquerade, Part::MacGuard]);
    causes.extend(predecessor::withdraw(&mut kernel, trace));
    causes
}

/// Whether the interface was made for the same container by another network: then a DEL of this one, whose ADD
/// was refused, must not take it away.
fn is_of_another_network(id: &AttachmentId) -> bool {
    let journal = Journal::default();
    let has_record = |network| {
        let id = AttachmentId { network, ..id.clone() };
        journal.entries(&id).is_ok_and(|entries| !entries.is_empty())
    };
    journal
        .networks()
        .is_ok_and(|networks| networks.into_iter().filter(|network| *network != id.network).any(has_record))
}

fn collect<K: Kind>(journal: &Journal, id: &AttachmentId, entry: &Entry) -> Vec<Cause> {
    let mut causes = detach::<K>(id, &entry.record, None);
    causes.extend(journal.remove(entry).err().map(Cause::from));
    causes
}
