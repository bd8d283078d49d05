//! `vrf` puts a container's interface into a domain of routing of its own. What that takes: plan.rs. User page:
//! docs/plugins/vrf.md.

pub(crate) mod config;
mod error;
mod plan;
#[cfg(test)]
mod tests;

pub use error::Error;

use std::path::Path;

use zeugma_journal::{Entry, Journal, NetnsRef, Record};
use zeugma_kernel::Kernel;
use zeugma_model::{AttachmentId, IfName};
use zeugma_plan::{AddressFlags, Side};
use zeugma_protocol::CniResult;
use zeugma_skel::{NetworkRequest, Plugin, Request};

use crate::cause::{Cause, several};
use crate::{previous, routing, sandbox, shared};
use config::Config;
use plan::{Observed, Whose};

/// The plugin.
#[derive(Debug, Clone, Copy, Default)]
pub struct Vrf;

impl Plugin for Vrf {
    type Error = Error;
    const NAME: &'static str = "vrf";

    fn add(&self, request: &Request) -> Result<CniResult, Error> {
        let config = Config::of(&request.conf)?;
        let result = previous::chained(request, Self::NAME)?;
        let mut kernel = routing::container(request)?;
        let _alone = routing::alone(&kernel)?;
        let observed = observed(&mut kernel, &request.ifname)?;
        let plan = plan::enslaved(&config, &request.ifname, &observed)?;
        if observed.vrf(&config.name).is_none() && !kernel.knows_vrfs(Side::Container)? {
            return Err(Error::NoVrfs);
        }
        let record = Record {
            plugin: Self::NAME.into(),
            netns: request.netns.as_deref().and_then(NetnsRef::of),
            vrf: Some(config.name),
            ..Record::default()
        };
        routing::apply(&mut kernel, &request.attachment(), record, &plan)?;
        Ok(result.clone())
    }

    fn del(&self, request: &Request) -> Result<(), Error> {
        let journal = Journal::default();
        journal.tidy(&request.attachment())?;
        let entry = journal.last(&request.attachment(), Self::NAME)?;
        let mut causes = match entry.as_ref() {
            Some(entry) if !entry.record.spoilt => {
                withdraw(&entry.record, request.netns.as_deref(), &request.ifname)
            }
            None if !routing::may_be_the_reference_s(&journal, request)? => Vec::new(),
            _ => adopt(request),
        };
        causes.extend(entry.and_then(|entry| journal.remove(&entry).err()).map(Cause::from));
        Ok(several(causes)?)
    }

    fn check(&self, request: &Request) -> Result<(), Error> {
        let config = Config::of(&request.conf)?;
        previous::checked(request, Self::NAME)?;
        let links = routing::container(request)?.links(Side::Container)?;
        match plan::missing(&config, &request.ifname, &links) {
            Some(what) => Err(Error::Changed(what)),
            None => Ok(()),
        }
    }

    fn gc(&self, request: &NetworkRequest) -> Result<(), Error> {
        let journal = Journal::default();
        let clear = |id: &AttachmentId, entry: &Entry| {
            let mut causes = withdraw(&entry.record, None, &id.ifname);
            causes.extend(journal.remove(entry).err().map(Cause::from));
            causes
        };
        let (_, causes) = shared::clear_stale(&journal, &request.conf, Self::NAME, clear)?;
        Ok(several(causes)?)
    }

    fn status(&self, request: &NetworkRequest) -> Result<(), Error> {
        Config::of(&request.conf)?;
        match Kernel::host().knows_vrfs(Side::Host) {
            Ok(true) => Ok(()),
            Ok(false) => Err(Error::NotAvailable(Error::NoVrfs.to_string())),
            Err(error) => Err(Error::NotAvailable(error.to_string())),
        }
    }

    fn dry_run(&self, request: &Request) -> Result<String, Error> {
        let config = Config::of(&request.conf)?;
        let result = previous::chained(request, Self::NAME)?;
        let added = |address| (address, AddressFlags::default());
        let addresses = previous::container_addresses(result).into_iter().map(added).collect();
        let observed = Observed { addresses, ..Observed::default() };
        Ok(plan::enslaved(&config, &request.ifname, &observed)?.to_string())
    }
}

fn observed(kernel: &mut Kernel, ifname: &IfName) -> Result<Observed, Error> {
    let side = Side::Container;
    let links = kernel.links(side)?;
    if !links.iter().any(|(name, _)| name == ifname) {
        return Err(zeugma_kernel::Error::NoLink { name: ifname.clone(), side }.into());
    }
    let (addresses, routes) = (kernel.lasting_addresses(side, ifname)?, kernel.routes(side, ifname)?);
    let mut tables = kernel.tables(side)?;
    tables.extend(kernel.rules(side)?.iter().map(|rule| rule.table));
    Ok(Observed { links, addresses, routes, tables })
}

/// Takes back what a record says, if its namespace is still there.
fn withdraw(record: &Record, named: Option<&Path>, ifname: &IfName) -> Vec<Cause> {
    match (sandbox::found(record, named), &record.vrf) {
        (Some(mut kernel), Some(vrf)) => release(&mut kernel, vrf, ifname, Whose::Ours),
        _ => Vec::new(),
    }
}

/// Takes back what the reference made, or a record that is spoilt. No ADD has succeeded with a configuration that cannot
/// be read, and without the namespace there is nothing to do.
fn adopt(request: &Request) -> Vec<Cause> {
    match (routing::container(request), Config::of(&request.conf)) {
        (Ok(mut kernel), Ok(config)) => release(&mut kernel, &config.name, &request.ifname, Whose::Anyones),
        _ => Vec::new(),
    }
}

fn release(kernel: &mut Kernel, vrf: &IfName, ifname: &IfName, whose: Whose) -> Vec<Cause> {
    let found = routing::alone(kernel).and_then(|alone| Ok((alone, kernel.links(Side::Container)?)));
    match found {
        Ok((_alone, links)) => {
            let plan = plan::released(vrf, ifname, whose, &links);
            kernel.apply_all(&plan).into_iter().map(Cause::from).collect()
        }
        Err(cause) => vec![cause],
    }
}

/// Reads a configuration.
pub(crate) fn fuzz(request: &Request) -> Result<(), Error> {
    Config::of(&request.conf).map(drop)
}
