//! Which catalogue this agent works with, and whether another one answers in its place: an endpoint that leads elsewhere
//! by now, a store that was made anew. Nothing of that one is taken over, and nothing is taken away because of it.

use std::sync::{Arc, OnceLock};

use tokio::sync::watch;
use zeugma_catalogue::{Error, Store, identity};

/// The ID of the catalogue, once it is open: whoever hears of a change can read it.
#[derive(Debug, Clone, Default)]
pub(crate) struct CatalogueId(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    id: OnceLock<String>,
    /// What answers in its place.
    other: watch::Sender<Option<String>>,
}

impl CatalogueId {
    pub(crate) fn get(&self) -> Option<&String> {
        self.0.id.get()
    }

    /// The first one stays.
    pub(super) fn get_or_init(&self, first: impl FnOnce() -> String) -> &String {
        self.0.id.get_or_init(first)
    }

    /// The ID of what answers in its place, empty when that has none; none: it answers itself, or nothing does.
    pub(crate) fn other(&self) -> watch::Receiver<Option<String>> {
        self.0.other.subscribe()
    }

    /// Whether this is its ID. Everybody hears when another one answers, and when that is over.
    pub(super) fn is(&self, there: Option<&str>) -> bool {
        let is_it = there == self.get().map(String::as_str);
        let other = (!is_it).then(|| there.unwrap_or_default().to_owned());
        let is_news = self.0.other.send_if_modified(|told| std::mem::replace(told, other.clone()) != other);
        if is_news {
            match other {
                Some(other) => tracing::error!(other, "another catalogue answers: what is known stays"),
                None => tracing::info!("the catalogue is back"),
            }
        }
        is_it
    }

    /// Whether it is the catalogue in `store`.
    ///
    /// # Errors
    /// When that does not answer.
    pub(crate) async fn is_in(&self, store: &Arc<dyn Store>) -> Result<bool, Error> {
        Ok(self.is(identity(store).await?.as_deref()))
    }

    #[cfg(test)]
    pub(crate) fn of(id: &str) -> Self {
        let this = Self::default();
        this.get_or_init(|| id.to_owned());
        this
    }
}
