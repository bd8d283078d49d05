//! The resolver's listeners as they are: opened, closed, tried again. Where they are to be is `desired::listeners`.
//!
//! Opening may wait for the kernel, and naming who has a port reads all of /proc: both happen on other threads, and
//! the loop hears of the outcome.

use std::collections::BTreeMap;
use std::mem;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use zeugma_dns::server::{Audience, Listener, ListenerId, Resolver};
use zeugma_journal::NetnsRef;
use zeugma_kernel::{Error, SocketPair, pair, pair_inside};

use crate::desired::Desired;
use crate::desired::listeners::{Place, Step, named, step};
use crate::handover::{self, Inherited};
use crate::reconcile::Message;

/// A listener that did not open is tried again after this, then after twice as long …
const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// … and so on up to this.
const LONGEST_PAUSE: Duration = Duration::from_secs(16);

/// All places where somebody wants to ask.
pub(crate) struct Listeners {
    slots: BTreeMap<Place, Slot>,
    inherited: Inherited,
    resolver: Arc<Resolver>,
    loop_: mpsc::Sender<Message>,
}

struct Slot {
    audience: Audience,
    state: State,
    /// Told when it is open, or cannot be opened.
    waiting: Vec<oneshot::Sender<()>>,
}

enum State {
    Opening {
        pause: Duration,
    },
    Open {
        listener: ListenerId,
        netns: Option<NetnsRef>,
    },
    Failed {
        reason: String,
        pause: Duration,
        again: Instant,
    },
    /// The container's namespace is gone, and only DEL has not been heard of.
    Over,
}

impl Slot {
    fn settle(&mut self, state: State) {
        self.state = state;
        for waiting in mem::take(&mut self.waiting) {
            // A plugin that waits no more has heard enough.
            let _ = waiting.send(());
        }
    }

    fn fail(&mut self, place: &Place, reason: String, pause: Duration) {
        if pause == FIRST_PAUSE {
            let of = named(&self.audience);
            tracing::warn!(%place, of, reason, "not listening: tried again until it works");
        }
        self.settle(State::Failed { reason, pause, again: Instant::now() + pause });
    }
}

impl Listeners {
    pub(crate) fn new(resolver: Arc<Resolver>, inherited: Inherited, loop_: mpsc::Sender<Message>) -> Self {
        Self { slots: BTreeMap::new(), inherited, resolver, loop_ }
    }

    /// Makes one place be as desired.
    pub(crate) fn reconcile(&mut self, desired: &Desired, place: &Place) {
        let open = self.slots.get(place).map(|slot| &slot.audience);
        match step(desired.askers(place), open) {
            Step::Keep => {}
            Step::Close => self.close(place),
            Step::Open(audience) => self.open(desired, place, audience, FIRST_PAUSE),
            Step::Replace(audience) => {
                self.close(place);
                self.open(desired, place, audience, FIRST_PAUSE);
            }
        }
    }

    fn open(&mut self, desired: &Desired, place: &Place, audience: Audience, pause: Duration) {
        let netns = desired.netns(&audience).cloned();
        let waiting = self.slots.remove(place).map(|slot| slot.waiting).unwrap_or_default();
        let slot = Slot { audience: audience.clone(), state: State::Opening { pause }, waiting };
        self.slots.insert(place.clone(), slot);
        let inherited = self.inherited.take(place);
        if let Some(pair) = inherited {
            tracing::info!(%place, of = named(&audience), "listening, with the sockets of the agent before");
            return self.listen(place, pair, netns);
        }
        let (place, loop_) = (place.clone(), self.loop_.clone());
        tokio::task::spawn_blocking(move || {
            let pair = match &netns {
                None => pair(place.address()),
                Some(netns) => pair_inside(netns, place.address()),
            };
            // Nobody is there to listen when the agent ends.
            let _ = loop_.blocking_send(Message::Opened {
                place,
                audience,
                pair: pair.map(|pair| (pair, netns)),
            });
        });
    }

    /// Hands the sockets on to the resolver, or notes why there are none.
    pub(crate) fn opened(
        &mut self,
        place: &Place,
        audience: &Audience,
        pair: Result<(SocketPair, Option<NetnsRef>), Error>,
    ) {
        let Some(slot) = self.slots.get_mut(place).filter(|slot| slot.audience == *audience) else { return };
        let State::Opening { pause } = slot.state else { return };
        match pair {
            Ok((pair, netns)) => {
                tracing::info!(%place, of = named(audience), "listening");
                handover::store(place, &pair);
                self.listen(place, pair, netns);
            }
            Err(error @ Error::GoneNetns { .. }) => {
                tracing::info!(%place, of = named(audience), %error, "not listening");
                slot.settle(State::Over);
            }
            Err(error) => slot.fail(place, error.to_string(), pause),
        }
    }

    fn listen(&mut self, place: &Place, SocketPair { udp, tcp }: SocketPair, netns: Option<NetnsRef>) {
        let Some(slot) = self.slots.get_mut(place) else { return };
        match self.resolver.listen(Listener { audience: slot.audience.clone(), udp, tcp }) {
            Ok(listener) => slot.settle(State::Open { listener, netns }),
            Err(error) => {
                handover::forget(place);
                slot.fail(place, error.to_string(), FIRST_PAUSE);
            }
        }
    }

    fn close(&mut self, place: &Place) {
        let Some(slot) = self.slots.remove(place) else { return };
        if let State::Open { listener, .. } = slot.state {
            self.resolver.close(listener);
            handover::forget(place);
            tracing::info!(%place, of = named(&slot.audience), "no longer listening");
        }
    }

    /// Resolves when all of these are open or cannot be.
    pub(crate) fn settled(&mut self, places: impl Iterator<Item = Place>) -> Vec<oneshot::Receiver<()>> {
        let mut waits = Vec::new();
        for place in places {
            if let Some(slot) = self.slots.get_mut(&place)
                && matches!(slot.state, State::Opening { .. })
            {
                let (sender, receiver) = oneshot::channel();
                slot.waiting.push(sender);
                waits.push(receiver);
            }
        }
        waits
    }

    /// Opens again what is due.
    pub(crate) fn retry(&mut self, desired: &Desired, now: Instant) {
        let due = |(place, slot): (&Place, &Slot)| match slot.state {
            State::Failed { pause, again, .. } if again <= now => {
                Some((place.clone(), slot.audience.clone(), (pause * 2).min(LONGEST_PAUSE)))
            }
            _ => None,
        };
        for (place, audience, pause) in self.slots.iter().filter_map(due).collect::<Vec<_>>() {
            self.open(desired, &place, audience, pause);
        }
    }

    /// When the next one is.
    pub(crate) fn next_retry(&self) -> Option<Instant> {
        let again = |slot: &Slot| match slot.state {
            State::Failed { again, .. } => Some(again),
            _ => None,
        };
        self.slots.values().filter_map(again).min()
    }

    /// Lets go of sockets in namespaces whose containers went without DEL: a socket keeps a namespace from ending.
    pub(crate) fn leave_the_dead(&mut self) {
        for (place, slot) in &mut self.slots {
            let State::Open { listener, netns: Some(netns) } = &slot.state else { continue };
            if !netns.is_alive() {
                self.resolver.close(*listener);
                handover::forget(place);
                tracing::info!(%place, path = %netns.path.display(), "the container's namespace is gone");
                slot.state = State::Over;
            }
        }
    }

    /// The first journal was read: what is not open by now is asked for by nobody.
    pub(crate) fn close_inherited(&mut self) {
        self.inherited.close();
    }

    /// How many are open, on the way, and failed.
    pub(crate) fn counts(&self) -> (usize, usize, usize) {
        let count =
            |wanted: fn(&State) -> bool| self.slots.values().filter(|slot| wanted(&slot.state)).count();
        (
            count(|state| matches!(state, State::Open { .. })),
            count(|state| matches!(state, State::Opening { .. })),
            count(|state| matches!(state, State::Failed { .. })),
        )
    }

    /// What did not open, a line each.
    pub(crate) fn failures(&self) -> impl Iterator<Item = String> {
        self.slots.iter().filter_map(|(place, slot)| match &slot.state {
            State::Failed { reason, .. } => Some(format!("not listening on {place}: {reason}")),
            _ => None,
        })
    }

    /// Where those of a network that are open are.
    pub(crate) fn open_to(&self, wanted: impl Fn(&Audience) -> bool) -> Vec<SocketAddr> {
        let open = self.slots.iter().filter(|(_, slot)| matches!(slot.state, State::Open { .. }));
        open.filter(|(_, slot)| wanted(&slot.audience)).map(|(place, _)| place.address()).collect()
    }
}
