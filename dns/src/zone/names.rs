//! From names to who has them: a persistent map made for being read.
//!
//! A question ends in memory that nobody looked at for long; so the way there is short: two tables of pointers, which
//! stay in the cache, a bucket, an entry. A change copies one path of that.

use std::array::from_fn;
use std::hash::{DefaultHasher, Hasher};
use std::sync::Arc;

use super::network::Entry;

/// Pointers in a table; with two of them, a bucket holds a name or two of ten thousand, and a dozen of 200,000.
const FAN: usize = 128;
const BITS: u32 = FAN.trailing_zeros();

/// The map. A clone shares everything.
#[derive(Clone)]
pub(super) struct Names {
    root: Arc<Table<Arc<Table<Bucket>>>>,
}

type Bucket = Arc<[Slot]>;

#[derive(Clone)]
struct Slot {
    hash: u64,
    entry: Arc<Entry>,
}

/// Pointers that may be missing.
#[derive(Clone)]
struct Table<T>([Option<T>; FAN]);

impl Default for Names {
    fn default() -> Self {
        Self { root: Arc::new(Table(from_fn(|_| None))) }
    }
}

impl Names {
    /// `name` is in lower case on the wire.
    pub(super) fn get(&self, name: &[u8]) -> Option<&Entry> {
        let hash = hash(name);
        let [first, second] = places(hash);
        let bucket = self.root.0[first].as_ref()?.0[second].as_ref()?;
        let slot = bucket.iter().find(|slot| slot.hash == hash && slot.entry.name[..] == *name)?;
        Some(&slot.entry)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Entry> {
        let tables = self.root.0.iter().flatten();
        tables
            .flat_map(|table| table.0.iter().flatten())
            .flat_map(|bucket| bucket.iter())
            .map(|slot| &*slot.entry)
    }

    /// Puts the entry in the place of the one of the same name.
    pub(super) fn insert(&mut self, entry: Entry) {
        let hash = hash(&entry.name);
        let bucket = self.bucket(hash);
        let others =
            bucket.iter().flat_map(|slots| slots.iter()).filter(|slot| slot.entry.name != entry.name);
        let others: Vec<_> = others.cloned().collect();
        *bucket = Some(others.into_iter().chain([Slot { hash, entry: Arc::new(entry) }]).collect());
    }

    pub(super) fn remove(&mut self, name: &[u8]) {
        let bucket = self.bucket(hash(name));
        let others = bucket.iter().flat_map(|slots| slots.iter()).filter(|slot| slot.entry.name[..] != *name);
        let others: Bucket = others.cloned().collect();
        *bucket = (!others.is_empty()).then_some(others);
    }

    /// The bucket to be changed; what leads there is nobody else's afterwards.
    fn bucket(&mut self, hash: u64) -> &mut Option<Bucket> {
        let [first, second] = places(hash);
        let table =
            Arc::make_mut(&mut self.root).0[first].get_or_insert_with(|| Arc::new(Table(from_fn(|_| None))));
        &mut Arc::make_mut(table).0[second]
    }
}

/// SipHash with a known key: who chooses names could, by much computing, make some share a bucket, and would slow down
/// those alone.
fn hash(name: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(name);
    hasher.finish()
}

fn places(hash: u64) -> [usize; 2] {
    let first = hash >> (u64::BITS - BITS);
    let second = hash >> (u64::BITS - 2 * BITS);
    [first as usize, second as usize % FAN]
}
