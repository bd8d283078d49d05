//! Follows a table of the catalogue beside the director, which hears of every difference, across outages.

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

/// All of a table, then what changes.
pub(super) fn follow<T: Stored + Send + 'static>(store: Arc<Late>) -> mpsc::Receiver<Difference<T>> {
    let (sender, receiver) = mpsc::channel(WAITING);
    tokio::spawn(async move {
        store.opened().await;
        let mut follower = Table::<T>::new(store).follow();
        let mut is_told = false;
        loop {
            match follower.next().await {
                Ok(difference) => {
                    is_told = false;
                    if sender.send(difference).await.is_err() {
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
