//! What this process may use.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::Error;

/// Lets this process open as many files as it may at most (the soft limit becomes the hard one), and says how many.
///
/// # Errors
/// [`Error::System`].
pub fn raise_open_files() -> Result<u64, Error> {
    let cannot =
        |errno: nix::Error| Error::System { action: "raise the limit of open files", source: errno.into() };
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).map_err(cannot)?;
    setrlimit(Resource::RLIMIT_NOFILE, most, most).map_err(cannot)?;
    Ok(most)
}
