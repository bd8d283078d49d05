//! `bridge` joins containers of a host by a Linux bridge. What an ADD does: plan.rs. User page:
//! docs/plugins/bridge.md.

mod check;
pub(crate) mod config;
mod error;
pub(crate) mod plan;
mod vlan;

pub use error::Error;
pub use vlan::VlanError;

use zeugma_journal::{Journal, Lock, Record};
use zeugma_kernel::Kernel;
use zeugma_model::{AttachmentId, IfName, Mac};
use zeugma_plan::{Plan, Side, Step};
use zeugma_protocol::{CniResult, NetConf};
use zeugma_skel::Request;
use zeugma_upkeep::{BRIDGE_ALIAS, guards};

use crate::cause::Cause;
use crate::interface::{self, Attached, Kind, Place};
use crate::shared::{self, Needed};
use config::Config;
use plan::Facts;

/// The plugin's kind of interface.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Bridge;

impl Kind for Bridge {
    type Config = Config;
    type Facts = Facts;
    type Error = Error;
    const NAME: &'static str = "bridge";
    const LINK: &'static str = "veth";

    fn of_network(conf: &NetConf) -> Result<Config, Error> {
        Config::of_network(conf)
    }

    fn of(request: &Request) -> Result<Config, Error> {
        Config::of(request)
    }

    fn lock(config: &Config) -> Option<String> {
        Some(lock_name(&config.bridge))
    }

    fn observe(kernel: &mut Kernel, config: &Config, _: &Request) -> Result<Facts, Error> {
        facts(kernel, config)
    }

    fn attached(config: &Config, place: &Place, given: CniResult, facts: &Facts) -> Result<Attached, Error> {
        plan::attached(config, place, given, facts)
    }

    fn detached(id: &AttachmentId, record: &Record) -> Plan {
        let veth = record.host_veth.clone().unwrap_or_else(|| id.host_veth());
        let mut plan = Plan::from_iter([Step::DeleteLink(Side::Host, veth)]);
        if let Some(mac) = record.mac.filter(|_| record.guarded) {
            plan.push(Step::DeleteElements(guards(id, mac)));
        }
        plan
    }

    /// Our veth has a name that we can tell; the reference's is found by the container's end.
    fn detached_unknown(id: &AttachmentId) -> Plan {
        let inside = Step::DeleteLink(Side::Container, id.ifname.clone());
        Plan::from_iter([Step::DeleteLink(Side::Host, id.host_veth()), inside])
    }

    fn check(
        kernel: &mut Kernel,
        config: &Config,
        request: &Request,
        result: &CniResult,
    ) -> Result<(), Error> {
        check::check(kernel, config, request, result)
    }

    fn ready(kernel: &mut Kernel, config: &Config) -> Result<(), Error> {
        if let Some(state) = kernel.link(Side::Host, &config.bridge)?.filter(|state| state.kind != "bridge") {
            let name = config.bridge.clone();
            return Err(not_available(&Error::NotABridge { name, kind: state.kind }));
        }
        if config.masquerade || config.guard_mac {
            shared::can_filter(kernel).map_err(|error| not_available(&error))?;
        }
        Ok(())
    }

    fn retire(kernel: &mut Kernel, journal: &Journal, config: &Config) -> Vec<Cause> {
        retire(kernel, journal, &config.bridge)
    }

    fn abandoned(kernel: &mut Kernel, config: &Config, facts: &Facts) {
        if facts.bridge.is_none() || (config.vlan_gateway.is_some() && facts.gateway.is_none()) {
            // The first error is the one to tell; what stays is GC's.
            let _ = retire(kernel, &Journal::default(), &config.bridge);
        }
    }

    /// The kernel's EOPNOTSUPP at VLANs has one cause that users meet.
    fn explained(error: zeugma_kernel::Error, request: &Request, config: &Config) -> Error {
        match &error {
            zeugma_kernel::Error::Refused { step, refusal }
                if refusal.errno == libc::EOPNOTSUPP && step.contains("bridge vlan") =>
            {
                Error::NoVlans(config.bridge.clone())
            }
            _ => interface::Error::refused(error, Self::LINK, &request.ifname).into(),
        }
    }
}

fn not_available(error: &impl ToString) -> Error {
    interface::Error::not_available(error).into()
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
    let [bridge_mac, host_mac, container_mac, gateway_mac, gateway_port_mac] = interface::random_macs()?;
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

/// A host where nothing is yet.
pub(crate) fn nothing() -> Facts {
    let mac = |last| Mac([2, 0, 0, 0, 0, last]);
    Facts {
        bridge: None,
        gateway_addresses: Vec::new(),
        gateway: None,
        underlay_mtu: Some(1500),
        bridge_mac: mac(1),
        gateway_mac: mac(2),
        gateway_port_mac: mac(3),
        host_mac: mac(4),
        container_mac: mac(5),
    }
}
