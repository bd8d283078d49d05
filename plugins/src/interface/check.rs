//! CHECK of the container's side: is everything as ADD left it? What other plugins added is none of its business.

use zeugma_journal::Journal;
use zeugma_kernel::{Kernel, LinkState, RouteState};
use zeugma_model::IfName;
use zeugma_plan::nft::Element;
use zeugma_plan::{Family, Side};
use zeugma_protocol::{CniResult, Route};
use zeugma_skel::Request;
use zeugma_upkeep::forwarding_path;

use super::{Error, Parent, ParentName};
use crate::predecessor::Part;
use crate::{predecessor, previous, shared};

/// A link that must be there.
pub(crate) fn link(kernel: &mut Kernel, side: Side, name: &IfName) -> Result<LinkState, Error> {
    let state = kernel.link(side, name)?;
    state.ok_or_else(|| Error::changed(format!("there is no link {name} in the {side}'s namespace")))
}

/// The container's interface with its addresses and routes.
pub(crate) fn container(
    kernel: &mut Kernel,
    request: &Request,
    result: &CniResult,
    kind: &str,
) -> Result<(), Error> {
    let name = &request.ifname;
    let state = link(kernel, Side::Container, name)?;
    if !kind.is_empty() && state.kind != kind {
        return Err(Error::changed(format!("{name} is no {kind}")));
    }
    let wanted = result.interfaces.iter().find(|interface| {
        interface.name == name.as_str()
            && interface.sandbox.as_ref().is_some_and(|sandbox| !sandbox.is_empty())
    });
    if let Some(mac) = wanted.and_then(|interface| interface.mac)
        && state.mac != Some(mac)
    {
        return Err(Error::changed(format!("{name} has not the MAC address {mac}")));
    }
    let addresses = kernel.addresses(Side::Container, name)?;
    let mine = result.ips.iter().filter(|ip| {
        ip.interface.is_none_or(|index| {
            result.interfaces.get(index).is_none_or(|interface| interface.name == name.as_str())
        })
    });
    if let Some(missing) = mine.clone().find(|ip| !addresses.contains(&ip.address)) {
        return Err(Error::changed(format!("{name} has not the address {}", missing.address)));
    }
    let routes = kernel.routes(Side::Container, name)?;
    match result.routes.iter().find(|route| !routes.iter().any(|there| is_there(route, there))) {
        Some(missing) => {
            Err(Error::changed(format!("the container has no route to {} by {name}", missing.dst)))
        }
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

/// The interface below is there.
pub(crate) fn parent(kernel: &mut Kernel, side: Side, name: &ParentName) -> Result<(), Error> {
    Parent::find(kernel, side, name).map(drop).map_err(|error| Error::changed(error.to_string()))
}

/// The elements that ADD put in. An attachment without a record may have parts of the plugins before us instead.
pub(crate) fn elements(
    kernel: &mut Kernel,
    request: &Request,
    plugin: &str,
    wanted: Vec<Element>,
    instead: &[Part],
) -> Result<(), Error> {
    let Some(element) = shared::missing(kernel, wanted)? else { return Ok(()) };
    let id = request.attachment();
    if Journal::default().last(&id, plugin)?.is_none()
        && predecessor::stands_for(kernel, &id, &previous::last_addresses(request), instead)?
    {
        return Ok(());
    }
    Err(Error::changed(format!("there is no nft element {element}")))
}

/// The host forwards a family.
pub(crate) fn forwards(kernel: &Kernel, family: Family) -> Result<(), Error> {
    let (name, path) = match family {
        Family::V4 => ("IPv4", forwarding_path(family)),
        Family::V6 => ("IPv6", forwarding_path(family)),
    };
    match kernel.sysctl(Side::Host, path)? {
        Some(value) if value == "0" => {
            Err(Error::changed(format!("the host does not forward {name} (sysctl {path})")))
        }
        _ => Ok(()),
    }
}
