//! The reference's lock: flock(2) on the file `lock` in the lease directory, waited for with a bound.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::time::Duration;

/// Opens `lock` in `directory` and locks it; none when another process held it for all of `patience`.
///
/// The lock ends with the file, so also with the process however that ends.
pub(super) fn lock(directory: &Path, patience: Duration) -> io::Result<Option<File>> {
    let path = directory.join("lock");
    let file = OpenOptions::new().read(true).append(true).create(true).mode(0o640).open(path)?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => wait(file, patience),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// A thread queues in the kernel, which is fair and wakes at once; polling is neither. When it comes too late
/// nobody takes the file from it, and dropping it unlocks.
fn wait(file: File, patience: Duration) -> io::Result<Option<File>> {
    let (sender, receiver) = sync_channel(1);
    std::thread::Builder::new().spawn(move || {
        let locked = file.lock().map(|()| file);
        let _ = sender.send(locked);
    })?;
    match receiver.recv_timeout(patience) {
        Ok(locked) => locked.map(Some),
        Err(RecvTimeoutError::Timeout) => Ok(None),
        Err(RecvTimeoutError::Disconnected) => {
            Err(io::Error::other("the thread that waits for the lock ended"))
        }
    }
}
