//! Services on this host: the catalogue's and the journal's changes in, the kernel's table and the resolver's names out.
//!
//! Who serves is decided in `zeugma-services`; this module waits, writes and tells. The loop is `director`, what is
//! asked over the API is answered through [`Services`].

mod attached;
mod batch;
mod catalogue;
mod checking;
mod director;
mod figures;
mod ground;
mod health;
mod known;
mod known_as;
mod names;
mod owner;
mod pace;
mod programming;
mod publish;
mod ranges;
mod rollouts;
mod store;
mod unfit;
mod waiting;

use std::sync::Arc;
use std::time::UNIX_EPOCH;

use tokio::sync::{mpsc, oneshot, watch};
use zeugma_api::{CatalogueStatus, ServiceView};
use zeugma_catalogue::{Health, Revision};
use zeugma_journal::run_dir;
use zeugma_model::ServiceName;

pub(crate) use attached::{Attached, Telling};
pub(crate) use catalogue::{Catalogue, WriteError};
pub(crate) use director::Event;
pub(crate) use figures::ServiceFigures;
pub(crate) use known_as::CatalogueId;
pub(crate) use unfit::Occupied;

use crate::error::Error;
use crate::reconcile::Message;
use crate::settings::{Settings, Shared};

/// Asks that wait for the director.
const ASKS: usize = 64;

/// What somebody wrote: tables are followed each by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Write {
    pub(crate) service: ServiceName,
    pub(crate) what: What,
    pub(crate) revision: Revision,
}

/// The table that was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum What {
    Service,
    Endpoint,
}

/// What the director is asked.
pub(crate) enum Ask {
    /// To be told once a write is in the kernel and in names; what of its service does not work, a line each.
    Settled(Write, oneshot::Sender<Vec<String>>),
    /// A service as it is; none when there is none.
    Service(ServiceName, oneshot::Sender<Option<ServiceView>>),
    /// All of them, by name, with the number of this state; at once, unless that is the one that is given: then when
    /// something is another.
    Services(Option<u64>, oneshot::Sender<(u64, Vec<ServiceView>)>),
}

/// The way to the catalogue and to the director.
#[derive(Clone)]
pub(crate) struct Services {
    pub(crate) catalogue: Catalogue,
    pub(crate) asks: mpsc::Sender<Ask>,
    pub(crate) figures: watch::Receiver<ServiceFigures>,
    /// Where the catalogue is.
    place: Arc<str>,
}

impl Services {
    /// Where the catalogue is, and whether it answers.
    pub(crate) fn store(&self) -> CatalogueStatus {
        let health = self.catalogue.store.health().borrow().clone();
        let store = self.place.to_string();
        match health {
            Health::Healthy => CatalogueStatus { store, ..CatalogueStatus::default() },
            Health::Degraded { since, why } => {
                let since = since.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
                let recalled = self.figures.borrow().recalled;
                CatalogueStatus { store, degraded_since: Some(since), why: Some(why), recalled }
            }
        }
    }

    /// Whether anything can be said of services: not when the catalogue could never be read.
    pub(crate) fn ensure_known(&self) -> Result<(), String> {
        match self.catalogue.store.health().borrow().clone() {
            Health::Degraded { why, .. } if self.figures.borrow().syncs == 0 => Err(format!(
                "services are not known, as the catalogue does not answer since this agent began: {why}"
            )),
            _ => Ok(()),
        }
    }
}

/// Starts the director; `loop_` has the names. What is heard of the journal and of the kernel goes to the sender.
pub(crate) fn start(
    settings: &Settings,
    loop_: mpsc::Sender<Message>,
) -> Result<(Services, mpsc::UnboundedSender<Event>), Error> {
    let store = store::Late::open(settings.shared.clone());
    let catalogue = Catalogue {
        store: store.clone(),
        id: store.id(),
        node: settings.node.clone(),
        service_ranges: settings.service_ranges.clone(),
        store_at: settings.shared.addresses(),
    };
    let (events, heard) = mpsc::unbounded_channel();
    let (asks, asked) = mpsc::channel(ASKS);
    let (figures, seen) = watch::channel(ServiceFigures::default());
    let owner = owner::Owner::new(&run_dir(), store.id());
    let (node, ranges) = (settings.node.clone(), settings.service_ranges.clone());
    let place = programming::Place { node, ranges, owner };
    let done = events.clone();
    // Nobody is there to listen when the agent ends.
    let works = programming::start(place, move |event| drop(done.send(event)));
    let works = works.map_err(Error::Services)?;
    let is_shared = matches!(settings.shared, Shared::Etcd(_));
    let publisher = is_shared.then(|| publish::start(store.clone(), settings.node_ttl));
    let outlets = director::Outlets { works, events: events.clone(), loop_, figures, publisher };
    let (checking, verdicts) = checking::Checking::start();
    let director = director::Director::new(catalogue.clone(), outlets, checking);
    tokio::spawn(director.run(director::Inlets::new(&catalogue, heard, asked, verdicts)));
    let place = settings.shared.to_string().into();
    Ok((Services { catalogue, asks, figures: seen, place }, events))
}
