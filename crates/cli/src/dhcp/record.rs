//! A lease on disk: all that a daemon needs to take it up after a restart. Written whole or not at all.

use std::path::Path;

use anyhow::Result;
use serde::{Deserialize, Serialize};
use zeugma_dhcp::{Identity, Lease};
use zeugma_ipam::dhcp::LeaseFiles;
use zeugma_journal::{NetnsRef, boot_id, files};
use zeugma_model::AttachmentId;

/// What is in the file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Record {
    /// The boot that the lease's times belong to.
    pub(super) boot: String,
    /// The container's namespace, as the daemon sees it.
    pub(super) netns: NetnsRef,
    pub(super) identity: Identity,
    pub(super) lease: Lease,
}

/// The files, as the daemon sees them.
#[derive(Debug, Clone)]
pub(super) struct Records {
    files: LeaseFiles,
}

impl Records {
    pub(super) fn new(run_dir: &Path, socket: &Path) -> Self {
        Self { files: LeaseFiles::new(run_dir, socket) }
    }

    pub(super) fn write(&self, attachment: &AttachmentId, record: &Record) -> Result<()> {
        Ok(files::replace(&self.files.path(attachment), &serde_json::to_vec(record)?)?)
    }

    /// Removes a file, and the folders that it leaves empty.
    pub(super) fn remove(&self, attachment: &AttachmentId) -> Result<()> {
        let path = self.files.path(attachment);
        files::remove(&path)?;
        let folders = path.ancestors().skip(1).take_while(|folder| *folder != self.files.directory());
        folders.take_while(|folder| std::fs::remove_dir(folder).is_ok()).for_each(drop);
        Ok(())
    }

    /// Every lease of this boot. Files of another boot, and those that nobody can read, are removed.
    pub(super) fn load(&self) -> Vec<(AttachmentId, Record)> {
        let boot = boot_id().unwrap_or_default();
        let mut found = Vec::new();
        for attachment in self.files.all() {
            match read(&self.files.path(&attachment)) {
                Some(record) if record.boot == boot => found.push((attachment, record)),
                _ => drop(self.remove(&attachment)),
            }
        }
        found
    }
}

fn read(path: &Path) -> Option<Record> {
    let bytes = files::read(path).ok()??;
    serde_json::from_slice(&bytes)
        .inspect_err(|error| eprintln!("zeugma dhcp: {} cannot be read: {error}", path.display()))
        .ok()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;
    use zeugma_model::Mac;

    use super::*;

    fn attachment(container: &str) -> AttachmentId {
        AttachmentId {
            network: "net".parse().unwrap(),
            container: container.parse().unwrap(),
            ifname: "eth0".parse().unwrap(),
        }
    }

    fn record(boot: String) -> Record {
        let terms = json!({"address": "10.0.0.9", "server": "10.0.0.1", "prefix": 24, "routers": [],
            "static_routes": [], "classless_routes": [["192.168.5.0/24", "10.0.0.3"]], "nameservers": [],
            "domain": null, "search": [], "lease": 120, "renew": 60, "rebind": 105});
        let identity = Identity {
            mac: Mac([2, 0, 0, 0, 0, 1]),
            client_id: "c/net/eth0".into(),
            provide: Vec::new(),
            request: vec![1],
            broadcast: false,
        };
        let lease = Lease {
            terms: serde_json::from_value(terms).unwrap(),
            since: Duration::from_millis(1500),
            via: Mac([2, 0, 0, 0, 0, 2]),
        };
        Record {
            boot,
            netns: NetnsRef { path: "/run/netns/c".into(), device: 4, inode: 5, cookie: None },
            identity,
            lease,
        }
    }

    #[test]
    fn a_lease_survives_the_disk_and_leaves_nothing_behind() {
        let folder = tempfile::tempdir().unwrap();
        let records = Records::new(folder.path(), Path::new("/run/cni/dhcp.sock"));
        let record = record(boot_id().unwrap());
        records.write(&attachment("c"), &record).unwrap();
        assert_eq!(records.load(), [(attachment("c"), record)]);
        records.remove(&attachment("c")).unwrap();
        records.remove(&attachment("c")).unwrap();
        assert!(std::fs::read_dir(records.files.directory()).unwrap().next().is_none());
    }

    #[test]
    fn leases_of_another_boot_and_spoilt_files_are_removed() {
        let folder = tempfile::tempdir().unwrap();
        let records = Records::new(folder.path(), Path::new("/run/cni/dhcp.sock"));
        records.write(&attachment("old"), &record("another".into())).unwrap();
        records.write(&attachment("spoilt"), &record(boot_id().unwrap())).unwrap();
        std::fs::write(records.files.path(&attachment("spoilt")), b"{").unwrap();
        assert!(records.load().is_empty());
        assert!(records.files.all().is_empty());
    }
}
