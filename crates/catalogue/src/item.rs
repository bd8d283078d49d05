//! What comes out of a store: values with their revisions, and what changed. No types of the domain here.

use std::fmt;

use crate::{Key, Kind};

/// The number of a change. A store counts its transactions; all that one transaction wrote has the same revision.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Revision(pub u64);

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Names a lease of one store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LeaseId(pub u64);

impl fmt::Display for LeaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// A stored value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// Where it is stored.
    pub key: Key,
    /// What is stored.
    pub value: Vec<u8>,
    /// When it was last written.
    pub revision: Revision,
    /// The lease it vanishes with.
    pub lease: Option<LeaseId>,
}

/// All values of a kind at one moment, by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listing {
    /// Sorted by key.
    pub items: Vec<Item>,
    /// The moment: a watch after this revision tells what happened since.
    pub revision: Revision,
    /// Whether it is what was known before this process began, as the store does not answer.
    pub is_recalled: bool,
}

/// A key was written or deleted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// It has this value now.
    Put(Item),
    /// It is gone, by a transaction or with its lease.
    Delete {
        /// What is gone.
        key: Key,
        /// When it went.
        revision: Revision,
    },
}

impl Change {
    /// What was written or deleted.
    pub fn key(&self) -> &Key {
        match self {
            Change::Put(item) => &item.key,
            Change::Delete { key, .. } => key,
        }
    }

    /// When.
    pub fn revision(&self) -> Revision {
        match self {
            Change::Put(item) => item.revision,
            Change::Delete { revision, .. } => *revision,
        }
    }

    /// The kind of its key.
    pub fn kind(&self) -> Kind {
        self.key().kind()
    }
}

/// What a watch says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// Changes in the order in which they happened. Never empty, and a transaction is never in two notices.
    Changes(Vec<Change>),
    /// The store no longer has the history that this watch needs, or has another one: list again, and watch after that
    /// listing.
    /// Nothing comes after it.
    Compacted,
}
