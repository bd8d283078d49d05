//! Keeping a lease alive as long as something lives here. What a lease is: [`Store::grant`].

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};

use crate::{Error, LeaseId, Store};

/// Renewals within one time to live: two may fail.
const RENEWALS: u32 = 3;

/// A lease that is renewed until this is dropped. Then it is left to run out: revoke it to end it at once.
#[derive(Debug)]
pub struct Heartbeat {
    lease: LeaseId,
    lost: watch::Receiver<bool>,
    task: JoinHandle<()>,
}

impl Heartbeat {
    /// Gets a lease and keeps it.
    ///
    /// # Errors
    /// Those of [`Store::grant`].
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub async fn start(store: Arc<dyn Store>, ttl: Duration) -> Result<Heartbeat, Error> {
        let lease = store.grant(ttl).await?;
        let (sender, lost) = watch::channel(false);
        let period = Duration::from_secs(whole_seconds(ttl)) / RENEWALS;
        let task = tokio::spawn(async move {
            renew(store, lease, period).await;
            sender.send_replace(true);
        });
        Ok(Heartbeat { lease, lost, task })
    }

    /// Bind what lives here to this.
    pub fn lease(&self) -> LeaseId {
        self.lease
    }

    /// Returns when the lease has ended in spite of all, as after an outage: its keys are gone, and whoever
    /// registered them has to start over. Nothing is lost when the future is dropped.
    pub async fn lost(&mut self) {
        // The sender says it before it goes; it only goes without when the runtime ends.
        let _ = self.lost.wait_for(|lost| *lost).await;
    }
}

impl Drop for Heartbeat {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Returns when the lease has ended. A store that does not answer has not ended it yet.
async fn renew(store: Arc<dyn Store>, lease: LeaseId, period: Duration) {
    let mut next = Instant::now() + period;
    loop {
        sleep_until(next).await;
        next = Instant::now() + period;
        if let Err(Error::LeaseEnded { .. }) = store.keep_alive(lease).await {
            return;
        }
    }
}

/// etcd counts in whole seconds, and so does every store: never less than was asked for.
pub(crate) fn whole_seconds(ttl: Duration) -> u64 {
    let rest = u64::from(ttl.subsec_nanos() > 0);
    (ttl.as_secs() + rest).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_is_never_shorter_than_asked_for() {
        for (asked, given) in [(0, 1), (1, 1), (999, 1), (1000, 1), (1001, 2), (30_000, 30)] {
            assert_eq!(whole_seconds(Duration::from_millis(asked)), given, "{asked} ms");
        }
    }
}
