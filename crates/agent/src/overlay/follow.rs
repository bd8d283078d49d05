//! Follows the catalogue's tables beside the director, which hears of every difference, across outages.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::sleep;
use zeugma_catalogue::{Difference, Store, Stored, Table, identity};

use crate::services::{Catalogue, CatalogueId};

/// Before a store that did not answer is asked again.
const RETRY: Duration = Duration::from_millis(250);
/// Differences that wait for the director.
const WAITING: usize = 4;

/// What became of a table.
pub(super) struct Told<T> {
    pub(super) difference: Difference<T>,
    /// It is what the agent before this one knew, and may be a little older than what that one did.
    pub(super) is_recalled: bool,
}

/// All of a table, then what changes. What is deleted is told only if the catalogue is still the one that it was: a
/// store that somebody emptied, or brought back from elsewhere, has deleted nothing on purpose.
pub(super) fn follow<T: Stored>(catalogue: &Catalogue) -> mpsc::Receiver<Told<T>> {
    let (sender, receiver) = mpsc::channel(WAITING);
    let (store, id) = (catalogue.store.clone(), catalogue.id.clone());
    tokio::spawn(async move {
        let mut follower = Table::<T>::new(store.clone()).follow();
        loop {
            match follower.next().await {
                Ok(difference) => {
                    let is_recalled = follower.is_recalled();
                    let difference = trusted(difference, &store, &id).await;
                    if sender.send(Told { difference, is_recalled }).await.is_err() {
                        return;
                    }
                }
                // The catalogue says itself that it does not answer.
                Err(error) => {
                    tracing::debug!(%error, "overlays stay as they were");
                    sleep(RETRY).await;
                }
            }
        }
    });
    receiver
}

async fn trusted<T: Stored>(
    mut difference: Difference<T>,
    store: &Arc<dyn Store>,
    known: &CatalogueId,
) -> Difference<T> {
    while !difference.deleted.is_empty() {
        match identity(store).await {
            Ok(id) if id.as_ref() == known.get() => break,
            Ok(_) => {
                let kind = T::KIND;
                tracing::error!(%kind, "the catalogue is another one: overlays stay; restart the agent");
                difference.deleted.clear();
            }
            Err(_) => sleep(RETRY).await,
        }
    }
    difference
}
