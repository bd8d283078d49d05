//! Follows a table: everything first, then every difference, across outages and lost history. Keeps no values:
//! that is `mirror.rs`.

use std::collections::{BTreeMap, BTreeSet};
use std::marker::PhantomData;
use std::sync::Arc;

use crate::table::row;
use crate::told::Told;
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
    told: Told,
    watch: Option<Watch>,
    is_recalled: bool,
    tells: PhantomData<fn() -> T>,
}

impl<T: Stored> Follower<T> {
    pub(crate) fn new(store: Arc<dyn Store>) -> Follower<T> {
        Follower { store, told: Told::default(), watch: None, is_recalled: false, tells: PhantomData }
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
        self.is_recalled = listing.is_recalled;
        Ok(self.listed(listing.items, listing.revision))
    }

    /// Whether the last difference was what was known before this process began: [`Listing::is_recalled`].
    ///
    /// [`Listing::is_recalled`]: crate::Listing::is_recalled
    pub fn is_recalled(&self) -> bool {
        self.is_recalled
    }

    fn followed(&mut self, changes: Vec<Change>) -> Difference<T> {
        let revision = changes.last().map(Change::revision).unwrap_or_default();
        let mut difference = Difference::new(revision);
        for change in changes {
            match change {
                Change::Put(item) => {
                    self.told.insert(item.key.name(), item.revision);
                    difference.put(&item);
                }
                Change::Delete { key, .. } => {
                    self.told.remove(key.name());
                    difference.delete(key.name().to_owned());
                }
            }
        }
        difference
    }

    /// Both what was told and what is there now are in order. Items go as they are read: they may be many.
    fn listed(&mut self, items: Vec<Item>, revision: Revision) -> Difference<T> {
        let mut difference = Difference::new(revision);
        let told = Told::new(items.iter().map(|item| (item.key.name(), item.revision)));
        let before = std::mem::replace(&mut self.told, told);
        let mut before = before.iter().peekable();
        for item in items {
            let name = item.key.name();
            while let Some((gone, _)) = before.next_if(|(known, _)| known.as_str() < name) {
                difference.delete(gone);
            }
            let known = before.next_if(|(known, _)| known == name);
            if known.is_none_or(|(_, revision)| revision != item.revision) {
                difference.put(&item);
            }
        }
        before.for_each(|(gone, _)| difference.delete(gone));
        difference
    }
}

impl<T: Stored> Difference<T> {
    fn put(&mut self, item: &Item) {
        let name = item.key.name();
        self.deleted.remove(name);
        match row(item) {
            Ok(row) => {
                self.unreadable.remove(name);
                self.put.insert(name.to_owned(), row);
            }
            Err(error) => drop(self.unreadable.insert(name.to_owned(), error)),
        }
    }

    fn delete(&mut self, name: String) {
        self.put.remove(&name);
        self.unreadable.remove(&name);
        self.deleted.insert(name);
    }
}
