//! Where the daemon writes its leases down: `RUN/dhcp/<hash of the socket>/<network>/<containerID>/<ifname>`.
//!
//! The daemon alone writes; the plugin looks whether there is something when no daemon answers.

use std::fs;
use std::path::{Path, PathBuf};

use zeugma_model::{AttachmentId, NetworkName};

use crate::store::hash;

/// The reference's socket.
pub const DEFAULT_SOCKET: &str = "/run/cni/dhcp.sock";

/// The folder of one daemon's leases.
#[derive(Debug, Clone)]
pub struct LeaseFiles {
    directory: PathBuf,
}

impl LeaseFiles {
    /// Of the daemon that is asked at `socket`.
    pub fn new(run_dir: &Path, socket: &Path) -> Self {
        let mut folder = hash(&socket.to_string_lossy());
        folder.truncate(16);
        Self { directory: run_dir.join("dhcp").join(folder) }
    }

    /// The file of an attachment, there or not.
    pub fn path(&self, attachment: &AttachmentId) -> PathBuf {
        let AttachmentId { network, container, ifname } = attachment;
        self.directory.join(network.as_str()).join(container.as_str()).join(ifname.as_str())
    }

    /// The folder of all.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Whether a lease is written down.
    pub fn has(&self, attachment: &AttachmentId) -> bool {
        self.path(attachment).exists()
    }

    /// The attachments of a network that have a lease written down.
    pub fn of_network(&self, network: &NetworkName) -> Vec<AttachmentId> {
        let folder = self.directory.join(network.as_str());
        let mut found = Vec::new();
        for container in names(&folder) {
            for ifname in names(&folder.join(&container)) {
                let (Ok(container), Ok(ifname)) = (container.parse(), ifname.parse()) else { continue };
                found.push(AttachmentId { network: network.clone(), container, ifname });
            }
        }
        found
    }

    /// All attachments that have a lease written down.
    pub fn all(&self) -> Vec<AttachmentId> {
        let networks = names(&self.directory).into_iter().filter_map(|name| name.parse().ok());
        networks.flat_map(|network| self.of_network(&network)).collect()
    }
}

/// What cannot be read is as good as empty: the daemon says so when it writes.
fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
}
