//! The store of one machine: a file, owned by one process, every transaction on disk when it is acknowledged.
//!
//! Here is what waits: calls, watches, leases that run out. What is written: `ledger.rs`.

mod deadlines;
pub(crate) mod file;
mod ledger;
#[cfg(test)]
mod tests;

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};

use crate::health::Pulse;
use crate::{
    Error, Health, Item, Key, Kind, LeaseId, Listing, Notice, Outcome, Revision, Store, Transaction, Watch,
};
use deadlines::Deadlines;
use ledger::{History, Ledger};

/// How long a lease whose keys could not be deleted waits for the next attempt.
const RETRY: Duration = Duration::from_secs(1);

/// The store in a file. When it is dropped the file is closed, and its watches end.
#[derive(Debug)]
pub struct Embedded {
    core: Arc<Core>,
}

#[derive(Debug)]
struct Core {
    ledger: Ledger,
    /// Whose turn it is to write. The database has one writer, too, but waiting for it would take a thread each.
    turn: Arc<tokio::sync::Mutex<()>>,
    deadlines: Mutex<Deadlines>,
    /// When the next lease ends.
    next_end: watch::Sender<Option<Instant>>,
    revision: watch::Sender<Revision>,
    pulse: Pulse,
}

impl Embedded {
    /// Changes that the history keeps. A watch that was away for more has to list again.
    pub const HISTORY: u64 = 10_000;

    /// Opens the file at `path`, or makes it, with its directory. Every lease that was there lives on, and its time
    /// begins anew: who held it could not renew it while nobody was here.
    ///
    /// # Errors
    /// [`Error::Owned`] when another process has it; [`Error::Format`]; [`Error::File`].
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub async fn open(path: impl AsRef<Path>) -> Result<Embedded, Error> {
        Embedded::with_history(path, Embedded::HISTORY).await
    }

    /// [`Embedded::open`] with another length of the history, in changes.
    ///
    /// # Errors
    /// Those of [`Embedded::open`].
    pub async fn with_history(path: impl AsRef<Path>, kept: u64) -> Result<Embedded, Error> {
        let path = path.as_ref().to_owned();
        let (ledger, leases, revision) = blocking(move || {
            let ledger = Ledger::open(&path, kept)?;
            let (leases, revision) = (ledger.leases()?, ledger.revision()?);
            Ok((ledger, leases, revision))
        })
        .await?;
        let (mut deadlines, now) = (Deadlines::default(), Instant::now());
        leases.into_iter().for_each(|(lease, ttl)| deadlines.granted(lease, ttl, now));
        let next_end = watch::Sender::new(deadlines.next());
        let core = Arc::new(Core {
            ledger,
            turn: Arc::default(),
            deadlines: Mutex::new(deadlines),
            next_end,
            revision: watch::Sender::new(revision),
            pulse: Pulse::new(Health::Healthy),
        });
        tokio::spawn(end_leases(Arc::downgrade(&core), core.next_end.subscribe()));
        Ok(Embedded { core })
    }
}

impl Core {
    async fn read<T: Send + 'static>(
        self: &Arc<Self>,
        read: impl FnOnce(&Ledger) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let core = self.clone();
        let answer = blocking(move || read(&core.ledger)).await;
        self.heard(&answer);
        answer
    }

    /// All that has to happen with a write is inside `write`: it goes on when the caller no longer waits.
    async fn write<T: Send + 'static>(
        self: &Arc<Self>,
        write: impl FnOnce(&Core) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let (core, turn) = (self.clone(), self.turn.clone().lock_owned().await);
        let answer = blocking(move || {
            let _turn = turn;
            write(&core)
        });
        let answer = answer.await;
        self.heard(&answer);
        answer
    }

    /// Only what the file says is about health; a conflict or a lease that ended is the caller's.
    fn heard<T>(&self, answer: &Result<T, Error>) {
        match answer {
            Err(error @ Error::File { .. }) => self.pulse.beat(Err::<(), _>(error)),
            _ => self.pulse.beat(Ok::<_, &Error>(())),
        }
    }

    fn told(&self, revision: Revision) {
        self.revision.send_if_modified(|last| {
            let is_new = revision > *last;
            *last = revision.max(*last);
            is_new
        });
    }

    fn commit(&self, transaction: Transaction) -> Result<Outcome, Error> {
        let is_live = |lease| self.deadlines(|deadlines| deadlines.is_live(lease, Instant::now()));
        let outcome = self.ledger.commit(transaction, is_live)?;
        if let Outcome::Committed(revision) = outcome {
            self.told(revision);
        }
        Ok(outcome)
    }

    fn grant(&self, ttl: Duration) -> Result<LeaseId, Error> {
        let lease = self.ledger.grant(ttl)?;
        self.deadlines(|deadlines| deadlines.granted(lease, ttl, Instant::now()));
        Ok(lease)
    }

    fn revoke(&self, lease: LeaseId) -> Result<(), Error> {
        let revision = self.ledger.revoke(lease)?;
        self.deadlines(|deadlines| deadlines.ended(lease));
        self.told(revision);
        Ok(())
    }

    /// Looks at the deadlines or changes them; whoever waits for the next end hears of it.
    fn deadlines<T>(&self, look: impl FnOnce(&mut Deadlines) -> T) -> T {
        // Nothing in here panics half way, so what a panicked holder left is whole.
        let mut deadlines = self.deadlines.lock().unwrap_or_else(PoisonError::into_inner);
        let seen = look(&mut deadlines);
        let next = deadlines.next();
        self.next_end.send_if_modified(|known| std::mem::replace(known, next) != next);
        seen
    }
}

#[async_trait]
impl Store for Embedded {
    async fn get(&self, key: &Key) -> Result<Option<Item>, Error> {
        let key = key.clone();
        self.core.read(move |ledger| ledger.get(&key)).await
    }

    async fn list(&self, kind: Kind, prefix: &str) -> Result<Listing, Error> {
        let prefix = prefix.to_owned();
        self.core.read(move |ledger| ledger.list(kind, &prefix)).await
    }

    async fn watch(&self, kinds: &[Kind], after: Revision) -> Result<Watch, Error> {
        let (sender, watch) = Watch::channel();
        let story = Story { core: Arc::downgrade(&self.core), kinds: kinds.to_vec(), after };
        tokio::spawn(story.tell(self.core.revision.subscribe(), sender));
        Ok(watch)
    }

    async fn commit(&self, transaction: Transaction) -> Result<Outcome, Error> {
        transaction.check()?;
        self.core.write(move |core| core.commit(transaction)).await
    }

    async fn grant(&self, ttl: Duration) -> Result<LeaseId, Error> {
        let ttl = Duration::from_secs(crate::lease::whole_seconds(ttl));
        self.core.write(move |core| core.grant(ttl)).await
    }

    async fn keep_alive(&self, lease: LeaseId) -> Result<(), Error> {
        let renewed = self.core.deadlines(|deadlines| deadlines.renewed(lease, Instant::now()));
        if renewed { Ok(()) } else { Err(Error::LeaseEnded { lease }) }
    }

    async fn revoke(&self, lease: LeaseId) -> Result<(), Error> {
        self.core.write(move |core| core.revoke(lease)).await
    }

    fn health(&self) -> watch::Receiver<Health> {
        self.core.pulse.observe()
    }
}

/// What one watch tells.
struct Story {
    core: Weak<Core>,
    kinds: Vec<Kind>,
    after: Revision,
}

impl Story {
    /// Until nobody listens, the history is gone, or the store is closed.
    async fn tell(mut self, mut revision: watch::Receiver<Revision>, listener: mpsc::Sender<Notice>) {
        loop {
            let newest = *revision.borrow_and_update();
            while self.after < newest {
                let Some(notice) = self.next().await else { return };
                let is_last = notice == Notice::Compacted;
                let is_empty = matches!(&notice, Notice::Changes(changes) if changes.is_empty());
                if !is_empty && listener.send(notice).await.is_err() || is_last {
                    return;
                }
            }
            tokio::select! {
                changed = revision.changed() => if changed.is_err() { return },
                () = listener.closed() => return,
            }
        }
    }

    /// The next portion; `None` when the store is closed or cannot be read, which ends the watch: its reader lists
    /// again and learns why.
    async fn next(&mut self) -> Option<Notice> {
        let (kinds, after) = (self.kinds.clone(), self.after);
        let core = self.core.upgrade()?;
        match core.read(move |ledger| ledger.history(&kinds, after)).await.ok()? {
            History::Changes { changes, upto } => {
                self.after = upto;
                Some(Notice::Changes(changes))
            }
            History::Compacted => Some(Notice::Compacted),
        }
    }
}

/// Ends every lease whose time is over, as long as there is a store.
async fn end_leases(core: Weak<Core>, mut next_end: watch::Receiver<Option<Instant>>) {
    loop {
        let next = *next_end.borrow_and_update();
        tokio::select! {
            changed = next_end.changed() => if changed.is_err() { return },
            () = sleep_until(next.unwrap_or_else(Instant::now)), if next.is_some() => {
                let Some(core) = core.upgrade() else { return };
                if core.write(end_those_over).await.is_err() {
                    drop(core);
                    tokio::time::sleep(RETRY).await;
                }
            }
        }
    }
}

/// In the turn of a writer: nobody renews a lease between the look at the clock and its end without being told.
fn end_those_over(core: &Core) -> Result<(), Error> {
    let over = core.deadlines(|deadlines| deadlines.over(Instant::now()));
    over.into_iter().try_for_each(|lease| core.revoke(lease))
}

/// Files are slow and the runtime's threads few.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        Err(_) => Err(Error::Closed),
    }
}
