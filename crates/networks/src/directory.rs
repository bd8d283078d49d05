//! The directory that runtimes read networks from. Only files that bear our mark are ever replaced or removed.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde_json::Value;
use zeugma_journal::files;
use zeugma_model::NetworkName;

use crate::{Error, List};

/// What runtimes take for networks.
const ENDINGS: [&str; 3] = ["conflist", "conf", "json"];

/// `/etc/cni/net.d`, usually.
#[derive(Debug, Clone)]
pub struct Directory {
    path: PathBuf,
}

/// What became of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Write {
    /// It was as it is to be.
    Unchanged,
    /// It was written.
    Written,
}

impl Directory {
    /// The directory at `path`; it need not be there.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// All networks, in the order in which runtimes see them. Files that are none are skipped, as runtimes do.
    ///
    /// # Errors
    /// When the directory cannot be listed.
    pub fn lists(&self) -> Result<Vec<List>, Error> {
        let entries = match fs::read_dir(&self.path) {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(Error::file("list", &self.path)(error)),
        };
        let is_list =
            |path: &PathBuf| path.extension().is_some_and(|ending| ENDINGS.iter().any(|it| ending == *it));
        let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).filter(is_list).collect();
        paths.sort();
        Ok(paths.iter().filter_map(|path| List::parse(path, &fs::read(path).ok()?)).collect())
    }

    /// The network of that name: the first, as runtimes take it.
    ///
    /// # Errors
    /// When the directory cannot be listed.
    pub fn find(&self, name: &NetworkName) -> Result<Option<List>, Error> {
        Ok(self.lists()?.into_iter().find(|list| list.name == *name))
    }

    /// Where the list of a network of ours is.
    pub fn file(&self, name: &NetworkName) -> PathBuf {
        self.path.join(format!("zeugma-{name}.conflist"))
    }

    /// The list of a network of ours; none when there is no such.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn ours(&self, name: &NetworkName) -> Result<Option<List>, Error> {
        let file = self.file(name);
        let found = files::read(&file)?.and_then(|text| List::parse(&file, &text));
        Ok(found.filter(List::is_ours))
    }

    /// Whether a network of ours can have that name here.
    ///
    /// # Errors
    /// [`Error::NameTaken`] and [`Error::FileTaken`].
    pub fn ensure_free(&self, name: &NetworkName) -> Result<(), Error> {
        let file = self.file(name);
        let is_foreign = |list: &List| list.name == *name && !list.is_ours();
        if let Some(other) = self.lists()?.into_iter().find(is_foreign) {
            return Err(Error::NameTaken { network: name.clone(), path: other.path });
        }
        match self.ours(name) {
            Ok(None) if file.exists() => Err(Error::FileTaken { network: name.clone(), path: file }),
            _ => Ok(()),
        }
    }

    /// Writes the list of a network of ours, whole or not at all.
    ///
    /// # Errors
    /// Those of [`Directory::ensure_free`], and when it cannot be written.
    pub fn write(&self, name: &NetworkName, list: &Value) -> Result<Write, Error> {
        let file = self.file(name);
        let text = format!("{list:#}\n");
        if files::read(&file)?.is_some_and(|found| found == text.as_bytes()) {
            return Ok(Write::Unchanged);
        }
        self.ensure_free(name)?;
        files::replace(&file, text.as_bytes())?;
        // Whatever the agent's mask is: others list networks, too.
        let readable = fs::Permissions::from_mode(0o644);
        fs::set_permissions(&file, readable).map_err(Error::file("set the mode of", &file))?;
        Ok(Write::Written)
    }

    /// Removes the list of a network of ours, and returns what it was; none when there is no such.
    ///
    /// # Errors
    /// When it cannot be removed.
    pub fn remove(&self, name: &NetworkName) -> Result<Option<List>, Error> {
        let found = self.ours(name)?;
        if found.is_some() {
            files::remove(&self.file(name))?;
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn name(text: &str) -> NetworkName {
        text.parse().unwrap()
    }

    fn ours(text: &str) -> Value {
        json!({"name": text, "plugins": [{"type": "bridge"}], "zeugma": {"name": text}})
    }

    #[test]
    fn what_is_written_is_found_and_taken_back() {
        let root = tempfile::tempdir().unwrap();
        let directory = Directory::at(root.path().join("net.d"));
        assert!(directory.lists().unwrap().is_empty());
        assert_eq!(directory.write(&name("front"), &ours("front")).unwrap(), Write::Written);
        assert_eq!(directory.write(&name("front"), &ours("front")).unwrap(), Write::Unchanged);
        let found = directory.find(&name("front")).unwrap().unwrap();
        assert!(found.is_ours() && found.network().is_some());
        assert_eq!(directory.remove(&name("front")).unwrap(), Some(found));
        assert_eq!(directory.remove(&name("front")).unwrap(), None);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
    }

    #[test]
    fn what_others_made_is_left_alone_and_told() {
        let root = tempfile::tempdir().unwrap();
        let directory = Directory::at(root.path());
        fs::write(root.path().join("10-lab.conf"), r#"{"name": "lab", "type": "bridge"}"#).unwrap();
        fs::write(directory.file(&name("front")), r#"{"name": "x", "type": "bridge"}"#).unwrap();
        fs::write(root.path().join("notes.txt"), "lab").unwrap();
        let told = |text: &str| directory.write(&name(text), &ours(text)).unwrap_err().to_string();
        assert!(told("lab").contains("10-lab.conf has a network named lab"));
        assert!(told("front").contains("zeugma-front.conflist is not of zeugma's making"));
        assert_eq!(directory.remove(&name("front")).unwrap(), None);
        assert_eq!(directory.lists().unwrap().len(), 2);
    }
}
