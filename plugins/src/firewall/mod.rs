//! `firewall` decides who reaches containers through the host: by our nftables table, and by firewalld's
//! zones where it runs. The rules: `plan::nft::skeleton`. User page: docs/plugins/firewall.md.

pub(crate) mod config;
mod error;

pub use error::Error;

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnetwork::IpNetwork;
use zeugma_firewalld::Firewalld;
use zeugma_journal::{Entry, Journal, Lock, NetnsRef, Record};
use zeugma_kernel::Kernel;
use zeugma_model::{IfName, NetworkName};
use zeugma_plan::{LinkChange, Plan, PortFlags, Side, Step};
use zeugma_protocol::CniResult;
use zeugma_skel::{NetworkRequest, Plugin, Request};
use zeugma_upkeep::{ingress, permission};

use crate::cause::{Cause, several};
use crate::predecessor::{Lease, Part, Trace};
use crate::{ipam, predecessor, previous, shared};
use config::{Backend, Config, Ingress};

/// The plugin.
#[derive(Debug, Clone, Copy, Default)]
pub struct Firewall;

impl Plugin for Firewall {
    type Error = Error;
    const NAME: &'static str = "firewall";

    fn add(&self, request: &Request) -> Result<CniResult, Error> {
        let config = Config::of(&request.conf)?;
        let result = previous::chained(request, Self::NAME)?;
        let firewalld = chosen(&config)?;
        let plan = let_in(&config, &request.conf.name, result)?;
        let record = Record {
            plugin: Self::NAME.into(),
            netns: request.netns.as_deref().and_then(NetnsRef::of),
            bridge: previous::way_in(result),
            addresses: previous::container_addresses(result),
            ingress: (config.ingress != Ingress::Open).then(|| config.ingress.as_str().to_owned()),
            zone: firewalld.as_ref().map(|_| config.zone.clone()),
            ..Record::default()
        };
        let journal = Journal::default();
        let _sharing = Lock::sharing()?;
        let mut entry = journal.begin(&request.attachment(), record)?;
        let mut kernel = Kernel::host();
        if let Err(error) = kernel.apply(&plan) {
            journal.remove(&entry)?;
            return Err(error.into());
        }
        let outcome = firewalld.as_ref().map_or(Ok(()), |it| trust(it, &entry.record));
        if let Err(error) = outcome.and_then(|()| Ok(journal.finish(&mut entry)?)) {
            if let Some(firewalld) = &firewalld {
                distrust(firewalld, &entry.record);
            }
            shared::take_back(&mut kernel, &plan);
            journal.remove(&entry)?;
            return Err(error);
        }
        Ok(result.clone())
    }

    fn del(&self, request: &Request) -> Result<(), Error> {
        let journal = Journal::default();
        let _sharing = Lock::sharing()?;
        journal.tidy(&request.attachment())?;
        match journal.last(&request.attachment(), Self::NAME)? {
            Some(entry) => Ok(several(forget(&journal, &entry))?),
            None => Ok(several(forget_unknown(&journal, request))?),
        }
    }

    fn check(&self, request: &Request) -> Result<(), Error> {
        let config = Config::of(&request.conf)?;
        let result = previous::checked(request, Self::NAME)?;
        let is_ours = Journal::default().last(&request.attachment(), Self::NAME)?.is_some();
        let wanted = elements(&config, &request.conf.name, result)?;
        if let Some(element) = shared::missing(&mut Kernel::host(), wanted)?.filter(|_| is_ours) {
            return Err(Error::Missing(format!("there is no nft element {element}")));
        }
        let firewalld = match chosen(&config)? {
            Some(firewalld) => firewalld,
            None if is_ours => return Ok(()),
            None => return is_let_in(request, result),
        };
        for address in previous::container_addresses(result).iter().map(IpNetwork::ip) {
            if !firewalld.has(&config.zone, address)? {
                return Err(Error::Missing(format!("{address} is not in firewalld's zone {}", config.zone)));
            }
        }
        Ok(())
    }

    fn gc(&self, request: &NetworkRequest) -> Result<(), Error> {
        let journal = Journal::default();
        let mut kernel = Kernel::host();
        let (gone, mut causes) =
            shared::clear_stale(&journal, &request.conf, Self::NAME, |_, entry| forget(&journal, entry))?;
        causes.extend(shared::sweep(&mut kernel, &journal, &request.conf.name, &gone));
        Ok(several(causes)?)
    }

    fn status(&self, request: &NetworkRequest) -> Result<(), Error> {
        let config = Config::of(&request.conf)?;
        let unavailable = |error: &dyn std::fmt::Display| Error::NotAvailable(error.to_string());
        if config.backend == Backend::Firewalld {
            Firewalld::connect().map_err(|error| unavailable(&error))?;
        }
        match config.ingress {
            Ingress::Open => Ok(()),
            Ingress::SameBridge | Ingress::Isolated => {
                shared::can_filter(&mut Kernel::host()).map_err(|cause| unavailable(&cause))
            }
        }
    }

    fn dry_run(&self, request: &Request) -> Result<String, Error> {
        let config = Config::of(&request.conf)?;
        let result = previous::chained(request, Self::NAME)?;
        let mut text = let_in(&config, &request.conf.name, result)?.to_string();
        if config.backend == Backend::Firewalld {
            for address in previous::container_addresses(result) {
                text += &format!("host: firewall-cmd --zone {} --add-source {}\n", config.zone, address.ip());
            }
        }
        Ok(text)
    }
}

/// firewalld, when it is asked for or runs.
fn chosen(config: &Config) -> Result<Option<Firewalld>, Error> {
    match config.backend {
        Backend::Auto => Ok(Firewalld::running()),
        Backend::Nftables => Ok(None),
        Backend::Firewalld => Ok(Some(Firewalld::connect()?)),
    }
}

fn bridge_of(result: &CniResult) -> Result<IfName, Error> {
    let first = previous::way_in(result);
    Ok(first.ok_or(previous::PreviousError::NoHostInterface { plugin: "firewall" })?)
}

fn elements(
    config: &Config,
    network: &NetworkName,
    result: &CniResult,
) -> Result<Vec<zeugma_plan::nft::Element>, Error> {
    match config.ingress {
        Ingress::Open => Ok(Vec::new()),
        Ingress::SameBridge => Ok(ingress(network, &bridge_of(result)?, true)),
        Ingress::Isolated => Ok(ingress(network, &bridge_of(result)?, false)),
    }
}

/// The bridge goes under its policy; an isolated container's port also, as frames between two ports of a
/// bridge meet no rule unless br_netfilter is on.
fn let_in(config: &Config, network: &NetworkName, result: &CniResult) -> Result<Plan, Error> {
    let mut plan = Plan::new();
    let elements = elements(config, network, result)?;
    if !elements.is_empty() {
        plan.push_lasting(Step::ShareElements(elements));
    }
    if config.ingress != Ingress::Isolated {
        return Ok(plan);
    }
    // What an earlier policy of this network let in is shut again.
    plan.push_lasting(Step::DeleteElements(vec![permission(network, &bridge_of(result)?)]));
    if let Some(port) = previous::host_interfaces(result).nth(1) {
        let isolated = |on| {
            let port_flags = PortFlags { isolated: Some(on), hairpin: None };
            Step::SetLink(
                Side::Host,
                port.clone(),
                LinkChange { port: Some(port_flags), ..LinkChange::default() },
            )
        };
        plan.push_with_undo(isolated(true), isolated(false));
    }
    Ok(plan)
}

fn trust(firewalld: &Firewalld, record: &Record) -> Result<(), Error> {
    let zone = record.zone.as_deref().unwrap_or_default();
    Ok(record.addresses.iter().try_for_each(|address| firewalld.add(zone, address.ip()))?)
}

fn distrust(firewalld: &Firewalld, record: &Record) {
    let zone = record.zone.as_deref().unwrap_or_default();
    for address in &record.addresses {
        // The failure before this one is the one to tell.
        let _ = firewalld.remove(zone, address.ip());
    }
}

/// Takes the addresses out of their zone; what belongs to the bridge stays for its other containers.
fn forget(journal: &Journal, entry: &Entry) -> Vec<Cause> {
    if entry.record.zone.is_some()
        && let Some(firewalld) = Firewalld::running()
    {
        distrust(&firewalld, &entry.record);
    }
    journal.remove(entry).err().map(Cause::from).into_iter().collect()
}

/// No record: the plugins before us may have let the addresses in, by firewalld or by iptables.
fn forget_unknown(journal: &Journal, request: &Request) -> Vec<Cause> {
    let mut addresses = match previous::last_addresses(request) {
        // Before CNI 0.4.0 a DEL comes without prevResult; the interface is still there, as DEL runs backwards.
        told if told.is_empty() => of_interface(request),
        told => told,
    };
    // A second DEL must not shut out who has the address now.
    addresses.retain(|address| !shared::is_attached(journal, *address));
    let others = leases_of_others(request);
    addresses.retain(|address| !others.contains(&address.ip()));
    if addresses.is_empty() {
        return Vec::new();
    }
    if let (Ok(config), Some(firewalld)) = (Config::of(&request.conf), Firewalld::running()) {
        let zone = Some(config.zone);
        distrust(&firewalld, &Record { zone, addresses: addresses.clone(), ..Record::default() });
    }
    let trace = Trace::of(&request.attachment(), &addresses, &[Part::Forwarding]);
    predecessor::withdraw(&mut Kernel::host(), trace)
}

/// The addresses that other attachments of the network have now, by the leases: rules in CNI-FORWARD name no container.
fn leases_of_others(request: &Request) -> BTreeSet<IpAddr> {
    let is_another_s = |lease: &Lease| {
        lease.container != request.container.as_str()
            || lease.ifname.as_deref().is_some_and(|ifname| ifname != request.ifname.as_str())
    };
    let leases = ipam::leases_of(&request.conf).into_iter();
    leases.filter(is_another_s).map(|lease| lease.address).collect()
}

fn of_interface(request: &Request) -> Vec<IpNetwork> {
    let kernel = request.netns.as_deref().and_then(|path| Kernel::with_container(path).ok());
    let addresses = kernel.map(|mut kernel| kernel.addresses(Side::Container, &request.ifname));
    addresses.and_then(Result::ok).unwrap_or_default()
}

/// CHECK of an attachment without a record: the plugins before us put their rules where ours has none.
fn is_let_in(request: &Request, result: &CniResult) -> Result<(), Error> {
    let id = request.attachment();
    if predecessor::forwards(&mut Kernel::host(), &id, &previous::container_addresses(result))? {
        return Ok(());
    }
    Err(Error::Missing(format!("there is neither a record of {id} nor a rule for it in chain CNI-FORWARD")))
}

/// Reads a configuration.
pub(crate) fn fuzz(request: &Request) -> Result<(), Error> {
    Config::of(&request.conf).map(drop)
}
