//! Zones of the operator's own, from master files, answered by hickory-server's catalog.
//!
//! What a file says is `master`'s, when it is read again `file`'s, and what is in a zone `handler`'s. Where questions
//! come from and how long replies may be is not known here: `server` asks, as it asks `forward`.

mod capture;
mod error;
mod file;
mod handler;
mod master;

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use hickory_net::xfer::Protocol;
use hickory_proto::op::Message;
use hickory_server::server::Request;
use hickory_server::zone_handler::{Catalog, ZoneHandler};

pub use error::ZoneError;
pub use file::ZoneFile;

use capture::Capture;
use file::Source;

use crate::wire::{HEADER_BYTES, Question, above};

/// Files are looked at so often.
pub(crate) const EVERY: Duration = Duration::from_secs(1);

/// All zones of the operator's own.
#[derive(Debug, Default)]
pub struct Zones {
    sources: Mutex<Vec<Source>>,
    served: ArcSwap<Served>,
}

/// The zones as they are now.
#[derive(Default)]
struct Served {
    catalog: Catalog,
    /// Where they begin: names on the wire, in lower case, without the final zero.
    origins: Vec<Vec<u8>>,
}

impl Zones {
    /// Reads all files.
    ///
    /// # Errors
    /// What is wrong with the first that cannot be served, with file and line.
    pub fn open(files: Vec<ZoneFile>) -> Result<Self, ZoneError> {
        let mut sources: Vec<Source> = Vec::new();
        for file in files {
            let origin = file.origin();
            if sources.iter().any(|other| other.file.origin() == origin) {
                return Err(ZoneError::Twice(origin.to_string()));
            }
            sources.push(Source::open(file)?);
        }
        let served = ArcSwap::from_pointee(Served::of(&sources));
        Ok(Self { sources: Mutex::new(sources), served })
    }

    /// Whether there is anything to look at.
    pub(crate) fn is_empty(&self) -> bool {
        self.served.load().origins.is_empty()
    }

    /// Whether the name is in one of the zones.
    pub(crate) fn hold(&self, name: &[u8]) -> bool {
        self.served.load().origins.iter().any(|origin| above(name, origin).is_some())
    }

    /// Reads again what changed. It waits for the disk.
    pub(crate) fn look(&self) {
        let mut sources = self.sources();
        let others = sources.iter_mut().filter_map(|source| source.look().then_some(())).count();
        if others > 0 {
            self.served.store(Arc::new(Served::of(&sources)));
        }
    }

    /// What cannot be read, a line each.
    pub(crate) fn problems(&self) -> Vec<String> {
        self.sources().iter().filter_map(|source| source.problem.clone()).collect()
    }

    /// The answer; none: the question cannot be read.
    pub(crate) async fn answer(&self, question: &Question<'_>) -> Option<Message> {
        // Without what follows the question: lengths and EDNS are the server's matter.
        let mut plain = question.head.to_vec();
        plain[HEADER_BYTES - 2..HEADER_BYTES].fill(0);
        let nobody = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
        let request = Request::from_bytes(plain, nobody, Protocol::Tcp).ok()?;
        let (served, capture) = (self.served.load_full(), Capture::default());
        served.catalog.lookup(&request, None, 0, capture.clone()).await;
        capture.message()
    }

    fn sources(&self) -> MutexGuard<'_, Vec<Source>> {
        self.sources.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Served {
    fn of(sources: &[Source]) -> Self {
        let mut served = Self::default();
        for source in sources {
            let origin = source.file.origin();
            served.origins.push(origin.iter().flat_map(wire_label).collect());
            let zone: Arc<dyn ZoneHandler> = source.zone.clone();
            served.catalog.upsert(origin, vec![zone]);
        }
        served
    }
}

fn wire_label(label: &[u8]) -> impl Iterator<Item = u8> {
    // hickory has no labels of more than 63 bytes.
    u8::try_from(label.len()).into_iter().chain(label.iter().copied())
}

impl fmt::Debug for Served {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Served").field("zones", &self.origins.len()).finish_non_exhaustive()
    }
}
