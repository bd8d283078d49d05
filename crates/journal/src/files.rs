//! Small files, whole or not at all.

use std::fs;
use std::io;
use std::path::Path;

use crate::Error;

/// Writes a file beside its place and renames it there. The directory is made when it is missing.
pub(crate) fn replace(path: &Path, content: &[u8]) -> Result<(), Error> {
    let partial = path.with_extension(format!("{}.partial", std::process::id()));
    match fs::write(&partial, content) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let directory = path.parent().unwrap_or(Path::new("/"));
            fs::create_dir_all(directory).map_err(Error::file("make", directory))?;
            fs::write(&partial, content).map_err(Error::file("write", &partial))?;
        }
        result => result.map_err(Error::file("write", &partial))?,
    }
    fs::rename(&partial, path).map_err(Error::file("write", path))
}

/// The content; none when there is no such file.
pub(crate) fn read(path: &Path) -> Result<Option<Vec<u8>>, Error> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if is_absent(&error) => Ok(None),
        Err(error) => Err(Error::file("read", path)(error)),
    }
}

/// Removes a file; already gone is done.
pub(crate) fn remove(path: &Path) -> Result<(), Error> {
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
