//! The database file: its tables, and what a transaction does to them. Synchronous, and knows no clock: leases are
//! here by name, `deadlines.rs` knows when they end.
//!
//! Everything that belongs to one transaction of the catalogue is written in one transaction of redb, history and
//! revision included, so a crash leaves all of it or nothing.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use redb::{
    Database, ReadableDatabase, ReadableTable, ReadableTableMetadata, Table, TableDefinition,
    WriteTransaction,
};

use super::file;
use crate::transaction::Write;
use crate::{Change, Error, Item, Key, Kind, LeaseId, Listing, Outcome, Revision, Transaction};

/// Kind and name.
type Id = (&'static str, &'static str);
/// Revision, lease (0: none) and the value.
type Stored = (u64, u64, &'static [u8]);
/// Kind, name, lease and value; without value: deleted.
type Past = (&'static str, &'static str, u64, Option<&'static [u8]>);

/// What is now.
const ITEMS: TableDefinition<Id, Stored> = TableDefinition::new("items");
/// What changed, by revision and place within the transaction.
const HISTORY: TableDefinition<(u64, u32), Past> = TableDefinition::new("history");
/// Time to live of each lease, in milliseconds.
const LEASES: TableDefinition<u64, u64> = TableDefinition::new("leases");
/// The keys that vanish with a lease.
const LEASED: TableDefinition<(u64, &str, &str), ()> = TableDefinition::new("leased");
/// Single numbers; the constants below name them.
const NUMBERS: TableDefinition<&str, u64> = TableDefinition::new("numbers");

/// The layout of these tables.
const FORMAT: &str = "format";
/// The last revision.
const REVISION: &str = "revision";
/// The last revision that is no longer in the history.
const COMPACTED: &str = "compacted";
/// The lease that was granted last: numbers are not used again, so a late keep-alive cannot hit another's lease.
const LEASE: &str = "lease";

/// The format that this code writes and the only one so far.
const CURRENT_FORMAT: u64 = 1;
/// Changes of one [`Ledger::history`] at least, if there are as many; the rest of their transaction comes with them.
const PORTION: usize = 512;

/// What happened after some revision.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum History {
    /// Changes of the kinds asked for, up to and including `upto`; later ones may follow.
    Changes { changes: Vec<Change>, upto: Revision },
    /// Part of it is no longer known.
    Compacted,
}

/// The catalogue's tables.
#[derive(Debug)]
pub(super) struct Ledger {
    database: Database,
    path: PathBuf,
    /// Changes that the history keeps.
    kept: u64,
}

impl Ledger {
    /// Opens the file at `path`, or makes it.
    pub(super) fn open(path: &Path, kept: u64) -> Result<Ledger, Error> {
        let database = file::open(path, prepare)?;
        let ledger = Ledger { database, path: path.to_owned(), kept };
        ledger.check_format()?;
        Ok(ledger)
    }

    /// A ledger in another place than a file, for tests that break it.
    #[cfg(test)]
    pub(super) fn in_backend(backend: impl redb::StorageBackend, kept: u64) -> Result<Ledger, redb::Error> {
        let database = Database::builder().create_with_backend(backend)?;
        prepare(&database)?;
        Ok(Ledger { database, path: "test".into(), kept })
    }

    fn check_format(&self) -> Result<(), Error> {
        let found = self.read("open", |tx| {
            let numbers = tx.open_table(NUMBERS)?;
            Ok(numbers.get(FORMAT)?.map_or(0, |number| number.value()))
        })?;
        if found != CURRENT_FORMAT {
            return Err(Error::Format { path: self.path.clone(), found, known: CURRENT_FORMAT });
        }
        Ok(())
    }

    /// The last revision.
    pub(super) fn revision(&self) -> Result<Revision, Error> {
        self.read("read", |tx| Ok(Revision(number(&tx.open_table(NUMBERS)?, REVISION)?)))
    }

    /// The value of `key`.
    pub(super) fn get(&self, key: &Key) -> Result<Option<Item>, Error> {
        self.read("read", |tx| {
            let items = tx.open_table(ITEMS)?;
            let found = items.get((key.kind().as_str(), key.name()))?;
            Ok(found.map(|stored| item(key.clone(), stored.value())))
        })
    }

    /// The values of `kind` whose names begin with `prefix`.
    pub(super) fn list(&self, kind: Kind, prefix: &str) -> Result<Listing, Error> {
        self.read("list", |tx| {
            let revision = Revision(number(&tx.open_table(NUMBERS)?, REVISION)?);
            let (table, mut items) = (tx.open_table(ITEMS)?, Vec::new());
            for entry in table.range((kind.as_str(), prefix)..)? {
                let (id, stored) = entry?;
                let (word, name) = id.value();
                if word != kind.as_str() || !name.starts_with(prefix) {
                    break;
                }
                items.extend(Key::new(kind, name).ok().map(|key| item(key, stored.value())));
            }
            Ok(Listing { items, revision, is_recalled: false })
        })
    }

    /// A portion of what happened to `kinds` after `after`.
    pub(super) fn history(&self, kinds: &[Kind], after: Revision) -> Result<History, Error> {
        self.read("read the history of", |tx| {
            let numbers = tx.open_table(NUMBERS)?;
            if after.0 < number(&numbers, COMPACTED)? {
                return Ok(History::Compacted);
            }
            let (mut changes, mut upto) = (Vec::new(), Revision(number(&numbers, REVISION)?));
            for entry in tx.open_table(HISTORY)?.range((after.0 + 1, 0)..)? {
                let (place, past) = entry?;
                let revision = Revision(place.value().0);
                // A transaction is told as a whole: only between two may a portion end.
                if changes.len() >= PORTION && changes.last().map(Change::revision) != Some(revision) {
                    upto = Revision(revision.0 - 1);
                    break;
                }
                changes
                    .extend(change(revision, past.value()).filter(|change| kinds.contains(&change.kind())));
            }
            Ok(History::Changes { changes, upto })
        })
    }

    /// Does a transaction. `is_live` says whether a lease still holds.
    pub(super) fn commit(
        &self,
        transaction: Transaction,
        is_live: impl Fn(LeaseId) -> bool,
    ) -> Result<Outcome, Error> {
        let leases = transaction.writes.values().filter_map(Write::lease);
        if let Some(lease) = leases.into_iter().find(|lease| !is_live(*lease)) {
            return Err(Error::LeaseEnded { lease });
        }
        self.write("write", |tx| {
            if let Some(conflict) = conflict(tx, &transaction)? {
                return Ok(conflict);
            }
            Ok(Outcome::Committed(self.apply(tx, transaction.writes)?))
        })
    }

    /// A new lease.
    pub(super) fn grant(&self, ttl: Duration) -> Result<LeaseId, Error> {
        self.write("grant a lease in", |tx| {
            let lease = increment(tx, LEASE)?;
            let milliseconds = u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX);
            tx.open_table(LEASES)?.insert(lease, milliseconds)?;
            Ok(LeaseId(lease))
        })
    }

    /// Every lease with its time to live.
    pub(super) fn leases(&self) -> Result<Vec<(LeaseId, Duration)>, Error> {
        self.read("read the leases of", |tx| {
            let mut leases = Vec::new();
            for entry in tx.open_table(LEASES)?.iter()? {
                let (lease, ttl) = entry?;
                leases.push((LeaseId(lease.value()), Duration::from_millis(ttl.value())));
            }
            Ok(leases)
        })
    }

    /// Ends a lease and deletes its keys.
    pub(super) fn revoke(&self, lease: LeaseId) -> Result<Revision, Error> {
        self.write("end a lease in", |tx| {
            tx.open_table(LEASES)?.remove(lease.0)?;
            let writes = leased(tx, lease)?.into_iter().map(|key| (key, Write::Delete)).collect();
            self.apply(tx, writes)
        })
    }

    /// Writes values, history and revision. What changes nothing gets no revision.
    fn apply(&self, tx: &WriteTransaction, writes: BTreeMap<Key, Write>) -> Result<Revision, redb::Error> {
        let mut items = tx.open_table(ITEMS)?;
        let mut effective = Vec::new();
        for (key, write) in writes {
            let is_there = items.get((key.kind().as_str(), key.name()))?.is_some();
            if is_there || write != Write::Delete {
                effective.push((key, write));
            }
        }
        if effective.is_empty() {
            return Ok(Revision(number(&tx.open_table(NUMBERS)?, REVISION)?));
        }
        let revision = increment(tx, REVISION)?;
        let (mut history, mut leased) = (tx.open_table(HISTORY)?, tx.open_table(LEASED)?);
        for (index, (key, write)) in (0..).zip(&effective) {
            let (kind, name) = (key.kind().as_str(), key.name());
            let before = replace(&mut items, key, write, revision)?;
            if let Some(before) = before {
                leased.remove((before.0, kind, name))?;
            }
            if let Some(lease) = write.lease() {
                leased.insert((lease.0, kind, name), ())?;
            }
            let lease = write.lease().map_or(0, |lease| lease.0);
            history.insert((revision, index), (kind, name, lease, write.value()))?;
        }
        trim(tx, &mut history, self.kept)?;
        Ok(Revision(revision))
    }

    fn read<T>(
        &self,
        doing: &'static str,
        read: impl FnOnce(&redb::ReadTransaction) -> Result<T, redb::Error>,
    ) -> Result<T, Error> {
        let run = || read(&self.database.begin_read()?);
        run().map_err(|source| file::failure(doing, &self.path, source))
    }

    /// What `write` did is on disk when this returns; when it fails nothing of it is.
    fn write<T>(
        &self,
        doing: &'static str,
        write: impl FnOnce(&WriteTransaction) -> Result<T, redb::Error>,
    ) -> Result<T, Error> {
        let run = || {
            let tx = self.database.begin_write()?;
            let done = write(&tx)?;
            tx.commit()?;
            Ok(done)
        };
        run().map_err(|source| file::failure(doing, &self.path, source))
    }
}

/// The tables of a new file.
fn prepare(database: &Database) -> Result<(), redb::Error> {
    let tx = database.begin_write()?;
    if tx.open_table(NUMBERS)?.get(FORMAT)?.is_none() {
        tx.open_table(NUMBERS)?.insert(FORMAT, CURRENT_FORMAT)?;
    }
    tx.open_table(ITEMS)?;
    tx.open_table(HISTORY)?;
    tx.open_table(LEASES)?;
    tx.open_table(LEASED)?;
    Ok(tx.commit()?)
}

/// The first condition that does not hold.
fn conflict(tx: &WriteTransaction, transaction: &Transaction) -> Result<Option<Outcome>, redb::Error> {
    let items = tx.open_table(ITEMS)?;
    for (key, expected) in &transaction.expected {
        let stored = items.get((key.kind().as_str(), key.name()))?;
        let found = stored.map(|stored| Revision(stored.value().0));
        if !expected.holds(found) {
            return Ok(Some(Outcome::Conflict { key: key.clone(), found }));
        }
    }
    Ok(None)
}

/// Writes or deletes one value; returns the lease of the one before.
fn replace(
    items: &mut Table<'_, Id, Stored>,
    key: &Key,
    write: &Write,
    revision: u64,
) -> Result<Option<LeaseId>, redb::Error> {
    let id = (key.kind().as_str(), key.name());
    let lease = write.lease().map_or(0, |lease| lease.0);
    let before = match write {
        Write::Put { value, .. } => items.insert(id, (revision, lease, value.as_slice()))?,
        Write::Delete => items.remove(id)?,
    };
    Ok(before.and_then(|stored| lease_of(stored.value().1)))
}

/// Forgets the oldest transactions until at most `kept` changes are left.
fn trim(
    tx: &WriteTransaction,
    history: &mut Table<'_, (u64, u32), Past>,
    kept: u64,
) -> Result<(), redb::Error> {
    let mut last = None;
    while let Some(revision) = oldest(history)? {
        // The rest of a transaction goes with its beginning.
        if history.len()? <= kept && last != Some(revision) {
            break;
        }
        history.pop_first()?;
        last = Some(revision);
    }
    if let Some(revision) = last {
        tx.open_table(NUMBERS)?.insert(COMPACTED, revision)?;
    }
    Ok(())
}

fn oldest(history: &Table<'_, (u64, u32), Past>) -> Result<Option<u64>, redb::Error> {
    let first = history.first()?;
    Ok(first.map(|(place, _)| place.value().0))
}

fn leased(tx: &WriteTransaction, lease: LeaseId) -> Result<Vec<Key>, redb::Error> {
    let (table, mut keys) = (tx.open_table(LEASED)?, Vec::new());
    for entry in table.range((lease.0, "", "")..(lease.0 + 1, "", ""))? {
        let (id, ()) = entry.map(|(id, _)| (id, ()))?;
        let (_, kind, name) = id.value();
        keys.extend(key_of(kind, name));
    }
    Ok(keys)
}

fn increment(tx: &WriteTransaction, name: &str) -> Result<u64, redb::Error> {
    let mut numbers = tx.open_table(NUMBERS)?;
    let next = number(&numbers, name)? + 1;
    numbers.insert(name, next)?;
    Ok(next)
}

fn number(numbers: &impl ReadableTable<&'static str, u64>, name: &str) -> Result<u64, redb::Error> {
    Ok(numbers.get(name)?.map_or(0, |number| number.value()))
}

fn item(key: Key, (revision, lease, value): (u64, u64, &[u8])) -> Item {
    Item { key, value: value.to_vec(), revision: Revision(revision), lease: lease_of(lease) }
}

fn change(
    revision: Revision,
    (kind, name, lease, value): (&str, &str, u64, Option<&[u8]>),
) -> Option<Change> {
    let key = key_of(kind, name)?;
    Some(match value {
        Some(value) => Change::Put(item(key, (revision.0, lease, value))),
        None => Change::Delete { key, revision },
    })
}

/// `None` for a kind that only a later zeugma knows.
fn key_of(kind: &str, name: &str) -> Option<Key> {
    Key::new(Kind::parse(kind)?, name).ok()
}

fn lease_of(number: u64) -> Option<LeaseId> {
    (number != 0).then_some(LeaseId(number))
}
