//! Which machine this is, so that two of one name are told apart, and that VTEPs of different machines have different
//! Ethernet addresses.

use std::fs;
use std::path::Path;

use sha2::{Digest, Sha256};
use zeugma_journal::files;
use zeugma_model::{MachineId, NodeName};

/// machine-id(5): it is not to be told to others as it is.
const SALT: &str = "zeugma overlay node";
/// In the state directory, for a machine without one.
const FILE: &str = "machine-id";

/// This machine's ID, under the name that it has: machines that were copied with their ID have different names.
///
/// # Errors
/// In words: when it has none, and none can be kept.
pub(super) fn machine(node: &NodeName, state_dir: &Path) -> Result<MachineId, String> {
    let found = fs::read_to_string("/etc/machine-id").unwrap_or_default();
    match found.trim() {
        "" | "uninitialized" => Ok(hashed(&kept(state_dir)?, node)),
        id => Ok(hashed(id, node)),
    }
}

/// One that every host makes the same of a name.
pub(super) fn of_name(node: &NodeName) -> MachineId {
    hashed("", node)
}

fn hashed(id: &str, node: &NodeName) -> MachineId {
    let hash = Sha256::digest(format!("{SALT}\n{id}\n{node}"));
    MachineId(std::array::from_fn(|at| hash[at]))
}

fn kept(state_dir: &Path) -> Result<String, String> {
    let path = state_dir.join(FILE);
    if let Some(found) = files::read(&path).map_err(|error| error.to_string())? {
        return Ok(String::from_utf8_lossy(&found).trim().to_owned());
    }
    let mut random = [0; 16];
    getrandom::fill(&mut random).map_err(|error| format!("no random numbers: {error}"))?;
    let id = MachineId(random).to_string();
    files::replace_durably(&path, format!("{id}\n").as_bytes(), 0o644).map_err(|error| error.to_string())?;
    Ok(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn machines_are_told_apart_by_their_ids_and_by_their_names() {
        let name = |text: &str| text.parse::<NodeName>().unwrap();
        assert_eq!(hashed("1", &name("a")), hashed("1", &name("a")));
        assert_ne!(hashed("1", &name("a")), hashed("2", &name("a")));
        assert_ne!(hashed("1", &name("a")), hashed("1", &name("b")));
        assert_ne!(of_name(&name("a")), of_name(&name("b")));
    }

    #[test]
    fn an_id_that_had_to_be_made_is_kept() {
        let root = tempfile::tempdir().unwrap();
        let id = kept(&root.path().join("state")).unwrap();
        assert!(id.len() == 32 && kept(&root.path().join("state")).unwrap() == id);
    }
}
