//! The catalogue's tables as this node uses them.

use std::sync::Arc;

use ipnetwork::IpNetwork;
use zeugma_catalogue::{Store, Table};
use zeugma_model::{Deployment, Network, NodeName, RegisteredEndpoint};

/// What is shared with whoever reads or writes the catalogue.
#[derive(Clone)]
pub(crate) struct Catalogue {
    pub(crate) store: Arc<dyn Store>,
    /// Who this node is.
    pub(crate) node: NodeName,
    /// Where virtual addresses come from, at most one range of each family.
    pub(crate) service_ranges: Vec<IpNetwork>,
}

impl Catalogue {
    /// Services by name.
    pub(crate) fn services(&self) -> Table<Deployment> {
        Table::new(self.store.clone())
    }

    /// Endpoints by service and address.
    pub(crate) fn endpoints(&self) -> Table<RegisteredEndpoint> {
        Table::new(self.store.clone())
    }

    /// Networks by name.
    pub(crate) fn networks(&self) -> Table<Network> {
        Table::new(self.store.clone())
    }
}
