//! Overlays on this host: the catalogue's networks, nodes and blocks in; tunnels and routes, and what the plugin works
//! from, out.
//!
//! What goes where is decided in `zeugma-overlay`, the kernel is brought there by `kernel::overlay`. The loop is
//! `director`; what this node writes into the catalogue is decided in `membership`.

mod blocks;
mod checksums;
mod director;
mod fuzz;
mod held;
mod identity;
mod inlets;
mod keys;
mod known;
mod leaving;
mod liveness;
mod membership;
mod mine;
mod ownership;
mod patience;
mod peers_file;
mod probe;
mod repairs;
mod rotation;
mod secrets;
mod settled;
mod turn;
mod underlay;
mod view;
mod wireguard;
mod written;

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use zeugma_api::{NodeView, OverlayView};
use zeugma_journal::state_dir;
use zeugma_model::PublicKey;

use crate::figures::Figures;
use crate::services::Catalogue;
use crate::settings::{Encryption, Settings, Shared};

pub use fuzz::fuzz_peers_file;
pub use keys::KeyError;

/// This node's WireGuard public key; it is made if there is none.
///
/// # Errors
/// When it cannot be read, or made and written.
pub fn public_key(state_dir: &Path) -> Result<PublicKey, crate::Error> {
    Ok(keys::Keys::open(state_dir)?.current().public())
}

/// Asks that wait for the director.
const ASKS: usize = 64;

/// What the director is asked.
pub(crate) enum Ask {
    /// The overlays of this host.
    Overlays(oneshot::Sender<Vec<OverlayView>>),
    /// The nodes that are known.
    Nodes(oneshot::Sender<Vec<NodeView>>),
    /// To take a new WireGuard key; it, or why not.
    Rotate(oneshot::Sender<Result<PublicKey, String>>),
}

/// The way to the overlays.
#[derive(Clone)]
pub(crate) struct Overlays {
    pub(crate) catalogue: Catalogue,
    /// A file that says who the other hosts are, in the catalogue's place.
    pub(crate) peers: Option<Arc<Path>>,
    asks: mpsc::Sender<Ask>,
    problems: watch::Receiver<Vec<String>>,
}

/// What the director works with.
#[derive(Debug, Clone)]
struct Place {
    state_dir: PathBuf,
    /// The addresses that others are to use; none: those of the default route.
    underlay: Vec<IpAddr>,
    /// How long others believe that this node lives when they hear nothing of it.
    ttl: Duration,
    /// A file that says who the other hosts are.
    peers: Option<PathBuf>,
    /// Whether the catalogue is one of several hosts.
    is_shared: bool,
    /// Who does WireGuard.
    encryption: Encryption,
}

impl Overlays {
    /// Starts the director.
    pub(crate) fn start(
        settings: &Settings,
        catalogue: Catalogue,
        attached: watch::Receiver<Figures>,
    ) -> Self {
        let place = Place {
            state_dir: state_dir(),
            underlay: settings.underlay.clone(),
            ttl: settings.node_ttl,
            peers: settings.peers.clone(),
            is_shared: matches!(settings.shared, Shared::Etcd(_)),
            encryption: settings.encryption,
        };
        let (asks, asked) = mpsc::channel(ASKS);
        let (told, problems) = watch::channel(Vec::new());
        let inlets = inlets::Inlets::new(&catalogue, asked, attached);
        tokio::spawn(director::Director::new(catalogue.clone(), place, told).run(inlets));
        Self { catalogue, peers: settings.peers.as_deref().map(Arc::from), asks, problems }
    }

    /// What does not work, a line each.
    pub(crate) fn problems(&self) -> Vec<String> {
        self.problems.borrow().clone()
    }

    /// Asks the director; none: the agent ends.
    pub(crate) async fn ask<T>(&self, ask: impl FnOnce(oneshot::Sender<T>) -> Ask) -> Option<T> {
        let (sender, receiver) = oneshot::channel();
        self.asks.send(ask(sender)).await.ok()?;
        receiver.await.ok()
    }
}
