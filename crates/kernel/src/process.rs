//! What this process may use, and the end of others.

use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
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

/// A process that is meant, and no other one that got its number later.
#[derive(Debug)]
pub struct Process(OwnedFd);

impl Process {
    /// The one with this number that began at this time, in ticks since the machine did; none: it is gone.
    ///
    /// # Errors
    /// [`Error::System`].
    pub fn find(pid: i32, start: u64) -> Result<Option<Self>, Error> {
        let process = match sys::open_process(pid) {
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) => return Ok(None),
            process => process.map_err(|source| Error::System { action: "find a process", source })?,
        };
        // The number is read after the process is held.
        Ok((start_of(pid) == Some(start)).then_some(Self(process)))
    }

    /// Kills it and waits until it is gone; false: it is not, by the end of that time.
    ///
    /// # Errors
    /// [`Error::System`].
    pub fn end(&self, patience: Duration) -> Result<bool, Error> {
        let failed = |source: io::Error| Error::System { action: "kill a process", source };
        match sys::kill_process(self.0.as_fd()) {
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) => return Ok(true),
            killed => killed.map_err(failed)?,
        }
        let mut ends = [PollFd::new(self.0.as_fd(), PollFlags::POLLIN)];
        let patience = PollTimeout::try_from(patience).unwrap_or(PollTimeout::MAX);
        Ok(poll(&mut ends, patience).map_err(|errno| failed(errno.into()))? > 0)
    }
}

/// When the process with this number began, in ticks since the machine did (proc_pid_stat(5), field 22); none: there is
/// no such process, or it ended and nobody has asked how.
pub fn start_of(pid: i32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is the program's name in parentheses, and may have anything in it.
    let mut fields = text.rsplit_once(')')?.1.split_whitespace();
    if fields.next()? == "Z" {
        return None;
    }
    fields.nth(18)?.parse().ok()
}

/// Leaves the session that this process was started in: what ends that, or its terminal, does not end this.
///
/// # Errors
/// [`Error::System`] when it leads one already.
pub fn leave_session() -> Result<(), Error> {
    let left = nix::unistd::setsid();
    left.map(drop).map_err(|errno| Error::System { action: "leave the session", source: errno.into() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn the_process_that_is_meant_ends_and_no_other() {
        let mut child = Command::new("sleep").arg("600").spawn().unwrap();
        let pid = child.id().cast_signed();
        let start = start_of(pid).unwrap();
        assert!(Process::find(pid, start + 1).unwrap().is_none());
        let process = Process::find(pid, start).unwrap().unwrap();
        assert!(process.end(Duration::from_secs(30)).unwrap());
        assert!(!child.wait().unwrap().success());
        assert!(Process::find(pid, start).unwrap().is_none());
    }
}
