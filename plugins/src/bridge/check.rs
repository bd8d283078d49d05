//! CHECK of the host's side.

use zeugma_kernel::{Kernel, LinkState};
use zeugma_model::IfName;
use zeugma_plan::nft::Element;
use zeugma_plan::{Family, Side};
use zeugma_protocol::CniResult;
use zeugma_skel::Request;
use zeugma_upkeep::{guards, masquerade};

use super::config::{Config, Gateway};
use super::{Bridge, Error, vlan};
use crate::interface::check::{forwards, link};
use crate::interface::{self, Kind as _};
use crate::predecessor::Part;

pub(super) fn check(
    kernel: &mut Kernel,
    config: &Config,
    request: &Request,
    result: &CniResult,
) -> Result<(), Error> {
    let bridge = link(kernel, Side::Host, &config.bridge)?;
    if bridge.kind != "bridge" {
        return Err(changed(format!("{} is a {}, not a bridge", config.bridge, bridge.kind)));
    }
    let veth = request.attachment().host_veth();
    // Attachments of the reference have another name for it: then it is the one in the result.
    let known = result.interfaces.iter().filter(|interface| interface.sandbox.is_none()).nth(1);
    let veth = known.and_then(|interface| interface.name.parse().ok()).unwrap_or(veth);
    if link(kernel, Side::Host, &veth)?.master != Some(bridge.index) {
        return Err(changed(format!("{veth} is no port of {}", config.bridge)));
    }
    vlans(kernel, config, &bridge, &veth)?;
    gateways(kernel, config, result)?;
    elements(kernel, config, request, result)
}

fn changed(what: String) -> Error {
    interface::Error::changed(what).into()
}

fn vlans(kernel: &mut Kernel, config: &Config, bridge: &LinkState, veth: &IfName) -> Result<(), Error> {
    let Some(vlans) = &config.vlans else { return Ok(()) };
    if !vlan::filters(bridge) {
        return Err(changed(format!("{} does not filter by VLAN", config.bridge)));
    }
    let wanted = vlans.of_port(vlan::default_of(Some(bridge)));
    match wanted.difference(&kernel.port_vlans(veth)?) {
        Some(difference) => Err(changed(format!("{veth} {difference}"))),
        None => Ok(()),
    }
}

fn gateways(kernel: &mut Kernel, config: &Config, result: &CniResult) -> Result<(), Error> {
    if config.gateway == Gateway::No {
        return Ok(());
    }
    let device = config.gateway_device();
    let addresses = kernel.addresses(Side::Host, device)?;
    for gateway in result.ips.iter().filter_map(|ip| ip.gateway) {
        if !addresses.iter().any(|address| address.ip() == gateway) {
            return Err(changed(format!("{device} has not the gateway's address {gateway}")));
        }
        forwards(kernel, Family::of(gateway))?;
    }
    Ok(())
}

fn elements(
    kernel: &mut Kernel,
    config: &Config,
    request: &Request,
    result: &CniResult,
) -> Result<(), Error> {
    let (mut wanted, mut parts): (Vec<Element>, Vec<Part>) = (Vec::new(), Vec::new());
    if config.masquerade {
        parts.push(Part::Masquerade);
        let addresses: Vec<_> = result.ips.iter().map(|ip| ip.address).collect();
        wanted.extend(masquerade(&request.conf.name, &addresses));
    }
    if config.guard_mac {
        parts.push(Part::MacGuard);
        let mac = result
            .interfaces
            .iter()
            .find(|interface| interface.sandbox.is_some())
            .and_then(|interface| interface.mac);
        wanted.extend(mac.map(|mac| guards(&request.attachment(), mac)).unwrap_or_default());
    }
    Ok(interface::check::elements(kernel, request, Bridge::NAME, wanted, &parts)?)
}
