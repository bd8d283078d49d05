//! `bandwidth` limits what a container receives and sends. The steps, and why: plan.rs. What may be told: config.rs.
//! User page: docs/plugins/bandwidth.md.

pub(crate) mod config;
mod error;
mod peer;
mod plan;

pub use config::Direction;
pub use error::Error;

use zeugma_journal::{Entry, Journal, Lock, NetnsRef, Record};
use zeugma_kernel::{Kernel, LinkState};
use zeugma_model::{AttachmentId, IfName, Mac};
use zeugma_plan::{LimitState, Plan, Shaper, Side, Step};
use zeugma_protocol::{CniResult, Interface};
use zeugma_skel::{NetworkRequest, Plugin, Request};

use crate::cause::{Cause, several};
use crate::{previous, shared};
use config::Config;
use plan::Facts;

/// The plugin.
#[derive(Debug, Clone, Copy, Default)]
pub struct Bandwidth;

impl Plugin for Bandwidth {
    type Error = Error;
    const NAME: &'static str = "bandwidth";

    fn add(&self, request: &Request) -> Result<CniResult, Error> {
        let config = Config::of(&request.conf)?;
        let mut result = previous::chained(request, Self::NAME)?.clone();
        let journal = Journal::default();
        if !config.is_empty() {
            prepare(request, &config, &result)?;
        }
        // A second ADD stands for the first one, whose limits stay when this one is refused.
        while let Some(entry) = journal.last(&request.attachment(), Self::NAME)? {
            several(lift(&mut Kernel::host(), &journal, &entry))?;
        }
        if !config.is_empty() {
            let facts = limit(request, &config, &result, &journal)?;
            result.interfaces.extend(config.egress.map(|_| ifb_of(&facts)));
        }
        Ok(result)
    }

    fn del(&self, request: &Request) -> Result<(), Error> {
        let journal = Journal::default();
        let id = request.attachment();
        let _sharing = Lock::sharing()?;
        journal.tidy(&id)?;
        let mut kernel = Kernel::host();
        let causes = match journal.last(&id, Self::NAME)? {
            Some(entry) if !entry.record.spoilt => lift(&mut kernel, &journal, &entry),
            Some(entry) => {
                let mut causes = lift_unknown(&mut kernel, &id);
                causes.extend(journal.remove(&entry).err().map(Cause::from));
                causes
            }
            None => lift_unknown(&mut kernel, &id),
        };
        Ok(several(causes)?)
    }

    fn check(&self, request: &Request) -> Result<(), Error> {
        let config = Config::of(&request.conf)?;
        let result = previous::checked(request, Self::NAME)?;
        if config.is_empty() {
            return Ok(());
        }
        let mut kernel = container(request)?;
        let (host_veth, _) = peer::host_end(&mut kernel, request, result)?;
        if let Some(bucket) = config.ingress {
            let wanted = plan::shaper(bucket, &config, Direction::Ingress);
            ensure_limited(&mut kernel, &host_veth, &wanted)?;
        }
        if let Some(bucket) = config.egress {
            let entry = Journal::default().last(&request.attachment(), Self::NAME)?;
            let ifb = entry.and_then(|entry| entry.record.ifb).unwrap_or_else(|| request.attachment().ifb());
            let wanted = plan::shaper(bucket, &config, Direction::Egress);
            ensure_redirected(&mut kernel, &host_veth, &ifb)?;
            ensure_limited(&mut kernel, &ifb, &wanted)?;
        }
        Ok(())
    }

    fn gc(&self, request: &NetworkRequest) -> Result<(), Error> {
        let journal = Journal::default();
        let mut kernel = Kernel::host();
        let (_, causes) = shared::clear_stale(&journal, &request.conf, Self::NAME, |id, entry| {
            let mut causes = lift(&mut kernel, &journal, entry);
            if entry.record.spoilt {
                causes.extend(lift_unknown(&mut kernel, id));
            }
            causes
        })?;
        Ok(several(causes)?)
    }

    fn status(&self, request: &NetworkRequest) -> Result<(), Error> {
        Config::of(&request.conf)?;
        Kernel::host().can_shape().map_err(|error| Error::NotAvailable(error.to_string()))
    }

    fn dry_run(&self, request: &Request) -> Result<String, Error> {
        let config = Config::of(&request.conf)?;
        let result = previous::chained(request, Self::NAME)?;
        if config.is_empty() {
            return Ok(String::new());
        }
        let host_veth =
            peer::likely_host_end(result).ok_or_else(|| Error::NoHostVeth(request.ifname.clone()))?;
        let id = request.attachment();
        let facts = Facts { host_veth, mtu: None, ifb: id.ifb(), is_leftover: false, mac: None };
        Ok(plan::limited(&config, &id, &facts)?.to_string())
    }
}

fn container(request: &Request) -> Result<Kernel, Error> {
    let path = request.netns.as_ref().ok_or(zeugma_kernel::Error::NoContainer)?;
    Ok(Kernel::with_container(path)?)
}

/// What can be refused before anything is touched.
fn prepare(request: &Request, config: &Config, result: &CniResult) -> Result<(Kernel, Facts, Plan), Error> {
    let id = request.attachment();
    let mut kernel = container(request)?;
    let (host_veth, state) = peer::host_end(&mut kernel, request, result)?;
    let facts = facts(&mut kernel, &id, host_veth, &state)?;
    let plan = plan::limited(config, &id, &facts)?;
    Ok((kernel, facts, plan))
}

fn limit(request: &Request, config: &Config, result: &CniResult, journal: &Journal) -> Result<Facts, Error> {
    let id = request.attachment();
    let (mut kernel, facts, plan) = prepare(request, config, result)?;
    let record = Record {
        plugin: Bandwidth::NAME.into(),
        netns: request.netns.as_deref().and_then(NetnsRef::of),
        host_veth: Some(facts.host_veth.clone()),
        shaped: config.ingress.is_some(),
        ifb: config.egress.map(|_| facts.ifb.clone()),
        limits: Some(config.limits()),
        ..Record::default()
    };
    let _sharing = Lock::sharing()?;
    let mut entry = journal.begin(&id, record)?;
    if let Err(error) = kernel.apply(&plan) {
        journal.remove(&entry)?;
        return Err(error.into());
    }
    if let Err(error) = journal.finish(&mut entry) {
        shared::take_back(&mut kernel, &plan);
        journal.remove(&entry)?;
        return Err(error.into());
    }
    Ok(facts)
}

fn facts(
    kernel: &mut Kernel,
    id: &AttachmentId,
    host_veth: IfName,
    state: &LinkState,
) -> Result<Facts, Error> {
    let mut random = [0; 6];
    getrandom::fill(&mut random).map_err(|error| zeugma_kernel::Error::System {
        action: "get random bytes for a MAC address",
        source: std::io::Error::other(error),
    })?;
    let (ifb, is_leftover) = ifb_for(kernel, id)?;
    Ok(Facts { host_veth, mtu: Some(state.mtu), ifb, is_leftover, mac: Some(Mac::local(random)) })
}

/// The reference's name has neither room nor regard for a second interface of the container on the same network:
/// where the name is somebody else's, one of our own is taken. Whether it is a leftover comes with it.
fn ifb_for(kernel: &mut Kernel, id: &AttachmentId) -> Result<(IfName, bool), Error> {
    for name in names(id) {
        match kernel.link(Side::Host, &name)? {
            None => return Ok((name, false)),
            Some(state) if state.alias == Some(id.alias()) => return Ok((name, true)),
            Some(_) => {}
        }
    }
    Ok((id.ifb(), false))
}

fn names(id: &AttachmentId) -> [IfName; 2] {
    [id.ifb(), id.hashed_name("bwp")]
}

fn ifb_of(facts: &Facts) -> Interface {
    Interface { name: facts.ifb.to_string(), mac: facts.mac, mtu: facts.mtu, ..Interface::default() }
}

/// Lifts what the record says.
fn lift(kernel: &mut Kernel, journal: &Journal, entry: &Entry) -> Vec<Cause> {
    let mut causes: Vec<Cause> =
        kernel.apply_all(&plan::lifted(&entry.record)).into_iter().map(Cause::from).collect();
    causes.extend(journal.remove(entry).err().map(Cause::from));
    causes
}

/// No record: the ifb goes that has this attachment's mark, or this container's name and no mark, as the reference
/// leaves it. The queues of the veth pair go with that.
fn lift_unknown(kernel: &mut Kernel, id: &AttachmentId) -> Vec<Cause> {
    let mut causes = Vec::new();
    for name in names(id) {
        match kernel.link(Side::Host, &name) {
            Ok(Some(state)) if state.kind == "ifb" && is_of(&state, id) => {
                let plan = Plan::from_iter([Step::DeleteLink(Side::Host, name)]);
                causes.extend(kernel.apply_all(&plan).into_iter().map(Cause::from));
            }
            Ok(_) => {}
            Err(error) => causes.push(error.into()),
        }
    }
    causes
}

fn is_of(state: &LinkState, id: &AttachmentId) -> bool {
    state.alias.as_ref().is_none_or(|alias| alias.is_empty() || *alias == id.alias())
}

fn ensure_limited(kernel: &mut Kernel, link: &IfName, wanted: &Shaper) -> Result<(), Error> {
    let expected = wanted.state();
    match kernel.limit(link)? {
        Some(state) if state == expected => Ok(()),
        Some(state) => Err(Error::Changed(format!("{link} has {}, not {}", told(&state), told(&expected)))),
        None => Err(Error::Changed(format!("{link} has no limit"))),
    }
}

fn told(state: &LimitState) -> String {
    let LimitState { rate, buffer, limit, exceptions } = state;
    let limit = limit.map_or(String::new(), |limit| format!(", limit {limit} bytes"));
    format!("rate {rate} bytes/s, buffer {buffer} ticks{limit}, {exceptions} subnets")
}

fn ensure_redirected(kernel: &mut Kernel, from: &IfName, to: &IfName) -> Result<(), Error> {
    let Some(state) = kernel.link(Side::Host, to)? else {
        return Err(Error::Changed(format!("there is no link {to}")));
    };
    match kernel.redirected_to(from)? {
        Some(index) if index == state.index && state.up => Ok(()),
        _ => Err(Error::Changed(format!("what comes in by {from} does not pass {to}"))),
    }
}
