//! The comparison with the whole journal: which attachments are to be looked at, a few at a time, so that nobody who
//! asks meanwhile waits for all of them. What is done about each is the loop's.

use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;
use zeugma_journal::Journal;
use zeugma_model::AttachmentId;

use crate::reconcile::Message;
use crate::scan;

/// Attachments that are looked at before the loop turns to others.
const AT_ONCE: usize = 16;

/// One comparison.
pub(crate) struct Whole {
    began: Instant,
    /// Still to be looked at; none: they are being listed.
    left: Option<Vec<AttachmentId>>,
}

impl Whole {
    /// The journal's directories are listed beside the loop, which hears of them.
    pub(crate) fn begin(journal: Journal, loop_: mpsc::Sender<Message>) -> Self {
        tokio::task::spawn_blocking(move || {
            // Nobody is there to listen when the agent ends.
            let _ = loop_.blocking_send(Message::Listed(scan::list(&journal)));
        });
        Self { began: Instant::now(), left: None }
    }

    /// These are in the journal, and those were before.
    pub(crate) fn listed<'a>(
        &mut self,
        mut ids: Vec<AttachmentId>,
        known: impl Iterator<Item = &'a AttachmentId>,
    ) {
        ids.sort_unstable();
        let gone: Vec<_> = known.filter(|id| ids.binary_search(id).is_err()).cloned().collect();
        ids.extend(gone);
        self.left = Some(ids);
    }

    /// Whether there is something to be looked at, or nothing any more.
    pub(crate) fn is_listed(&self) -> bool {
        self.left.is_some()
    }

    /// The next few.
    pub(crate) fn some(&mut self) -> Vec<AttachmentId> {
        let left = self.left.as_mut();
        left.map(|left| left.split_off(left.len().saturating_sub(AT_ONCE))).unwrap_or_default()
    }

    /// How long it took, when it is over.
    pub(crate) fn took(&self) -> Option<Duration> {
        self.left.as_ref().is_some_and(Vec::is_empty).then(|| self.began.elapsed())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_attachment_is_looked_at_once_whether_it_is_new_known_or_gone() {
        let id = |number: usize| AttachmentId {
            network: "net".parse().unwrap(),
            container: format!("c{number:03}").parse().unwrap(),
            ifname: "eth0".parse().unwrap(),
        };
        let known: Vec<_> = (0..50).map(id).collect();
        let mut whole = Whole { began: Instant::now(), left: None };
        assert!(!whole.is_listed() && whole.took().is_none() && whole.some().is_empty());
        whole.listed((25..100).rev().map(id).collect(), known.iter());
        let mut seen = Vec::new();
        while whole.took().is_none() {
            let some = whole.some();
            assert!((1..=AT_ONCE).contains(&some.len()));
            seen.extend(some);
        }
        seen.sort_unstable();
        assert_eq!(seen, (0..100).map(id).collect::<Vec<_>>());
    }
}
