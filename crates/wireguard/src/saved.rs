//! A device's configuration on disk: the request that makes it so again, for nobody but root to read.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::uapi::{self, Change, Request, State};

/// The file, which need not be there.
#[derive(Debug)]
pub(crate) struct Saved(PathBuf);

impl Saved {
    pub(crate) fn at(path: PathBuf) -> Self {
        Self(path)
    }

    /// What it says; none: there is none.
    ///
    /// # Errors
    /// It cannot be read or understood.
    pub(crate) fn load(&self) -> io::Result<Option<Change>> {
        let text = match fs::read_to_string(&self.0) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        match uapi::request(&text) {
            Ok(Request::Set(change)) => Ok(Some(change)),
            Ok(Request::Get) => Err(io::Error::new(io::ErrorKind::InvalidData, "it changes nothing")),
            Err(error) => Err(io::Error::new(io::ErrorKind::InvalidData, error)),
        }
    }

    /// Removes it.
    pub(crate) fn forget(&self) {
        // It may never have been written.
        let _ = fs::remove_file(&self.0);
    }

    /// Replaces it at once: whoever reads it reads the old one or the new one.
    ///
    /// # Errors
    /// The disk's.
    pub(crate) fn save(&self, state: &State) -> io::Result<()> {
        let folder = self.0.parent().unwrap_or(Path::new("/"));
        DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        let new = self.0.with_extension("new");
        // A left-over may have another mode.
        let _ = fs::remove_file(&new);
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
        file.write_all(uapi::change(&state.as_change()).as_bytes())?;
        file.sync_all()?;
        fs::rename(&new, &self.0)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::uapi::Secret;

    #[test]
    fn what_is_saved_is_root_s_alone_and_makes_the_same_device() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("wireguard/wg0.conf");
        let saved = Saved::at(path.clone());
        assert_eq!(saved.load().unwrap(), None);
        let state = State { private_key: Some(Secret([3; 32])), listen_port: 7, ..State::default() };
        saved.save(&State::default()).unwrap();
        saved.save(&state).unwrap();
        assert_eq!(saved.load().unwrap(), Some(state.as_change()));
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        fs::write(&path, "nonsense").unwrap();
        assert!(saved.load().is_err());
    }
}
