//! The file of the embedded store: how it comes to be, and who may have it. What is in it: `ledger.rs`.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use redb::{Builder, Database};

use crate::Error;

/// Of the file, in memory: what a transaction touches. All of it is read once, at the start, and nothing read twice
/// then. The library's default is a gibibyte.
const CACHE: usize = 4 << 20;

/// Opens the database at `path`. When there is none, one is made beside it, filled by `prepare`, and given its name
/// once it is whole: a file that a crash left half made would be no database for good.
pub(crate) fn open(
    path: &Path,
    prepare: impl FnOnce(&Database) -> Result<(), redb::Error>,
) -> Result<Database, Error> {
    let exists = || path.try_exists().map_err(|source| failure("look for", path, source.into()));
    if !exists()? {
        create(path, prepare)?;
    }
    builder().open(path).map_err(|source| failure("open", path, source.into()))
}

fn builder() -> Builder {
    let mut builder = Database::builder();
    builder.set_cache_size(CACHE);
    builder
}

fn create(path: &Path, prepare: impl FnOnce(&Database) -> Result<(), redb::Error>) -> Result<(), Error> {
    let new = path.with_added_extension("new");
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let run = || {
        fs::create_dir_all(parent)?;
        // It may hold what a crash left; the lock says that nobody else is at it.
        let options =
            || OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).to_owned();
        let file = options().open(&new)?;
        file.try_lock().map_err(|_| redb::Error::DatabaseAlreadyOpen)?;
        file.set_len(0)?;
        let database = builder().create_file(file)?;
        prepare(&database)?;
        // A link and no rename: who comes second must not replace the first one's catalogue.
        match fs::hard_link(&new, path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error.into()),
            _ => fs::remove_file(&new)?,
        }
        File::open(parent)?.sync_all()?;
        Ok(())
    };
    run().map_err(|source| failure("create", path, source))
}

/// An error of the database as ours.
pub(crate) fn failure(doing: &'static str, path: &Path, source: redb::Error) -> Error {
    match source {
        redb::Error::DatabaseAlreadyOpen => Error::Owned { path: path.to_owned() },
        source => Error::File { doing, path: path.to_owned(), source: Box::new(source) },
    }
}
