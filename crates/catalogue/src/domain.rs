//! Which types of the domain are kept under which kind.

use serde::{Deserialize, Serialize};
use zeugma_model::{Alive, Block, Deployment, Network, Node, RegisteredEndpoint, ServiceName};

use crate::{Kind, Stored};

impl Stored for Deployment {
    const KIND: Kind = Kind::Service;
}

impl Stored for RegisteredEndpoint {
    const KIND: Kind = Kind::Endpoint;
}

impl Stored for Network {
    const KIND: Kind = Kind::Network;
}

impl Stored for Node {
    const KIND: Kind = Kind::Node;
}

impl Stored for Alive {
    const KIND: Kind = Kind::Alive;
}

impl Stored for Block {
    const KIND: Kind = Kind::NodeBlock;
}

/// The network that last took subnets, under [`LastNetwork::NAME`]: who is to take some writes it, and expects it as it
/// was before looking at what is taken. So of two that look at once one looks again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastNetwork {
    /// Its node and its name.
    pub network: String,
}

impl LastNetwork {
    /// There is one.
    pub const NAME: &str = "last";
}

impl Stored for LastNetwork {
    const KIND: Kind = Kind::Block;
}

/// A virtual address is taken, under the address as its name: nobody else can have it, on any node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TakenVip {
    /// By this service.
    pub service: ServiceName,
}

impl Stored for TakenVip {
    const KIND: Kind = Kind::Vip;
}
