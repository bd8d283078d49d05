//! The names and values of the domain, parsed once and never wrong afterwards.
//!
//! No I/O, no netlink, no CNI wire format: those live in `kernel` and `cni`.

mod attachment;
mod deployment;
mod endpoint;
mod fuzz;
mod identity;
mod mac;
mod names;
mod network;
mod overlay;
mod plugins;
mod port;
mod service;
mod vlan;

pub use attachment::AttachmentId;
pub use deployment::{
    Deployment, Edge, FailureAction, Origin, Overtaken, Reach, RegisteredEndpoint, Rollout, RolloutState,
    Selector, UpdateOrder, UpdatePolicy,
};
pub use endpoint::{Endpoint, EndpointState, Weight, WeightError};
pub use fuzz::fuzz_names;
pub use identity::{Alias, AliasError, Identity, Pod};
pub use mac::{Mac, MacError};
pub use names::{ContainerId, IfName, NameError, NetworkName, NodeName, ServiceName};
pub use network::{
    BridgeOptions, Driver, IpvlanMode, MacvlanMode, Network, NetworkError, OverlayOptions, Subnet,
    SubnetError, overlap,
};
pub use overlay::{Alive, Backend, Block, MachineId, Node, OverlayError, OverlayState, PublicKey, Vni};
pub use plugins::PLUGINS;
pub use port::{HostAddress, PortMapping, Protocol, ProtocolError};
pub use service::{
    Affinity, HealthCheck, Mode, Probe, PublishScope, PublishedPort, Service, ServiceError, ServicePort,
    TrafficPolicy, Vips,
};
pub use vlan::{VlanId, VlanRange};
