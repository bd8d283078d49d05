//! By which addresses other hosts reach this one: those that the agent was told, else those of the default route.

use std::net::IpAddr;

use zeugma_kernel::{Kernel, LinkState};
use zeugma_model::IfName;
use zeugma_overlay::Underlay;
use zeugma_plan::Side;

/// At most one address of each family. Blocks.
///
/// # Errors
/// In words: when the kernel does not say.
pub(super) fn found(told: &[IpAddr]) -> Result<Vec<Underlay>, zeugma_kernel::Error> {
    let mut kernel = Kernel::resident();
    let default = if told.is_empty() { kernel.default_link(Side::Host)? } else { None };
    let links: Vec<(IfName, LinkState)> = match default {
        Some(link) => vec![link],
        None => kernel.links(Side::Host)?,
    };
    let mut found: Vec<Underlay> = Vec::new();
    for (name, link) in links {
        for address in kernel.addresses(Side::Host, &name)? {
            let is_fit = if told.is_empty() { is_global(address.ip()) } else { told.contains(&address.ip()) };
            if is_fit && !found.iter().any(|other| other.address.is_ipv4() == address.is_ipv4()) {
                found.push(Underlay { address, link: name.clone(), mtu: link.mtu });
            }
        }
    }
    Ok(found)
}

fn is_global(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => !v4.is_loopback() && !v4.is_link_local(),
        IpAddr::V6(v6) => !v6.is_loopback() && !v6.is_unicast_link_local(),
    }
}
