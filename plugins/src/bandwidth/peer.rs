//! The host's end of a container's veth pair: which of the interfaces in `prevResult` it is.

use zeugma_journal::Journal;
use zeugma_kernel::{Kernel, LinkState};
use zeugma_model::IfName;
use zeugma_plan::Side;
use zeugma_protocol::CniResult;
use zeugma_skel::Request;

use super::Error;
use crate::cause::Cause;
use crate::previous;

/// Looks at both ends: each has the other's index. An index alone may be another namespace's.
pub(super) fn host_end(
    kernel: &mut Kernel,
    request: &Request,
    result: &CniResult,
) -> Result<(IfName, LinkState), Error> {
    let ifname = &request.ifname;
    let inside = kernel.link(Side::Container, ifname)?;
    let inside =
        inside.ok_or_else(|| zeugma_kernel::Error::NoLink { name: ifname.clone(), side: Side::Container })?;
    if inside.kind != VETH {
        let kind = if inside.kind.is_empty() { "hardware".into() } else { format!("a {}", inside.kind) };
        return Err(Error::NotVeth { ifname: ifname.clone(), kind });
    }
    for name in candidates(request, result)? {
        let state = kernel.link(Side::Host, &name)?;
        if let Some(state) = state.filter(|state| is_pair(&inside, state)) {
            return Ok((name, state));
        }
    }
    Err(Error::NoHostVeth(ifname.clone()))
}

/// The host's end as far as `prevResult` alone tells: for a dry run. After a bridge come its ports.
pub(super) fn likely_host_end(result: &CniResult) -> Option<IfName> {
    let names: Vec<IfName> = previous::host_interfaces(result).collect();
    names.iter().find(|name| name.as_str().starts_with(VETH)).or(names.last()).cloned()
}

const VETH: &str = "veth";

fn is_pair(inside: &LinkState, outside: &LinkState) -> bool {
    outside.kind == VETH && inside.peer == Some(outside.index) && outside.peer == Some(inside.index)
}

/// Results before CNI 0.3.0 name no interfaces; the records of the plugins before this one do.
fn candidates(request: &Request, result: &CniResult) -> Result<Vec<IfName>, Cause> {
    if !result.interfaces.is_empty() {
        return Ok(previous::host_interfaces(result).collect());
    }
    let entries = Journal::default().entries(&request.attachment())?;
    Ok(entries.into_iter().filter_map(|entry| entry.record.host_veth).collect())
}
