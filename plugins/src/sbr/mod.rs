//! `sbr` routes a container's answers by their source address, so that they leave by the interface that the question
//! came in by. Which rules and routes that takes: plan.rs. User page: docs/plugins/sbr.md.

pub(crate) mod config;
mod error;
mod plan;
#[cfg(test)]
mod tests;

pub use error::Error;

use zeugma_journal::{Entry, Journal, NetnsRef, Record, SourceRule};
use zeugma_kernel::Kernel;
use zeugma_model::IfName;
use zeugma_plan::{Plan, RuleSpec, Side};
use zeugma_protocol::CniResult;
use zeugma_skel::{NetworkRequest, Plugin, Request};

use crate::cause::{Cause, several};
use crate::{previous, routing, sandbox, shared};
use config::Config;
use plan::Observed;

/// The plugin.
#[derive(Debug, Clone, Copy, Default)]
pub struct Sbr;

impl Plugin for Sbr {
    type Error = Error;
    const NAME: &'static str = "sbr";

    fn add(&self, request: &Request) -> Result<CniResult, Error> {
        let config = Config::of(&request.conf)?;
        let result = previous::chained(request, Self::NAME)?;
        let sources = plan::sources(result, &request.ifname)?;
        let mut kernel = routing::container(request)?;
        let _alone = routing::alone(&kernel)?;
        let observed = observed(&mut kernel, &request.ifname)?;
        let (plan, rules) = plan::routed(&config, &request.ifname, &sources, &observed)?;
        let record = record(&config, request, &rules);
        ensure_first(request, &record)?;
        routing::apply(&mut kernel, &request.attachment(), record, &plan)?;
        Ok(plan::mended(result.clone(), &config))
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
            // No ADD has succeeded with a configuration that cannot be read.
            _ => Config::of(&request.conf).map_or_else(|_| Vec::new(), |config| adopt(&config, request)),
        };
        causes.extend(entry.and_then(|entry| journal.remove(&entry).err()).map(Cause::from));
        Ok(several(causes)?)
    }

    fn check(&self, request: &Request) -> Result<(), Error> {
        let config = Config::of(&request.conf)?;
        let result = previous::checked(request, Self::NAME)?;
        let sources = plan::sources(result, &request.ifname)?;
        let observed = observed(&mut routing::container(request)?, &request.ifname)?;
        match plan::missing(&config, &request.ifname, &sources, &observed) {
            Some(what) => Err(Error::Changed(what)),
            None => Ok(()),
        }
    }

    fn gc(&self, request: &NetworkRequest) -> Result<(), Error> {
        let journal = Journal::default();
        let clear = |id: &zeugma_model::AttachmentId, entry: &Entry| {
            let mut causes = withdraw(&entry.record, None, &id.ifname);
            causes.extend(journal.remove(entry).err().map(Cause::from));
            causes
        };
        let (_, causes) = shared::clear_stale(&journal, &request.conf, Self::NAME, clear)?;
        Ok(several(causes)?)
    }

    fn status(&self, request: &NetworkRequest) -> Result<(), Error> {
        Config::of(&request.conf)?;
        // A kernel without policy routing (CONFIG_IP_MULTIPLE_TABLES) has no rules to tell of.
        let rules = Kernel::host().rules(Side::Host);
        rules.map(drop).map_err(|error| Error::NotAvailable(error.to_string()))
    }

    fn dry_run(&self, request: &Request) -> Result<String, Error> {
        let config = Config::of(&request.conf)?;
        let sources = plan::sources(previous::chained(request, Self::NAME)?, &request.ifname)?;
        let (plan, _) = plan::routed(&config, &request.ifname, &sources, &Observed::expected(&sources))?;
        Ok(plan.to_string())
    }
}

fn observed(kernel: &mut Kernel, ifname: &IfName) -> Result<Observed, Error> {
    let side = Side::Container;
    if kernel.link(side, ifname)?.is_none() {
        return Err(zeugma_kernel::Error::NoLink { name: ifname.clone(), side }.into());
    }
    let (rules, tables) = (kernel.rules(side)?, kernel.tables(side)?);
    Ok(Observed { rules, tables, routes: kernel.routes(side, ifname)? })
}

fn record(config: &Config, request: &Request, rules: &[RuleSpec]) -> Record {
    Record {
        plugin: Sbr::NAME.into(),
        netns: request.netns.as_deref().and_then(NetnsRef::of),
        rules: rules
            .iter()
            .map(|RuleSpec { from, table }| SourceRule { from: *from, table: *table })
            .collect(),
        own_tables: matches!(config, Config::Own { .. }),
        ..Record::default()
    }
}

/// Main is empty after an ADD that made tables, and a rule can be there once; a chain may have this plugin twice, with
/// two tables.
fn ensure_first(request: &Request, new: &Record) -> Result<(), Error> {
    let place = |record: &Record| record.netns.as_ref().map(|netns| (netns.device, netns.inode));
    let stands_in_the_way = |old: &Record| {
        let both_empty_main = old.own_tables && new.own_tables;
        place(old) == place(new) && (both_empty_main || old.rules.iter().any(|rule| new.rules.contains(rule)))
    };
    let entries = Journal::default().entries(&request.attachment())?;
    let mut ours = entries.iter().filter(|entry| entry.record.plugin == Sbr::NAME);
    match ours.any(|entry| stands_in_the_way(&entry.record)) {
        true => Err(Error::RoutedAlready { ifname: request.ifname.clone() }),
        false => Ok(()),
    }
}

/// Takes back what a record says, if its namespace is still there.
fn withdraw(record: &Record, named: Option<&std::path::Path>, ifname: &IfName) -> Vec<Cause> {
    let Some(mut kernel) = sandbox::found(record, named) else { return Vec::new() };
    let rules: Vec<RuleSpec> = record
        .rules
        .iter()
        .map(|SourceRule { from, table }| RuleSpec { from: *from, table: *table })
        .collect();
    undo(&mut kernel, |kernel| {
        let routes = kernel.routes(Side::Container, ifname)?;
        Ok(plan::withdrawn(&rules, record.own_tables, ifname, &routes))
    })
}

/// Takes back what the reference made, or a record that is spoilt. Without the namespace there is nothing to do.
fn adopt(config: &Config, request: &Request) -> Vec<Cause> {
    let Ok(mut kernel) = routing::container(request) else { return Vec::new() };
    undo(&mut kernel, |kernel| {
        let addresses = kernel.addresses(Side::Container, &request.ifname)?;
        let rules = plan::adopted(config, &addresses, &kernel.rules(Side::Container)?);
        Ok(plan::withdrawn(&rules, false, &request.ifname, &[]))
    })
}

fn undo(kernel: &mut Kernel, plan: impl FnOnce(&mut Kernel) -> Result<Plan, Cause>) -> Vec<Cause> {
    let plan = routing::alone(kernel).and_then(|alone| Ok((alone, plan(kernel)?)));
    match plan {
        Ok((_alone, plan)) => kernel.apply_all(&plan).into_iter().map(Cause::from).collect(),
        Err(cause) => vec![cause],
    }
}

/// Reads a configuration.
pub(crate) fn fuzz(request: &Request) -> Result<(), Error> {
    Config::of(&request.conf).map(drop)
}
