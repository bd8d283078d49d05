//! Follows the catalogue's tables beside the director, which hears of every difference, across outages.

use std::collections::BTreeSet;
use std::mem::take;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::sleep;
use zeugma_catalogue::{Difference, Stored, Table};

use crate::services::Catalogue;

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

/// All of a table, then what changes, as long as the catalogue is the one that it was: a store that somebody emptied, or
/// made anew, has deleted nothing on purpose, and what is written to it then is another catalogue's.
pub(super) fn follow<T: Stored>(catalogue: &Catalogue) -> mpsc::Receiver<Told<T>> {
    let (sender, receiver) = mpsc::channel(WAITING);
    let catalogue = catalogue.clone();
    tokio::spawn(async move {
        let mut names = Names::default();
        while tell(&catalogue, &mut names, &sender).await.is_ok() {
            while !sender.is_closed() && !catalogue.id.is_in(&catalogue.store).await.is_ok_and(|is_it| is_it)
            {
                sleep(RETRY).await;
            }
        }
    });
    receiver
}

/// Nobody listens any more.
struct Unheard;

/// From the beginning until another catalogue answers.
async fn tell<T: Stored>(
    catalogue: &Catalogue,
    names: &mut Names,
    sender: &mpsc::Sender<Told<T>>,
) -> Result<(), Unheard> {
    let mut follower = Table::<T>::new(catalogue.store.clone()).follow();
    let mut is_first = true;
    loop {
        match follower.next().await {
            Ok(mut difference) => {
                let is_recalled = follower.is_recalled();
                if !is_recalled && !is_trusted(&difference, catalogue).await {
                    return Ok(());
                }
                names.take(&mut difference, take(&mut is_first));
                sender.send(Told { difference, is_recalled }).await.map_err(|_| Unheard)?;
            }
            // The catalogue says itself that it does not answer, or is another one.
            Err(error) => {
                tracing::debug!(%error, "overlays stay as they were");
                sleep(RETRY).await;
            }
        }
        if sender.is_closed() {
            return Err(Unheard);
        }
    }
}

/// Whether this catalogue says it. A listing is always its own.
async fn is_trusted<T>(difference: &Difference<T>, catalogue: &Catalogue) -> bool {
    let other = catalogue.id.other();
    while !difference.deleted.is_empty() || other.borrow().is_some() {
        match catalogue.id.is_in(&catalogue.store).await {
            Ok(is_it) => return is_it,
            Err(_) => sleep(RETRY).await,
        }
    }
    true
}

/// What was told of a table and is there.
#[derive(Debug, Default)]
struct Names(BTreeSet<String>);

impl Names {
    /// Notes what is told. Whoever begins anew hears of everything: what is not in that is gone.
    fn take<T>(&mut self, difference: &mut Difference<T>, is_all: bool) {
        let Difference { put, deleted, unreadable, .. } = difference;
        if is_all {
            let is_gone = |name: &&String| !put.contains_key(*name) && !unreadable.contains_key(*name);
            deleted.extend(self.0.iter().filter(is_gone).cloned());
        }
        self.0.retain(|name| !deleted.contains(name));
        self.0.extend(put.keys().chain(unreadable.keys()).cloned());
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;
    use zeugma_catalogue::{Embedded, Key, Kind, Store, Transaction, identified};
    use zeugma_model::Node;

    use super::*;
    use crate::services::CatalogueId;

    fn key(name: &str) -> Key {
        Key::new(Kind::Node, name).unwrap()
    }

    fn put(transaction: Transaction, name: &str) -> Transaction {
        let node = json!({"name": name, "addresses": [], "machine": "00".repeat(16), "version": ""});
        Table::put(transaction, name, &serde_json::from_value::<Node>(node).unwrap(), None).unwrap()
    }

    async fn write(store: &Arc<dyn Store>, transaction: Transaction) {
        let _ = store.commit(transaction).await.unwrap();
    }

    /// Names that came, and names that went.
    async fn next(told: &mut mpsc::Receiver<Told<Node>>) -> (String, String) {
        let difference = told.recv().await.unwrap().difference;
        let words = |names: Vec<String>| names.join(" ");
        (words(difference.put.into_keys().collect()), words(difference.deleted.into_iter().collect()))
    }

    #[tokio::test]
    async fn what_another_catalogue_says_is_not_taken_for_this_ones() {
        let root = tempfile::tempdir().unwrap();
        let store: Arc<dyn Store> = Arc::new(Embedded::open(root.path().join("a.redb")).await.unwrap());
        let id = identified(&store, "one").await.unwrap();
        let whose = Key::new(Kind::Identity, "catalogue").unwrap();
        let identity = store.get(&whose).await.unwrap().unwrap().value;
        let catalogue = Catalogue {
            store: store.clone(),
            id: CatalogueId::of(&id),
            node: "a".parse().unwrap(),
            service_ranges: Vec::new(),
            store_at: Vec::new(),
        };
        write(&store, put(put(Transaction::new(), "a"), "b")).await;
        let mut told = follow::<Node>(&catalogue);
        assert_eq!(next(&mut told).await, ("a b".into(), String::new()));
        // Somebody empties it, and others begin anew in it.
        write(&store, Transaction::new().delete(whose.clone()).delete(key("a")).delete(key("b"))).await;
        identified(&store, "two").await.unwrap();
        write(&store, put(Transaction::new(), "stranger")).await;
        let mut other = catalogue.id.other();
        other.wait_for(|other| other.as_deref() == Some("two")).await.unwrap();
        write(&store, put(Transaction::new(), "another")).await;
        assert!(told.try_recv().is_err());
        // It is brought back, without one that was there.
        let back = put(Transaction::new().put(whose, identity), "a");
        write(&store, back.delete(key("stranger")).delete(key("another"))).await;
        assert_eq!(next(&mut told).await, ("a".into(), "b".into()));
        assert!(other.borrow().is_none());
    }
}
