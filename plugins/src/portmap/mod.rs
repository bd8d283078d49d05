//! `portmap` publishes container ports on the host. Which elements, and why: plan.rs. Who may have a port:
//! claim.rs. User page: docs/plugins/portmap.md.

mod claim;
pub(crate) mod config;
mod error;
mod plan;

pub use error::Error;

use zeugma_journal::{Claims, Entry, Journal, NetnsRef, Record};
use zeugma_kernel::Kernel;
use zeugma_model::AttachmentId;
use zeugma_plan::{Plan, Side, Step};
use zeugma_protocol::CniResult;
use zeugma_skel::{NetworkRequest, Plugin, Request};

use crate::cause::{Cause, several};
use crate::{previous, shared};
use config::Config;

/// The plugin.
#[derive(Debug, Clone, Copy, Default)]
pub struct Portmap;

impl Plugin for Portmap {
    type Error = Error;
    const NAME: &'static str = "portmap";

    fn add(&self, request: &Request) -> Result<CniResult, Error> {
        let config = Config::of(request)?;
        let result = previous::chained(request, Self::NAME)?;
        if !config.ports.is_empty() {
            publish(request, record(&config, request, result))?;
        }
        Ok(result.clone())
    }

    fn del(&self, request: &Request) -> Result<(), Error> {
        let journal = Journal::default();
        let id = request.attachment();
        journal.tidy(&id)?;
        match journal.last(&id, Self::NAME)? {
            Some(entry) => Ok(several(withdraw(&mut Kernel::host(), &journal, &id, &entry))?),
            None => Ok(several(withdraw_unknown(request))?),
        }
    }

    fn check(&self, request: &Request) -> Result<(), Error> {
        let config = Config::of(request)?;
        let result = previous::checked(request, Self::NAME)?;
        if config.ports.is_empty() {
            return Ok(());
        }
        let record = record(&config, request, result);
        let mut wanted = plan::elements(&request.attachment(), &record);
        wanted.extend(shared::of_record(&request.conf.name, &record));
        match shared::missing(&mut Kernel::host(), wanted)? {
            Some(element) => Err(Error::Missing { element: element.to_string() }),
            None => Ok(()),
        }
    }

    fn gc(&self, request: &NetworkRequest) -> Result<(), Error> {
        let journal = Journal::default();
        let mut kernel = Kernel::host();
        let (gone, mut causes) = shared::clear_stale(&journal, &request.conf, Self::NAME, |id, entry| {
            withdraw(&mut kernel, &journal, id, entry)
        })?;
        causes.extend(shared::sweep(&mut kernel, &journal, &request.conf.name, &gone));
        Ok(several(causes)?)
    }

    fn status(&self, request: &NetworkRequest) -> Result<(), Error> {
        Config::of_network(&request.conf)?;
        shared::can_filter(&mut Kernel::host()).map_err(|cause| Error::NotAvailable(cause.to_string()))
    }

    fn dry_run(&self, request: &Request) -> Result<String, Error> {
        let config = Config::of(request)?;
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

/// Results before CNI 0.3.0 name no interfaces; the record of `bridge` does.
fn bridge_in_journal(request: &Request) -> Option<zeugma_model::IfName> {
    Journal::default().last(&request.attachment(), "bridge").ok()??.record.bridge
}

/// Claims the ports, then makes them lead to the container; all under one lock, so that whoever comes next
/// sees both or nothing.
fn publish(request: &Request, record: Record) -> Result<(), Error> {
    let id = request.attachment();
    let mut kernel = Kernel::host();
    let _sharing = shared::sharing()?;
    let claims = Claims::lock()?;
    let granted = claim::granted(&claims, &id, &record)?;
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
            let off = Step::SetSysctl(Side::Host, shared::route_localnet(bridge, false));
            kernel.apply_all(&Plan::from_iter([off])).into_iter().map(Cause::from).collect()
        }
        _ => Vec::new(),
    }
}

/// No record: what the configuration names is deleted where it bears our mark.
fn withdraw_unknown(request: &Request) -> Vec<Cause> {
    let Ok(config) = Config::of(request) else { return Vec::new() };
    let Some(result) = &request.conf.prev_result else { return Vec::new() };
    if config.ports.is_empty() {
        return Vec::new();
    }
    let plan = plan::withdrawn(&request.attachment(), &record(&config, request, result));
    Kernel::host().apply_all(&plan).into_iter().map(Cause::from).collect()
}
