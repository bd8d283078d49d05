//! Who waits for an answer of the director: for a change to be programmed, or for something new.

use std::time::Instant;

use tokio::sync::oneshot;
use zeugma_api::ServiceView;
use zeugma_catalogue::Revision;

use super::director::PATIENCE;

/// All of them.
#[derive(Default)]
pub(super) struct Waiting {
    settle: Vec<(Revision, Instant, oneshot::Sender<Vec<String>>)>,
    watch: Vec<oneshot::Sender<(u64, Vec<ServiceView>)>>,
    /// Counts what was told, so that nobody misses anything between two questions.
    pub(super) state: u64,
}

impl Waiting {
    /// Waits until a revision is programmed.
    pub(super) fn settles(&mut self, revision: Revision, told: oneshot::Sender<Vec<String>>, now: Instant) {
        self.settle.push((revision, now + PATIENCE, told));
    }

    /// Waits for anything new.
    pub(super) fn watches(&mut self, told: oneshot::Sender<(u64, Vec<ServiceView>)>) {
        self.watch.retain(|told| !told.is_closed());
        self.watch.push(told);
    }

    /// Everything up to a revision is programmed, or refused.
    pub(super) fn settled(&mut self, until: Revision, problems: impl Fn(Option<Revision>) -> Vec<String>) {
        let reached = |(revision, ..): &mut (Revision, _, _)| *revision <= until;
        for (revision, _, told) in self.settle.extract_if(.., reached) {
            let _ = told.send(problems(Some(revision)));
        }
    }

    /// Something is new.
    pub(super) fn changed(&mut self, views: impl Fn() -> Vec<ServiceView>) {
        self.state += 1;
        self.watch.retain(|told| !told.is_closed());
        if !self.watch.is_empty() {
            let views = views();
            for told in self.watch.drain(..) {
                let _ = told.send((self.state, views.clone()));
            }
        }
    }

    /// When somebody has waited long enough.
    pub(super) fn patience(&self) -> Option<Instant> {
        self.settle.iter().map(|(_, until, _)| *until).min()
    }

    /// Tells them so.
    pub(super) fn lose_patience(&mut self, now: Instant) {
        let is_over = |(_, until, _): &mut (_, Instant, _)| *until <= now;
        for (revision, _, told) in self.settle.extract_if(.., is_over) {
            let secs = PATIENCE.as_secs();
            let line = format!(
                "revision {revision} is written and not programmed here after {secs} s: `zeugma service ls` shows \
                 what is"
            );
            let _ = told.send(vec![line]);
        }
    }
}
