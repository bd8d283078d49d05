//! What an ADD wants of each range set, and leasing all of it or nothing.

use std::collections::BTreeSet;
use std::net::IpAddr;

use zeugma_model::AttachmentId;

use super::Error;
use super::config::Config;
use crate::alloc::{Candidate, RangeSet, assigned};
use crate::store::{Locked, Owner, Store};

/// One address of one range set.
pub(super) struct Wanted<'a> {
    set: usize,
    ranges: &'a RangeSet,
    /// This one; none: the next free one.
    requested: Option<Candidate>,
}

/// An address of each range set, the requested ones where they lie. Pure.
pub(super) fn wanted(config: &Config) -> Result<Vec<Wanted<'_>>, Error> {
    let requested = assigned(&config.sets, &config.requested).map_err(Error::NotInRanges)?;
    let sets = config.sets.iter().enumerate().zip(requested);
    sets.map(|((set, ranges), address)| {
        let requested = address.and_then(|address| ranges.candidate(address));
        match requested.filter(|candidate| candidate.address.ip() == candidate.gateway) {
            Some(candidate) => Err(Error::Gateway(candidate.gateway)),
            None => Ok(Wanted { set, ranges, requested }),
        }
    })
    .collect()
}

impl Wanted<'_> {
    fn lease(&self, leases: &mut Locked, owner: &Owner) -> Result<Candidate, Error> {
        let leased = match self.requested {
            Some(candidate) => leases.reserve(owner, candidate.address.ip(), self.set)?.then_some(candidate),
            None => leases.allocate(owner, self.ranges, self.set)?,
        };
        leased.ok_or_else(|| self.unavailable(leases.store()))
    }

    /// What an ADD would lease when these are taken.
    pub(super) fn peek(&self, store: &Store, taken: &BTreeSet<IpAddr>) -> Result<Candidate, Error> {
        let is_taken = |address| taken.contains(&address);
        let next = match self.requested {
            Some(candidate) => Some(candidate).filter(|candidate| !is_taken(candidate.address.ip())),
            None => self.ranges.first_free(store.last_reserved(self.set), is_taken),
        };
        next.ok_or_else(|| self.unavailable(store))
    }

    fn unavailable(&self, store: &Store) -> Error {
        let (set, ranges, directory) = (self.set, self.ranges.to_string(), store.directory().to_path_buf());
        match self.requested.map(|candidate| candidate.address.ip()) {
            Some(address) => Error::Taken { address, ranges, lease: directory.join(address.to_string()) },
            None => Error::Exhausted { set, ranges, directory },
        }
    }
}

/// Leases all that is wanted; when one fails, what was leased before it is released again.
pub(super) fn lease_all(
    leases: &mut Locked,
    attachment: &AttachmentId,
    wanted: &[Wanted],
) -> Result<Vec<Candidate>, Error> {
    let owner = Owner::from(attachment);
    let mut has = refuse_duplicate(leases, &owner, attachment, wanted)?;
    let mut given: Vec<Candidate> = Vec::new();
    for wanted in wanted {
        match wanted.lease(leases, &owner) {
            Ok(candidate) => given.push(candidate),
            Err(error) => {
                let given: Vec<IpAddr> = given.iter().map(|candidate| candidate.address.ip()).collect();
                return Err(leases.release(&given).err().map_or(error, Error::from));
            }
        }
    }
    has.extend(given.iter().map(|candidate| candidate.address.ip()));
    leases.note(&owner, &has);
    Ok(given)
}

/// The addresses that the attachment has outside of the wanted range sets; inside of them it may have none.
fn refuse_duplicate(
    leases: &mut Locked,
    owner: &Owner,
    attachment: &AttachmentId,
    wanted: &[Wanted],
) -> Result<Vec<IpAddr>, Error> {
    let has = leases.leases_of(owner)?;
    let of_old_format = leases.leases_of(&owner.without_ifname())?;
    let inside = |address: &&IpAddr| wanted.iter().any(|wanted| wanted.ranges.range_for(**address).is_some());
    match has.iter().chain(&of_old_format).find(inside) {
        Some(&address) => Err(Error::Duplicate { address, attachment: attachment.to_string() }),
        None => Ok(has),
    }
}

/// The attachment's leases and the owner that they name: files in the old format count when there are no others.
pub(super) fn holdings(
    leases: &mut Locked,
    attachment: &AttachmentId,
) -> Result<(Owner, Vec<IpAddr>), Error> {
    let owner = Owner::from(attachment);
    let has = leases.leases_of(&owner)?;
    if !has.is_empty() {
        return Ok((owner, has));
    }
    let old = owner.without_ifname();
    let has = leases.leases_of(&old)?;
    Ok((old, has))
}
