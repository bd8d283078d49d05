//! The names and values of the domain, parsed once and never wrong afterwards.
//!
//! No I/O, no netlink, no CNI wire format: those live in `kernel` and `cni`.

mod attachment;
mod fuzz;
mod identity;
mod mac;
mod names;
mod plugins;
mod port;
mod vlan;

pub use attachment::AttachmentId;
pub use fuzz::fuzz_names;
pub use identity::{Alias, AliasError, Identity, Pod};
pub use mac::{Mac, MacError};
pub use names::{ContainerId, IfName, NameError, NetworkName};
pub use plugins::PLUGINS;
pub use port::{HostAddress, PortMapping, Protocol, ProtocolError};
pub use vlan::{VlanId, VlanRange};
