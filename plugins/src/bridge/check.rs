//! CHECK: is everything as ADD left it? What other plugins added is none of its business.

use zeugma_journal::Journal;
use zeugma_kernel::{Kernel, LinkState, RouteState};
use zeugma_model::IfName;
use zeugma_plan::nft::Element;
use zeugma_plan::{Family, Side};
use zeugma_protocol::{CniResult, Route};
use zeugma_skel::{Plugin as _, Request};

use super::config::{Config, Gateway};
use super::plan::guards;
use super::{Bridge, Error, vlan};
use crate::{predecessor, previous, shared};

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
    container(kernel, request, result)?;
    gateways(kernel, config, result)?;
    elements(kernel, config, request, result)
}

fn changed(what: String) -> Error {
    Error::Changed { what }
}

fn link(kernel: &mut Kernel, side: Side, name: &IfName) -> Result<LinkState, Error> {
    kernel
        .link(side, name)?
        .ok_or_else(|| changed(format!("there is no link {name} in the {side}'s namespace")))
}

fn vlans(kernel: &mut Kernel, config: &Config, bridge: &LinkState, veth: &IfName) -> Result<(), Error> {
    let Some(vlans) = &config.vlans else { return Ok(()) };
    if !vlan::filters(bridge) {
        return Err(changed(format!("{} does not filter by VLAN", config.bridge)));
    }
    let wanted = vlans.of_port(vlan::default_of(Some(bridge)));
    match vlan::difference(&wanted, &kernel.port_vlans(veth)?) {
        Some(difference) => Err(changed(format!("{veth} {difference}"))),
        None => Ok(()),
    }
}

fn container(kernel: &mut Kernel, request: &Request, result: &CniResult) -> Result<(), Error> {
    let name = &request.ifname;
    let state = link(kernel, Side::Container, name)?;
    let wanted = result.interfaces.iter().find(|interface| {
        interface.name == name.as_str()
            && interface.sandbox.as_ref().is_some_and(|sandbox| !sandbox.is_empty())
    });
    if let Some(mac) = wanted.and_then(|interface| interface.mac)
        && state.mac != Some(mac)
    {
        return Err(changed(format!("{name} has not the MAC address {mac}")));
    }
    let addresses = kernel.addresses(Side::Container, name)?;
    let mine = result.ips.iter().filter(|ip| {
        ip.interface.is_none_or(|index| {
            result.interfaces.get(index).is_none_or(|interface| interface.name == name.as_str())
        })
    });
    if let Some(missing) = mine.clone().find(|ip| !addresses.contains(&ip.address)) {
        return Err(changed(format!("{name} has not the address {}", missing.address)));
    }
    let routes = kernel.routes(Side::Container, name)?;
    match result.routes.iter().find(|route| !routes.iter().any(|there| is_there(route, there))) {
        Some(missing) => Err(changed(format!("the container has no route to {} by {name}", missing.dst))),
        None => Ok(()),
    }
}

fn is_there(wanted: &Route, there: &RouteState) -> bool {
    let same_dst = match there.dst {
        Some(dst) => dst == wanted.dst,
        None => wanted.dst.prefix() == 0 && wanted.dst.is_ipv6() == there.is_ipv6,
    };
    same_dst
        && wanted.gw.is_none_or(|gw| there.gw == Some(gw))
        && wanted.table.is_none_or(|table| table == there.table)
        && wanted.mtu.is_none_or(|mtu| there.mtu == Some(mtu))
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
        let (family, path) = match Family::of(gateway) {
            Family::V4 => ("IPv4", "net/ipv4/ip_forward"),
            Family::V6 => ("IPv6", "net/ipv6/conf/all/forwarding"),
        };
        if kernel.sysctl(Side::Host, path)?.is_some_and(|value| value == "0") {
            return Err(changed(format!("the host does not forward {family} (sysctl {path})")));
        }
    }
    Ok(())
}

fn elements(
    kernel: &mut Kernel,
    config: &Config,
    request: &Request,
    result: &CniResult,
) -> Result<(), Error> {
    let mut wanted: Vec<Element> = Vec::new();
    if config.masquerade {
        let addresses: Vec<_> = result.ips.iter().map(|ip| ip.address).collect();
        wanted.extend(shared::masquerade(&request.conf.name, &addresses));
    }
    if config.guard_mac {
        let mac = result
            .interfaces
            .iter()
            .find(|interface| interface.sandbox.is_some())
            .and_then(|interface| interface.mac);
        wanted.extend(mac.map(|mac| guards(&request.attachment(), mac)).unwrap_or_default());
    }
    match shared::missing(kernel, wanted)? {
        Some(element) if !is_made_before(kernel, config, request, result)? => {
            Err(changed(format!("there is no nft element {element}")))
        }
        Some(_) | None => Ok(()),
    }
}

/// An attachment without a record: the plugins before us may have made what ours has elements for.
fn is_made_before(
    kernel: &mut Kernel,
    config: &Config,
    request: &Request,
    result: &CniResult,
) -> Result<bool, Error> {
    let id = request.attachment();
    if Journal::default().last(&id, Bridge::NAME)?.is_some() {
        return Ok(false);
    }
    let addresses = previous::container_addresses(result);
    Ok((!config.masquerade || predecessor::masquerades(kernel, &id, &addresses)?)
        && (!config.guard_mac || predecessor::guards(kernel, &id)?))
}
