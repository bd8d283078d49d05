//! CHECK of what makes a bridge a part of an overlay: the tunnel, and the elements that keep the network apart.

use zeugma_kernel::Kernel;
use zeugma_plan::Side;
use zeugma_skel::Request;
use zeugma_upkeep::overlay as elements;

use super::{Config, Error, Part};
use crate::interface::{self, Kind as _};

pub(super) fn check(kernel: &mut Kernel, config: &Config, request: &Request) -> Result<(), Error> {
    tunnel(kernel, config)?;
    let wanted = config.state.as_ref().map(elements).unwrap_or_default();
    Ok(interface::check::elements(kernel, request, Part::NAME, wanted, &[])?)
}

/// The way to other hosts, where there is one, is there and up.
pub(super) fn tunnel(kernel: &mut Kernel, config: &Config) -> Result<(), Error> {
    let Some(tunnel) = config.state.as_ref().and_then(|state| state.tunnel.as_ref()) else { return Ok(()) };
    match kernel.link(Side::Host, tunnel)? {
        Some(link) if link.up => Ok(()),
        Some(_) => Err(Error::NoTunnel { tunnel: tunnel.clone(), what: "is down" }),
        None => Err(Error::NoTunnel { tunnel: tunnel.clone(), what: "is gone" }),
    }
}
