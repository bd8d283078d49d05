//! Follows the catalogue's tables beside who works with them: services, networks and overlays hear of every difference,
//! across outages, and of nothing that another catalogue says.

use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};
use zeugma_catalogue::{Difference, Stored, Table};

use crate::services::{Catalogue, CatalogueId};

/// Before a store that did not answer is asked again.
const RETRY: Duration = Duration::from_millis(250);
/// Before it is, at most, while another catalogue answers: its operator is at work, and all nodes ask.
const LONGEST: Duration = Duration::from_secs(5);
/// Differences that wait for who listens.
const WAITING: usize = 4;

/// What became of a table.
pub(crate) struct Told<T> {
    pub(crate) difference: Difference<T>,
    /// It is what the agent before this one knew, and may be a little older than what that one did.
    pub(crate) is_recalled: bool,
}

/// All of a table, then what changes, as long as the catalogue is the one that it was: a store that somebody emptied, or
/// made anew, has deleted nothing on purpose, and what is written to it then is another catalogue's. Once it is back,
/// all of it is told again, and what is not there any more is deleted.
pub(crate) fn follow<T: Stored + Send + 'static>(catalogue: &Catalogue) -> mpsc::Receiver<Told<T>> {
    let (sender, receiver) = mpsc::channel(WAITING);
    tokio::spawn(tell(catalogue.clone(), sender));
    receiver
}

/// Until nobody listens any more.
async fn tell<T: Stored>(catalogue: Catalogue, sender: mpsc::Sender<Told<T>>) {
    let mut follower = Table::<T>::new(catalogue.store.clone()).follow();
    let mut pause = Pause::default();
    while !sender.is_closed() {
        match follower.hear().await {
            Ok(heard) if follower.is_recalled() || is_trusted(&heard.difference, &catalogue).await => {
                pause = Pause::default();
                let is_recalled = follower.is_recalled();
                // Whoever does not listen any more ends the loop.
                let _ = sender.send(Told { difference: follower.believe(heard), is_recalled }).await;
            }
            Ok(untrusted) => {
                follower.disbelieve(untrusted);
                pause.rest(&catalogue.id).await;
            }
            // The catalogue says itself that it does not answer, or is another one.
            Err(error) => {
                pause.complain(&error, T::KIND.as_str());
                pause.rest(&catalogue.id).await;
            }
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

/// What passes between two attempts.
#[derive(Default)]
struct Pause {
    /// Attempts in a row that another catalogue answered.
    others: u32,
    has_complained: bool,
}

impl Pause {
    /// Only the first of many failures is worth a line.
    fn complain(&mut self, error: &zeugma_catalogue::Error, table: &str) {
        if !std::mem::replace(&mut self.has_complained, true) {
            tracing::warn!(%error, table, "what is known stays as it was");
        }
    }

    /// Ends early when this catalogue is back: whoever sees that first tells all.
    async fn rest(&mut self, id: &CatalogueId) {
        let mut other = id.other();
        let is_another = other.borrow().is_some();
        let pause = self.next(is_another);
        match is_another {
            true => drop(timeout(pause, other.wait_for(Option::is_none)).await),
            false => sleep(pause).await,
        }
    }

    fn next(&mut self, is_another: bool) -> Duration {
        let factor = 2u32.saturating_pow(self.others);
        self.others = if is_another { self.others.saturating_add(1) } else { 0 };
        if is_another { RETRY.saturating_mul(factor).min(LONGEST) } else { RETRY }
    }
}

/// A catalogue in a file, and what happens to it.
#[cfg(test)]
pub(crate) mod fixture {
    use std::path::Path;
    use std::sync::Arc;

    use zeugma_catalogue::{Embedded, Key, Kind, Store, Transaction, identified};

    use crate::services::{Catalogue, CatalogueId};

    /// Node `here`'s catalogue `one`.
    pub(crate) async fn catalogue(root: &Path) -> Catalogue {
        let store: Arc<dyn Store> = Arc::new(Embedded::open(root.join("a.redb")).await.unwrap());
        let id = identified(&store, "one").await.unwrap();
        Catalogue {
            store,
            id: CatalogueId::of(&id),
            node: "here".parse().unwrap(),
            service_ranges: Vec::new(),
            store_at: Vec::new(),
        }
    }

    pub(crate) async fn write(catalogue: &Catalogue, transaction: Transaction) {
        let _ = catalogue.store.commit(transaction).await.unwrap();
    }

    fn whose() -> Key {
        Key::new(Kind::Identity, "catalogue").unwrap()
    }

    /// Somebody empties it of these rows as well, and others begin anew in it. What it is brought back with.
    pub(crate) async fn replace(catalogue: &Catalogue, rows: &[Key]) -> Transaction {
        let identity = catalogue.store.get(&whose()).await.unwrap().unwrap().value;
        let emptied = Transaction::new().delete(whose());
        write(catalogue, rows.iter().cloned().fold(emptied, Transaction::delete)).await;
        identified(&catalogue.store, "two").await.unwrap();
        let mut other = catalogue.id.other();
        other.wait_for(|other| other.as_deref() == Some("two")).await.unwrap();
        Transaction::new().put(whose(), identity)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use zeugma_catalogue::{Key, Kind, Transaction};
    use zeugma_model::Node;

    use super::fixture::{catalogue, replace, write};
    use super::*;

    fn key(name: &str) -> Key {
        Key::new(Kind::Node, name).unwrap()
    }

    fn put(transaction: Transaction, name: &str) -> Transaction {
        let node = json!({"name": name, "addresses": [], "machine": "00".repeat(16), "version": ""});
        Table::put(transaction, name, &serde_json::from_value::<Node>(node).unwrap(), None).unwrap()
    }

    /// Names that came, and names that went.
    async fn next(told: &mut mpsc::Receiver<Told<Node>>) -> (String, String) {
        let difference = told.recv().await.unwrap().difference;
        let words = |names: Vec<String>| names.join(" ");
        (words(difference.put.into_keys().collect()), words(difference.deleted.into_iter().collect()))
    }

    #[test]
    fn a_store_that_is_another_catalogue_s_is_asked_ever_less_often() {
        let mut pause = Pause::default();
        let mut check = |is_another: bool, expected: &[u64]| {
            let pauses = expected.iter().map(|_| pause.next(is_another).as_millis() as u64);
            assert_eq!(pauses.collect::<Vec<_>>(), expected);
        };
        check(true, &[250, 500, 1000, 2000, 4000, 5000, 5000]);
        check(false, &[250, 250]);
        check(true, &[250, 500]);
    }

    #[tokio::test]
    async fn what_another_catalogue_says_is_not_taken_for_this_ones() {
        let root = tempfile::tempdir().unwrap();
        let catalogue = catalogue(root.path()).await;
        write(&catalogue, put(put(Transaction::new(), "a"), "b")).await;
        let mut told = follow::<Node>(&catalogue);
        assert_eq!(next(&mut told).await, ("a b".into(), String::new()));
        let back = replace(&catalogue, &[key("a"), key("b")]).await;
        write(&catalogue, put(Transaction::new(), "stranger")).await;
        write(&catalogue, put(Transaction::new(), "another")).await;
        assert!(told.try_recv().is_err());
        // It is brought back, without one that was there.
        let back = put(back, "a");
        write(&catalogue, back.delete(key("stranger")).delete(key("another"))).await;
        assert_eq!(next(&mut told).await, ("a".into(), "b".into()));
        assert!(catalogue.id.other().borrow().is_none());
    }
}
