//! This node's WireGuard keys: in files that only root reads, on disk before anybody hears of their public halves.
//!
//! A change of keys has two steps, each of which survives a crash: the next key is written beside the one that is used,
//! then it takes its place. Which one is used after a crash is what the others were told last.

use std::fmt;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use x25519_dalek::{X25519_BASEPOINT_BYTES, x25519};
use zeugma_journal::files;
use zeugma_model::PublicKey;

/// As `wg genkey` writes it, so that wg(8) reads it.
const FILE: &str = "wireguard.key";
/// The one that comes after it.
const NEXT: &str = "wireguard.key.next";
const MODE: u32 = 0o600;

/// A private key; it is never printed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct PrivateKey(pub(super) [u8; 32]);

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file holds something else.
    #[error("{path} holds no WireGuard key: put it back as it was, or remove it for a new one", path = .0.display())]
    Unreadable(PathBuf),
    /// The file cannot be read or written.
    #[error(transparent)]
    File(#[from] zeugma_journal::Error),
    /// A new key needs some.
    #[error("the kernel gives no random numbers for a WireGuard key: {0}")]
    Random(#[from] getrandom::Error),
}

/// The keys that this node has.
#[derive(Debug, Clone)]
pub(super) struct Keys {
    directory: PathBuf,
    current: PrivateKey,
    next: Option<PrivateKey>,
}

impl PrivateKey {
    fn new() -> Result<Self, KeyError> {
        let mut bytes = [0; 32];
        getrandom::fill(&mut bytes)?;
        // RFC 7748, 5: as wg(8) stores it.
        bytes[0] &= 248;
        bytes[31] = bytes[31] & 127 | 64;
        Ok(Self(bytes))
    }

    /// What others know of it.
    pub(super) fn public(self) -> PublicKey {
        PublicKey(x25519(self.0, X25519_BASEPOINT_BYTES))
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "PrivateKey of {}", self.public())
    }
}

impl Keys {
    /// Those in the state directory; made at the first time.
    ///
    /// # Errors
    /// When they cannot be read, or made and written.
    pub(super) fn open(state_dir: &Path) -> Result<Self, KeyError> {
        let current = match read(&state_dir.join(FILE))? {
            Some(key) => key,
            None => write(&state_dir.join(FILE), PrivateKey::new()?)?,
        };
        let next = read(&state_dir.join(NEXT))?;
        Ok(Self { directory: state_dir.into(), current, next })
    }

    /// The one that is used.
    pub(super) fn current(&self) -> PrivateKey {
        self.current
    }

    /// The one that is used next, when a change has begun.
    pub(super) fn next(&self) -> Option<PrivateKey> {
        self.next
    }

    /// Begins a change, unless one has begun.
    ///
    /// # Errors
    /// When the next key cannot be made and written.
    pub(super) fn prepare(&mut self) -> Result<PublicKey, KeyError> {
        let next = match self.next {
            Some(next) => next,
            None => write(&self.directory.join(NEXT), PrivateKey::new()?)?,
        };
        self.next = Some(next);
        Ok(next.public())
    }

    /// Ends a change: the next key is the one that is used. Its file is on disk since the change began and gets the other
    /// name alone, without waiting for the disk: packets are lost from when the others use it until this host does. A
    /// loss of power may give the file its old name back, as if the crash had been before this.
    ///
    /// # Errors
    /// When the file cannot be renamed; nothing is changed then.
    pub(super) fn switch(&mut self) -> Result<(), KeyError> {
        if let Some(next) = self.next {
            files::rename(&self.directory.join(NEXT), &self.directory.join(FILE))?;
            (self.current, self.next) = (next, None);
        }
        Ok(())
    }

    /// Takes back a change that has begun.
    ///
    /// # Errors
    /// When the next key cannot be removed.
    pub(super) fn abandon(&mut self) -> Result<(), KeyError> {
        files::remove(&self.directory.join(NEXT))?;
        self.next = None;
        Ok(())
    }

    /// After a crash: whether others were told to use the next key already.
    ///
    /// # Errors
    /// As [`Keys::switch`] and [`Keys::abandon`].
    pub(super) fn recover(&mut self, told: Option<PublicKey>) -> Result<(), KeyError> {
        match (self.next, told) {
            (Some(next), Some(told)) if next.public() == told => self.switch(),
            (Some(_), Some(_)) => self.abandon(),
            _ => Ok(()),
        }
    }
}

fn read(path: &Path) -> Result<Option<PrivateKey>, KeyError> {
    let Some(text) = files::read(path)? else { return Ok(None) };
    let bytes = STANDARD.decode(text.trim_ascii()).ok().and_then(|bytes| bytes.try_into().ok());
    bytes.map(PrivateKey).map(Some).ok_or_else(|| KeyError::Unreadable(path.into()))
}

fn write(path: &Path, key: PrivateKey) -> Result<PrivateKey, KeyError> {
    let text = format!("{}\n", STANDARD.encode(key.0));
    files::replace_durably(path, text.as_bytes(), MODE)?;
    Ok(key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    /// RFC 7748, 6.1: Alice's.
    #[test]
    fn the_public_key_is_that_of_the_private_one() {
        let hex =
            |text: &str| std::array::from_fn(|at| u8::from_str_radix(&text[2 * at..][..2], 16).unwrap());
        let private = hex("77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a");
        let public = hex("8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a");
        assert_eq!(PrivateKey(private).public(), PublicKey(public));
    }

    #[test]
    fn a_key_is_made_once_for_root_alone() {
        let root = tempfile::tempdir().unwrap();
        let keys = Keys::open(root.path()).unwrap();
        let mode = fs::metadata(root.path().join(FILE)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(Keys::open(root.path()).unwrap().current(), keys.current());
        assert!(!format!("{keys:?}").contains(&STANDARD.encode(keys.current().0)));
        fs::write(root.path().join(FILE), "no key").unwrap();
        assert!(matches!(Keys::open(root.path()), Err(KeyError::Unreadable(_))));
    }

    #[test]
    fn after_a_crash_the_key_is_the_one_that_the_others_were_told() {
        let root = tempfile::tempdir().unwrap();
        let crashed = || Keys::open(root.path()).unwrap();
        let (old, mut keys) = (crashed().current(), crashed());
        let next = keys.prepare().unwrap();
        assert_eq!(crashed().next().unwrap().public(), next);
        keys = crashed();
        keys.recover(None).unwrap();
        assert_eq!((keys.current(), keys.next().is_some()), (old, true));
        keys.recover(Some(old.public())).unwrap();
        assert_eq!((keys.current(), crashed().next()), (old, None));
        let next = keys.prepare().unwrap();
        keys = crashed();
        keys.recover(Some(next)).unwrap();
        assert_eq!((keys.current().public(), crashed().current().public(), keys.next()), (next, next, None));
    }
}
