//! Reading the whole lease directory: the slow path, after another program's change, a crash or a boot.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, ErrorKind, Read};
use std::net::IpAddr;
use std::path::Path;
use std::time::SystemTime;

use super::StoreError;
use super::index::ignore_missing;
use super::lease::{Owner, address_of_file};

#[cfg(test)]
thread_local! {
    /// Listings of a lease directory by this thread: what the fast path never does.
    pub(super) static LISTINGS: std::cell::Cell<u32> = const { std::cell::Cell::new(0) };
}

/// The addresses that have a lease; a missing directory has none.
pub(super) fn addresses(directory: &Path) -> Result<BTreeSet<IpAddr>, StoreError> {
    #[cfg(test)]
    LISTINGS.set(LISTINGS.get() + 1);
    let listing = match fs::read_dir(directory) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(BTreeSet::new()),
        other => other.map_err(StoreError::io("list", directory))?,
    };
    let mut addresses = BTreeSet::new();
    for entry in listing {
        let name = entry.map_err(StoreError::io("list", directory))?.file_name();
        addresses.extend(name.to_str().and_then(address_of_file));
    }
    Ok(addresses)
}

/// A lease as it was found.
struct Found {
    owner: Option<Owner>,
    changed: Option<SystemTime>,
}

/// Which leases of an earlier boot to remove.
pub(super) struct Earlier<'a> {
    /// Leases changed before this are of an earlier boot.
    pub(super) ended: SystemTime,
    /// The journal's folder: an attachment in it is of this boot after all.
    pub(super) attachments: &'a Path,
}

impl Earlier<'_> {
    fn reclaims(&self, found: &Found) -> bool {
        let old = found.changed.is_some_and(|changed| changed < self.ended);
        old && !found.owner.as_ref().is_some_and(|owner| {
            let container = self.attachments.join(&owner.container);
            owner.ifname.as_ref().map_or(container.clone(), |ifname| container.join(ifname)).exists()
        })
    }
}

/// Every lease with its owner. Removes blank ones (of a writer that was killed: it held the lock that we hold
/// now) and, with `earlier`, those of an earlier boot.
pub(super) fn leases(
    directory: &Path,
    earlier: Option<&Earlier>,
) -> Result<BTreeMap<IpAddr, Owner>, StoreError> {
    let mut leases = BTreeMap::new();
    for address in addresses(directory)? {
        let path = directory.join(address.to_string());
        let Some(found) = read(&path).map_err(StoreError::io("read", &path))? else {
            continue;
        };
        match found.owner.clone().filter(|_| !earlier.is_some_and(|earlier| earlier.reclaims(&found))) {
            Some(owner) => drop(leases.insert(address, owner)),
            None => ignore_missing(fs::remove_file(&path)).map_err(StoreError::io("remove", &path))?,
        }
    }
    Ok(leases)
}

fn read(path: &Path) -> io::Result<Option<Found>> {
    let mut file = match File::open(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        other => other?,
    };
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    let changed = file.metadata().and_then(|metadata| metadata.modified()).ok();
    Ok(Some(Found { owner: Owner::parse(&bytes), changed }))
}

/// Who has this address.
pub(super) fn owner(path: &Path) -> io::Result<Option<Owner>> {
    match fs::read(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        other => Ok(Owner::parse(&other?)),
    }
}
