//! Sysctls: files below /proc/sys, those of /proc/sys/net seen from the thread's namespace.

use std::fs;
use std::io;

use zeugma_plan::Sysctl;

use crate::Error;

/// The value without its newline; none when there is no such file.
pub(crate) fn read(path: &str) -> Result<Option<String>, Error> {
    match fs::read_to_string(format!("/proc/sys/{path}")) {
        Ok(text) => Ok(Some(text.trim_end().to_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(Error::Sysctl { path: path.into(), source }),
    }
}

/// Writes the value unless it is there already: writing takes the kernel's lock, reading does not.
pub(crate) fn set(sysctl: &Sysctl) -> Result<(), Error> {
    let path = format!("/proc/sys/{}", sysctl.path);
    if fs::read_to_string(&path).is_ok_and(|now| now.trim_end() == sysctl.value) {
        return Ok(());
    }
    match fs::write(&path, &sysctl.value) {
        Err(error) if error.kind() == io::ErrorKind::NotFound && sysctl.optional => Ok(()),
        Err(source) => Err(Error::Sysctl { path: sysctl.path.clone(), source }),
        Ok(()) => Ok(()),
    }
}
