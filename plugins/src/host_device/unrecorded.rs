//! DEL of an attachment without a record, where the device is a virtual link: the reference moved it, or the record
//! was lost. Nothing but its alias tells of it, and the container can make such a link with any alias. So it goes to
//! the host only when the configuration names the device, too.

use zeugma_journal::{Device, Journal};
use zeugma_kernel::{Kernel, LinkState};
use zeugma_model::{AttachmentId, IfName};
use zeugma_plan::Side;
use zeugma_skel::Request;

use super::config::{Config, Selector};
use super::{HostDevice, original_name, plan};
use crate::cause::{Cause, several};
use crate::interface::Kind;

/// Brings the device that the configuration names back. Where there is a record, it tells more: nothing is done.
pub(super) fn bring_back(request: &Request) -> Result<(), Cause> {
    let id = request.attachment();
    let Some(selector) = Config::of(request).ok().and_then(|config| config.selector) else { return Ok(()) };
    let Some(netns) = request.netns.as_deref().filter(|_| !has_record(&id)) else { return Ok(()) };
    // A namespace that is gone took the device along.
    let Ok(mut kernel) = Kernel::with_container(netns) else { return Ok(()) };
    let Some(inside) = kernel.link(Side::Container, &id.ifname)? else { return Ok(()) };
    let Some(name) = named_by(&selector, &inside) else { return Ok(()) };
    let device = Device { name, alias: None };
    let outside = kernel.links(Side::Host)?;
    let plan = plan::returned(&id, &device, (Side::Container, id.ifname.clone()), &outside);
    several(kernel.apply_all(&plan).into_iter().map(Cause::from).collect())
}

/// The name on the host of a link that the configuration names; the PCI bus and the rest of the kernel's tree have
/// hardware alone.
pub(super) fn named_by(selector: &Selector, inside: &LinkState) -> Option<IfName> {
    let name = original_name(inside)?;
    let is_meant = match selector {
        Selector::Name(device) => *device == name,
        Selector::Mac(mac) => inside.mac == Some(*mac),
        Selector::KernelPath(_) | Selector::Pci(_) | Selector::DeviceId(_) => false,
    };
    is_meant.then_some(name)
}

/// Whether this network or another one has a record of the interface: a DEL after a refused ADD must not take away
/// what the other one's brought. What cannot be read counts as one.
fn has_record(id: &AttachmentId) -> bool {
    let journal = Journal::default();
    let of = |network| journal.entries(&AttachmentId { network, ..id.clone() });
    let here = journal.last(id, HostDevice::NAME).map_or(true, |entry| entry.is_some());
    here || journal.networks().is_ok_and(|networks| {
        let mut others = networks.into_iter().filter(|network| *network != id.network);
        others.any(|network| of(network).map_or(true, |entries| !entries.is_empty()))
    })
}
