//! What the agent wrote down of overlays for the plugin: `overlays/NETWORK.json` in the state directory.
//!
//! A file is there once the kernel has the overlay's routes, and counts until the next boot: then the routes are gone,
//! and a container that was attached before they are back could talk to nobody, or in clear.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::{Deserialize, Serialize};
use zeugma_model::{NetworkName, OverlayState};

use crate::{Error, boot_id, files, state_dir};

/// How a file ends.
const ENDING: &str = ".json";

/// The files of a host.
#[derive(Debug, Clone)]
pub struct OverlayStates {
    directory: PathBuf,
}

/// A state, and since which boot it is one.
#[derive(Serialize, Deserialize)]
struct Stamped<S> {
    boot: String,
    state: S,
}

impl Default for OverlayStates {
    fn default() -> Self {
        Self::at(&state_dir())
    }
}

/// A file: its network's name, and what came of reading it.
pub type Each = (NetworkName, Result<Option<OverlayState>, Error>);

impl OverlayStates {
    /// Those below a state directory; it need not be there.
    pub fn at(state_dir: &Path) -> Self {
        Self { directory: state_dir.join("overlays") }
    }

    /// Where the state of `network` is.
    pub fn path(&self, network: &NetworkName) -> PathBuf {
        self.directory.join(format!("{network}{ENDING}"))
    }

    /// The state of `network`; none when it is no overlay of this host, or not yet since the last boot.
    ///
    /// # Errors
    /// [`Error::File`], and [`Error::Record`] when the file holds something else.
    pub fn read(&self, network: &NetworkName) -> Result<Option<OverlayState>, Error> {
        let path = self.path(network);
        let Some(bytes) = files::read(&path)? else { return Ok(None) };
        let stamped: Stamped<OverlayState> =
            parse(&bytes).map_err(|source| Error::Record { path, source })?;
        Ok((stamped.boot == boot_id()?).then_some(stamped.state))
    }

    /// Writes down a state, whole or not at all. One that is so already is left alone.
    ///
    /// # Errors
    /// [`Error::File`].
    pub fn write(&self, state: &OverlayState) -> Result<(), Error> {
        let path = self.path(&state.network);
        let stamped = Stamped { boot: boot_id()?, state };
        let text = serde_json::to_vec(&stamped);
        let text = text.map_err(|source| Error::Record { path: path.clone(), source })?;
        match files::read(&path)? {
            Some(found) if found == text => Ok(()),
            _ => files::replace(&path, &text),
        }
    }

    /// Removes a state; already gone is done.
    ///
    /// # Errors
    /// [`Error::File`].
    pub fn remove(&self, network: &NetworkName) -> Result<(), Error> {
        files::remove(&self.path(network))
    }

    /// When a state last came, changed or went; none when there never was one.
    pub fn changed(&self) -> Option<SystemTime> {
        // States are renamed into place, which the directory's time tells.
        fs::metadata(&self.directory).and_then(|about| about.modified()).ok()
    }

    /// The states that there are, in order of their networks' names. A file that cannot be read is passed over.
    ///
    /// # Errors
    /// [`Error::File`] when the directory cannot be listed.
    pub fn all(&self) -> Result<Vec<OverlayState>, Error> {
        Ok(self.each()?.into_iter().filter_map(|(_, read)| read.ok().flatten()).collect())
    }

    /// Every file by its network's name: its state, none when it is of before the last boot, or why it cannot be read.
    ///
    /// # Errors
    /// [`Error::File`] when the directory cannot be listed.
    pub fn each(&self) -> Result<Vec<Each>, Error> {
        let names = files::names(&self.directory)?;
        let networks = names.iter().filter_map(|name| name.strip_suffix(ENDING)?.parse().ok());
        Ok(networks.map(|network: NetworkName| (network.clone(), self.read(&network))).collect())
    }
}

fn parse(bytes: &[u8]) -> serde_json::Result<Stamped<OverlayState>> {
    serde_json::from_slice(bytes)
}

/// For the fuzzer: reads `input` as such a file. What could be read is written and read again.
pub fn fuzz_overlay_state(input: &[u8]) {
    let Ok(stamped) = parse(input) else { return };
    let written = serde_json::to_vec(&stamped).expect("a state is JSON");
    let again = parse(&written).expect("what was written is read");
    assert_eq!((again.boot, again.state), (stamped.boot, stamped.state));
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn state(network: &str) -> OverlayState {
        serde_json::from_value(json!({"network": network, "backend": "vxlan", "subnets": ["10.90.0.0/16"],
            "blocks": ["10.90.3.0/24"], "mtu": 1450, "bridge": "br-front", "tunnel": "vx-front", "masquerade": true}))
        .unwrap()
    }

    #[test]
    fn a_state_is_read_as_it_was_written_until_it_is_removed() {
        let root = tempfile::tempdir().unwrap();
        let states = OverlayStates::at(root.path());
        assert_eq!(states.all().unwrap(), []);
        states.write(&state("front")).unwrap();
        states.write(&state("back")).unwrap();
        assert_eq!(states.read(&"front".parse().unwrap()).unwrap(), Some(state("front")));
        assert_eq!(states.all().unwrap(), [state("back"), state("front")]);
        states.remove(&"back".parse().unwrap()).unwrap();
        assert_eq!(states.read(&"back".parse().unwrap()).unwrap(), None);
        std::fs::write(states.path(&"front".parse().unwrap()), "{}").unwrap();
        assert!(matches!(states.read(&"front".parse().unwrap()), Err(Error::Record { .. })));
        assert!(states.all().unwrap().is_empty() && states.each().unwrap()[0].1.is_err());
    }

    #[test]
    fn what_was_written_before_the_last_boot_is_no_state() {
        let root = tempfile::tempdir().unwrap();
        let states = OverlayStates::at(root.path());
        let before = Stamped { boot: "another".into(), state: state("front") };
        let text = serde_json::to_vec(&before).unwrap();
        files::replace(&states.path(&"front".parse().unwrap()), &text).unwrap();
        assert_eq!(states.read(&"front".parse().unwrap()).unwrap(), None);
        states.write(&state("front")).unwrap();
        assert_eq!(states.all().unwrap(), [state("front")]);
    }
}
