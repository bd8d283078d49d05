//! `bridge` joins containers of a host by a Linux bridge. What an ADD does: plan.rs. User page:
//! docs/plugins/bridge.md.

mod check;
mod config;
mod error;
mod plan;
mod vlan;

pub use error::Error;
pub use vlan::VlanError;

use zeugma_journal::{Entry, Journal, Lock, NetnsRef, Record};
use zeugma_kernel::Kernel;
use zeugma_model::{AttachmentId, IfName, Mac};
use zeugma_plan::{Plan, Side, Step};
use zeugma_protocol::CniResult;
use zeugma_skel::{NetworkRequest, Plugin, Request};

use crate::cause::{Cause, several};
use crate::shared::{self, BRIDGE_ALIAS, Needed};
use crate::{ipam, previous};
use config::Config;
use plan::{Attached, Facts, attached, guards};

/// The plugin.
#[derive(Debug, Clone, Copy, Default)]
pub struct Bridge;

impl Plugin for Bridge {
    type Error = Error;
    const NAME: &'static str = "bridge";

    fn add(&self, request: &Request) -> Result<CniResult, Error> {
        let config = Config::of(request)?;
        let netns = request.netns.as_ref().ok_or(zeugma_kernel::Error::NoContainer)?;
        let mut kernel = Kernel::with_container(netns)?;
        must_be_new(request)?;
        let lock = Lock::shared(&lock_name(&config.bridge))?;
        let facts = facts(&mut kernel, &config)?;
        let given = ipam::add(request)?;
        match attach(request, &config, given, &facts, &mut kernel) {
            Ok(result) => Ok(with_dns(request, result)),
            Err(error) => {
                ipam::give_up(request);
                drop(lock);
                if facts.bridge.is_none() || (config.vlan_gateway.is_some() && facts.gateway.is_none()) {
                    // The first error is the one to tell; what stays is GC's.
                    let _ = retire(&mut kernel, &Journal::default(), &config.bridge);
                }
                Err(error)
            }
        }
    }

    fn del(&self, request: &Request) -> Result<(), Error> {
        let journal = Journal::default();
        let mut causes: Vec<Cause> =
            journal.tidy(&request.attachment()).err().map(Cause::from).into_iter().collect();
        match journal.last(&request.attachment(), Self::NAME) {
            Ok(Some(entry)) => causes.extend(
                detach(&mut Kernel::host(), &request.attachment(), &entry.record)
                    .into_iter()
                    .chain(ipam::del(request).err().map(Cause::from))
                    .chain(journal.remove(&entry).err().map(Cause::from)),
            ),
            Ok(None) => {
                causes.extend(detach_unknown(request));
                causes.extend(ipam::del(request).err().map(Cause::from));
            }
            Err(error) => {
                causes.push(error.into());
                causes.extend(ipam::del(request).err().map(Cause::from));
            }
        }
        Ok(several(causes)?)
    }

    fn check(&self, request: &Request) -> Result<(), Error> {
        let config = Config::of(request)?;
        ipam::check(request)?;
        let result = previous::checked(request, Self::NAME)?;
        let netns = request.netns.as_ref().ok_or(zeugma_kernel::Error::NoContainer)?;
        check::check(&mut Kernel::with_container(netns)?, &config, request, result)
    }

    fn gc(&self, request: &NetworkRequest) -> Result<(), Error> {
        let journal = Journal::default();
        let mut kernel = Kernel::host();
        let (gone, mut causes) = shared::clear_stale(&journal, &request.conf, Self::NAME, |id, entry| {
            collect(&mut kernel, &journal, id, entry)
        })?;
        causes.extend(ipam::gc(request).err().map(Cause::from));
        causes.extend(shared::sweep(&mut kernel, &journal, &request.conf.name, &gone));
        causes.extend(retire(&mut kernel, &journal, &Config::of_network(&request.conf)?.bridge));
        Ok(several(causes)?)
    }

    fn status(&self, request: &NetworkRequest) -> Result<(), Error> {
        let config = Config::of_network(&request.conf)?;
        let mut kernel = Kernel::host();
        if let Some(state) = kernel.link(Side::Host, &config.bridge)?.filter(|state| state.kind != "bridge") {
            return Err(Error::NotAvailable(
                Error::NotABridge { name: config.bridge, kind: state.kind }.to_string(),
            ));
        }
        if config.masquerade || config.guard_mac {
            shared::can_filter(&mut kernel).map_err(|error| Error::NotAvailable(error.to_string()))?;
        }
        Ok(ipam::status(request)?)
    }

    fn dry_run(&self, request: &Request) -> Result<String, Error> {
        let config = Config::of(request)?;
        let mut kernel = Kernel::host();
        let given = ipam::rehearsed(request)?;
        let facts = Facts { underlay_mtu: kernel.underlay_mtu()?, ..facts(&mut kernel, &config)? };
        let attached = attached(&config, &request.attachment(), None, given, &facts)?;
        Ok(format!("{}{}", ipam::preview(request)?, attached.plan))
    }
}

/// A second ADD without a DEL between them would take the first one's address away when it fails.
fn must_be_new(request: &Request) -> Result<(), Error> {
    match Journal::default().last(&request.attachment(), Bridge::NAME)? {
        Some(_) => Err(Error::InterfaceExists(request.ifname.clone())),
        None => Ok(()),
    }
}

fn lock_name(bridge: &IfName) -> String {
    format!("bridge-{bridge}")
}

/// Looks at the bridge; for the MTU also at the way out, unless it is known.
fn facts(kernel: &mut Kernel, config: &Config) -> Result<Facts, Error> {
    let bridge = kernel.link(Side::Host, &config.bridge)?;
    let gateway_addresses = match (&bridge, config.gateway) {
        (None, _) | (_, config::Gateway::No) => Vec::new(),
        (Some(_), _) => kernel.addresses(Side::Host, config.gateway_device())?,
    };
    let gateway = match &config.vlan_gateway {
        Some(name) => kernel.link(Side::Host, name)?,
        None => None,
    };
    let underlay_mtu = if config.mtu.is_none() && bridge.is_none() { kernel.underlay_mtu()? } else { None };
    let mut random = [0; 30];
    getrandom::fill(&mut random).map_err(|error| zeugma_kernel::Error::System {
        action: "get random bytes for MAC addresses",
        source: std::io::Error::other(error),
    })?;
    let [bridge_mac, host_mac, container_mac, gateway_mac, gateway_port_mac] =
        [0, 6, 12, 18, 24].map(|at| Mac::local(std::array::from_fn(|index| random[at + index])));
    Ok(Facts {
        bridge,
        gateway_addresses,
        gateway,
        underlay_mtu,
        bridge_mac,
        gateway_mac,
        gateway_port_mac,
        host_mac,
        container_mac,
    })
}

fn attach(
    request: &Request,
    config: &Config,
    given: CniResult,
    facts: &Facts,
    kernel: &mut Kernel,
) -> Result<CniResult, Error> {
    let netns = request.netns.as_deref().and_then(NetnsRef::of);
    let Attached { plan, result, mut record } = attached(config, &request.attachment(), netns, given, facts)?;
    record.ipam = ipam::type_of(&request.conf).map(str::to_owned);
    record.identity = request.identity()?;
    let journal = Journal::default();
    let _sharing = shared::sharing()?;
    let mut entry = journal.begin(&request.attachment(), record)?;
    if let Err(error) = kernel.apply(&plan) {
        journal.remove(&entry)?;
        return Err(explained(error, &request.ifname, &config.bridge));
    }
    if let Err(error) = journal.finish(&mut entry) {
        shared::take_back(kernel, &plan);
        journal.remove(&entry)?;
        return Err(error.into());
    }
    Ok(result)
}

/// The kernel's EEXIST at the veth pair and its EOPNOTSUPP at VLANs have one cause each that users meet.
fn explained(error: zeugma_kernel::Error, ifname: &IfName, bridge: &IfName) -> Error {
    match &error {
        zeugma_kernel::Error::Refused { step, refusal }
            if refusal.errno == libc::EEXIST && step.contains("type veth") =>
        {
            Error::InterfaceExists(ifname.clone())
        }
        zeugma_kernel::Error::Refused { step, refusal }
            if refusal.errno == libc::EOPNOTSUPP && step.contains("bridge vlan") =>
        {
            Error::NoVlans(bridge.clone())
        }
        _ => error.into(),
    }
}

/// The configuration's DNS settings, if there are any, take the place of the IPAM's.
fn with_dns(request: &Request, mut result: CniResult) -> CniResult {
    if !request.conf.dns.is_empty() {
        result.dns = request.conf.dns.clone();
    }
    result
}

/// Takes apart what the record says was made.
fn detach(kernel: &mut Kernel, id: &AttachmentId, record: &Record) -> Vec<Cause> {
    let mut plan = Plan::new();
    let veth = record.host_veth.clone().unwrap_or_else(|| id.host_veth());
    plan.push(Step::DeleteLink(Side::Host, veth));
    if let Some(mac) = record.mac.filter(|_| record.guarded) {
        plan.push(Step::DeleteElements(guards(id, mac)));
    }
    kernel.apply_all(&plan).into_iter().map(Cause::from).collect()
}

/// No record: half an ADD, or another program's. Our veth has a name that we can tell; the reference's is
/// found by the container's end.
fn detach_unknown(request: &Request) -> Vec<Cause> {
    let id = request.attachment();
    let mut plan = Plan::from_iter([Step::DeleteLink(Side::Host, id.host_veth())]);
    let mut kernel = match request.netns.as_deref().map(Kernel::with_container) {
        Some(Ok(mut kernel)) => {
            let inside = kernel.link(Side::Container, &request.ifname);
            if !is_of_another_network(request)
                && inside.is_ok_and(|state| state.is_some_and(|state| state.kind == "veth"))
            {
                plan.push(Step::DeleteLink(Side::Container, request.ifname.clone()));
            }
            kernel
        }
        // The namespace is gone, and with it the container's end.
        Some(Err(_)) | None => Kernel::host(),
    };
    kernel.apply_all(&plan).into_iter().map(Cause::from).collect()
}

/// Whether the interface was made for the same container by another network: then a DEL of this one, whose ADD
/// was refused, must not take it away.
fn is_of_another_network(request: &Request) -> bool {
    let journal = Journal::default();
    let has_record = |network| {
        let id = AttachmentId { network, ..request.attachment() };
        journal.last(&id, Bridge::NAME).is_ok_and(|entry| entry.is_some())
    };
    journal.networks().is_ok_and(|networks| networks.into_iter().any(has_record))
}

fn collect(kernel: &mut Kernel, journal: &Journal, id: &AttachmentId, entry: &Entry) -> Vec<Cause> {
    let mut causes = detach(kernel, id, &entry.record);
    causes.extend(journal.remove(entry).err().map(Cause::from));
    causes
}

/// Removes the gateways of VLANs on a bridge that nobody uses, and the bridge if we made it. Where somebody is
/// about to attach to it, all stays.
fn retire(kernel: &mut Kernel, journal: &Journal, bridge: &IfName) -> Vec<Cause> {
    let Ok(Some(_lock)) = Lock::try_exclusive(&lock_name(bridge)) else { return Vec::new() };
    match Needed::by(journal) {
        Ok(needed) if !needed.has_bridge(bridge) => {
            remove_bridge(kernel, bridge);
            Vec::new()
        }
        Ok(_) => Vec::new(),
        Err(cause) => vec![cause],
    }
}

fn remove_bridge(kernel: &mut Kernel, bridge: &IfName) {
    let mut plan = Plan::new();
    for port in kernel.ports_of(bridge).unwrap_or_default() {
        if kernel.link(Side::Host, &port).is_ok_and(|state| state.as_ref().is_some_and(vlan::is_gateway_port))
        {
            plan.push(Step::DeleteLink(Side::Host, port));
        }
    }
    let ours = kernel
        .link(Side::Host, bridge)
        .is_ok_and(|state| state.is_some_and(|state| state.alias.as_deref() == Some(BRIDGE_ALIAS)));
    if ours {
        plan.push(Step::DeleteUnusedBridge(bridge.clone()));
    }
    kernel.apply_all(&plan);
}

/// Plans an ADD with `prevResult` as what the IPAM gave, on a host where nothing is yet.
pub(crate) fn fuzz(request: &Request) -> Result<(), Error> {
    let config = Config::of(request)?;
    let facts = Facts {
        bridge: None,
        gateway_addresses: Vec::new(),
        gateway: None,
        underlay_mtu: Some(1500),
        bridge_mac: Mac([2, 0, 0, 0, 0, 1]),
        gateway_mac: Mac([2, 0, 0, 0, 0, 2]),
        gateway_port_mac: Mac([2, 0, 0, 0, 0, 3]),
        host_mac: Mac([2, 0, 0, 0, 0, 4]),
        container_mac: Mac([2, 0, 0, 0, 0, 5]),
    };
    let given = request.conf.prev_result.clone().unwrap_or_default();
    let attached = attached(&config, &request.attachment(), None, given, &facts)?;
    assert!(!attached.plan.to_string().is_empty());
    Ok(())
}
