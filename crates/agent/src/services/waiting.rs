//! Who waits for an answer of the director: for a change to be programmed, or for something new.

use std::time::Instant;

use tokio::sync::oneshot;
use zeugma_api::ServiceView;
use zeugma_catalogue::Revision;
use zeugma_model::ServiceName;

use super::director::PATIENCE;
use super::{What, Write};

/// How far the tables were followed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) services: Revision,
    pub(super) endpoints: Revision,
}

impl Seen {
    /// Whether the write is in it.
    fn has(self, write: &Write) -> bool {
        let seen = match write.what {
            What::Service => self.services,
            What::Endpoint => self.endpoints,
        };
        write.revision <= seen
    }
}

/// All of them.
#[derive(Default)]
pub(super) struct Waiting {
    settle: Vec<(Write, Instant, oneshot::Sender<Vec<String>>)>,
    watch: Vec<oneshot::Sender<(u64, Vec<ServiceView>)>>,
    /// Counts what was told, so that nobody misses anything between two questions.
    pub(super) state: u64,
}

impl Waiting {
    /// Waits until a write is programmed.
    pub(super) fn settles(&mut self, write: Write, told: oneshot::Sender<Vec<String>>, now: Instant) {
        self.settle.push((write, now + PATIENCE, told));
    }

    /// Waits for anything new.
    pub(super) fn watches(&mut self, told: oneshot::Sender<(u64, Vec<ServiceView>)>) {
        self.watch.retain(|told| !told.is_closed());
        self.watch.push(told);
    }

    /// Everything that was seen is programmed, or refused.
    pub(super) fn settled(&mut self, seen: Seen, problems: impl Fn(&ServiceName) -> Vec<String>) {
        let reached = |(write, ..): &mut (Write, _, _)| seen.has(write);
        for (write, _, told) in self.settle.extract_if(.., reached) {
            let _ = told.send(problems(&write.service));
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
        let is_over = |(_, until, _): &mut (Write, Instant, _)| *until <= now;
        for (Write { revision, .. }, _, told) in self.settle.extract_if(.., is_over) {
            let secs = PATIENCE.as_secs();
            let line = format!(
                "revision {revision} is written and not programmed here after {secs} s: `zeugma service ls` shows \
                 what is"
            );
            let _ = told.send(vec![line]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_writes_waits_for_the_table_that_was_written() {
        let (mut waiting, now) = (Waiting::default(), Instant::now());
        let mut waits = |what| {
            let (told, hears) = oneshot::channel();
            let service = "web".parse().unwrap();
            waiting.settles(Write { service, what, revision: Revision(7) }, told, now);
            hears
        };
        let (mut service, mut endpoint) = (waits(What::Service), waits(What::Endpoint));
        let problems = |service: &ServiceName| vec![service.to_string()];
        waiting.settled(Seen { services: Revision(6), endpoints: Revision(7) }, problems);
        assert!(service.try_recv().is_err());
        assert_eq!(endpoint.try_recv().unwrap(), ["web"]);
        waiting.settled(Seen { services: Revision(7), endpoints: Revision(7) }, problems);
        assert_eq!(service.try_recv().unwrap(), ["web"]);
    }
}
