//! Follows a table: everything first, then every difference, across outages and lost history. Keeps no values:
//! that is `mirror.rs`.

use std::collections::{BTreeMap, BTreeSet};
use std::marker::PhantomData;
use std::sync::Arc;

use crate::table::row;
use crate::{Change, Error, Item, Notice, Revision, Row, Store, Stored, Watch};

/// What became of a table since the difference before.
#[derive(Debug)]
pub struct Difference<T> {
    /// New values by name, each the last of its name.
    pub put: BTreeMap<String, Row<T>>,
    /// Names that are gone.
    pub deleted: BTreeSet<String>,
    /// By name, new values that cannot be read. What was known before of such a name is all there is.
    pub unreadable: BTreeMap<String, Error>,
    /// The last revision in it.
    pub revision: Revision,
}

impl<T> Difference<T> {
    fn new(revision: Revision) -> Difference<T> {
        Difference { put: BTreeMap::new(), deleted: BTreeSet::new(), unreadable: BTreeMap::new(), revision }
    }

    /// Whether nothing is different.
    pub fn is_empty(&self) -> bool {
        self.put.is_empty() && self.deleted.is_empty() && self.unreadable.is_empty()
    }
}

/// Follows the values of `T`. Made by [`Table::follow`](crate::Table::follow).
pub struct Follower<T> {
    store: Arc<dyn Store>,
    /// What has been told, so that a second listing tells only what is new.
    known: BTreeMap<String, Revision>,
    watch: Option<Watch>,
    tells: PhantomData<fn() -> T>,
}

impl<T: Stored> Follower<T> {
    pub(crate) fn new(store: Arc<dyn Store>) -> Follower<T> {
        Follower { store, known: BTreeMap::new(), watch: None, tells: PhantomData }
    }

    /// The next difference: at first all there is, even if that is nothing. When the store's history does not reach
    /// back to the difference before, it is found by listing. Nothing is lost when the future is dropped.
    ///
    /// # Errors
    /// When the store cannot be listed; ask again, and what was missed comes then.
    pub async fn next(&mut self) -> Result<Difference<T>, Error> {
        while let Some(watch) = &mut self.watch {
            match watch.next().await {
                Some(Notice::Changes(changes)) => return Ok(self.followed(changes)),
                Some(Notice::Compacted) | None => self.watch = None,
            }
        }
        let listing = self.store.list(T::KIND, "").await?;
        self.watch = Some(self.store.watch(&[T::KIND], listing.revision).await?);
        Ok(self.listed(listing.items, listing.revision))
    }

    fn followed(&mut self, changes: Vec<Change>) -> Difference<T> {
        let revision = changes.last().map(Change::revision).unwrap_or_default();
        let mut difference = Difference::new(revision);
        for change in changes {
            match change {
                Change::Put(item) => self.put(&mut difference, &item),
                Change::Delete { key, .. } => self.deleted(&mut difference, key.name()),
            }
        }
        difference
    }

    fn listed(&mut self, items: Vec<Item>, revision: Revision) -> Difference<T> {
        let mut difference = Difference::new(revision);
        let is_there: BTreeSet<&str> = items.iter().map(|item| item.key.name()).collect();
        let gone: Vec<String> =
            self.known.keys().filter(|name| !is_there.contains(name.as_str())).cloned().collect();
        gone.iter().for_each(|name| self.deleted(&mut difference, name));
        let is_news = |item: &&Item| self.known.get(item.key.name()) != Some(&item.revision);
        let news: Vec<&Item> = items.iter().filter(is_news).collect();
        news.into_iter().for_each(|item| self.put(&mut difference, item));
        difference
    }

    fn put(&mut self, difference: &mut Difference<T>, item: &Item) {
        let name = item.key.name();
        self.known.insert(name.to_owned(), item.revision);
        difference.deleted.remove(name);
        match row(item) {
            Ok(row) => {
                difference.unreadable.remove(name);
                difference.put.insert(name.to_owned(), row);
            }
            Err(error) => drop(difference.unreadable.insert(name.to_owned(), error)),
        }
    }

    fn deleted(&mut self, difference: &mut Difference<T>, name: &str) {
        self.known.remove(name);
        difference.put.remove(name);
        difference.unreadable.remove(name);
        difference.deleted.insert(name.to_owned());
    }
}
