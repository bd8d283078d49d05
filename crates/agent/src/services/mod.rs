//! Services on this host: the catalogue's and the journal's changes in, the kernel's table and the resolver's names out.
//!
//! Who serves is decided in `zeugma-services`; this module waits, writes and tells. The loop is `director`, what is
//! asked over the API is answered through [`Services`].

mod catalogue;
mod health;

use tokio::sync::{mpsc, oneshot};
use zeugma_api::ServiceView;
use zeugma_catalogue::Revision;
use zeugma_model::ServiceName;

pub(crate) use catalogue::Catalogue;

/// What the director is asked.
pub(crate) enum Ask {
    /// To be told once everything up to the revision is in the kernel and in names; what does not work, a line each.
    Settled(Revision, oneshot::Sender<Vec<String>>),
    /// A service as it is; none when there is none.
    Service(ServiceName, oneshot::Sender<Option<ServiceView>>),
    /// All of them, by name, once something is newer than the revision.
    Services(Option<Revision>, oneshot::Sender<Vec<ServiceView>>),
}

/// The way to the catalogue and to the director.
#[derive(Clone)]
pub(crate) struct Services {
    pub(crate) catalogue: Catalogue,
    pub(crate) asks: mpsc::Sender<Ask>,
}
