//! The client's states (RFC 2131, figure 5) and what leads from one to the next.
//!
//! Two inputs, time ([`Client::advance`]) and packets ([`Client::receive`]), give [`Effect`]s; [`Client::due`] says
//! when time is to be told next. How long to wait between messages: `pacing`.

mod pacing;

use std::net::Ipv4Addr;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use zeugma_model::Mac;

use crate::message::{Say, encode};
use crate::reply::{Kind, Reply};
use crate::terms::INFINITE;
use crate::{Identity, Terms, frame};
pub use pacing::Pacing;
use pacing::{Exchange, resend_of_renewal};

/// The moment of an input. Times are since the start of the machine, which no clock setting changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// Now.
    pub now: Duration,
    /// A fresh random number: transaction numbers and jitter come of it.
    pub random: u64,
}

/// What was granted, when, and by which way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// What was granted.
    pub terms: Terms,
    /// When it was asked for: its times count from there.
    pub since: Duration,
    /// The Ethernet address that the grant came from, the server's or a relay's: answers go there.
    pub via: Mac,
}

/// A packet to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outgoing {
    /// To which Ethernet address.
    pub to: Mac,
    /// IPv4, whole.
    pub packet: Vec<u8>,
}

/// What follows from an input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// This is to be sent.
    Send(Outgoing),
    /// The lease was granted, or for longer: see [`Client::lease`].
    Granted,
    /// The lease is no more: the address must not be used. The client has ended.
    Lost(Loss),
    /// No server granted anything in time. The client has ended.
    GaveUp,
}

/// Why a lease is no more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Loss {
    /// Its time is over and nobody renewed it.
    Expired,
    /// A server refused to renew it; its words.
    Refused(Option<String>),
    /// A server would have renewed another address.
    Changed(Ipv4Addr),
}

/// One client: one interface of one container.
#[derive(Debug, Clone)]
pub struct Client {
    identity: Identity,
    pacing: Pacing,
    begun: Duration,
    /// Exchanges that came to nothing.
    failures: u32,
    state: State,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    /// Has nothing and begins at this time.
    Init(Duration),
    Selecting(Exchange),
    Requesting(Exchange, Terms),
    /// Has a lease from before a restart and asks whether it still counts (INIT-REBOOT, REBOOTING).
    Rebooting(Exchange, Lease),
    Bound(Lease),
    Renewing(Extension, Lease),
    Rebinding(Extension, Lease),
    Ended,
}

/// An attempt to keep a lease for longer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Extension {
    xid: u32,
    begun: Duration,
    /// When the message is sent again.
    resend: Duration,
}

const BROADCAST: Mac = Mac([0xff; 6]);

impl Client {
    /// A client that has nothing and begins at once.
    pub fn new(identity: Identity, pacing: Pacing, at: Moment) -> Self {
        Self { identity, pacing, begun: at.now, failures: 0, state: State::Init(at.now) }
    }

    /// A client that had this lease before a restart. It asks the server whether the lease still counts and keeps
    /// it unless that is denied (RFC 2131, 3.2).
    pub fn resume(identity: Identity, pacing: Pacing, lease: Lease, at: Moment) -> (Self, Vec<Effect>) {
        let mut client = Self::new(identity, pacing, at);
        let effects = client.reboot(lease, at);
        (client, effects)
    }

    /// When [`Self::advance`] is to be called next; never after the end.
    pub fn due(&self) -> Option<Duration> {
        match &self.state {
            State::Init(at) => Some(*at),
            State::Selecting(exchange) | State::Requesting(exchange, _) => {
                Some(exchange.due().min(self.begun + self.pacing.give_up))
            }
            State::Rebooting(exchange, lease) => Some(earlier(exchange.due(), lease.expires())),
            State::Bound(lease) => lease.renews(),
            State::Renewing(extension, lease) => Some(earlier(extension.resend, lease.rebinds())),
            State::Rebinding(extension, lease) => Some(earlier(extension.resend, lease.expires())),
            State::Ended => None,
        }
    }

    /// The lease, as long as there is one.
    pub fn lease(&self) -> Option<&Lease> {
        match &self.state {
            State::Rebooting(_, lease)
            | State::Bound(lease)
            | State::Renewing(_, lease)
            | State::Rebinding(_, lease) => Some(lease),
            State::Init(_) | State::Selecting(_) | State::Requesting(..) | State::Ended => None,
        }
    }

    /// Whether an answer is awaited: otherwise nobody needs to listen.
    pub fn listens(&self) -> bool {
        !matches!(self.state, State::Init(_) | State::Bound(_) | State::Ended)
    }

    /// Whether it will never do anything again.
    pub fn has_ended(&self) -> bool {
        self.state == State::Ended
    }

    /// Does what is due by now.
    pub fn advance(&mut self, at: Moment) -> Vec<Effect> {
        if self.lease().and_then(Lease::expires).is_some_and(|end| end <= at.now) {
            return self.lose(Loss::Expired);
        }
        if self.due().is_none_or(|due| due > at.now) {
            return Vec::new();
        }
        match self.state.clone() {
            State::Init(_) => self.discover(at),
            State::Selecting(exchange) | State::Requesting(exchange, _) => self.persist(exchange, at),
            State::Rebooting(exchange, lease) if exchange.fails <= at.now => {
                self.state = State::Bound(lease);
                self.advance(at)
            }
            State::Rebooting(exchange, lease) => {
                let exchange = exchange.again(at);
                let say = Say::Reboot { address: lease.terms.address };
                let packet = self.broadcast(exchange.xid, exchange.begun, say, at);
                self.state = State::Rebooting(exchange, lease);
                vec![Effect::Send(packet)]
            }
            State::Bound(lease) | State::Renewing(_, lease) | State::Rebinding(_, lease) => {
                self.extend(lease, at)
            }
            State::Ended => Vec::new(),
        }
    }

    /// Takes in an IPv4 packet that came from this Ethernet address. What is not for this client is nothing.
    pub fn receive(&mut self, packet: &[u8], from: Mac, at: Moment) -> Vec<Effect> {
        let Some(reply) = frame::payload(packet).and_then(Reply::parse) else { return Vec::new() };
        if reply.mac != self.identity.mac || Some(reply.xid) != self.xid() {
            return Vec::new();
        }
        match (self.state.clone(), reply.kind, reply.terms) {
            (State::Selecting(exchange), Kind::Offer, Some(offer)) => self.accept(exchange, offer, at),
            (State::Requesting(exchange, offer), Kind::Ack, Some(terms)) if terms.server == offer.server => {
                self.bind(Lease { terms, since: exchange.begun, via: from })
            }
            (State::Requesting(..), Kind::Nak, _) => self.pause(at),
            (State::Rebooting(Exchange { begun, .. }, lease), Kind::Ack, Some(terms))
            | (
                State::Renewing(Extension { begun, .. }, lease)
                | State::Rebinding(Extension { begun, .. }, lease),
                Kind::Ack,
                Some(terms),
            ) => match terms.address == lease.terms.address {
                true => self.bind(Lease { terms, since: begun, via: from }),
                false => self.lose(Loss::Changed(terms.address)),
            },
            (State::Rebooting(..) | State::Renewing(..) | State::Rebinding(..), Kind::Nak, _) => {
                self.lose(Loss::Refused(reply.message))
            }
            _ => Vec::new(),
        }
    }

    /// Gives the lease back, when there is one. The server does not answer.
    pub fn release(&mut self, at: Moment) -> Option<Outgoing> {
        let lease = self.lease().cloned();
        self.state = State::Ended;
        let Lease { terms: Terms { address, server, .. }, via, .. } = lease?;
        let message = encode(&self.identity, xid(at), 0, Say::Release { address, server });
        Some(Outgoing { to: via, packet: frame::packet(address, server, &message) })
    }

    fn xid(&self) -> Option<u32> {
        match &self.state {
            State::Selecting(exchange) | State::Requesting(exchange, _) | State::Rebooting(exchange, _) => {
                Some(exchange.xid)
            }
            State::Renewing(extension, _) | State::Rebinding(extension, _) => Some(extension.xid),
            State::Init(_) | State::Bound(_) | State::Ended => None,
        }
    }

    fn discover(&mut self, at: Moment) -> Vec<Effect> {
        let exchange = Exchange::new(xid(at), self.pacing.timeout, at);
        let packet = self.broadcast(exchange.xid, self.begun, Say::Discover, at);
        self.state = State::Selecting(exchange);
        vec![Effect::Send(packet)]
    }

    /// Sends again, begins anew, or gives up.
    fn persist(&mut self, exchange: Exchange, at: Moment) -> Vec<Effect> {
        if self.begun + self.pacing.give_up <= at.now {
            self.state = State::Ended;
            return vec![Effect::GaveUp];
        }
        if exchange.fails <= at.now {
            return self.pause(at);
        }
        let exchange = exchange.again(at);
        let (say, state) = match &self.state {
            State::Requesting(_, offer) => (accepting(offer), State::Requesting(exchange, offer.clone())),
            _ => (Say::Discover, State::Selecting(exchange)),
        };
        self.state = state;
        vec![Effect::Send(self.broadcast(exchange.xid, self.begun, say, at))]
    }

    /// Begins anew after a while, but not after the time to give up.
    fn pause(&mut self, at: Moment) -> Vec<Effect> {
        let pause = self.pacing.pause(self.failures, at);
        self.failures += 1;
        let end = self.begun + self.pacing.give_up;
        if end <= at.now + pause {
            // Waits for nothing any more: no exchange can come before the end.
            self.state = State::Selecting(Exchange::spent(xid(at), end));
        } else {
            self.state = State::Init(at.now + pause);
        }
        Vec::new()
    }

    /// The exchange goes on, its time counted anew: the server was there a moment ago.
    fn accept(&mut self, exchange: Exchange, offer: Terms, at: Moment) -> Vec<Effect> {
        let exchange = Exchange::new(exchange.xid, self.pacing.timeout, at);
        let packet = self.broadcast(exchange.xid, self.begun, accepting(&offer), at);
        self.state = State::Requesting(exchange, offer);
        vec![Effect::Send(packet)]
    }

    fn bind(&mut self, lease: Lease) -> Vec<Effect> {
        self.state = State::Bound(lease);
        vec![Effect::Granted]
    }

    fn lose(&mut self, loss: Loss) -> Vec<Effect> {
        self.state = State::Ended;
        vec![Effect::Lost(loss)]
    }

    fn reboot(&mut self, lease: Lease, at: Moment) -> Vec<Effect> {
        if lease.expires().is_some_and(|end| end <= at.now) {
            return self.lose(Loss::Expired);
        }
        let exchange = Exchange::new(xid(at), self.pacing.timeout, at);
        let say = Say::Reboot { address: lease.terms.address };
        let packet = self.broadcast(exchange.xid, exchange.begun, say, at);
        self.state = State::Rebooting(exchange, lease);
        vec![Effect::Send(packet)]
    }

    /// Asks the server that granted the lease until T2, then every server.
    fn extend(&mut self, lease: Lease, at: Moment) -> Vec<Effect> {
        let (Some(rebinds), Some(expires)) = (lease.rebinds(), lease.expires()) else { return Vec::new() };
        let address = lease.terms.address;
        let is_late = rebinds <= at.now;
        let until = if is_late { expires } else { rebinds };
        let (xid, begun) = match (&self.state, is_late) {
            (State::Renewing(now, _), false) | (State::Rebinding(now, _), true) => (now.xid, now.begun),
            _ => (xid(at), at.now),
        };
        let extension = Extension { xid, begun, resend: resend_of_renewal(at.now, until) };
        let say = encode(&self.identity, xid, seconds(at.now - begun), Say::Extend { address });
        let (to, destination) =
            if is_late { (BROADCAST, Ipv4Addr::BROADCAST) } else { (lease.via, lease.terms.server) };
        let packet = frame::packet(address, destination, &say);
        self.state =
            if is_late { State::Rebinding(extension, lease) } else { State::Renewing(extension, lease) };
        vec![Effect::Send(Outgoing { to, packet })]
    }

    fn broadcast(&self, xid: u32, begun: Duration, say: Say, at: Moment) -> Outgoing {
        let message = encode(&self.identity, xid, seconds(at.now.saturating_sub(begun)), say);
        let packet = frame::packet(Ipv4Addr::UNSPECIFIED, Ipv4Addr::BROADCAST, &message);
        Outgoing { to: BROADCAST, packet }
    }
}

impl Lease {
    /// When it is to be renewed; never for one without an end.
    pub fn renews(&self) -> Option<Duration> {
        self.after(self.terms.renew)
    }

    /// When any server may renew it.
    pub fn rebinds(&self) -> Option<Duration> {
        self.after(self.terms.rebind)
    }

    /// When it ends.
    pub fn expires(&self) -> Option<Duration> {
        self.after(self.terms.lease)
    }

    fn after(&self, seconds: u32) -> Option<Duration> {
        (self.terms.lease != INFINITE).then(|| self.since + Duration::from_secs(seconds.into()))
    }
}

fn accepting(offer: &Terms) -> Say {
    Say::Accept { address: offer.address, server: offer.server }
}

fn earlier(one: Duration, other: Option<Duration>) -> Duration {
    other.map_or(one, |other| one.min(other))
}

fn xid(at: Moment) -> u32 {
    (at.random >> 32) as u32
}

fn seconds(time: Duration) -> u16 {
    u16::try_from(time.as_secs()).unwrap_or(u16::MAX)
}

#[cfg(test)]
mod tests;
