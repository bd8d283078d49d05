//! Packets from the TUN device to UDP and back: boringtun's protocol between large pieces of both.

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use boringtun::noise::handshake::parse_handshake_anon;
use boringtun::noise::{Packet, TunnResult};
use zeugma_kernel::{Arrivals, Tun, TunnelSocket};
use zeugma_model::PublicKey;

use crate::join::Joiner;
use crate::outbox::{Outbox, Sockets};
use crate::packet::{self, VIRTIO};
use crate::peers::{Peer, Peers};
use crate::segment;
use crate::uapi::{Change, State};

/// What the protocol adds to a packet (a data message's header and tag), and its longest handshake message.
const OVERHEAD: usize = 32;
const HANDSHAKE: usize = 148;
/// Packets that are read from the device before what came in is looked at.
const BURST: usize = 32;
/// Bytes of decrypted packets that are gathered before the kernel gets them.
const GATHERED: usize = 512 << 10;
/// The longest IP packet.
const LONGEST: usize = 65_535;

/// How often timers are looked at while something happens, and when nothing does.
const OFTEN: Duration = Duration::from_millis(250);
const SELDOM: Duration = Duration::from_secs(1);

/// A device that runs.
pub(crate) struct Engine {
    tun: Tun,
    sockets: Sockets,
    port: u16,
    mark: u32,
    peers: Peers,
    buffers: Buffers,
    now: Instant,
    busy_until: Instant,
    next_tick: Instant,
    has_roamed: bool,
}

struct Buffers {
    read: Vec<u8>,
    arrivals: Arrivals,
    /// What was decrypted, up to `filled`.
    clear: Vec<u8>,
    filled: usize,
    joiner: Joiner,
    outbox: Outbox,
}

impl Engine {
    pub(crate) fn new(tun: Tun) -> Self {
        let buffers = Buffers {
            read: vec![0; VIRTIO + LONGEST + 1],
            arrivals: Arrivals::default(),
            clear: vec![0; GATHERED],
            filled: 0,
            joiner: Joiner::new(tun.joins_udp()),
            outbox: Outbox::default(),
        };
        let now = Instant::now();
        Self {
            tun,
            sockets: Sockets::default(),
            port: 0,
            mark: 0,
            peers: Peers::default(),
            buffers,
            now,
            busy_until: now,
            next_tick: now,
            has_roamed: false,
        }
    }

    pub(crate) fn tun(&self) -> &Tun {
        &self.tun
    }

    pub(crate) fn sockets(&self) -> &Sockets {
        &self.sockets
    }

    /// Makes a change.
    ///
    /// # Errors
    /// The port is taken: nothing was changed then.
    pub(crate) fn change(&mut self, change: &Change) -> io::Result<()> {
        let (port, mark) = (change.listen_port.unwrap_or(self.port), change.fwmark.unwrap_or(self.mark));
        let is_open = self.sockets.v4.is_some() || self.sockets.v6.is_some();
        let is_other = (port, mark) != (self.port, self.mark) || change.listen_port == Some(0);
        if !is_open || is_other {
            self.reopen(port, mark)?;
        }
        // With another key every session is gone, and whoever wants a new one may have asked before we could answer: it
        // asks again after five seconds (REKEY_TIMEOUT). We ask now.
        if self.peers.change(change) {
            self.greet();
        }
        self.next_tick = self.now;
        Ok(())
    }

    fn reopen(&mut self, port: u16, mark: u32) -> io::Result<()> {
        let before = std::mem::take(&mut self.sockets);
        // A port is had only once: for another mark at the same one, the old sockets go first.
        let before = (port != self.port).then_some(before);
        match opened(port, mark) {
            Ok((sockets, port)) => {
                (self.sockets, self.port, self.mark) = (sockets, port, mark);
                Ok(())
            }
            Err(error) => {
                let again = || {
                    opened(self.port, self.mark).map_or_else(|_| Sockets::default(), |(sockets, _)| sockets)
                };
                self.sockets = before.unwrap_or_else(again);
                Err(error)
            }
        }
    }

    /// The device as it is.
    pub(crate) fn state(&mut self) -> State {
        State { listen_port: self.port, fwmark: self.mark, ..self.peers.state() }
    }

    /// Whether a peer was heard of from elsewhere since this was last asked.
    pub(crate) fn has_roamed(&mut self) -> bool {
        std::mem::take(&mut self.has_roamed)
    }

    /// Agrees on keys with every peer whose place is known: also after a start, which lost those that there were.
    fn greet(&mut self) {
        let Self { peers, sockets, buffers, now, .. } = self;
        peers.all().for_each(|peer| encrypt(peer, &[], sockets, &mut buffers.outbox, *now));
        buffers.outbox.send(sockets);
    }

    /// How long nothing has to be done unless something comes; none: for ever.
    pub(crate) fn patience(&mut self) -> Option<Duration> {
        if self.peers.is_empty() { None } else { Some(self.next_tick.saturating_duration_since(self.now)) }
    }

    /// Notes the time, and does what is due; whether anything could be.
    pub(crate) fn tick(&mut self) -> bool {
        self.now = Instant::now();
        if self.now < self.next_tick {
            return false;
        }
        let Self { peers, sockets, buffers, now, .. } = self;
        if let Some(keys) = &peers.keys {
            keys.limiter.reset_count();
        }
        peers.all().for_each(|peer| due(peer, sockets, &mut buffers.outbox, *now));
        buffers.outbox.send(sockets);
        self.next_tick = self.now + if self.now < self.busy_until { OFTEN } else { SELDOM };
        true
    }

    /// Something came: after a pause the timers' notion of now is old, and is renewed before it is used.
    pub(crate) fn wake(&mut self) {
        self.now = Instant::now();
        if self.now >= self.busy_until {
            self.next_tick = self.now;
        }
        self.busy_until = self.now + 2 * SELDOM;
    }

    /// Sends what waits at the TUN device.
    ///
    /// # Errors
    /// The device is gone.
    pub(crate) fn outgoing(&mut self) -> io::Result<()> {
        let Self { tun, sockets, peers, buffers, now, .. } = self;
        let Buffers { read, outbox, .. } = buffers;
        for _ in 0..BURST {
            let length = match tun.read(read) {
                Ok(length) => length,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            let piece = &mut read[..length];
            let to = piece.get(VIRTIO..).and_then(packet::destination);
            let Some(peer) = to.and_then(|to| peers.allowed.find(to)).and_then(|number| peers.get(number))
            else {
                continue;
            };
            let cut = segment::cut(piece, |packet| encrypt(peer, packet, sockets, outbox, *now));
            if cut.is_err() {
                tracing::debug!("a packet of the device makes no sense");
            }
            if outbox.is_full() {
                outbox.send(sockets);
            }
        }
        outbox.send(sockets);
        Ok(())
    }

    /// Hands the kernel what came in by UDP.
    pub(crate) fn incoming(&mut self, is_v6: bool) {
        let Self { tun, sockets, peers, buffers, now, has_roamed, .. } = self;
        let Buffers { arrivals, clear, filled, joiner, outbox, .. } = buffers;
        let socket = if is_v6 { &sockets.v6 } else { &sockets.v4 };
        let Some(count) = socket.as_ref().and_then(|socket| socket.receive(arrivals).ok()) else { return };
        let mut inbound =
            Inbound { tun, sockets, peers, clear, filled, joiner, outbox, now: *now, has_roamed };
        for index in 0..count {
            let Some(piece) = arrivals.get(index) else { continue };
            piece.bytes.chunks(piece.segment).for_each(|one| inbound.datagram(one, piece.from, piece.ecn));
        }
        inbound.hand_over();
        outbox.send(sockets);
    }
}

/// Both families where the host has both, at one port; where any will do, somebody may have it of the other family.
fn opened(port: u16, mark: u32) -> io::Result<(Sockets, u16)> {
    const TRIES: usize = 8;
    let tries = if port == 0 { TRIES } else { 1 };
    let mut last = io::ErrorKind::AddrInUse.into();
    for _ in 0..tries {
        match opened_at(port, mark) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => last = error,
            outcome => return outcome,
        }
    }
    Err(last)
}

fn opened_at(port: u16, mark: u32) -> io::Result<(Sockets, u16)> {
    let v4 = TunnelSocket::open(false, port, mark);
    let port = v4.as_ref().ok().and_then(|socket| socket.port().ok()).unwrap_or(port);
    match (v4, TunnelSocket::open(true, port, mark)) {
        (Ok(v4), Ok(v6)) => Ok((Sockets { v4: Some(v4), v6: Some(v6) }, port)),
        (Err(error), Ok(_)) | (_, Err(error)) if error.kind() == io::ErrorKind::AddrInUse => Err(error),
        // Without IPv6, or without IPv4, the other one does.
        (Ok(v4), Err(_)) => Ok((Sockets { v4: Some(v4), v6: None }, port)),
        (Err(_), Ok(v6)) => {
            let port = v6.port()?;
            Ok((Sockets { v4: None, v6: Some(v6) }, port))
        }
        (Err(error), Err(_)) => Err(error),
    }
}

/// Encrypts a packet to a peer, or a keepalive if it is empty; without a session it waits in boringtun until there is
/// one, and a handshake begins.
fn encrypt(peer: &mut Peer, packet: &[u8], sockets: &Sockets, outbox: &mut Outbox, now: Instant) {
    let (Some(tunn), Some(to)) = (&mut peer.tunn, peer.endpoint) else { return };
    let room = outbox.room((packet.len() + OVERHEAD).max(HANDSHAKE), sockets);
    if let TunnResult::WriteToNetwork(datagram) = tunn.encapsulate(packet, room) {
        let length = datagram.len();
        outbox.push(length, to, packet::outer_ecn(packet::ecn(packet)));
        peer.sent += length as u64;
        peer.last_sent = Some(now);
    }
}

/// What a peer's timers say.
fn due(peer: &mut Peer, sockets: &Sockets, outbox: &mut Outbox, now: Instant) {
    peer.note_handshake();
    peer.tell();
    let is_due = |peer: &Peer| {
        let pause = Duration::from_secs(peer.keepalive.into());
        peer.keepalive > 0 && peer.last_sent.is_none_or(|sent| now.saturating_duration_since(sent) >= pause)
    };
    let needs_keepalive = is_due(peer);
    let (Some(tunn), Some(to)) = (&mut peer.tunn, peer.endpoint) else { return };
    let room = outbox.room(HANDSHAKE, sockets);
    if let TunnResult::WriteToNetwork(datagram) = tunn.update_timers(room) {
        let length = datagram.len();
        outbox.push(length, to, 0);
        peer.sent += length as u64;
        peer.last_sent = Some(now);
    } else if needs_keepalive {
        // Also after boringtun gave up: whoever has a keepalive is to be found when it comes back.
        encrypt(peer, &[], sockets, outbox, now);
        peer.last_sent = Some(now);
    }
}

/// What one round of incoming datagrams works with.
struct Inbound<'a> {
    tun: &'a Tun,
    sockets: &'a Sockets,
    peers: &'a mut Peers,
    clear: &'a mut [u8],
    filled: &'a mut usize,
    joiner: &'a mut Joiner,
    outbox: &'a mut Outbox,
    now: Instant,
    has_roamed: &'a mut bool,
}

impl Inbound<'_> {
    fn datagram(&mut self, datagram: &[u8], from: SocketAddr, ecn: u8) {
        const COOKIE: u8 = 3;
        const DATA: u8 = 4;
        let index = |at: usize| {
            datagram.get(at..at + 4)?.first_chunk::<4>().map(|word| u32::from_le_bytes(*word) >> 8)
        };
        match datagram.first() {
            Some(&DATA) => {
                if let Some(number) = index(4) {
                    self.data(number, datagram, from, ecn);
                }
            }
            Some(&COOKIE) => {
                let tunn =
                    index(4).and_then(|number| self.peers.get(number)).and_then(|peer| peer.tunn.as_mut());
                let room = self.outbox.room(HANDSHAKE, self.sockets);
                // Not authenticated by its sender's address, so nothing is learned of that.
                let _ = tunn.map(|tunn| tunn.decapsulate(Some(from.ip()), datagram, room));
            }
            _ => self.handshake(datagram, from),
        }
    }

    fn data(&mut self, number: u32, datagram: &[u8], from: SocketAddr, ecn: u8) {
        if self.clear.len() - *self.filled < datagram.len() {
            self.hand_over();
        }
        let Some(peer) = self.peers.get(number) else { return };
        let Some(tunn) = &mut peer.tunn else { return };
        let begin = *self.filled;
        let room = &mut self.clear[begin..];
        let (length, source) = match tunn.decapsulate(Some(from.ip()), datagram, room) {
            TunnResult::WriteToTunnelV4(packet, source) => (packet.len(), source.into()),
            TunnResult::WriteToTunnelV6(packet, source) => (packet.len(), source.into()),
            TunnResult::Done => {
                heard(peer, datagram.len(), from, self.has_roamed);
                return self.queued(number);
            }
            TunnResult::Err(_) | TunnResult::WriteToNetwork(_) => return,
        };
        heard(peer, datagram.len(), from, self.has_roamed);
        let is_its_own = self.peers.allowed.find(source) == Some(number);
        if is_its_own && packet::admit(&mut self.clear[begin..begin + length], ecn) {
            *self.filled += length;
            self.joiner.add(self.clear, begin..begin + length);
        }
    }

    /// A handshake's first or second message: costly things are done for those alone who know our public key, and,
    /// when there are many, can be reached where they say they are.
    fn handshake(&mut self, datagram: &[u8], from: SocketAddr) {
        let Some(keys) = &self.peers.keys else { return };
        let mut cookie = [0; HANDSHAKE];
        let number = match keys.limiter.verify_packet(Some(from.ip()), datagram, &mut cookie) {
            Ok(Packet::HandshakeInit(message)) => {
                let half = parse_handshake_anon(&keys.secret, &keys.public, &message).ok();
                half.and_then(|half| self.peers.number(&PublicKey(half.peer_static_public)))
            }
            Ok(Packet::HandshakeResponse(message)) => Some(message.receiver_idx >> 8),
            Ok(_) => None,
            Err(TunnResult::WriteToNetwork(cookie)) => {
                let length = cookie.len();
                self.outbox.room(length, self.sockets)[..length].copy_from_slice(cookie);
                return self.outbox.push(length, from, 0);
            }
            Err(_) => None,
        };
        let Some((number, peer)) = number.and_then(|number| Some((number, self.peers.get(number)?))) else {
            return;
        };
        let Some(tunn) = &mut peer.tunn else { return };
        let room = self.outbox.room(HANDSHAKE, self.sockets);
        if let TunnResult::WriteToNetwork(reply) = tunn.decapsulate(Some(from.ip()), datagram, room) {
            let length = reply.len();
            heard(peer, datagram.len(), from, self.has_roamed);
            self.reply(number, length);
            self.queued(number);
        }
    }

    /// Sends a peer what waited for a session.
    fn queued(&mut self, number: u32) {
        loop {
            let Some(tunn) = self.peers.get(number).and_then(|peer| peer.tunn.as_mut()) else { return };
            let room = self.outbox.room(LONGEST + OVERHEAD, self.sockets);
            let TunnResult::WriteToNetwork(datagram) = tunn.decapsulate(None, &[], room) else { return };
            let length = datagram.len();
            self.reply(number, length);
        }
    }

    fn reply(&mut self, number: u32, length: usize) {
        let Some(peer) = self.peers.get(number) else { return };
        let Some(to) = peer.endpoint else { return };
        self.outbox.push(length, to, 0);
        peer.sent += length as u64;
        peer.last_sent = Some(self.now);
    }

    /// Gives the kernel what was decrypted.
    fn hand_over(&mut self) {
        if !self.joiner.is_empty() {
            let tun = self.tun;
            self.joiner.finish(self.clear, |parts| {
                if let Err(error) = tun.write(parts) {
                    tracing::debug!(%error, "the device does not take a packet");
                }
            });
        }
        *self.filled = 0;
    }
}

/// A peer said something that only it can say: that is where it is.
fn heard(peer: &mut Peer, bytes: usize, from: SocketAddr, has_roamed: &mut bool) {
    peer.received += bytes as u64;
    if peer.endpoint != Some(from) {
        peer.endpoint = Some(from);
        *has_roamed = true;
    }
}
