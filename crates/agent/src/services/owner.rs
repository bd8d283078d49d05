//! Whose services are programmed: a file beside the journal names the catalogue. A catalogue that is new, or another
//! one, never takes away what it does not know; the operator decides.

use std::path::{Path, PathBuf};

use zeugma_journal::files;

use super::CatalogueId;

/// Gone at the next boot, as the table is.
const NAME: &str = "services-catalogue";

/// The file, and the catalogue that we have.
#[derive(Debug)]
pub(super) struct Owner {
    path: PathBuf,
    id: CatalogueId,
    is_kept: bool,
}

impl Owner {
    pub(super) fn new(run_dir: &Path, id: CatalogueId) -> Self {
        Self { path: run_dir.join(NAME), id, is_kept: false }
    }

    /// Whether what is programmed is of this catalogue; otherwise, what can be done.
    pub(super) fn ensure_ours(&mut self) -> Result<(), String> {
        self.is_kept = false;
        let found = files::read(&self.path).map_err(|error| error.to_string())?;
        let found = found.map(|found| String::from_utf8_lossy(&found).trim().to_owned());
        match (found, self.id()) {
            (Some(found), id) if found != id => Err(format!(
                "services of another catalogue are programmed ({found}, this is {id}) and stay as they are: start \
                 the agent with that catalogue, or remove {} to have this one's services alone",
                self.path.display()
            )),
            _ => Ok(()),
        }
    }

    /// Notes it, before anything is programmed.
    pub(super) fn keep(&mut self) -> Result<(), String> {
        if !self.is_kept {
            files::replace(&self.path, self.id().as_bytes()).map_err(|error| error.to_string())?;
            self.is_kept = true;
        }
        Ok(())
    }

    /// Nothing is programmed any more.
    pub(super) fn forget(&mut self) -> Result<(), String> {
        self.is_kept = false;
        files::remove(&self.path).map_err(|error| error.to_string())
    }

    /// It is known before the first change is heard of.
    fn id(&self) -> &str {
        self.id.get().map_or("", String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn owner(run_dir: &Path, id: &str) -> Owner {
        Owner::new(run_dir, CatalogueId::of(id))
    }

    #[test]
    fn what_is_programmed_is_the_catalogue_s_that_programmed_it() {
        let root = tempfile::tempdir().unwrap();
        let (mut one, mut two) = (owner(root.path(), "one"), owner(root.path(), "two"));
        one.ensure_ours().unwrap();
        two.ensure_ours().unwrap();
        one.keep().unwrap();
        one.ensure_ours().unwrap();
        let told = two.ensure_ours().unwrap_err();
        assert!(told.contains("(one, this is two)") && told.contains("services-catalogue"), "{told}");
        fs::remove_file(root.path().join(NAME)).unwrap();
        two.ensure_ours().unwrap();
        two.keep().unwrap();
        two.forget().unwrap();
        one.ensure_ours().unwrap();
    }
}
