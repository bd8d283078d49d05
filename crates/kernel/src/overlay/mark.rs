//! Marks the TUN device of WireGuard in user space as ours: who makes it does not know that it is an overlay's.

use zeugma_model::IfName;
use zeugma_overlay::ALIAS;

use super::encode;
use crate::Error;
use crate::route::Route;

/// Gives the device our mark, unless it has it.
///
/// # Errors
/// When there is none, it is somebody else's, or the kernel refuses.
pub fn mark_tun(name: &IfName) -> Result<(), Error> {
    let mut route = Route::open()?;
    let link = route.link(name)?;
    let link = link.ok_or_else(|| Error::NoLink { name: name.clone(), side: zeugma_plan::Side::Host })?;
    match link.alias {
        Some(alias) if alias.starts_with(ALIAS) => return Ok(()),
        Some(alias) if !alias.is_empty() => return Err(Error::ForeignLink { name: name.clone() }),
        _ if link.kind != "tun" => return Err(Error::ForeignLink { name: name.clone() }),
        _ => {}
    }
    let request = encode::marked(name, &format!("{ALIAS}{name}"));
    let outcome = route.transact(vec![(0, request.message.clone(), request.flags)])?;
    match outcome.failed.into_iter().next() {
        Some((_, refusal)) => Err(Error::Refused { step: request.line, refusal }),
        None => Ok(()),
    }
}

/// Whether there is a TUN device of that name with our mark: WireGuard in user space has it, or had.
///
/// # Errors
/// When the kernel refuses.
pub fn is_own_tun(name: &IfName) -> Result<bool, Error> {
    let link = Route::open()?.link(name)?;
    Ok(link
        .is_some_and(|link| link.kind == "tun" && link.alias.is_some_and(|alias| alias.starts_with(ALIAS))))
}
