//! Follows a table of the catalogue beside the director, which hears of every difference, across outages, and whether it
//! is the store's or what the agent before this one knew.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::sleep;
use zeugma_catalogue::{Difference, Stored, Table};

use super::store::Late;

/// Before a store that could not be listed is asked again.
const RETRY: Duration = Duration::from_millis(250);
/// Differences that wait for the director.
const WAITING: usize = 4;

/// What changed.
pub(super) struct News<T> {
    pub(super) difference: Difference<T>,
    /// Whether it is what the agent before this one knew.
    pub(super) is_recalled: bool,
}

/// All of a table, then what changes.
pub(super) fn follow<T: Stored + Send + 'static>(store: Arc<Late>) -> mpsc::Receiver<News<T>> {
    let (sender, receiver) = mpsc::channel(WAITING);
    tokio::spawn(async move {
        store.known().await;
        let mut follower = Table::<T>::new(store).follow();
        let mut is_told = false;
        loop {
            match follower.next().await {
                Ok(difference) => {
                    is_told = false;
                    let is_recalled = follower.is_recalled();
                    if sender.send(News { difference, is_recalled }).await.is_err() {
                        return;
                    }
                }
                Err(error) => {
                    if !std::mem::replace(&mut is_told, true) {
                        tracing::warn!(%error, "services stay as they were");
                    }
                    sleep(RETRY).await;
                }
            }
        }
    });
    receiver
}
