//! Which address comes next: ranges, sets of alternatives, and the round robin over them.
//!
//! Pure: what is taken is told by the caller, nothing is read or written here.

mod range;
mod range_set;

use std::net::IpAddr;

pub use range::RangeError;
pub(crate) use range::RangeRaw;
pub(crate) use range_set::{Candidate, RangeSet};

/// Gives each range set the requested address that lies in it, at most one; the rest could not be served.
///
/// Returns one entry for each set, or the addresses that no set takes.
pub(crate) fn assigned(sets: &[RangeSet], requested: &[IpAddr]) -> Result<Vec<Option<IpAddr>>, Vec<IpAddr>> {
    let mut left = requested.to_vec();
    left.sort_unstable();
    left.dedup();
    let mut take = |set: &RangeSet| {
        let position = left.iter().position(|&address| set.range_for(address).is_some())?;
        Some(left.remove(position))
    };
    let taken = sets.iter().map(&mut take).collect();
    if left.is_empty() { Ok(taken) } else { Err(left) }
}

#[cfg(test)]
mod tests;
