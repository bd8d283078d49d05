//! What is to be written, under which conditions, all or nothing. How is the stores' matter.

use std::collections::BTreeMap;

use crate::{Error, Key, LeaseId, Revision};

/// Conditions and writes that happen together or not at all. A key has one condition and one write at most: the
/// last one said holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Transaction {
    pub(crate) expected: BTreeMap<Key, Expected>,
    pub(crate) writes: BTreeMap<Key, Write>,
}

/// What has to be so for a transaction to happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Expected {
    /// There is no value.
    Absent,
    /// The value was last written at this revision.
    At(Revision),
}

impl Expected {
    /// Whether `found` is what is expected.
    pub(crate) fn holds(self, found: Option<Revision>) -> bool {
        match self {
            Expected::Absent => found.is_none(),
            Expected::At(revision) => found == Some(revision),
        }
    }
}

/// What becomes of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Write {
    Put { value: Vec<u8>, lease: Option<LeaseId> },
    Delete,
}

/// What became of a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "a conflict means that nothing was written"]
pub enum Outcome {
    /// All of it happened, at this revision. When there was nothing to change (deletes of what is not there), the
    /// store's revision stays as it is.
    Committed(Revision),
    /// A condition did not hold and nothing happened.
    Conflict {
        /// The first key whose condition did not hold.
        key: Key,
        /// When that key was last written; `None` when it has no value.
        found: Option<Revision>,
    },
}

impl Transaction {
    /// The most conditions, and the most writes. It is etcd's default limit, and the same for every store.
    pub const KEY_LIMIT: usize = 128;
    /// The most bytes of all values together: with keys and framing it stays below what etcd takes.
    pub const BYTE_LIMIT: usize = 1 << 20;

    /// Nothing under no condition.
    pub fn new() -> Transaction {
        Transaction::default()
    }

    /// Only if `key` was last written at `revision`.
    #[must_use]
    pub fn expect(mut self, key: Key, revision: Revision) -> Transaction {
        self.expected.insert(key, Expected::At(revision));
        self
    }

    /// Only if `key` has no value.
    #[must_use]
    pub fn expect_absent(mut self, key: Key) -> Transaction {
        self.expected.insert(key, Expected::Absent);
        self
    }

    /// Writes `value`, for good: a lease that the key had is forgotten.
    #[must_use]
    pub fn put(mut self, key: Key, value: impl Into<Vec<u8>>) -> Transaction {
        self.writes.insert(key, Write::Put { value: value.into(), lease: None });
        self
    }

    /// Writes `value` until `lease` ends.
    #[must_use]
    pub fn put_leased(mut self, key: Key, value: impl Into<Vec<u8>>, lease: LeaseId) -> Transaction {
        self.writes.insert(key, Write::Put { value: value.into(), lease: Some(lease) });
        self
    }

    /// Deletes `key`; that there is none is no error.
    #[must_use]
    pub fn delete(mut self, key: Key) -> Transaction {
        self.writes.insert(key, Write::Delete);
        self
    }

    /// Whether it keeps the limits.
    pub(crate) fn check(&self) -> Result<(), Error> {
        let keys = self.expected.len().max(self.writes.len());
        let bytes = self.writes.values().map(Write::bytes).sum();
        if keys > Transaction::KEY_LIMIT || bytes > Transaction::BYTE_LIMIT {
            return Err(Error::TooLarge { keys, bytes });
        }
        Ok(())
    }

    /// For messages: the first key that it is about.
    #[cfg(feature = "etcd")]
    pub(crate) fn subject(&self) -> String {
        let key = self.writes.keys().chain(self.expected.keys()).next();
        key.map_or_else(|| "write nothing".to_owned(), |key| format!("write {key}"))
    }
}

impl Write {
    fn bytes(&self) -> usize {
        self.value().map_or(0, <[u8]>::len)
    }

    /// The lease that what is put vanishes with.
    pub(crate) fn lease(&self) -> Option<LeaseId> {
        match self {
            Write::Put { lease, .. } => *lease,
            Write::Delete => None,
        }
    }

    /// What is put.
    pub(crate) fn value(&self) -> Option<&[u8]> {
        match self {
            Write::Put { value, .. } => Some(value),
            Write::Delete => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Kind;

    fn key(name: &str) -> Key {
        Key::new(Kind::Service, name).unwrap()
    }

    #[test]
    fn limits_are_those_of_the_strictest_store() {
        let many =
            (0..=Transaction::KEY_LIMIT).fold(Transaction::new(), |t, n| t.delete(key(&n.to_string())));
        assert!(matches!(many.check(), Err(Error::TooLarge { keys: 129, bytes: 0 })));
        let large = Transaction::new().put(key("a"), vec![0; 1 << 20]);
        assert!(large.check().is_ok());
        assert!(matches!(large.put(key("b"), [0]).check(), Err(Error::TooLarge { keys: 2, .. })));
    }

    #[test]
    fn the_last_word_on_a_key_holds() {
        let transaction = Transaction::new().put(key("a"), "1").delete(key("a"));
        assert_eq!(transaction.writes, BTreeMap::from([(key("a"), Write::Delete)]));
    }
}
