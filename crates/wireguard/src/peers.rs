//! A device's key and peers: who is who, and whose an address is. What is sent and when: engine.rs.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use boringtun::noise::Tunn;
use boringtun::noise::rate_limiter::RateLimiter;
use boringtun::x25519::{self, StaticSecret};
use zeugma_model::PublicKey;

use crate::allowed::Allowed;
use crate::difference::SESSION;
use crate::uapi::{Change, PeerChange, PeerState, Secret, State};

/// Messages of handshakes in a second beyond which whoever sends one has to prove its address (the protocol's cookies):
/// at least so many, and some for every peer, as answers count, too, and after a start all peers answer at once.
const HANDSHAKES: u64 = 100;
const EACH: u64 = 4;

/// The device's own key, and what guards its handshakes.
pub(crate) struct Keys {
    pub(crate) secret: StaticSecret,
    pub(crate) public: x25519::PublicKey,
    /// Asked of every handshake before anything costly is done with it.
    pub(crate) limiter: RateLimiter,
    /// How many it lets pass in a second.
    most: u64,
    /// The same question again, asked inside [`Tunn`]: never too many.
    again: Arc<RateLimiter>,
}

/// Someone at the other end.
pub(crate) struct Peer {
    pub(crate) key: PublicKey,
    preshared_key: Option<Secret>,
    /// The protocol's state; none without a key of our own.
    pub(crate) tunn: Option<Tunn>,
    pub(crate) endpoint: Option<SocketAddr>,
    /// Seconds; 0: none.
    pub(crate) keepalive: u16,
    /// None: something is due.
    pub(crate) last_sent: Option<Instant>,
    pub(crate) sent: u64,
    pub(crate) received: u64,
    last_handshake: Option<SystemTime>,
    /// What the log was told last.
    is_found: bool,
}

/// Key and peers. A peer's number is the upper part of the indexes that it knows our sessions by.
#[derive(Default)]
pub(crate) struct Peers {
    pub(crate) keys: Option<Keys>,
    places: Vec<Option<Peer>>,
    numbers: HashMap<PublicKey, u32>,
    pub(crate) allowed: Allowed,
}

impl Keys {
    fn of(Secret(bytes): Secret) -> Self {
        let secret = StaticSecret::from(bytes);
        let public = x25519::PublicKey::from(&secret);
        let limiter = RateLimiter::new(&public, HANDSHAKES);
        let again = Arc::new(RateLimiter::new(&public, u64::MAX));
        Self { secret, public, limiter, most: HANDSHAKES, again }
    }

    /// In steps, so that few changes of peers make cookies worthless.
    fn limit(&mut self, peers: usize) {
        let most = HANDSHAKES.max(EACH * (peers as u64).next_power_of_two());
        if self.most != most {
            (self.limiter, self.most) = (RateLimiter::new(&self.public, most), most);
        }
    }

    fn with(&self, peer: &Peer, number: u32) -> Tunn {
        let (mine, its) = (self.secret.clone(), x25519::PublicKey::from(peer.key.0));
        let preshared = peer.preshared_key.map(|Secret(bytes)| bytes);
        Tunn::new(mine, its, preshared, None, number, Some(self.again.clone()))
    }
}

impl Peer {
    /// When keys were last agreed on.
    pub(crate) fn note_handshake(&mut self) {
        let ago = self.tunn.as_ref().and_then(Tunn::time_since_last_handshake);
        if let Some(ago) = ago {
            self.last_handshake = SystemTime::now().checked_sub(ago);
        }
    }

    /// A line in the log when it is found, and one when it is lost. One without keepalive may just have nothing to say.
    pub(crate) fn tell(&mut self) {
        let age = self.last_handshake.map(|last| last.elapsed().unwrap_or_default());
        let is_found = age.is_some_and(|age| age < SESSION);
        if is_found == self.is_found {
            return;
        }
        self.is_found = is_found;
        let endpoint = self.endpoint.map(|endpoint| endpoint.to_string()).unwrap_or_default();
        match (is_found, self.keepalive) {
            (true, _) => tracing::info!(peer = %self.key, endpoint, "a peer is found"),
            (false, 0) => tracing::debug!(peer = %self.key, endpoint, "a peer is silent"),
            (false, _) => {
                tracing::warn!(peer = %self.key, endpoint, "a peer is lost: nothing is heard of it")
            }
        }
    }
}

impl Peers {
    pub(crate) fn get(&mut self, number: u32) -> Option<&mut Peer> {
        self.places.get_mut(number as usize)?.as_mut()
    }

    pub(crate) fn number(&self, key: &PublicKey) -> Option<u32> {
        self.numbers.get(key).copied()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.numbers.is_empty()
    }

    pub(crate) fn all(&mut self) -> impl Iterator<Item = &mut Peer> {
        self.places.iter_mut().flatten()
    }

    /// Makes the change, but for ports and marks, which are the sockets'. Whether our key is another one.
    pub(crate) fn change(&mut self, change: &Change) -> bool {
        let is_other = change.private_key.is_some_and(|secret| self.set_key(secret));
        if change.replace_peers {
            (0..self.places.len() as u32).for_each(|number| self.remove(number));
        }
        change.peers.iter().for_each(|peer| self.change_peer(peer));
        let count = self.numbers.len();
        self.keys.iter_mut().for_each(|keys| keys.limit(count));
        is_other
    }

    fn set_key(&mut self, secret: Option<Secret>) -> bool {
        let current = self.keys.as_ref().map(|keys| Secret(keys.secret.to_bytes()));
        if secret == current {
            return false;
        }
        self.keys = secret.map(Keys::of);
        let own = self.keys.as_ref().and_then(|keys| self.number(&PublicKey(keys.public.to_bytes())));
        own.into_iter().for_each(|number| self.remove(number));
        for (number, peer) in (0..).zip(&mut self.places) {
            if let Some(peer) = peer {
                peer.tunn = self.keys.as_ref().map(|keys| keys.with(peer, number));
            }
        }
        true
    }

    fn change_peer(&mut self, change: &PeerChange) {
        let is_own = self.keys.as_ref().is_some_and(|keys| keys.public.to_bytes() == change.key.0);
        let (number, is_new) = match self.number(&change.key) {
            Some(number) if change.remove => return self.remove(number),
            Some(number) => (number, false),
            None if change.remove || change.update_only || is_own => return,
            None => (self.add(change.key), true),
        };
        if let Some(peer) = self.places[number as usize].as_mut() {
            if change.preshared_key.is_some_and(|key| key != peer.preshared_key) {
                peer.preshared_key = change.preshared_key.flatten();
                peer.tunn = self.keys.as_ref().map(|keys| keys.with(peer, number));
            }
            peer.endpoint = change.endpoint.or(peer.endpoint);
            if let Some(seconds) = change.keepalive {
                peer.last_sent = peer.last_sent.filter(|_| peer.keepalive == seconds);
                peer.keepalive = seconds;
            }
        }
        if change.replace_allowed && !is_new {
            self.allowed.remove_all(number);
        }
        for (network, is_given) in &change.allowed {
            if *is_given {
                self.allowed.insert(*network, number);
            } else {
                self.allowed.remove(*network, number);
            }
        }
    }

    fn add(&mut self, key: PublicKey) -> u32 {
        let free = self.places.iter().position(Option::is_none);
        let place = free.unwrap_or_else(|| {
            self.places.push(None);
            self.places.len() - 1
        });
        let number = place as u32;
        let mut peer = Peer {
            key,
            preshared_key: None,
            tunn: None,
            endpoint: None,
            keepalive: 0,
            last_sent: None,
            sent: 0,
            received: 0,
            last_handshake: None,
            is_found: false,
        };
        peer.tunn = self.keys.as_ref().map(|keys| keys.with(&peer, number));
        self.places[place] = Some(peer);
        self.numbers.insert(key, number);
        number
    }

    fn remove(&mut self, number: u32) {
        if let Some(peer) = self.places.get_mut(number as usize).and_then(Option::take) {
            self.numbers.remove(&peer.key);
            self.allowed.remove_all(number);
        }
    }

    /// Everything, but for port and mark.
    pub(crate) fn state(&mut self) -> State {
        let mut allowed = self.allowed.by_peer();
        let peer = |(number, peer): (u32, &mut Peer)| {
            peer.note_handshake();
            let handshake = peer.last_handshake.and_then(|time| time.duration_since(UNIX_EPOCH).ok());
            PeerState {
                key: peer.key,
                preshared_key: peer.preshared_key,
                endpoint: peer.endpoint,
                last_handshake: handshake,
                received: peer.received,
                sent: peer.sent,
                keepalive: peer.keepalive,
                allowed: allowed.remove(&number).unwrap_or_default(),
            }
        };
        let places = (0..).zip(&mut self.places);
        let peers = places.filter_map(|(number, place)| place.as_mut().map(|peer| (number, peer)));
        let private_key = self.keys.as_ref().map(|keys| Secret(keys.secret.to_bytes()));
        State { private_key, peers: peers.map(peer).collect(), ..State::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(byte: u8) -> PublicKey {
        PublicKey([byte; 32])
    }

    fn with(byte: u8, networks: &[&str]) -> PeerChange {
        let allowed = networks.iter().map(|network| (network.parse().unwrap(), true)).collect();
        PeerChange { allowed, ..PeerChange::of(key(byte)) }
    }

    fn changed(peers: &mut Peers, changes: Vec<PeerChange>) -> Vec<(PublicKey, Vec<String>)> {
        peers.change(&Change { peers: changes, ..Change::default() });
        let shown = |peer: &PeerState| (peer.key, peer.allowed.iter().map(ToString::to_string).collect());
        peers.state().peers.iter().map(shown).collect()
    }

    #[test]
    fn an_address_has_one_peer_and_a_place_is_used_again() {
        let mut peers = Peers::default();
        let both =
            changed(&mut peers, vec![with(1, &["10.0.0.0/24", "fd00::/64"]), with(2, &["10.0.0.0/24"])]);
        let names = |names: &[&str]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(both, [(key(1), names(&["fd00::/64"])), (key(2), names(&["10.0.0.0/24"]))]);
        let gone = PeerChange { remove: true, ..PeerChange::of(key(1)) };
        let missing = PeerChange { update_only: true, ..with(4, &["10.4.0.0/24"]) };
        let one = changed(&mut peers, vec![gone, with(3, &[]), missing]);
        assert_eq!(one, [(key(3), names(&[])), (key(2), names(&["10.0.0.0/24"]))]);
        assert_eq!(peers.number(&key(3)), Some(0));
    }

    #[test]
    fn the_device_itself_is_no_peer_of_it() {
        let mut peers = Peers::default();
        let secret = Secret([9; 32]);
        let keyed = Change { private_key: Some(Some(secret)), ..Change::default() };
        assert_eq!([peers.change(&keyed), peers.change(&keyed)], [true, false]);
        let own = PublicKey(peers.keys.as_ref().unwrap().public.to_bytes());
        assert_eq!(changed(&mut peers, vec![PeerChange::of(own)]), []);
        assert_eq!(peers.state().private_key, Some(secret));
    }

    #[test]
    fn every_peer_may_answer_at_once() {
        let peers = (0..300_u16).map(|number| {
            let mut key = [7; 32];
            key[..2].copy_from_slice(&number.to_be_bytes());
            PeerChange::of(PublicKey(key))
        });
        let change =
            Change { private_key: Some(Some(Secret([9; 32]))), peers: peers.collect(), ..Change::default() };
        let mut peers = Peers::default();
        peers.change(&change);
        let most = |peers: &Peers| peers.keys.as_ref().unwrap().most;
        assert!(most(&peers) >= 4 * 300);
        peers.change(&Change { replace_peers: true, ..Change::default() });
        assert_eq!(most(&peers), HANDSHAKES);
    }
}
