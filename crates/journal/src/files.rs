//! Small files, whole or not at all.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use crate::Error;

/// Writes a file beside its place and renames it there. The directory is made when it is missing.
pub fn replace(path: &Path, content: &[u8]) -> Result<(), Error> {
    replace_from(&path.with_extension(format!("{}.partial", std::process::id())), path, content)
}

/// The same with a name for the unfinished file. Another process may remove an empty directory right after it
/// was made, so that is tried more than once.
pub(crate) fn replace_from(partial: &Path, path: &Path, content: &[u8]) -> Result<(), Error> {
    const ATTEMPTS: u32 = 20;
    let place = || fs::write(partial, content).and_then(|()| fs::rename(partial, path));
    let mut outcome = place();
    for _ in 0..ATTEMPTS {
        if outcome.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::NotFound) {
            // Whether it worked shows when the file is written.
            let _ = fs::create_dir_all(path.parent().unwrap_or(Path::new("/")));
            outcome = place();
        }
    }
    outcome.map_err(|error| {
        let _ = fs::remove_file(partial);
        Error::file("write", path)(error)
    })
}

/// Writes a file that outlives a loss of power from when this returns, with that mode, and renames it to its place.
///
/// # Errors
/// [`Error::File`]; the file is as it was then.
pub fn replace_durably(path: &Path, content: &[u8], mode: u32) -> Result<(), Error> {
    let partial = path.with_extension(format!("{}.partial", std::process::id()));
    let directory = path.parent().unwrap_or(Path::new("/"));
    let place = || {
        fs::create_dir_all(directory)?;
        let mut file =
            OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(&partial)?;
        file.write_all(content)?;
        file.sync_all()?;
        fs::rename(&partial, path)?;
        File::open(directory)?.sync_all()
    };
    place().map_err(|error| {
        let _ = fs::remove_file(&partial);
        Error::file("write", path)(error)
    })
}

/// The content; none when there is no such file.
pub fn read(path: &Path) -> Result<Option<Vec<u8>>, Error> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if is_absent(&error) => Ok(None),
        Err(error) => Err(Error::file("read", path)(error)),
    }
}

/// Gives a file the place of another one.
///
/// # Errors
/// [`Error::File`]; both are as they were then.
pub fn rename(path: &Path, place: &Path) -> Result<(), Error> {
    fs::rename(path, place).map_err(Error::file("replace", place))
}

/// Removes a file; already gone is done.
pub fn remove(path: &Path) -> Result<(), Error> {
    match fs::remove_file(path) {
        Err(error) if !is_absent(&error) => Err(Error::file("remove", path)(error)),
        _ => Ok(()),
    }
}

/// The names in a directory, sorted; none when there is no such directory.
pub(crate) fn names(directory: &Path) -> Result<Vec<String>, Error> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if is_absent(&error) => return Ok(Vec::new()),
        Err(error) => return Err(Error::file("list", directory)(error)),
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(Error::file("list", directory))?;
        names.extend(entry.file_name().into_string().ok());
    }
    names.sort_unstable();
    Ok(names)
}

fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}
