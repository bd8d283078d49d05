//! A table in memory, kept current by following it. It outlives outages: what is known is served, and the state says
//! that it may be old. It does not outlive the process.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::sleep;

use crate::health::Pulse;
use crate::{Difference, Follower, Health, Revision, Row, Store, Stored};

/// How long to wait before a store that could not be listed is asked again.
const RETRY: Duration = Duration::from_millis(500);

/// Everything that is known of a table. Clones are cheap in values, not in names: keep the `Arc` instead.
#[derive(Debug)]
pub struct View<T> {
    /// By name.
    pub rows: BTreeMap<String, Arc<Row<T>>>,
    /// By name, why the last value there cannot be read. An older one that could be may still be in `rows`.
    pub unreadable: BTreeMap<String, String>,
    /// The last change in it; `None` before the first listing.
    pub revision: Option<Revision>,
}

impl<T> Clone for View<T> {
    fn clone(&self) -> Self {
        let View { rows, unreadable, revision } = self;
        View { rows: rows.clone(), unreadable: unreadable.clone(), revision: *revision }
    }
}

impl<T> View<T> {
    fn apply(&mut self, difference: Difference<T>) {
        for name in &difference.deleted {
            self.rows.remove(name);
            self.unreadable.remove(name);
        }
        for (name, row) in difference.put {
            self.unreadable.remove(&name);
            self.rows.insert(name, Arc::new(row));
        }
        let unreadable = difference.unreadable.into_iter();
        self.unreadable.extend(unreadable.map(|(name, error)| (name, error.to_string())));
        self.revision = Some(difference.revision);
    }
}

/// Mirrors the values of `T` as long as it lives. Made by [`Table::mirror`](crate::Table::mirror).
pub struct Mirror<T> {
    store: Arc<dyn Store>,
    view: watch::Receiver<Arc<View<T>>>,
    listed: watch::Receiver<Health>,
    task: JoinHandle<()>,
}

impl<T: Stored> Mirror<T> {
    pub(crate) fn start(store: Arc<dyn Store>) -> Mirror<T> {
        let empty = View { rows: BTreeMap::new(), unreadable: BTreeMap::new(), revision: None };
        let (sender, view) = watch::channel(Arc::new(empty));
        let pulse = Pulse::new(Health::Healthy);
        let listed = pulse.observe();
        let task = tokio::spawn(keep_current(Follower::new(store.clone()), sender, pulse));
        Mirror { store, view, listed, task }
    }

    /// What is known now. It is one moment of the table, and stays that. A view that is held makes the next change
    /// copy the map, so let it go.
    pub fn view(&self) -> Arc<View<T>> {
        self.view.borrow().clone()
    }

    /// The value of `name`, as far as is known.
    pub fn get(&self, name: &str) -> Option<Arc<Row<T>>> {
        self.view.borrow().rows.get(name).cloned()
    }

    /// Returns once the table has been listed.
    pub async fn ready(&mut self) {
        // It fails only when the runtime ends.
        let _ = self.view.wait_for(|view| view.revision.is_some()).await;
    }

    /// Returns once something is different from what this was called on last, or from what was there at the start.
    pub async fn changed(&mut self) {
        let _ = self.view.changed().await;
    }

    /// Whether what is known is what is: degraded while the store does not answer.
    pub fn health(&self) -> Health {
        match &*self.listed.borrow() {
            Health::Healthy => self.store.health().borrow().clone(),
            degraded => degraded.clone(),
        }
    }
}

impl<T> Drop for Mirror<T> {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn keep_current<T: Stored>(mut follower: Follower<T>, view: watch::Sender<Arc<View<T>>>, pulse: Pulse) {
    loop {
        let difference = follower.next().await;
        let failed = difference.is_err();
        pulse.beat(difference.as_ref());
        if let Ok(difference) = difference {
            // In place, unless somebody holds the view.
            view.send_modify(|view| Arc::make_mut(view).apply(difference));
        }
        if failed {
            sleep(RETRY).await;
        }
    }
}
