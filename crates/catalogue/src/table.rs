//! The typed layer: values of the domain in and out of a store, each with the version of its form.

use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::tolerant::Tolerant;
use crate::{Error, Follower, Item, Key, Kind, LeaseId, Mirror, Revision, Store, Transaction};

/// A type that a kind of the catalogue holds.
///
/// A field that is added with a default needs no new version: older values are read, and readers of the version skip
/// what they do not know, even where the type itself refuses it. Everything else does, and [`Stored::migrate`] for the
/// versions before.
pub trait Stored: Serialize + DeserializeOwned + Send + Sync + 'static {
    /// Where its values are.
    const KIND: Kind;
    /// The version of what is written.
    const VERSION: u32 = 1;

    /// A value of version `from`, which is less than [`Stored::VERSION`], in the form of this one. `None`: it is too
    /// old to be read.
    fn migrate(from: u32, old: Value) -> Option<Value> {
        let _ = (from, old);
        None
    }
}

/// A value with what the store knows of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row<T> {
    /// The value.
    pub value: T,
    /// When it was last written; for [`Transaction::expect`].
    pub revision: Revision,
    /// The lease it vanishes with.
    pub lease: Option<LeaseId>,
}

/// Rows of a table at one moment.
#[derive(Debug)]
pub struct Rows<T> {
    /// By name.
    pub rows: BTreeMap<String, Row<T>>,
    /// By name, what is there and cannot be read: [`Error::Decode`] or [`Error::Version`]. One bad value blinds
    /// nobody to the others.
    pub unreadable: BTreeMap<String, Error>,
    /// The moment.
    pub revision: Revision,
}

/// The values of one type in one store.
pub struct Table<T> {
    store: Arc<dyn Store>,
    holds: PhantomData<fn() -> T>,
}

impl<T: Stored> Table<T> {
    /// The table of `T` in `store`.
    pub fn new(store: Arc<dyn Store>) -> Table<T> {
        Table { store, holds: PhantomData }
    }

    /// Where it is, for transactions that write several tables.
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    /// What `name` is called in the store.
    ///
    /// # Errors
    /// [`Error::Name`].
    pub fn key(name: &str) -> Result<Key, Error> {
        Key::new(T::KIND, name)
    }

    /// The value of `name`.
    ///
    /// # Errors
    /// [`Error::Name`], [`Error::Decode`], [`Error::Version`], and those of [`Store::get`].
    pub async fn get(&self, name: &str) -> Result<Option<Row<T>>, Error> {
        self.store.get(&Table::<T>::key(name)?).await?.map(|item| row(&item)).transpose()
    }

    /// The values whose names begin with `prefix`.
    ///
    /// # Errors
    /// Those of [`Store::list`].
    pub async fn list(&self, prefix: &str) -> Result<Rows<T>, Error> {
        let listing = self.store.list(T::KIND, prefix).await?;
        let mut rows =
            Rows { rows: BTreeMap::new(), unreadable: BTreeMap::new(), revision: listing.revision };
        for item in listing.items {
            let name = item.key.name().to_owned();
            match row(&item) {
                Ok(row) => drop(rows.rows.insert(name, row)),
                Err(error) => drop(rows.unreadable.insert(name, error)),
            }
        }
        Ok(rows)
    }

    /// All values, and then what changes.
    pub fn follow(&self) -> Follower<T> {
        Follower::new(self.store.clone())
    }

    /// A view of all values that is kept current, and that is there when the store is not.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn mirror(&self) -> Mirror<T> {
        Mirror::start(self.store.clone())
    }

    /// Adds writing `value` to `transaction`, for good or until `lease` ends.
    ///
    /// # Errors
    /// [`Error::Name`] and [`Error::Encode`].
    pub fn put(
        transaction: Transaction,
        name: &str,
        value: &T,
        lease: Option<LeaseId>,
    ) -> Result<Transaction, Error> {
        let key = Table::<T>::key(name)?;
        let bytes = encode(&key, value)?;
        Ok(match lease {
            Some(lease) => transaction.put_leased(key, bytes, lease),
            None => transaction.put(key, bytes),
        })
    }
}

/// How a value is stored.
#[derive(Serialize, Deserialize)]
struct Envelope<V> {
    version: u32,
    value: V,
}

pub(crate) fn encode<T: Stored>(key: &Key, value: &T) -> Result<Vec<u8>, Error> {
    let envelope = Envelope { version: T::VERSION, value };
    serde_json::to_vec(&envelope).map_err(|source| Error::Encode { key: key.clone(), source })
}

/// An item as a row. The version is looked at first: what has another need not look like a `T` at all.
pub(crate) fn row<T: Stored>(item: &Item) -> Result<Row<T>, Error> {
    let decode = |source| Error::Decode { key: item.key.clone(), source };
    let Envelope { version, value } =
        serde_json::from_slice::<Envelope<Value>>(&item.value).map_err(decode)?;
    let unread = || Error::Version { key: item.key.clone(), found: version, known: T::VERSION };
    let current = match version.cmp(&T::VERSION) {
        std::cmp::Ordering::Less => T::migrate(version, value).ok_or_else(unread)?,
        std::cmp::Ordering::Equal => value,
        std::cmp::Ordering::Greater => return Err(unread()),
    };
    let value = T::deserialize(Tolerant(current)).map_err(decode)?;
    Ok(Row { value, revision: item.revision, lease: item.lease })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Node {
        addresses: Vec<String>,
    }

    impl Stored for Node {
        const KIND: Kind = Kind::Node;
        const VERSION: u32 = 3;

        /// Version 2 had one address.
        fn migrate(from: u32, old: Value) -> Option<Value> {
            (from == 2).then(|| json!({"addresses": [old["address"]]}))
        }
    }

    fn read(stored: Value) -> Result<Node, Error> {
        let key = Key::new(Kind::Node, "a").unwrap();
        let item = Item { key, value: stored.to_string().into(), revision: Revision(7), lease: None };
        row(&item).map(|row| row.value)
    }

    #[test]
    fn what_is_written_is_read() {
        let node = Node { addresses: vec!["192.0.2.1".into()] };
        let bytes = encode(&Table::<Node>::key("a").unwrap(), &node).unwrap();
        let stored = serde_json::from_slice(&bytes).unwrap();
        assert_eq!(stored, json!({"version": 3, "value": {"addresses": ["192.0.2.1"]}}));
        assert_eq!(read(stored).unwrap(), node);
    }

    #[test]
    fn a_value_of_the_version_before_is_migrated() {
        let node = read(json!({"version": 2, "value": {"address": "192.0.2.1"}})).unwrap();
        assert_eq!(node, Node { addresses: vec!["192.0.2.1".into()] });
    }

    #[test]
    fn a_value_that_cannot_be_read_is_named_with_the_reason() {
        let check = |stored: Value, expected: &str| {
            let error = read(stored).unwrap_err().to_string();
            assert!(error.starts_with("nodes/a ") && error.contains(expected), "{error}");
        };
        check(json!({"version": 4, "value": "whatever"}), "is of version 4, and this zeugma reads up to 3");
        check(json!({"version": 1, "value": {}}), "is of version 1");
        check(json!({"version": 3, "value": {}}), "missing field `addresses`");
        check(json!(["no envelope"]), "holds something else");
    }
}
