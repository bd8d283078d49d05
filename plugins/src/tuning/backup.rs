//! The file in which the reference's `tuning` remembers what a link was: read by the DEL of an attachment that it
//! made, and removed when the link is as before.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use zeugma_journal::LinkBackup;
use zeugma_model::{AttachmentId, Mac};

use super::Error;

/// The file's keys; zero and the empty text stand for none.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Raw {
    mac: String,
    promisc: Option<bool>,
    mtu: u32,
    allmulti: Option<bool>,
    #[serde(rename = "txQLen")]
    tx_queue_len: Option<u32>,
}

/// `DIRECTORY/CONTAINER_IFNAME.json`.
pub(super) fn path(directory: &Path, id: &AttachmentId) -> PathBuf {
    directory.join(format!("{}_{}.json", id.container, id.ifname))
}

/// What it says; none when there is no such file, or it is spoilt: the reference restores nothing then.
pub(super) fn read(path: &Path) -> Result<Option<LinkBackup>, Error> {
    match fs::read(path) {
        Ok(bytes) => Ok(parse(&bytes)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(source) => Err(Error::Backup { action: "read", file: path.to_owned(), source }),
    }
}

fn parse(bytes: &[u8]) -> Option<LinkBackup> {
    let raw: Raw = serde_json::from_slice(bytes).ok()?;
    Some(LinkBackup {
        mac: raw.mac.parse::<Mac>().ok(),
        mtu: Some(raw.mtu).filter(|mtu| *mtu > 0),
        promisc: raw.promisc,
        allmulti: raw.allmulti,
        tx_queue_len: raw.tx_queue_len,
    })
}

/// Removes it; that it is gone already is fine.
pub(super) fn remove(path: &Path) -> Result<(), Error> {
    match fs::remove_file(path) {
        Err(source) if source.kind() != ErrorKind::NotFound => {
            Err(Error::Backup { action: "remove", file: path.to_owned(), source })
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reference_s_file_is_understood() {
        let backup = parse(br#"{ "mac": "02:00:00:00:00:01", "promisc": false, "mtu": 1500, "txQLen": 0 }"#);
        let expected = LinkBackup {
            mac: "02:00:00:00:00:01".parse().ok(),
            mtu: Some(1500),
            promisc: Some(false),
            allmulti: None,
            tx_queue_len: Some(0),
        };
        assert_eq!(backup, Some(expected));
        assert_eq!(parse(b"{}"), Some(LinkBackup::default()));
        assert_eq!(parse(b"{"), None);
    }
}
