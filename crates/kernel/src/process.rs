//! What this process may use.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::{Error, sys};

/// Gives the kernel back what was allocated for a while and is free now: an allocator keeps that for later, which for
/// a process that rarely does large things is for nothing.
pub fn give_back_memory() {
    sys::trim_heap();
}

/// Makes all threads of this process take memory from one heap, which is to be said before there are any: an allocator
/// gives each one of its own, and what one of them is done with is of no use to the others.
pub fn share_memory() {
    sys::share_heap();
}

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

/// Leaves the session that this process was started in: what ends that, or its terminal, does not end this.
///
/// # Errors
/// [`Error::System`] when it leads one already.
pub fn leave_session() -> Result<(), Error> {
    let left = nix::unistd::setsid();
    left.map(drop).map_err(|errno| Error::System { action: "leave the session", source: errno.into() })
}
