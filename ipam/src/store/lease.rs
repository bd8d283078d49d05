//! What stands in a lease file: `containerID CR LF ifname`, or the container ID alone in files of the
//! reference before 0.8.

use std::net::IpAddr;

use sha2::{Digest, Sha256};
use zeugma_model::{AttachmentId, ContainerId, IfName};

/// Who has an address.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Owner {
    /// Not a `ContainerId`: files of other programs may hold anything.
    pub(crate) container: String,
    /// None in the old format: it stands for every interface of the container.
    pub(crate) ifname: Option<String>,
}

/// The longest readable entry name; file names end at 255 bytes.
const READABLE_BYTES: usize = 200;

impl Owner {
    /// Reads a lease file; none when it is blank, which only a crash between two system calls leaves behind.
    pub(crate) fn parse(bytes: &[u8]) -> Option<Self> {
        let text = String::from_utf8_lossy(bytes);
        let (container, ifname) = match text.trim().split_once("\r\n") {
            Some((container, ifname)) => (container, Some(ifname.to_string())),
            None => (text.trim(), None),
        };
        (!text.trim().is_empty()).then(|| Self { container: container.into(), ifname })
    }

    /// The contents of its lease files, byte for byte the reference's.
    pub(crate) fn render(&self) -> String {
        match &self.ifname {
            Some(ifname) => format!("{}\r\n{ifname}", self.container),
            None => self.container.clone(),
        }
    }

    /// The owner that a file in the old format names.
    pub(crate) fn without_ifname(&self) -> Self {
        Self { container: self.container.clone(), ifname: None }
    }

    /// Whether it is this attachment; in the old format any of the container's is.
    pub(crate) fn is(&self, container: &ContainerId, ifname: &IfName) -> bool {
        self.container == container.as_str()
            && self.ifname.as_deref().is_none_or(|has| has == ifname.as_str())
    }

    /// The name of its entry in the index: `containerID:ifname`, hashed where that is no plain file name.
    pub(super) fn entry_name(&self) -> String {
        let name = format!("{}:{}", self.container, self.ifname.as_deref().unwrap_or_default());
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-:".contains(&byte);
        if name.len() <= READABLE_BYTES && name.bytes().all(plain) {
            name
        } else {
            format!("sha256:{}", hash(&name))
        }
    }
}

impl From<&AttachmentId> for Owner {
    fn from(attachment: &AttachmentId) -> Self {
        Self { container: attachment.container.to_string(), ifname: Some(attachment.ifname.to_string()) }
    }
}

/// SHA-256 in 64 hex digits.
pub(crate) fn hash(text: &str) -> String {
    Sha256::digest(text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The address that a file in the lease directory is named after; none for `lock`, `last_reserved_ip.0` and
/// spellings that nobody writes.
pub(super) fn address_of_file(name: &str) -> Option<IpAddr> {
    name.parse().ok().filter(|address: &IpAddr| address.to_string() == name)
}

pub(super) fn fuzz(bytes: &[u8]) {
    if let Some(owner) = Owner::parse(bytes) {
        let again = Owner::parse(owner.render().as_bytes());
        assert!(again.is_some_and(|again| again.render().trim() == owner.render().trim()), "{owner:?}");
        assert!(owner.entry_name().len() < 255 && !owner.entry_name().contains('/'));
    }
    if let Some(address) = std::str::from_utf8(bytes).ok().and_then(address_of_file) {
        assert_eq!(address.to_string().as_bytes(), bytes);
    }
}
