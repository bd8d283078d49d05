//! Waiting for one of several files, and for being told to end.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

/// Which of the files can be read from (or are at their end), and which of them, where `writes` says so, written to.
/// Waits no longer than `patience`, without one for ever.
///
/// # Errors
/// Those of poll(2); a signal is none.
pub fn ready(files: &[(BorrowedFd<'_>, bool)], patience: Option<Duration>) -> io::Result<Vec<bool>> {
    let asked =
        |writes: bool| if writes { PollFlags::POLLIN | PollFlags::POLLOUT } else { PollFlags::POLLIN };
    let mut waiting: Vec<PollFd<'_>> =
        files.iter().map(|(file, writes)| PollFd::new(*file, asked(*writes))).collect();
    // A part of a millisecond is one: rounded down it would be asked for over and over.
    let milliseconds = |patience: Duration| patience.as_micros().div_ceil(1000);
    let patience = patience.map_or(PollTimeout::NONE, |patience| {
        PollTimeout::try_from(milliseconds(patience)).unwrap_or(PollTimeout::MAX)
    });
    match poll(&mut waiting, patience) {
        Ok(_) | Err(Errno::EINTR) => Ok(waiting.iter().map(|file| file.any().unwrap_or(false)).collect()),
        Err(errno) => Err(errno.into()),
    }
}

/// Hears SIGTERM and SIGINT, which end nothing by themselves any more.
#[derive(Debug)]
pub struct Ending(SignalFd);

impl Ending {
    /// From here on, for this thread: to be said before there are others.
    ///
    /// # Errors
    /// Those of signalfd(2).
    pub fn open() -> io::Result<Self> {
        let mut signals = SigSet::empty();
        signals.add(Signal::SIGTERM);
        signals.add(Signal::SIGINT);
        signals.thread_block()?;
        Ok(Self(SignalFd::with_flags(&signals, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?))
    }
}

impl AsFd for Ending {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
