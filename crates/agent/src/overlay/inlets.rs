//! What the director hears of, in one place.

use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval, timeout_at};
use zeugma_kernel::overlay::Noticed;
use zeugma_model::{Alive, Block, Network, Node};

use super::Ask;
use super::membership::Done;
use crate::figures::Figures;
use crate::follow::{Told, follow};
use crate::services::Catalogue;

/// Between two looks at what nobody tells of.
const TICK: Duration = Duration::from_secs(1);
/// What comes this soon after something else is one change with it,
const BURST: Duration = Duration::from_millis(3);
/// but no longer than this.
const LONGEST: Duration = Duration::from_millis(50);

/// Something that the director hears.
pub(super) enum Heard {
    Networks(Told<Network>),
    Nodes(Told<Node>),
    Blocks(Told<Block>),
    Alive(Told<Alive>),
    Ask(Ask),
    /// What became of what was to be written.
    Done(Result<Done, zeugma_catalogue::Error>),
    /// Containers came or went.
    Attached,
    /// It is time for a look at what nobody tells of.
    Tick,
    /// Another catalogue answers in the place of this one, or that is over.
    Catalogue,
    /// Somebody else changed what is ours, or addresses of this host.
    Kernel(Noticed),
}

impl Heard {
    /// Whether everything is to be looked at again. Who lives matters to nobody but who asks.
    pub(super) fn is_news(&self) -> bool {
        match self {
            Heard::Networks(_) | Heard::Nodes(_) | Heard::Blocks(_) | Heard::Done(_) => true,
            Heard::Attached | Heard::Catalogue | Heard::Kernel(Noticed::Objects) => true,
            Heard::Alive(_) | Heard::Ask(_) | Heard::Tick | Heard::Kernel(Noticed::Addresses) => false,
        }
    }
}

/// All that it hears of.
pub(super) struct Inlets {
    networks: mpsc::Receiver<Told<Network>>,
    nodes: mpsc::Receiver<Told<Node>>,
    blocks: mpsc::Receiver<Told<Block>>,
    alive: mpsc::Receiver<Told<Alive>>,
    asked: mpsc::Receiver<Ask>,
    attached: watch::Receiver<Figures>,
    /// How many containers were told of last, and how often names changed by then.
    containers: (usize, u64),
    /// What answers in the place of the catalogue.
    other: watch::Receiver<Option<String>>,
    done: mpsc::UnboundedReceiver<Result<Done, zeugma_catalogue::Error>>,
    /// Where what is written is told.
    pub(super) writer: mpsc::UnboundedSender<Result<Done, zeugma_catalogue::Error>>,
    ticks: Interval,
}

impl Inlets {
    pub(super) fn new(
        catalogue: &Catalogue,
        asked: mpsc::Receiver<Ask>,
        attached: watch::Receiver<Figures>,
    ) -> Self {
        let (writer, done) = mpsc::unbounded_channel();
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self {
            networks: follow(catalogue),
            nodes: follow(catalogue),
            blocks: follow(catalogue),
            alive: follow(catalogue),
            asked,
            attached,
            containers: (0, 0),
            other: catalogue.id.other(),
            done,
            writer,
            ticks,
        }
    }

    /// The next of it; none: the agent ends. Nothing is lost when the future is dropped.
    pub(super) async fn next(&mut self) -> Option<Heard> {
        tokio::select! {
            some = self.networks.recv() => some.map(Heard::Networks),
            some = self.nodes.recv() => some.map(Heard::Nodes),
            some = self.blocks.recv() => some.map(Heard::Blocks),
            some = self.alive.recv() => some.map(Heard::Alive),
            some = self.asked.recv() => some.map(Heard::Ask),
            some = self.done.recv() => some.map(Heard::Done),
            changed = self.attached.changed() => changed.ok().map(|()| self.counted()),
            Ok(()) = self.other.changed() => Some(Heard::Catalogue),
            _ = self.ticks.tick() => Some(Heard::Tick),
        }
    }

    /// Figures are told every few seconds, whether containers came or went or not.
    fn counted(&mut self) -> Heard {
        let figures = self.attached.borrow_and_update();
        let now = (figures.attachments, figures.generation);
        drop(figures);
        match std::mem::replace(&mut self.containers, now) == now {
            true => Heard::Tick,
            false => Heard::Attached,
        }
    }

    /// What was heard, with all that comes right after it.
    pub(super) async fn burst(&mut self, first: Heard) -> Vec<Heard> {
        let (mut heard, end) = (vec![first], Instant::now() + LONGEST);
        while !matches!(heard.last(), Some(Heard::Ask(_) | Heard::Done(_))) {
            let until = end.min(Instant::now() + BURST);
            match timeout_at(until, self.next()).await {
                Ok(Some(next)) => heard.push(next),
                _ => break,
            }
        }
        heard
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use zeugma_catalogue::{Embedded, Store};

    use super::*;
    use crate::services::CatalogueId;

    #[tokio::test]
    async fn figures_are_news_when_containers_came_or_went() {
        let root = tempfile::tempdir().unwrap();
        let store: Arc<dyn Store> = Arc::new(Embedded::open(root.path().join("a.redb")).await.unwrap());
        let (service_ranges, store_at) = Default::default();
        let node = "a".parse().unwrap();
        let catalogue = Catalogue { store, id: CatalogueId::default(), node, service_ranges, store_at };
        let (figures, attached) = watch::channel(Figures::default());
        let (_asks, asked) = mpsc::channel(1);
        let mut inlets = Inlets::new(&catalogue, asked, attached);
        let mut is_news = |attachments, listeners_open| {
            figures.send_replace(Figures { attachments, listeners_open, ..Figures::default() });
            inlets.counted().is_news()
        };
        assert_eq!([is_news(1, 0), is_news(1, 1), is_news(1, 1), is_news(2, 1)], [true, false, false, true]);
    }
}
