//! `host-device` gives the container an interface of the host, or a device for a program to drive by itself. User
//! page: docs/plugins/host-device.md.
//!
//! Nothing is made: a device is moved, and every end of an attachment brings it back.

pub(crate) mod config;
mod plan;
#[cfg(test)]
mod tests;
mod unrecorded;
mod verbs;

pub use verbs::Verbs;

use ipnetwork::IpNetwork;
use zeugma_journal::{Device, Phase, Record};
use zeugma_kernel::{Bus, Kernel, LinkState, RouteState, Sysfs};
use zeugma_model::{AttachmentId, IfName};
use zeugma_plan::{AddressFlags, Plan, Side};
use zeugma_protocol::{CniResult, NetConf};
use zeugma_skel::Request;

use crate::cause::Cause;
use crate::interface::{self, Attached, Error, Kind, Place};
use config::{Config, Selector};
use plan::Named;

/// The plugin's kind of interface.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct HostDevice;

/// What the plan rests on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Facts {
    /// The kernel has an interface for the device.
    Interfaced(Interfaced),
    /// A program drives the device by itself (DPDK): there is nothing to move.
    Userspace {
        /// Its PCI address.
        pci: String,
    },
}

/// An interface of the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Interfaced {
    name: IfName,
    state: LinkState,
    /// Those that somebody gave it.
    addresses: Vec<(IpNetwork, AddressFlags)>,
    /// Those by way of it that neither come with its addresses nor expire.
    routes: Vec<RouteState>,
    /// The bridge, bond or VRF that it is a port of.
    master: Option<IfName>,
    pci: Option<String>,
}

/// Drivers that hand a device to a program: the kernel has no interface for it.
const USERSPACE_DRIVERS: [&str; 3] = ["vfio-pci", "uio_pci_generic", "igb_uio"];

impl Kind for HostDevice {
    type Config = Config;
    type Facts = Facts;
    type Error = Error;
    const NAME: &'static str = "host-device";
    /// Any.
    const LINK: &'static str = "";

    /// The mark is the device's name on the host: `dismantled` looks closer.
    fn is_mark(_: &str, _: &AttachmentId) -> bool {
        true
    }

    fn of_network(conf: &NetConf) -> Result<Config, Error> {
        Config::of_network(conf)
    }

    fn of(request: &Request) -> Result<Config, Error> {
        let config = Config::of(request)?;
        if config.selector.is_none() {
            let keys = "say which by \"device\", \"hwaddr\", \"kernelpath\", \"pciBusID\" or the capability deviceID";
            return Err(Error::Missing("device", keys));
        }
        Ok(config)
    }

    fn observe(
        kernel: &mut Kernel,
        Config { selector, .. }: &Config,
        request: &Request,
    ) -> Result<Facts, Error> {
        interface::must_be_free(kernel, &request.ifname)?;
        let sysfs = Sysfs::default();
        if let Some(pci) = userspace(&sysfs, selector.as_ref()) {
            return Ok(Facts::Userspace { pci });
        }
        let (name, state) = find(kernel, &sysfs, selector.as_ref())?;
        if let Some(selector) = selector.as_ref().filter(|_| has_default_route(kernel, &state)) {
            return Err(needed_by_the_host(selector));
        }
        let addresses = kernel.lasting_addresses(Side::Host, &name)?;
        let routes = kernel.routes(Side::Host, &name)?.into_iter().filter(plan::is_lost).collect();
        let master = master_of(kernel, &state)?;
        let pci = sysfs.pci_address(&name, &state);
        Ok(Facts::Interfaced(Interfaced { name, state, addresses, routes, master, pci }))
    }

    fn attached(config: &Config, place: &Place, given: CniResult, facts: &Facts) -> Result<Attached, Error> {
        plan::attached(config, place, given, facts)
    }

    fn detached(id: &AttachmentId, record: &Record) -> Plan {
        let home = |device| plan::returned(id, device, (Side::Container, id.ifname.clone()), &[]);
        record.device.as_ref().map(home).unwrap_or_default()
    }

    fn dismantled(kernel: &mut Kernel, id: &AttachmentId, record: Option<&Record>) -> Result<Plan, Cause> {
        let inside = match kernel.container_id() {
            Some(_) => kernel.links(Side::Container)?,
            None => Vec::new(),
        };
        let unknown;
        let record = match record.filter(|record| !record.spoilt) {
            Some(record) => record,
            None => {
                unknown = by_alias(id, &inside);
                &unknown
            }
        };
        let Some(device) = &record.device else { return Ok(Plan::new()) };
        let outside = kernel.links(Side::Host)?;
        Ok(match plan::whereabouts(id, record, device, (&inside, &outside)) {
            Some(at) => {
                let plan = plan::returned(id, device, at, &outside);
                if plan::is_misnamed(device, &plan) {
                    let name = &device.name;
                    eprintln!(
                        "zeugma: {name} is taken: the device of {id} gets another name and the alias {name}"
                    );
                }
                plan
            }
            // The namespace took it along: it was virtual.
            None => Plan::new(),
        })
    }

    /// Nobody in the container can make hardware: its alias tells the name on the host. Any other link with an alias
    /// can be the container's own; of those, unrecorded.rs tells by the configuration.
    fn is_ours(inside: &LinkState) -> bool {
        inside.kind.is_empty() && original_name(inside).is_some()
    }

    fn check_container(
        kernel: &mut Kernel,
        Config { selector, .. }: &Config,
        request: &Request,
        result: &CniResult,
    ) -> Result<(), Error> {
        match userspace(&Sysfs::default(), selector.as_ref()) {
            Some(_) => Ok(()),
            None => interface::check::container(kernel, request, result, Self::LINK),
        }
    }

    fn check(_: &mut Kernel, _: &Config, _: &Request, _: &CniResult) -> Result<(), Error> {
        Ok(())
    }

    /// A device that a container has is no reason to be unavailable, and from here it looks like one that is
    /// missing.
    fn ready(_: &mut Kernel, _: &Config) -> Result<(), Error> {
        Ok(())
    }

    /// A device that goes away during the ADD is another program's now: ours wait for one another.
    fn explained(error: zeugma_kernel::Error, request: &Request, config: &Config) -> Error {
        let is_gone = matches!(error, zeugma_kernel::Error::NoLink { side: Side::Host, .. })
            || error.errno() == Some(libc::ENODEV);
        match error.errno() {
            Some(libc::EEXIST) => Error::InterfaceExists(request.ifname.clone()),
            _ if is_gone => missing(config.selector.as_ref()),
            _ => error.into(),
        }
    }
}

/// The PCI address of a device that a program drives.
fn userspace(sysfs: &Sysfs, selector: Option<&Selector>) -> Option<String> {
    let (Selector::Pci(address) | Selector::DeviceId(address)) = selector? else { return None };
    let driver = sysfs.driver(address)?;
    USERSPACE_DRIVERS.contains(&driver.as_str()).then(|| address.clone())
}

fn missing(selector: Option<&Selector>) -> Error {
    let (key, value) = selector.map(Selector::words).unwrap_or_default();
    Error::NoDevice { key, value }
}

/// Whether the host's default route leaves by the device; where it has several, the one that it prefers.
fn has_default_route(kernel: &mut Kernel, device: &LinkState) -> bool {
    let preferred = kernel.default_link(Side::Host).ok().flatten();
    preferred.is_some_and(|(_, link)| link.index == device.index)
}

fn needed_by_the_host(selector: &Selector) -> Error {
    let (key, value) = selector.words();
    let allowed = "an interface that the host's default route does not leave by: \
        name another one, or move the default route to another one first";
    Error::Value { key, value, allowed }
}

fn master_of(kernel: &mut Kernel, device: &LinkState) -> Result<Option<IfName>, Error> {
    let Some(index) = device.master else { return Ok(None) };
    let mut links = kernel.links(Side::Host)?.into_iter();
    Ok(links.find(|(_, link)| link.index == index).map(|(name, _)| name))
}

/// The name of the device that an ADD is about to move; none when there is none to move.
fn on_host(request: &Request) -> Result<Option<IfName>, Error> {
    let config = HostDevice::of(request)?;
    let sysfs = Sysfs::default();
    if userspace(&sysfs, config.selector.as_ref()).is_some() {
        return Ok(None);
    }
    let found = find(&mut Kernel::host(), &sysfs, config.selector.as_ref());
    Ok(found.ok().map(|(name, _)| name))
}

/// Looks for the interface that is meant, and says its true name: the configuration may have one of the others.
fn find(kernel: &mut Kernel, sysfs: &Sysfs, selector: Option<&Selector>) -> Result<Named, Error> {
    let missing = || missing(selector);
    let candidates = match selector {
        Some(Selector::Name(name)) => vec![name.clone()],
        Some(Selector::Mac(mac)) => {
            let mut links = kernel.links(Side::Host)?.into_iter();
            return links.find(|(_, state)| state.mac == Some(*mac)).ok_or_else(missing);
        }
        Some(Selector::KernelPath(folder)) => sysfs.interfaces_at(folder).unwrap_or_default(),
        Some(Selector::Pci(address)) => sysfs.interfaces_of(Bus::Pci, address).unwrap_or_default(),
        Some(Selector::DeviceId(id)) => {
            let bus = if sysfs.has(Bus::Pci, id) { Bus::Pci } else { Bus::Auxiliary };
            sysfs.interfaces_of(bus, id).unwrap_or_default()
        }
        None => Vec::new(),
    };
    for name in candidates {
        if let Some(state) = kernel.link(Side::Host, &name)? {
            let mut links = kernel.links(Side::Host)?.into_iter();
            return links.find(|(_, link)| link.index == state.index).ok_or_else(missing);
        }
    }
    Err(missing())
}

/// The name on the host that a device has as its alias in the container, also when the reference moved it.
fn original_name(inside: &LinkState) -> Option<IfName> {
    inside.alias.as_deref()?.parse().ok()
}

/// A record of what the reference knows: its only memory is the alias.
fn by_alias(id: &AttachmentId, inside: &[Named]) -> Record {
    let link = inside.iter().find(|(name, _)| *name == id.ifname);
    let name = link.and_then(|(_, state)| original_name(state));
    Record { phase: Phase::Done, device: name.map(|name| Device { name, alias: None }), ..Record::default() }
}
