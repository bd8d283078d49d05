//! What is to be done, as values: the nftables ruleset, its elements, and the steps of a plan.
//!
//! Pure: nothing here touches the kernel, the clock or a file. `kernel` applies these values, `--dry-run`
//! prints them, tests compare them.

mod family;
pub mod network;
pub mod nft;
mod plan;
mod port;
mod render;
mod route;
mod shape;
mod step;
mod vlans;

pub use family::Family;
pub use plan::Plan;
pub use port::{any_addresses, claim_conflicts};
pub use route::{RouteSpec, RuleSpec};
pub use shape::{End, Exceptions, LimitState, Shaper, TokenBucket};
pub use step::{
    AddressFlags, FlowFilter, Link, LinkChange, LinkKind, Master, Mending, Move, PortFlags, Sharing, Side,
    Step, Sysctl, Tap,
};
pub use vlans::{PortVlanState, PortVlans};
pub use zeugma_model::{IpvlanMode, MacvlanMode};
