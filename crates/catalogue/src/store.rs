//! What every store can do. The stores are in `embedded` and `etcd`; what their users see of them is this trait.

use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::{mpsc, watch};

use crate::memory::Heard;
use crate::{Error, Health, Item, Key, Kind, LeaseId, Listing, Notice, Outcome, Revision, Transaction};

/// Keyed values with revisions, of one machine or of a cluster.
///
/// * Transactions happen one after the other; each has a revision, higher than all before. Nobody sees a part of one.
/// * A read sees every transaction that was acknowledged before it began.
/// * A watch tells all changes after a revision, in order, each once, however often the way to the store breaks.
/// * What was acknowledged is on disk.
#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// The value of `key`.
    ///
    /// # Errors
    /// When the store cannot be read.
    async fn get(&self, key: &Key) -> Result<Option<Item>, Error>;

    /// The values of `kind` whose names begin with `prefix`; all of them when it is empty.
    ///
    /// # Errors
    /// When the store cannot be read.
    async fn list(&self, kind: Kind, prefix: &str) -> Result<Listing, Error>;

    /// What happens to `kinds` after `after`, as of [`Listing::revision`]: the past first, then as it comes.
    /// It goes on until it is dropped, says [`Notice::Compacted`], or the store is closed.
    ///
    /// # Errors
    /// When the store cannot be read now. Later outages only delay what comes.
    async fn watch(&self, kinds: &[Kind], after: Revision) -> Result<Watch, Error>;

    /// Does all of `transaction`, or nothing.
    ///
    /// # Errors
    /// [`Error::LeaseEnded`] and [`Error::TooLarge`]; when the store cannot be written; and
    /// [`Error::Unacknowledged`] when nobody knows whether it happened.
    async fn commit(&self, transaction: Transaction) -> Result<Outcome, Error>;

    /// A lease for at least `ttl`, which is counted from each [`Store::keep_alive`], in whole seconds of at least 1;
    /// a store may give longer ones.
    ///
    /// # Errors
    /// When the store cannot be written.
    async fn grant(&self, ttl: Duration) -> Result<LeaseId, Error>;

    /// Lets the time of `lease` begin anew.
    ///
    /// # Errors
    /// [`Error::LeaseEnded`]; when the store does not answer.
    async fn keep_alive(&self, lease: LeaseId) -> Result<(), Error>;

    /// Ends `lease`: its keys vanish in one transaction. One that has ended is no error.
    ///
    /// # Errors
    /// When the store cannot be written.
    async fn revoke(&self, lease: LeaseId) -> Result<(), Error>;

    /// Whether the store answers, as it turns.
    fn health(&self) -> watch::Receiver<Health>;
}

/// What a store says of changes. Dropped, it ends.
#[derive(Debug)]
pub struct Watch {
    notices: mpsc::Receiver<Notice>,
    /// Who writes down what changes.
    memory: Option<mpsc::UnboundedSender<Heard>>,
}

impl Watch {
    /// Notices that wait for a slow reader; the store's own history is what really holds them.
    const WAITING: usize = 16;

    pub(crate) fn channel() -> (mpsc::Sender<Notice>, Watch) {
        let (sender, notices) = mpsc::channel(Watch::WAITING);
        (sender, Watch { notices, memory: None })
    }

    /// The next notice; `None` once nothing comes any more: after [`Notice::Compacted`], or when the store was
    /// closed. Nothing is lost when the future is dropped.
    pub async fn next(&mut self) -> Option<Notice> {
        let notice = self.notices.recv().await;
        if let (Some(memory), Some(Notice::Changes(changes))) = (&self.memory, &notice) {
            // Without a memory nobody hears it, and nobody has to.
            let _ = memory.send(Heard::Changes(changes.clone()));
        }
        notice
    }

    pub(crate) fn heard_by(self, memory: mpsc::UnboundedSender<Heard>) -> Watch {
        Watch { memory: Some(memory), ..self }
    }
}
