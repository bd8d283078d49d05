//! Names of the outside: others are asked, and what they said is kept for a while.
//!
//! What is kept is `cache`'s, who may ask how often `limit`'s, whose servers those are `host`'s, and the wire to them
//! `upstream`'s. Each question goes out once at a time, however many wait for its answer, and nobody waits longer
//! than [`DEADLINE`].

mod cache;
mod host;
mod limit;
mod relay;
mod resolv_conf;
mod upstream;

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::task::spawn_local;
use tokio::time::Instant;

use cache::Found;
pub(crate) use cache::{Cache, Given, Key};
use host::Host;
use limit::Limits;
pub(crate) use relay::relay;
pub use resolv_conf::{NameServer, ResolvConf};

use crate::server::Shared;
use crate::wire::{Question, above, wire_name};
use crate::zone::Upstreams;

/// The longest that a question waits for others: clients give up after two seconds at the earliest.
const DEADLINE: Duration = Duration::from_millis(1800);
/// Questions that others are being asked at one time ...
const IN_FLIGHT: usize = 150;
/// ... and with those of clients that wait for few: a handful of others must not keep everybody from asking.
const IN_FLIGHT_IN_ALL: usize = 400;
/// Address and IPv6 address of two names.
const FEW: usize = 4;
/// Clients' questions that wait for those.
const WAITING: usize = 2000;
/// Of those, a single client's.
const WAITING_PER_CLIENT: usize = 50;
/// Servers that one question goes to.
const SERVERS: usize = 4;

/// Asks others.
pub(crate) struct Forwarder {
    shared: Arc<Shared>,
    state: RefCell<State>,
}

struct State {
    cache: Cache,
    limits: Limits,
    host: Host,
    /// Who waits for which question.
    waiting: HashMap<Key, Vec<oneshot::Sender<Given>>>,
    /// How many questions each client waits for.
    clients: HashMap<Client, usize>,
    /// Where we listen ourselves: asking there would never end.
    own: HashSet<SocketAddr>,
}

/// What is done about a question at once.
pub(crate) enum Step {
    /// This is the answer.
    Known(Given),
    /// Others have to be asked; [`Ticket::answer`] does.
    Ask(Ticket),
    /// The client asks too much.
    Limited,
    /// There is nobody to ask.
    Failed,
}

/// Whose questions are counted together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Client {
    /// Who has an address on a network.
    Address(IpAddr),
    /// Who asks inside of a container through this listener: their address is the same in every container.
    Inside(u64),
    /// This process.
    Own,
}

/// A question that may go out.
pub(crate) struct Ticket {
    key: Key,
    place: Place,
}

/// A question that waits; it counts for its client until it is dropped.
pub(crate) struct Place {
    pub(crate) client: Client,
    forwarder: Rc<Forwarder>,
}

impl Forwarder {
    pub(crate) fn new(resolv_conf: PathBuf, shared: Arc<Shared>) -> Self {
        let state = State {
            cache: Cache::default(),
            limits: Limits::default(),
            host: Host::new(resolv_conf),
            waiting: HashMap::new(),
            clients: HashMap::new(),
            own: HashSet::new(),
        };
        Self { shared, state: RefCell::new(state) }
    }

    /// From now on nobody is asked at this address.
    pub(crate) fn avoid(&self, own: SocketAddr) {
        self.state.borrow_mut().own.insert(own);
    }

    /// It may be asked again.
    pub(crate) fn stop_avoiding(&self, own: SocketAddr) {
        self.state.borrow_mut().own.remove(&own);
    }

    /// Looks into the cache, and whether the client may ask.
    pub(crate) fn step(
        self: &Rc<Self>,
        question: &Question<'_>,
        upstreams: &Upstreams,
        client: Client,
    ) -> Step {
        let now = Instant::now();
        let mut state = self.state.borrow_mut();
        let servers = state.servers(question, upstreams, now);
        if servers.is_empty() {
            self.shared.counters.forward_failures.add(1);
            return Step::Failed;
        }
        let key = Key::new(question, servers);
        if let Found::Fresh(given) = state.cache.find(&key, now) {
            self.shared.counters.cache_hits.add(1);
            return Step::Known(given);
        }
        let waits = state.clients.get(&client).copied().unwrap_or_default();
        let room = if waits < FEW { IN_FLIGHT_IN_ALL } else { IN_FLIGHT };
        if !state.waiting.contains_key(&key) && state.waiting.len() >= room {
            self.shared.counters.limited.add(1);
            return Step::Limited;
        }
        drop(state);
        self.admit(client).map_or(Step::Limited, |place| Step::Ask(Ticket { key, place }))
    }

    /// A place for one more question of the client's that is not answered at once; none: it has too many.
    pub(crate) fn admit(self: &Rc<Self>, client: Client) -> Option<Place> {
        let mut state = self.state.borrow_mut();
        let waits = state.clients.get(&client).copied().unwrap_or_default();
        let waiting: usize = state.clients.values().sum();
        let is_busy = waits >= WAITING_PER_CLIENT || waiting >= WAITING;
        if is_busy || !state.limits.allow(client, Instant::now()) {
            self.shared.counters.limited.add(1);
            return None;
        }
        *state.clients.entry(client).or_default() += 1;
        Some(Place { client, forwarder: self.clone() })
    }

    async fn drive(self: Rc<Self>, key: Key) {
        self.shared.counters.forwarded.add(1);
        let answer = upstream::race(&key, DEADLINE).await;
        let mut state = self.state.borrow_mut();
        if answer.is_none() {
            self.shared.counters.forward_failures.add(1);
        }
        let (given, is_stale) = state.cache.settle(&key, answer, Instant::now());
        if is_stale {
            self.shared.counters.stale.add(1);
        }
        for waiting in state.waiting.remove(&key).unwrap_or_default() {
            let _ = waiting.send(given.clone());
        }
    }
}

impl Ticket {
    /// Asks, or joins who asks already.
    pub(crate) async fn answer(self) -> Given {
        let (sender, answer) = oneshot::channel();
        let forwarder = &self.place.forwarder;
        let is_first = {
            let mut state = forwarder.state.borrow_mut();
            let waiting = state.waiting.entry(self.key.clone()).or_default();
            waiting.push(sender);
            waiting.len() == 1
        };
        if is_first {
            // On its own: who asked first may go away before the answer is there.
            spawn_local(forwarder.clone().drive(self.key.clone()));
        }
        answer.await.unwrap_or_else(|_| Given::failure())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut state = self.forwarder.state.borrow_mut();
        let left = state.clients.get(&self.client).map_or(0, |waits| waits.saturating_sub(1));
        if left == 0 {
            state.clients.remove(&self.client);
        } else {
            state.clients.insert(self.client, left);
        }
    }
}

impl State {
    /// Who is to be asked: those of the longest domain that fits, else the network's, else the host's.
    fn servers(&mut self, question: &Question<'_>, upstreams: &Upstreams, now: Instant) -> Rc<[SocketAddr]> {
        let name = question.lower.bytes();
        let fits = |domain: &&String| wire_name(domain).is_some_and(|domain| above(name, &domain).is_some());
        let domain = upstreams.by_domain.keys().filter(fits).max_by_key(|domain| domain.len());
        let chosen = match domain.map(|domain| &upstreams.by_domain[domain]) {
            Some(servers) => servers,
            None if upstreams.servers.is_empty() => self.host.servers(now),
            None => &upstreams.servers,
        };
        let is_other = |server: &&SocketAddr| !self.own.contains(server);
        chosen.iter().filter(is_other).take(SERVERS).copied().collect()
    }
}
