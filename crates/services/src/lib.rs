//! Services and their endpoints → elements of `table inet zeugma_services`, with the least work from what is there.
//!
//! Pure: what is programmed is a value that the caller keeps, and a change is a value that `kernel` carries out.
//! What the elements mean to a packet is in `plan::nft::services`. Who serves is decided in `roster`, out of what the
//! caller knows; who makes services and endpoints is not known here.

mod frontends;
mod maglev;
mod observed;
mod programmed;
mod roster;
mod shared;
mod slots;
#[cfg(test)]
mod tests;
mod update;
mod vips;
mod wanted;

pub use programmed::{Conflict, Programmed};
pub use roster::{Candidate, Check, Crew, Member, Roster, Source, Standing, Verdict};
pub use update::{UpdateError, applied, rolled_back, updated};
pub use vips::choose as choose_vip;
pub use wanted::{Situation, Workload};
