//! Locks among our own short-lived processes: flock(2) on files below the run directory.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use crate::{Error, run_dir};

/// How long a plugin waits for another before it gives up.
const PATIENCE: Duration = Duration::from_secs(10);
/// The pause between two tries grows from here …
const FIRST_PAUSE: Duration = Duration::from_micros(20);
/// … to here.
const LONGEST_PAUSE: Duration = Duration::from_millis(2);

/// A lock, released when dropped and when the process ends.
#[derive(Debug)]
pub struct Lock {
    _file: Flock<File>,
}

impl Lock {
    /// Keeps everybody else out.
    ///
    /// # Errors
    /// [`Error::Busy`] after ten seconds.
    pub fn exclusive(name: &str) -> Result<Self, Error> {
        wait(&path(name), FlockArg::LockExclusiveNonblock)
    }

    /// Shares with others who share.
    ///
    /// # Errors
    /// [`Error::Busy`] after ten seconds.
    pub fn shared(name: &str) -> Result<Self, Error> {
        wait(&path(name), FlockArg::LockSharedNonblock)
    }

    /// Keeps everybody else out, or none when somebody is in.
    pub fn try_exclusive(name: &str) -> Result<Option<Self>, Error> {
        let path = path(name);
        match Flock::lock(open(&path)?, FlockArg::LockExclusiveNonblock) {
            Ok(file) => Ok(Some(Self { _file: file })),
            Err((_, Errno::EWOULDBLOCK)) => Ok(None),
            Err((_, errno)) => Err(Error::file("lock", path)(errno.into())),
        }
    }
}

fn path(name: &str) -> PathBuf {
    run_dir().join("locks").join(name)
}

fn open(path: &Path) -> Result<File, Error> {
    let mut options = OpenOptions::new();
    options.create(true).truncate(false).write(true);
    match options.open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let directory = path.parent().unwrap_or(Path::new("/"));
            fs::create_dir_all(directory).map_err(Error::file("make", directory))?;
            options.open(path).map_err(Error::file("open", path))
        }
        result => result.map_err(Error::file("open", path)),
    }
}

fn wait(path: &Path, kind: FlockArg) -> Result<Lock, Error> {
    let mut file = open(path)?;
    let start = Instant::now();
    let mut pause = FIRST_PAUSE;
    loop {
        match Flock::lock(file, kind) {
            Ok(file) => return Ok(Lock { _file: file }),
            Err((unlocked, Errno::EWOULDBLOCK)) if start.elapsed() < PATIENCE => file = unlocked,
            Err((_, Errno::EWOULDBLOCK)) => {
                return Err(Error::Busy { path: path.into(), seconds: PATIENCE.as_secs() });
            }
            Err((unlocked, Errno::EINTR)) => file = unlocked,
            Err((_, errno)) => return Err(Error::file("lock", path)(errno.into())),
        }
        thread::sleep(pause);
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}
