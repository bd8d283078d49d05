//! `resolver` gives a container names: it tells the agent, by the journal, who the container is and where it asks, and
//! the container, by the result, whom to ask. Who answers is the agent, never this plugin. Where and whom: plan.rs; in
//! the container: inside.rs; what is said to the agent: agent.rs. User page: docs/plugins/resolver.md.

mod agent;
pub(crate) mod config;
mod error;
mod inside;
mod plan;

pub use error::Error;

use std::io::{self, Write};
use std::net::IpAddr;
use std::path::Path;

use zeugma_journal::{Entry, Journal, Listen, Record};
use zeugma_kernel::Kernel;
use zeugma_model::AttachmentId;
use zeugma_plan::{Plan, Side};
use zeugma_protocol::CniResult;
use zeugma_skel::{NetworkRequest, Plugin, Request};

use crate::cause::{Cause, several};
use crate::{previous, routing, sandbox, shared};
use config::{Config, Mode};

/// The plugin.
#[derive(Debug, Clone, Copy, Default)]
pub struct Resolver;

impl Plugin for Resolver {
    type Error = Error;
    const NAME: &'static str = "resolver";

    fn add(&self, request: &Request) -> Result<CniResult, Error> {
        let config = Config::of(request)?;
        let result = previous::chained(request, Self::NAME)?;
        let mut record = record(request, result)?;
        let mut kernel = routing::container(request)?;
        record.gateways = plan::gateways(result, &of_host(&mut kernel, result)?);
        let listen = match plan::asks_inside(config.mode, &record.gateways)? {
            false => Listen::Gateway(record.gateways.clone()),
            true => Listen::Container(0),
        };
        let listen = give_names(request, &mut kernel, &config, record, listen)?;
        complain("ADD", &agent::sync(&request.attachment()));
        Ok(plan::answered(result.clone(), &config, &listen))
    }

    fn del(&self, request: &Request) -> Result<(), Error> {
        let journal = Journal::default();
        let id = request.attachment();
        journal.tidy(&id)?;
        let Some(entry) = journal.last(&id, Self::NAME)? else { return Ok(()) };
        let causes = withdraw(&journal, &id, &entry, request.netns.as_deref());
        if let trouble @ agent::Heard::Trouble(_) = agent::sync(&id) {
            complain("DEL", &trouble);
        }
        Ok(several(causes)?)
    }

    fn check(&self, request: &Request) -> Result<(), Error> {
        Config::of(request)?;
        previous::checked(request, Self::NAME)?;
        let entry = Journal::default().last(&request.attachment(), Self::NAME)?;
        let listen = entry.and_then(|entry| entry.record.resolver).map(|resolver| resolver.listen);
        match listen {
            None => Err(Error::Changed(format!("the journal has no names of {}", request.attachment()))),
            Some(Listen::Gateway(_)) => Ok(()),
            Some(Listen::Container(_)) if routing::container(request)?.redirects_dns()? => Ok(()),
            Some(Listen::Container(_)) => {
                Err(Error::Changed("the container's table inet zeugma_resolver is gone, or empty".into()))
            }
        }
    }

    fn gc(&self, request: &NetworkRequest) -> Result<(), Error> {
        let journal = Journal::default();
        let mut cleared = Vec::new();
        let (_, causes) = shared::clear_stale(&journal, &request.conf, Self::NAME, |id, entry| {
            cleared.push(id.clone());
            withdraw(&journal, id, entry, None)
        })?;
        // Who does not answer once is not asked again: there may be hundreds.
        let trouble = cleared.iter().map(agent::sync).find(|heard| !matches!(heard, agent::Heard::Yes));
        if let Some(trouble @ agent::Heard::Trouble(_)) = trouble {
            complain("GC", &trouble);
        }
        Ok(several(causes)?)
    }

    fn status(&self, request: &NetworkRequest) -> Result<(), Error> {
        let config = Config::of_network(&request.conf)?;
        if config.mode == Mode::Container {
            shared::can_filter(&mut Kernel::host())
                .map_err(|cause| Error::NotAvailable(cause.to_string()))?;
        }
        let heard = agent::look();
        match heard.complaint() {
            Some(complaint) if config.require_agent => Err(Error::NoAgent(complaint)),
            _ => {
                complain("STATUS", &heard);
                Ok(())
            }
        }
    }

    fn dry_run(&self, request: &Request) -> Result<String, Error> {
        let (config, result) = (Config::of(request)?, previous::chained(request, Self::NAME)?);
        let of_host: Vec<IpAddr> = match previous::host_interfaces(result).next() {
            Some(_) => result.ips.iter().filter_map(|ip| ip.gateway).collect(),
            None => Vec::new(),
        };
        let gateways = plan::gateways(result, &of_host);
        let (listen, steps) = match plan::asks_inside(config.mode, &gateways)? {
            false => (Listen::Gateway(gateways), Plan::new()),
            true => (Listen::Container(inside::EXAMPLE), inside::redirected(inside::EXAMPLE, false)),
        };
        Ok(format!("{steps}{}", plan::preview(&request.attachment(), &config, &listen)))
    }
}

/// Writes the record, and in the container the table that it needs. An earlier ADD gives way.
fn give_names(
    request: &Request,
    kernel: &mut Kernel,
    config: &Config,
    record: Record,
    listen: Listen,
) -> Result<Listen, Error> {
    let (journal, id) = (Journal::default(), request.attachment());
    let result = previous::chained(request, Resolver::NAME)?;
    let _alone = routing::alone(kernel)?;
    let asks_inside = matches!(listen, Listen::Container(_));
    let shared_port = inside::port_of_others(&journal, &id, kernel.container_id())?;
    let mut earlier = Vec::new();
    while let Some(entry) = journal.last(&id, Resolver::NAME)? {
        journal.remove(&entry)?;
        earlier.push(entry);
    }
    let was_inside = earlier.iter().any(|entry| inside::port(&entry.record).is_some());
    if was_inside && shared_port.is_none() && !asks_inside {
        inside::taken_back(kernel)?;
    }
    let (listen, steps) = match (asks_inside, shared_port) {
        (false, _) => (listen, Plan::new()),
        (true, Some(port)) => (Listen::Container(port), inside::kept(kernel, port)?),
        (true, None) => {
            let port = inside::free_port(kernel)?;
            (Listen::Container(port), inside::redirected(port, inside::is_up(kernel)?))
        }
    };
    let record = Record { resolver: Some(plan::told(config, listen.clone(), result)), ..record };
    routing::apply(kernel, &id, record, &steps)?;
    Ok(listen)
}

fn record(request: &Request, result: &CniResult) -> Result<Record, Error> {
    Ok(Record {
        plugin: Resolver::NAME.into(),
        netns: request.netns.as_deref().and_then(zeugma_journal::NetnsRef::of),
        bridge: previous::way_in(result),
        addresses: previous::container_addresses(result),
        identity: request.identity()?,
        ..Record::default()
    })
}

/// The addresses of the host's interfaces in the result.
fn of_host(kernel: &mut Kernel, result: &CniResult) -> Result<Vec<IpAddr>, Error> {
    let mut addresses = Vec::new();
    for name in previous::host_interfaces(result) {
        // A result may name links that are gone since, or none of the kernel's.
        if kernel.link(Side::Host, &name)?.is_some() {
            addresses.extend(kernel.addresses(Side::Host, &name)?.iter().map(ipnetwork::IpNetwork::ip));
        }
    }
    Ok(addresses)
}

/// Takes back what a record says.
fn withdraw(journal: &Journal, id: &AttachmentId, entry: &Entry, named: Option<&Path>) -> Vec<Cause> {
    let mut causes = Vec::new();
    if (entry.record.spoilt || inside::port(&entry.record).is_some())
        && let Some(mut kernel) = sandbox::found(&entry.record, named)
    {
        causes.extend(inside::left(&mut kernel, journal, id));
    }
    causes.extend(journal.remove(entry).err().map(Cause::from));
    causes
}

fn complain(verb: &str, heard: &agent::Heard) {
    if let Some(complaint) = heard.complaint() {
        // One write, as others write there, too. A closed stderr is no reason to fail.
        let _ = io::stderr().write_all(format!("resolver: {verb}: {complaint}\n").as_bytes());
    }
}

/// Reads a configuration, and what the record and the result would say.
pub(crate) fn fuzz(request: &Request) -> Result<(), Error> {
    let config = Config::of(request)?;
    let result = previous::chained(request, Resolver::NAME)?;
    let of_host: Vec<IpAddr> = result.ips.iter().filter_map(|ip| ip.gateway).collect();
    let listen = match plan::asks_inside(config.mode, &plan::gateways(result, &of_host))? {
        true => Listen::Container(inside::EXAMPLE),
        false => Listen::Gateway(plan::gateways(result, &of_host)),
    };
    let told = plan::told(&config, listen, result);
    let answered = plan::answered(result.clone(), &config, &told.listen);
    assert!(!answered.dns.nameservers.is_empty() && answered.dns.search[0] == told.domain);
    Ok(())
}
