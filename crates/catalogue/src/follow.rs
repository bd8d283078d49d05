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

/// A difference that is not yet taken for told: [`Follower::believe`] or [`Follower::disbelieve`] it before the next.
#[derive(Debug)]
pub struct Hearsay<T> {
    /// What it says.
    pub difference: Difference<T>,
    after: After,
}

/// What has been told once a difference is believed.
#[derive(Debug)]
enum After {
    /// As before, but for these: none is gone.
    Changed(Vec<(String, Option<Revision>)>),
    All(Told),
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
        let hearsay = self.hear().await?;
        Ok(self.believe(hearsay))
    }

    /// The next difference, as [`Follower::next`], for who has to look first whether it is to be believed.
    ///
    /// # Errors
    /// When the store cannot be listed.
    pub async fn hear(&mut self) -> Result<Hearsay<T>, Error> {
        while let Some(watch) = &mut self.watch {
            match watch.next().await {
                Some(Notice::Changes(changes)) => return Ok(followed(changes)),
                Some(Notice::Compacted) | None => self.watch = None,
            }
        }
        let listing = self.store.list(T::KIND, "").await?;
        self.watch = Some(self.store.watch(&[T::KIND], listing.revision).await?);
        self.is_recalled = listing.is_recalled;
        Ok(self.listed(listing.items, listing.revision))
    }

    /// It is so: from now on this is told.
    pub fn believe(&mut self, Hearsay { difference, after }: Hearsay<T>) -> Difference<T> {
        match after {
            After::All(told) => self.told = told,
            After::Changed(changes) => changes.iter().for_each(|(name, revision)| match revision {
                Some(revision) => self.told.insert(name, *revision),
                None => self.told.remove(name),
            }),
        }
        difference
    }

    /// It never was so. The next difference is found by listing: everything that is there then, as revisions do not tell
    /// what is new any more, and names that were told and are not there.
    pub fn disbelieve(&mut self, _: Hearsay<T>) {
        self.watch = None;
        let names: Vec<String> = self.told.iter().map(|(name, _)| name).collect();
        self.told = Told::new(names.iter().map(|name| (name.as_str(), Revision::default())));
    }

    /// Whether the last difference was what was known before this process began: [`Listing::is_recalled`].
    ///
    /// [`Listing::is_recalled`]: crate::Listing::is_recalled
    pub fn is_recalled(&self) -> bool {
        self.is_recalled
    }

    /// Both what was told and what is there now are in order. Items go as they are read: they may be many.
    fn listed(&self, items: Vec<Item>, revision: Revision) -> Hearsay<T> {
        let mut difference = Difference::new(revision);
        let told = Told::new(items.iter().map(|item| (item.key.name(), item.revision)));
        let mut before = self.told.iter().peekable();
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
        Hearsay { difference, after: After::All(told) }
    }
}

fn followed<T: Stored>(changes: Vec<Change>) -> Hearsay<T> {
    let revision = changes.last().map(Change::revision).unwrap_or_default();
    let (mut difference, mut after) = (Difference::new(revision), Vec::new());
    for change in changes {
        match change {
            Change::Put(item) => {
                after.push((item.key.name().to_owned(), Some(item.revision)));
                difference.put(&item);
            }
            Change::Delete { key, .. } => {
                after.push((key.name().to_owned(), None));
                difference.delete(key.name().to_owned());
            }
        }
    }
    Hearsay { difference, after: After::Changed(after) }
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
