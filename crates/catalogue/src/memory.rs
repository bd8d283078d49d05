//! What was last heard of a store, in a file of this host: told in place of the store when that does not answer from the
//! beginning on, so that a process that starts in an outage knows what the one before knew. It is about a
//! second older than what was heard, and no store: nothing is written to the catalogue here.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition, WriteTransaction};
use tokio::sync::{mpsc, watch};
use tokio::task::spawn_blocking;
use tokio::time::sleep;

use crate::embedded::file;
use crate::{Change, Error, Health, Item, Key, Kind, LeaseId, Listing, Revision, Watch};

/// Between two writes of what was heard.
const PERIOD: Duration = Duration::from_secs(1);
/// Before a store that seems well and could not be listed is asked again.
const PAUSE: Duration = Duration::from_millis(500);

/// Kind and name; revision, lease (0: none) and value.
const ITEMS: TableDefinition<(&str, &str), (u64, u64, &[u8])> = TableDefinition::new("items");
/// Kinds that were listed, with the last revision that was heard of.
const LISTED: TableDefinition<&str, u64> = TableDefinition::new("listed");
/// Single words.
const WORDS: TableDefinition<&str, &str> = TableDefinition::new("words");
/// Which catalogue it is.
const IDENTITY: &str = "identity";

/// What was heard, to be written.
#[derive(Debug)]
pub(crate) enum Heard {
    All(Kind, Vec<Item>, Revision),
    Changes(Vec<Change>),
}

/// Who said last what all of a kind is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Teller {
    Memory,
    /// It alone is asked from then on: what is remembered is older.
    Store,
}

/// The memory of one store. It follows whatever is listed whole and watched through it.
#[derive(Debug)]
pub struct Memory {
    database: Arc<Database>,
    path: PathBuf,
    heard: mpsc::UnboundedSender<Heard>,
    told: Mutex<BTreeMap<Kind, Teller>>,
}

impl Memory {
    /// Opens the file at `path`, or makes it; one that cannot be read is made anew. Root alone can read it.
    ///
    /// # Errors
    /// [`Error::Owned`] when another process has it; [`Error::File`].
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub async fn open(path: &Path) -> Result<Memory, Error> {
        let place = path.to_owned();
        let database = blocking(move || match file::open(&place, prepare) {
            Err(Error::File { .. }) => {
                let _ = fs::remove_file(&place);
                file::open(&place, prepare)
            }
            opened => opened,
        });
        let database = Arc::new(database.await?);
        let (heard, hears) = mpsc::unbounded_channel();
        tokio::spawn(write_down(database.clone(), path.to_owned(), hears));
        Ok(Memory { database, path: path.to_owned(), heard, told: Mutex::default() })
    }

    /// The ID of the catalogue that is remembered.
    pub fn identity(&self) -> Option<String> {
        let read = || -> Result<_, redb::Error> {
            let words = self.database.begin_read()?.open_table(WORDS)?;
            Ok(words.get(IDENTITY)?.map(|word| word.value().to_owned()))
        };
        read().ok().flatten()
    }

    /// From now on it is this catalogue that is remembered: what is there of another is forgotten.
    ///
    /// # Errors
    /// [`Error::File`].
    pub async fn begin(&self, identity: String) -> Result<(), Error> {
        let (database, path) = (self.database.clone(), self.path.clone());
        blocking(move || {
            let begin = || -> Result<(), redb::Error> {
                let tx = database.begin_write()?;
                let before =
                    tx.open_table(WORDS)?.insert(IDENTITY, &*identity)?.map(|word| word.value().to_owned());
                if before.is_some_and(|before| before != identity) {
                    tx.delete_table(ITEMS)?;
                    tx.delete_table(LISTED)?;
                    tables(&tx)?;
                }
                Ok(tx.commit()?)
            };
            begin().map_err(|source| file::failure("write", &path, source))
        })
        .await
    }

    /// What the store said when all of `kind` was asked for, or in place of an error what is remembered, unless the
    /// store has ever answered.
    ///
    /// # Errors
    /// The store's, when nothing is remembered.
    pub async fn listed(&self, kind: Kind, answer: Result<Listing, Error>) -> Result<Listing, Error> {
        match answer {
            Ok(listing) => {
                self.tells(kind, Teller::Store);
                let _ = self.heard.send(Heard::All(kind, listing.items.clone(), listing.revision));
                Ok(listing)
            }
            Err(error) if self.teller(kind) == Some(Teller::Store) => Err(error),
            Err(error) => {
                let recalled = self.recalled(kind).await.ok_or(error)?;
                self.tells(kind, Teller::Memory);
                Ok(recalled)
            }
        }
    }

    /// A watch of the store's, whose changes are remembered.
    #[must_use]
    pub fn watched(&self, watch: Watch) -> Watch {
        watch.heard_by(self.heard.clone())
    }

    /// In place of a watch after what was remembered: it says nothing, and ends when the store answers, so that who
    /// listens lists again. None, when none of these kinds was remembered.
    pub fn until_answered(&self, kinds: &[Kind], mut health: watch::Receiver<Health>) -> Option<Watch> {
        if !kinds.iter().any(|kind| self.teller(*kind) == Some(Teller::Memory)) {
            return None;
        }
        let (sender, watch) = Watch::channel();
        tokio::spawn(async move {
            let answered = async {
                sleep(PAUSE).await;
                let _ = health.wait_for(|health| !health.is_degraded()).await;
            };
            tokio::select! {
                () = sender.closed() => {}
                () = answered => {}
            }
        });
        Some(watch)
    }

    fn teller(&self, kind: Kind) -> Option<Teller> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner).get(&kind).copied()
    }

    fn tells(&self, kind: Kind, teller: Teller) {
        self.told.lock().unwrap_or_else(PoisonError::into_inner).insert(kind, teller);
    }

    async fn recalled(&self, kind: Kind) -> Option<Listing> {
        let database = self.database.clone();
        let read = move || -> Result<Option<Listing>, redb::Error> {
            let tx = database.begin_read()?;
            let Some(revision) = tx.open_table(LISTED)?.get(kind.as_str())?.map(|told| told.value()) else {
                return Ok(None);
            };
            let (table, mut items) = (tx.open_table(ITEMS)?, Vec::new());
            for entry in table.range((kind.as_str(), "")..)? {
                let (id, stored) = entry?;
                let ((word, name), (revision, lease, value)) = (id.value(), stored.value());
                if word != kind.as_str() {
                    break;
                }
                let lease = (lease != 0).then_some(LeaseId(lease));
                let item = |key| Item { key, value: value.to_vec(), revision: Revision(revision), lease };
                items.extend(Key::new(kind, name).ok().map(item));
            }
            Ok(Some(Listing { items, revision: Revision(revision), is_recalled: true }))
        };
        // What cannot be read is not remembered.
        spawn_blocking(read).await.ok()?.ok()?
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    spawn_blocking(work).await.unwrap_or_else(|failure| std::panic::resume_unwind(failure.into_panic()))
}

fn prepare(database: &Database) -> Result<(), redb::Error> {
    let tx = database.begin_write()?;
    tables(&tx)?;
    tx.open_table(WORDS)?;
    Ok(tx.commit()?)
}

fn tables(tx: &WriteTransaction) -> Result<(), redb::Error> {
    tx.open_table(ITEMS)?;
    tx.open_table(LISTED)?;
    Ok(())
}

/// Writes as long as there is somebody to hear, what came together in one transaction.
async fn write_down(database: Arc<Database>, path: PathBuf, mut hears: mpsc::UnboundedReceiver<Heard>) {
    while let Some(first) = hears.recv().await {
        let mut all = vec![first];
        while let Ok(more) = hears.try_recv() {
            all.push(more);
        }
        let (database, place) = (database.clone(), path.clone());
        let written = blocking(move || {
            let write = || -> Result<(), redb::Error> {
                let tx = database.begin_write()?;
                all.into_iter().try_for_each(|heard| write(&tx, heard))?;
                Ok(tx.commit()?)
            };
            write().map_err(|source| file::failure("write", &place, source))
        });
        // The store is well, and so is who uses it: what is remembered is only older.
        drop(written.await);
        sleep(PERIOD).await;
    }
}

/// All of a kind takes the place of what was heard, even of what is newer: a store that was brought back from a copy has
/// lower revisions, and what came after that never was. Several may list and watch, and be slow about it: they watch from
/// there on, and say once more what is newer.
fn write(tx: &WriteTransaction, heard: Heard) -> Result<(), redb::Error> {
    let (mut items, mut listed) = (tx.open_table(ITEMS)?, tx.open_table(LISTED)?);
    match heard {
        Heard::All(kind, all, at) => {
            listed.insert(kind.as_str(), at.0)?;
            let mut gone = BTreeSet::new();
            for entry in items.range((kind.as_str(), "")..)? {
                let (id, _) = entry?;
                let (word, name) = id.value();
                if word != kind.as_str() {
                    break;
                }
                gone.insert(name.to_owned());
            }
            for item in &all {
                let id = (kind.as_str(), item.key.name());
                let is_so = gone.remove(item.key.name())
                    && items.get(id)?.is_some_and(|known| known.value() == stored(item));
                if !is_so {
                    items.insert(id, stored(item))?;
                }
            }
            for name in gone {
                items.remove((kind.as_str(), &*name))?;
            }
        }
        Heard::Changes(changes) => {
            for change in changes {
                let (kind, revision) = (change.kind().as_str(), change.revision().0);
                let before = listed.get(kind)?.map_or(0, |before| before.value());
                listed.insert(kind, before.max(revision))?;
                let id = (kind, change.key().name());
                let before = items.get(id)?.map_or(0, |before| before.value().0);
                match &change {
                    _ if before > revision => {}
                    Change::Put(item) => drop(items.insert(id, stored(item))?),
                    Change::Delete { .. } => drop(items.remove(id)?),
                }
            }
        }
    }
    Ok(())
}

fn stored(item: &Item) -> (u64, u64, &[u8]) {
    (item.revision.0, item.lease.map_or(0, |lease| lease.0), &item.value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Embedded, Store, Transaction};

    fn unavailable() -> Result<Listing, Error> {
        Err(Error::Unavailable { subject: "list".into(), store: "etcd".into(), source: "refused".into() })
    }

    fn key(name: &str) -> Key {
        Key::new(Kind::Node, name).unwrap()
    }

    async fn names(memory: &Memory) -> Option<Vec<String>> {
        let listing = memory.recalled(Kind::Node).await?;
        Some(listing.items.into_iter().map(|item| item.key.name().to_owned()).collect())
    }

    /// Waits until it is written down.
    async fn await_names(memory: &Memory, expected: &[&str]) {
        let is_so = async || {
            while names(memory).await.is_none_or(|names| names != expected) {
                sleep(Duration::from_millis(10)).await;
            }
        };
        let waited = tokio::time::timeout(Duration::from_secs(20), is_so()).await;
        assert!(waited.is_ok(), "{:?} instead of {expected:?}", names(memory).await);
    }

    #[tokio::test]
    async fn what_was_heard_of_a_store_is_told_when_it_does_not_answer() {
        let root = tempfile::tempdir().unwrap();
        let (file, store) = (root.path().join("known.redb"), root.path().join("catalogue.redb"));
        let store = Embedded::open(store).await.unwrap();
        let put = |name| Transaction::new().put(key(name), b"here".to_vec());
        let _ = store.commit(put("a")).await.unwrap();
        let memory = Memory::open(&file).await.unwrap();
        memory.begin("one".into()).await.unwrap();
        assert!(memory.listed(Kind::Node, unavailable()).await.is_err(), "nothing is remembered");
        let listing = memory.listed(Kind::Node, store.list(Kind::Node, "").await).await.unwrap();
        assert!(!listing.is_recalled && memory.until_answered(&[Kind::Node], store.health()).is_none());
        let mut watch = memory.watched(store.watch(&[Kind::Node], listing.revision).await.unwrap());
        let _ = store.commit(put("b").delete(key("a"))).await.unwrap();
        watch.next().await.unwrap();
        await_names(&memory, &["b"]).await;
        assert!(memory.listed(Kind::Node, unavailable()).await.is_err(), "it has answered, and is followed");
        drop((memory, watch));
        let again = opened(&file).await;
        assert_eq!(again.identity().as_deref(), Some("one"));
        let recalled = again.listed(Kind::Node, unavailable()).await.unwrap();
        assert!(recalled.is_recalled && recalled.items == store.list(Kind::Node, "").await.unwrap().items);
        let mut ends = again.until_answered(&[Kind::Node], store.health()).unwrap();
        assert_eq!(ends.next().await, None);
        again.begin("two".into()).await.unwrap();
        assert_eq!(names(&again).await, None, "another catalogue's is forgotten");
    }

    /// The one before lets go of the file when its writer ends.
    async fn opened(file: &Path) -> Memory {
        for _ in 0..2000 {
            match Memory::open(file).await {
                Err(Error::Owned { .. }) => sleep(Duration::from_millis(10)).await,
                opened => return opened.unwrap(),
            }
        }
        panic!("the file is never let go of");
    }

    fn all(revision: u64, items: &[(&str, u64)]) -> Heard {
        let item = |&(name, at): &(&str, u64)| {
            let value = format!("{name} of {revision}").into_bytes();
            Item { key: key(name), value, revision: Revision(at), lease: None }
        };
        Heard::All(Kind::Node, items.iter().map(item).collect(), Revision(revision))
    }

    #[tokio::test]
    async fn of_a_store_that_was_brought_back_from_a_copy_nothing_is_known_that_came_after() {
        let root = tempfile::tempdir().unwrap();
        let memory = Memory::open(&root.path().join("known.redb")).await.unwrap();
        for (revision, items) in [
            (1000, vec![("a", 400), ("b", 900), ("c", 950)]),
            (500, vec![("a", 400), ("b", 450), ("d", 500)]),
            // It has been written to since, and is past what was known before.
            (1200, vec![("b", 900), ("e", 1200)]),
            (1300, vec![]),
        ] {
            let tx = memory.database.begin_write().unwrap();
            write(&tx, all(revision, &items)).unwrap();
            tx.commit().unwrap();
            let recalled = memory.recalled(Kind::Node).await.unwrap();
            let Heard::All(_, expected, at) = all(revision, &items) else { panic!("it is all of a kind") };
            assert_eq!((recalled.items, recalled.revision), (expected, at));
        }
    }

    #[tokio::test]
    async fn a_file_that_is_no_memory_is_made_anew() {
        let root = tempfile::tempdir().unwrap();
        let file = root.path().join("known.redb");
        fs::write(&file, "something else").unwrap();
        let memory = Memory::open(&file).await.unwrap();
        assert_eq!(memory.identity(), None);
    }
}
