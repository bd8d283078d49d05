//! The host is as the journal says: what somebody else deleted is put back.
//!
//! What must be there, and what is to be done, is decided in `upkeep`; here is looked (`look`), mended (`mend`), and
//! found out when to do so (`healer`, by the rules of `pace`). `repair` does it once, with or without an agent.

mod error;
mod healer;
mod look;
mod mend;
mod pace;
mod zones;

pub use error::Error;
pub use healer::{Counters, run};
pub use mend::{Mode, repair};
