//! Sockets that the service manager opened for this process: sd_listen_fds(3), without its library.

use std::env;
use std::os::fd::OwnedFd;
use std::os::fd::RawFd;

use crate::{Error, sys};

/// The first descriptor that is handed over.
const FIRST: RawFd = 3;

/// The sockets by `LISTEN_FDS`, when `LISTEN_PID` means this process. To be called once.
///
/// # Errors
/// [`Error::System`] when one is not there.
pub fn activated() -> Result<Vec<OwnedFd>, Error> {
    let number = |name| env::var(name).ok()?.parse::<u32>().ok();
    if number("LISTEN_PID") != Some(std::process::id()) {
        return Ok(Vec::new());
    }
    let count = RawFd::try_from(number("LISTEN_FDS").unwrap_or(0)).unwrap_or(0);
    let inherit = |fd| {
        sys::inherit(fd)
            .map_err(|source| Error::System { action: "take over a socket of LISTEN_FDS", source })
    };
    (FIRST..FIRST.saturating_add(count)).map(inherit).collect()
}

/// The sockets as by [`activated`], each with its name of `LISTEN_FDNAMES`. To be called once, and instead of it.
///
/// # Errors
/// As there.
pub fn handed_over() -> Result<Vec<(String, OwnedFd)>, Error> {
    let names = env::var("LISTEN_FDNAMES").unwrap_or_default();
    let names = names.split(':').map(str::to_owned).chain(std::iter::repeat(String::new()));
    Ok(names.zip(activated()?).collect())
}
