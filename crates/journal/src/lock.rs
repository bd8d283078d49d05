//! Locks among our own short-lived processes: flock(2) on files below the run directory.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
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

/// flock(2) wants a file that is open, be it for reading: who may read it can keep everybody out.
const OWNER_ALONE: u32 = 0o600;

/// A lock, released when dropped and when the process ends.
#[derive(Debug)]
pub struct Lock {
    file: Flock<File>,
    /// The file goes with the lock.
    transient: Option<PathBuf>,
}

impl Lock {
    /// Keeps everybody else out.
    ///
    /// # Errors
    /// [`Error::Busy`] after ten seconds.
    pub fn exclusive(name: &str) -> Result<Self, Error> {
        wait(&path(name), FlockArg::LockExclusiveNonblock)
    }

    /// Keeps everybody else out, and waits no longer than this for those who are in.
    ///
    /// # Errors
    /// [`Error::Busy`] then.
    pub fn exclusive_within(name: &str, patience: Duration) -> Result<Self, Error> {
        wait_for(&path(name), FlockArg::LockExclusiveNonblock, patience)
    }

    /// Shares with others who share.
    ///
    /// # Errors
    /// [`Error::Busy`] after ten seconds.
    pub fn shared(name: &str) -> Result<Self, Error> {
        wait(&path(name), FlockArg::LockSharedNonblock)
    }

    /// Keeps everybody else out, and leaves no file behind: for things that come and go, such as namespaces.
    ///
    /// # Errors
    /// [`Error::Busy`] after ten seconds.
    pub fn transient(name: &str) -> Result<Self, Error> {
        transient(&path(name))
    }

    /// Keeps everybody else out, or none when somebody is in.
    pub fn try_exclusive(name: &str) -> Result<Option<Self>, Error> {
        let path = path(name);
        match Flock::lock(open(&path)?, FlockArg::LockExclusiveNonblock) {
            Ok(file) => Ok(Some(Self { file, transient: None })),
            Err((_, Errno::EWOULDBLOCK)) => Ok(None),
            Err((_, errno)) => Err(Error::file("lock", path)(errno.into())),
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        if let Some(path) = &self.transient {
            // A file that stays is an empty one.
            let _ = fs::remove_file(path);
        }
    }
}

/// Whoever had the lock before may have removed the file that we were waiting for: then it keeps nobody out.
fn transient(path: &Path) -> Result<Lock, Error> {
    loop {
        let mut lock = wait(path, FlockArg::LockExclusiveNonblock)?;
        let held = lock.file.metadata().map_err(Error::file("look at", path))?;
        if fs::metadata(path).is_ok_and(|now| (now.dev(), now.ino()) == (held.dev(), held.ino())) {
            lock.transient = Some(path.into());
            return Ok(lock);
        }
    }
}

fn path(name: &str) -> PathBuf {
    run_dir().join("locks").join(name)
}

fn open(path: &Path) -> Result<File, Error> {
    let mut options = OpenOptions::new();
    options.create(true).truncate(false).write(true).mode(OWNER_ALONE);
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
    wait_for(path, kind, PATIENCE)
}

fn wait_for(path: &Path, kind: FlockArg, patience: Duration) -> Result<Lock, Error> {
    let mut file = open(path)?;
    let start = Instant::now();
    let mut pause = FIRST_PAUSE;
    loop {
        match Flock::lock(file, kind) {
            Ok(file) => return Ok(Lock { file, transient: None }),
            Err((unlocked, Errno::EWOULDBLOCK)) if start.elapsed() < patience => file = unlocked,
            Err((_, Errno::EWOULDBLOCK)) => {
                return Err(Error::Busy { path: path.into(), seconds: patience.as_secs() });
            }
            Err((unlocked, Errno::EINTR)) => file = unlocked,
            Err((_, errno)) => return Err(Error::file("lock", path)(errno.into())),
        }
        thread::sleep(pause);
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_else_can_take_a_lock() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lock");
        let _lock = wait(&path, FlockArg::LockExclusiveNonblock).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o077, 0);
    }

    #[test]
    fn a_lock_that_leaves_no_file_still_keeps_everybody_out() {
        const ROUNDS: u32 = 50;
        const THREADS: u32 = 8;
        let directory = tempfile::tempdir().unwrap();
        let (path, counter) = (directory.path().join("lock"), directory.path().join("counter"));
        fs::write(&counter, "0").unwrap();
        let count = || -> u32 { fs::read_to_string(&counter).unwrap().parse().unwrap() };
        thread::scope(|scope| {
            for _ in 0..THREADS {
                scope.spawn(|| {
                    for _ in 0..ROUNDS {
                        let _lock = transient(&path).unwrap();
                        fs::write(&counter, (count() + 1).to_string()).unwrap();
                    }
                });
            }
        });
        assert_eq!(count(), ROUNDS * THREADS);
        assert!(!path.exists());
    }
}
