//! The index beside the lease directory: which addresses an attachment has, without reading every lease.
//!
//! Entries are symbolic links `containerID:ifname -> 10.0.0.5,fd00::5`: made, replaced and read by one system
//! call each, never half written, readable with `ls -l`. They are hints: leases are the truth, and the stamp
//! says whether the hints are complete.

use std::collections::BTreeMap;
use std::fs::{self, Metadata};
use std::io::{self, ErrorKind};
use std::net::IpAddr;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::PathBuf;

use super::lease::Owner;

/// The state of the lease directory that the index describes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Stamp {
    /// Its device, inode and modification time in seconds and nanoseconds.
    directory: (u64, u64, i64, i64),
    /// Names of range sets that were found exhausted since the last release.
    pub(super) full: Vec<String>,
}

impl Stamp {
    pub(super) fn new(directory: &Metadata, full: Vec<String>) -> Self {
        let directory = (directory.dev(), directory.ino(), directory.mtime(), directory.mtime_nsec());
        Self { directory, full }
    }

    /// Nobody has added or removed a lease since the stamp was made.
    pub(super) fn describes(&self, directory: &Metadata) -> bool {
        self.directory == Self::new(directory, Vec::new()).directory
    }

    fn render(&self) -> String {
        let (device, inode, seconds, nanoseconds) = self.directory;
        format!("{device} {inode} {seconds} {nanoseconds} {}", self.full.join(" "))
    }

    fn parse(text: &str) -> Option<Self> {
        let mut words = text.split_whitespace();
        let device = words.next()?.parse().ok()?;
        let inode = words.next()?.parse().ok()?;
        let seconds = words.next()?.parse().ok()?;
        let nanoseconds = words.next()?.parse().ok()?;
        let full = words.map(str::to_string).collect();
        Some(Self { directory: (device, inode, seconds, nanoseconds), full })
    }
}

/// The index of one lease directory.
#[derive(Debug, Clone)]
pub(super) struct Index {
    pub(super) directory: PathBuf,
}

impl Index {
    /// None before the first operation of a boot.
    pub(super) fn stamp(&self) -> Option<Stamp> {
        Stamp::parse(fs::read_link(self.directory.join("stamp")).ok()?.to_str()?)
    }

    pub(super) fn put_stamp(&self, stamp: &Stamp) -> io::Result<()> {
        let new = self.directory.join("stamp.new");
        replace_link(&stamp.render(), &new)?;
        fs::rename(new, self.directory.join("stamp"))
    }

    /// The addresses of an owner; none when it has no entry.
    pub(super) fn get(&self, owner: &Owner) -> Option<Vec<IpAddr>> {
        let text = fs::read_link(self.directory.join(owner.entry_name())).ok()?;
        parse_addresses(text.to_str()?)
    }

    /// Makes `addresses` the owner's; empty removes its entry.
    pub(super) fn put(&self, owner: &Owner, addresses: &[IpAddr]) -> io::Result<()> {
        let path = self.directory.join(owner.entry_name());
        match addresses {
            [] => ignore_missing(fs::remove_file(path)),
            _ => replace_link(&render_addresses(addresses), &path),
        }
    }

    /// Makes the entries say what `leases` say. Most of them usually do already, when the reference's binary
    /// ran in between: those are only read.
    pub(super) fn reconcile(&self, leases: &BTreeMap<IpAddr, Owner>) -> io::Result<()> {
        fs::create_dir_all(&self.directory)?;
        let mut wanted: BTreeMap<String, Vec<IpAddr>> = BTreeMap::new();
        for (address, owner) in leases {
            wanted.entry(owner.entry_name()).or_default().push(*address);
        }
        for entry in fs::read_dir(&self.directory)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let is = fs::read_link(entry.path()).ok();
            match wanted.get(&name).map(|addresses| render_addresses(addresses)) {
                Some(text) if is.is_some_and(|is| is.as_os_str() == text.as_str()) => {
                    drop(wanted.remove(&name))
                }
                None if name == "stamp" => {}
                _ => ignore_missing(fs::remove_file(entry.path()))?,
            }
        }
        wanted
            .iter()
            .try_for_each(|(name, list)| replace_link(&render_addresses(list), &self.directory.join(name)))
    }
}

fn parse_addresses(text: &str) -> Option<Vec<IpAddr>> {
    text.split(',').map(|address| address.parse().ok()).collect()
}

pub(super) fn fuzz(text: &str) {
    if let Some(stamp) = Stamp::parse(text) {
        assert_eq!(Stamp::parse(&stamp.render()), Some(stamp));
    }
    if let Some(addresses) = parse_addresses(text) {
        assert_eq!(parse_addresses(&render_addresses(&addresses)), Some(addresses));
    }
}

fn render_addresses(addresses: &[IpAddr]) -> String {
    addresses.iter().map(IpAddr::to_string).collect::<Vec<_>>().join(",")
}

fn replace_link(target: &str, path: &std::path::Path) -> io::Result<()> {
    match symlink(target, path) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            fs::remove_file(path)?;
            symlink(target, path)
        }
        other => other,
    }
}

pub(super) fn ignore_missing(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stamps_round_trip_and_nonsense_is_none() {
        let stamp = Stamp { directory: (1, 2, -3, 4), full: vec!["a".into(), "b".into()] };
        assert_eq!(Stamp::parse(&stamp.render()), Some(stamp));
        assert_eq!(Stamp::parse("1 2 3"), None);
        assert_eq!(Stamp::parse("x 2 3 4"), None);
    }
}
