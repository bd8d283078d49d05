//! The leases while this process holds their lock: the only place that changes them.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::index::{Stamp, ignore_missing};
use super::{Owner, Store, StoreError, boot, lease, scan};
use crate::alloc::{Candidate, RangeSet};

/// So many candidates in a row may be taken before one listing of the directory is cheaper.
const PROBES: usize = 32;

/// What is known about who has what.
#[derive(Debug)]
enum Known {
    /// The index describes the directory.
    Indexed,
    /// All leases were read.
    Scanned(BTreeMap<IpAddr, Owner>),
}

/// See the module. Dropping it unlocks; [`Locked::finish`] keeps the index trusted.
#[derive(Debug)]
pub(crate) struct Locked {
    store: Store,
    known: Known,
    /// Names of range sets that are known to be exhausted.
    full: Vec<String>,
    /// The directory or the stamp has to be written again.
    changed: bool,
    /// The index says all that the leases say.
    indexed: bool,
    directory: File,
    _lock: File,
}

impl Locked {
    pub(super) fn new(store: Store, lock: File) -> Result<Self, StoreError> {
        let directory = File::open(&store.directory).map_err(StoreError::io("open", &store.directory))?;
        let metadata = directory.metadata().map_err(StoreError::io("stat", &store.directory))?;
        let stamp = store.index.stamp();
        let first = stamp.is_none();
        let trusted = stamp.filter(|stamp| stamp.describes(&metadata));
        let (known, indexed) = (Known::Indexed, trusted.is_some());
        let full = trusted.map(|stamp| stamp.full).unwrap_or_default();
        let mut locked = Self { store, known, full, changed: !indexed, indexed, directory, _lock: lock };
        if !indexed {
            locked.rebuild(first)?;
        }
        Ok(locked)
    }

    /// Where the leases are.
    pub(crate) fn store(&self) -> &Store {
        &self.store
    }

    /// Reads every lease and makes the index agree; `first` in a boot it drops the leases of earlier ones.
    fn rebuild(&mut self, first: bool) -> Result<(), StoreError> {
        let earlier = boot::earlier_boot_ended().filter(|_| first);
        let earlier = earlier.map(|ended| scan::Earlier { ended, attachments: &self.store.attachments });
        let leases = scan::leases(&self.store.directory, earlier.as_ref())?;
        self.indexed = self.store.index.reconcile(&leases).is_ok();
        self.known = Known::Scanned(leases);
        self.changed = true;
        self.full.clear();
        Ok(())
    }

    /// The addresses of exactly this owner.
    pub(crate) fn leases_of(&mut self, owner: &Owner) -> Result<Vec<IpAddr>, StoreError> {
        if let Known::Indexed = self.known {
            let hints = self.store.index.get(owner).unwrap_or_default();
            if self.all_belong(&hints, owner)? {
                return Ok(hints);
            }
            self.rebuild(false)?;
        }
        match &self.known {
            Known::Indexed => Ok(Vec::new()),
            Known::Scanned(leases) => {
                Ok(leases.iter().filter(|(_, has)| *has == owner).map(|(address, _)| *address).collect())
            }
        }
    }

    fn all_belong(&self, addresses: &[IpAddr], owner: &Owner) -> Result<bool, StoreError> {
        for &address in addresses {
            let path = self.store.lease_path(address);
            let has = scan::owner(&path).map_err(StoreError::io("read", &path))?;
            if has.as_ref() != Some(owner) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Every lease with its owner.
    pub(crate) fn all(&self) -> Result<BTreeMap<IpAddr, Owner>, StoreError> {
        match &self.known {
            Known::Indexed => scan::leases(&self.store.directory, None),
            Known::Scanned(leases) => Ok(leases.clone()),
        }
    }

    /// Leases `address` to `owner`; false when somebody has it. The round robin of range set `set` goes on after it.
    pub(crate) fn reserve(&mut self, owner: &Owner, address: IpAddr, set: usize) -> Result<bool, StoreError> {
        let path = self.store.lease_path(address);
        let created = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
        let mut file = match created {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => return Ok(false),
            other => other.map_err(StoreError::io("create", &path))?,
        };
        self.changed = true;
        if let Err(source) = file.write_all(owner.render().as_bytes()) {
            self.remove_file(&path)?;
            return Err(StoreError::io("write", &path)(source));
        }
        if let Known::Scanned(leases) = &mut self.known {
            leases.insert(address, owner.clone());
        }
        self.put_last_reserved(address, set);
        Ok(true)
    }

    /// Only where the next search begins: without it nothing is wrong, so its errors are not the caller's.
    fn put_last_reserved(&self, address: IpAddr, set: usize) {
        let _ = overwrite(&self.store.last_reserved_path(set), &address.to_string());
    }

    /// Leases the next free address of `ranges` to `owner`; none when they are exhausted.
    pub(crate) fn allocate(
        &mut self,
        owner: &Owner,
        ranges: &RangeSet,
        set: usize,
    ) -> Result<Option<Candidate>, StoreError> {
        if self.full.contains(&full_name(ranges)) {
            return Ok(None);
        }
        let last = self.store.last_reserved(set);
        for candidate in ranges.candidates(last).take(PROBES) {
            if self.reserve(owner, candidate.address.ip(), set)? {
                return Ok(Some(candidate));
            }
        }
        let taken = self.store.taken()?;
        match ranges.first_free(last, |address| taken.contains(&address)) {
            Some(candidate) if self.reserve(owner, candidate.address.ip(), set)? => Ok(Some(candidate)),
            Some(_) | None => {
                self.full.push(full_name(ranges));
                self.changed = true;
                Ok(None)
            }
        }
    }

    /// Removes these leases; what is gone is gone.
    pub(crate) fn release(&mut self, addresses: &[IpAddr]) -> Result<(), StoreError> {
        for &address in addresses {
            let path = self.store.lease_path(address);
            self.changed = true;
            self.full.clear();
            self.remove_file(&path)?;
            if let Known::Scanned(leases) = &mut self.known {
                leases.remove(&address);
            }
        }
        Ok(())
    }

    /// What cannot be removed stays a lease that the index may not know: it is not trusted any more.
    fn remove_file(&mut self, path: &Path) -> Result<(), StoreError> {
        let removed = ignore_missing(fs::remove_file(path));
        self.indexed &= removed.is_ok();
        removed.map_err(StoreError::io("remove", path))
    }

    /// Tells the index what `owner` has now. When that fails the index is not trusted any more, nothing else.
    pub(crate) fn note(&mut self, owner: &Owner, addresses: &[IpAddr]) {
        self.indexed &= self.store.index.put(owner, addresses).is_ok();
    }

    /// Unlocks, after making the index trusted again: sets the directory's time, then the stamp to it. A file
    /// system that keeps the time less exactly gets no stamp, since it could hide another program's change.
    pub(crate) fn finish(self) {
        let now = odd_now();
        if !self.changed || !self.indexed || self.directory.set_modified(now).is_err() {
            return;
        }
        if let Ok(metadata) = self.directory.metadata()
            && metadata.modified().is_ok_and(|kept| kept == now)
        {
            let _ = self.store.index.put_stamp(&Stamp::new(&metadata, self.full));
        }
    }
}

/// Now, with an odd number of nanoseconds.
fn odd_now() -> SystemTime {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    UNIX_EPOCH + Duration::new(now.as_secs(), now.subsec_nanos() | 1)
}

/// Truncates only when the text got shorter: ext4 starts to write a file to the disk that was emptied and
/// written again, which takes longer than all the rest.
fn overwrite(path: &Path, text: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())?;
    let length = text.len() as u64;
    if file.metadata()?.len() == length { Ok(()) } else { file.set_len(length) }
}

/// How the stamp calls a range set.
fn full_name(ranges: &RangeSet) -> String {
    lease::hash(&format!("{ranges:?}")).chars().take(16).collect()
}
