//! `portmap` publishes container ports on the host. Which elements, and why: plan.rs. Who may have a port:
//! claim.rs. Around another plugin: wrapped.rs. User page: docs/plugins/portmap.md.

mod claim;
pub(crate) mod config;
mod error;
mod plan;
mod wrapped;

pub use error::Error;

use zeugma_journal::{Claims, Entry, Journal, Lock, NetnsRef, Record};
use zeugma_kernel::Kernel;
use zeugma_model::AttachmentId;
use zeugma_plan::{Plan, Side, Step};
use zeugma_protocol::CniResult;
use zeugma_skel::{Command, NetworkRequest, Plugin, Request};

use crate::cause::{Cause, several};
use crate::predecessor::{Part, Trace};
use crate::{predecessor, previous, shared};
use config::Config;
use wrapped::Wrapped;

/// The plugin.
#[derive(Debug, Clone, Copy, Default)]
pub struct Portmap;

impl Plugin for Portmap {
    type Error = Error;
    const NAME: &'static str = "portmap";

    fn add(&self, request: &Request) -> Result<CniResult, Error> {
        let config = Config::of(request)?;
        let Some(wrapped) = Wrapped::of(&request.conf)? else {
            let result = previous::chained(request, Self::NAME)?;
            publish(&config, request, result)?;
            return Ok(result.clone());
        };
        let result = wrapped.add(request)?;
        publish(&config, request, &result).inspect_err(|_| wrapped.give_up(request))?;
        Ok(result)
    }

    fn del(&self, request: &Request) -> Result<(), Error> {
        let mut causes = withdraw_all(request).unwrap_or_else(|cause| vec![cause]);
        // The address may be another container's as soon as the delegate is through: it comes last.
        match Wrapped::of(&request.conf) {
            Ok(None) => {}
            Ok(Some(wrapped)) => causes.extend(wrapped.pass_on(Command::Del, request).err()),
            Err(error) => causes.push(error.into()),
        }
        Ok(several(causes)?)
    }

    fn check(&self, request: &Request) -> Result<(), Error> {
        let config = Config::of(request)?;
        if let Some(wrapped) = Wrapped::of(&request.conf)? {
            wrapped.pass_on(Command::Check, request)?;
        }
        let result = previous::checked(request, Self::NAME)?;
        if config.ports.is_empty() {
            return Ok(());
        }
        let record = record(&config, request, result);
        let mut wanted = zeugma_upkeep::published(&request.attachment(), &record);
        wanted.extend(zeugma_upkeep::shared(&request.conf.name, &record));
        let mut kernel = Kernel::host();
        match shared::missing(&mut kernel, wanted)? {
            Some(element) if !is_published_before(&mut kernel, request, &record)? => {
                Err(Error::Missing { element: element.to_string() })
            }
            Some(_) | None => Ok(()),
        }
    }

    fn gc(&self, request: &NetworkRequest) -> Result<(), Error> {
        let journal = Journal::default();
        let mut kernel = Kernel::host();
        let (gone, mut causes) = shared::clear_stale(&journal, &request.conf, Self::NAME, |id, entry| {
            withdraw(&mut kernel, &journal, id, entry)
        })?;
        causes.extend(shared::sweep(&mut kernel, &journal, &request.conf.name, &gone));
        causes.extend(predecessor::collect(&mut kernel, &request.conf, Vec::new));
        if let Some(wrapped) = Wrapped::of(&request.conf)? {
            causes.extend(wrapped.pass_on_network(Command::Gc, request).err());
        }
        Ok(several(causes)?)
    }

    fn status(&self, request: &NetworkRequest) -> Result<(), Error> {
        Config::of_network(&request.conf)?;
        shared::can_filter(&mut Kernel::host()).map_err(|cause| Error::NotAvailable(cause.to_string()))?;
        match Wrapped::of(&request.conf)? {
            Some(wrapped) => Ok(wrapped.pass_on_network(Command::Status, request)?),
            None => Ok(()),
        }
    }

    fn dry_run(&self, request: &Request) -> Result<String, Error> {
        let config = Config::of(request)?;
        if let Some(wrapped) = Wrapped::of(&request.conf)? {
            return Ok(wrapped.preview());
        }
        let result = previous::chained(request, Self::NAME)?;
        let record = record(&config, request, result);
        Ok(plan::published(&request.attachment(), &record).to_string())
    }
}

fn record(config: &Config, request: &Request, result: &CniResult) -> Record {
    Record {
        plugin: "portmap".into(),
        netns: request.netns.as_deref().and_then(NetnsRef::of),
        bridge: previous::way_in(result).or_else(|| bridge_in_journal(request)),
        addresses: previous::container_addresses(result),
        masquerade: config.snat,
        masquerade_all: config.masquerade_all,
        ports: config.ports.clone(),
        ..Record::default()
    }
}

/// Results before CNI 0.3.0 name no interfaces; the record of who made it does.
fn bridge_in_journal(request: &Request) -> Option<zeugma_model::IfName> {
    let (journal, id) = (Journal::default(), request.attachment());
    ["bridge", "overlay"].iter().find_map(|plugin| journal.last(&id, plugin).ok()??.record.bridge)
}

/// Publishes what is asked for, if anything is.
fn publish(config: &Config, request: &Request, result: &CniResult) -> Result<(), Error> {
    match config.ports.is_empty() {
        true => Ok(()),
        false => publish_record(request, record(config, request, result)),
    }
}

/// Claims the ports, then makes them lead to the container; all under one lock, so that whoever comes next
/// sees both or nothing.
fn publish_record(request: &Request, record: Record) -> Result<(), Error> {
    let id = request.attachment();
    let mut kernel = Kernel::host();
    let _sharing = Lock::sharing()?;
    let claims = Claims::lock()?;
    let granted = claim::granted(&claims, &id, &record)?;
    if let Some((port, owner)) =
        predecessor::must_be_free(&mut kernel, &id, &record.addresses, &record.ports)?
    {
        return Err(Error::PublishedBefore { port, owner });
    }
    let journal = Journal::default();
    let mut entry = journal.begin(&id, record)?;
    let outcome = take(&mut kernel, &claims, &id, &entry.record, &granted).and_then(|plan| {
        journal.finish(&mut entry).inspect_err(|_| shared::take_back(&mut kernel, &plan))?;
        Ok(())
    });
    if outcome.is_err() {
        claim::restore(&claims, &granted)?;
        journal.remove(&entry)?;
    }
    outcome
}

fn take(
    kernel: &mut Kernel,
    claims: &Claims,
    id: &AttachmentId,
    record: &Record,
    granted: &claim::Granted,
) -> Result<Plan, Error> {
    if !granted.dead.is_empty() {
        kernel.apply(&Plan::from_iter([Step::DeleteElements(granted.dead.clone())]))?;
    }
    claim::write(claims, granted)?;
    let mut plan = plan::published(id, record);
    plan.leave_out(&granted.held);
    kernel.apply(&plan)?;
    Ok(plan)
}

fn withdraw_all(request: &Request) -> Result<Vec<Cause>, Cause> {
    let journal = Journal::default();
    let id = request.attachment();
    let _sharing = Lock::sharing()?;
    journal.tidy(&id)?;
    Ok(match journal.last(&id, Portmap::NAME)? {
        Some(entry) => withdraw(&mut Kernel::host(), &journal, &id, &entry),
        None => withdraw_unknown(&journal, request),
    })
}

/// Takes back what the record says. Where another network of the same container waits for the port, it
/// gets it now.
fn withdraw(kernel: &mut Kernel, journal: &Journal, id: &AttachmentId, entry: &Entry) -> Vec<Cause> {
    let claims = match Claims::lock() {
        Ok(claims) => claims,
        Err(error) => return vec![error.into()],
    };
    let mut causes: Vec<Cause> =
        kernel.apply_all(&plan::withdrawn(id, &entry.record)).into_iter().map(Cause::from).collect();
    causes.extend(claim::release(&claims, id, &entry.record).err().map(Cause::from));
    causes.extend(journal.remove(entry).err().map(Cause::from));
    match claim::heirs(&claims, journal, &entry.record) {
        Ok(elements) if elements.is_empty() => {}
        Ok(elements) => {
            let plan = Plan::from_iter([Step::ShareElements(elements)]);
            causes.extend(kernel.apply_all(&plan).into_iter().map(Cause::from));
        }
        Err(error) => causes.push(error.into()),
    }
    causes.extend(last_of_all(kernel, &claims, &entry.record));
    causes
}

/// 127.0.0.1 can no longer be left once no port is published at all; a single bridge without ports is GC's.
fn last_of_all(kernel: &mut Kernel, claims: &Claims, record: &Record) -> Vec<Cause> {
    match (&record.bridge, claims.is_empty()) {
        (Some(bridge), true) if record.masquerade => {
            let off = Step::SetSysctl(Side::Host, zeugma_upkeep::route_localnet(bridge, false));
            kernel.apply_all(&Plan::from_iter([off])).into_iter().map(Cause::from).collect()
        }
        _ => Vec::new(),
    }
}

/// No record: what the configuration names is deleted where it bears our mark, and what the plugins before us
/// published. A container without ports that the other plugins know is ours.
fn withdraw_unknown(journal: &Journal, request: &Request) -> Vec<Cause> {
    let id = request.attachment();
    let ports = Config::of(request).map(|config| config.ports).unwrap_or_default();
    if ports.is_empty() && journal.entries(&id).is_ok_and(|entries| !entries.is_empty()) {
        return Vec::new();
    }
    let mut kernel = Kernel::host();
    let mut causes = Vec::new();
    if let (Ok(config), Some(result), false) =
        (Config::of(request), &request.conf.prev_result, ports.is_empty())
    {
        let plan = plan::withdrawn(&id, &record(&config, request, result));
        causes.extend(kernel.apply_all(&plan).into_iter().map(Cause::from));
    }
    let trace = Trace::of(&id, &previous::last_addresses(request), &[Part::Ports]);
    causes.extend(predecessor::withdraw(&mut kernel, trace));
    causes
}

/// CHECK of an attachment without a record: the plugins before us may have published its ports.
fn is_published_before(kernel: &mut Kernel, request: &Request, record: &Record) -> Result<bool, Error> {
    let id = request.attachment();
    Ok(Journal::default().last(&id, Portmap::NAME)?.is_none()
        && predecessor::publishes(kernel, &id, &record.addresses, &record.ports)?)
}

/// Plans an ADD behind `prevResult`, and its DEL.
pub(crate) fn fuzz(request: &Request) -> Result<(), Error> {
    let config = Config::of(request)?;
    drop(Wrapped::of(&request.conf)?);
    let result = previous::chained(request, Portmap::NAME)?;
    let record = Record {
        bridge: previous::way_in(result),
        addresses: previous::container_addresses(result),
        ports: config.ports.clone(),
        masquerade: config.snat,
        masquerade_all: config.masquerade_all,
        ..Record::default()
    };
    let id = request.attachment();
    let (published, withdrawn) = (plan::published(&id, &record), plan::withdrawn(&id, &record));
    drop((published.to_string(), withdrawn.to_string()));
    Ok(())
}
