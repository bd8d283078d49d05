//! Which types of the domain are kept under which kind.

use zeugma_model::{Deployment, Network, RegisteredEndpoint};

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
